// SPDX-License-Identifier: Apache-2.0
//! Operations on the sockets and the memory of another process, which rustix does not have.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `ioctl(SIOCGSKNS)` of `linux/sockios.h`: the network namespace of a socket.
const SIOCGSKNS: libc::Ioctl = 0x894c;
/// `ioctl(SIOCUNIXFILE)` of `linux/un.h`: the file that a unix socket is bound to.
const SIOCUNIXFILE: libc::Ioctl = 0x89e0;

/// Returns the network namespace of a socket. `EPERM` unless the caller holds `CAP_NET_ADMIN` in
/// the user namespace that owns it, `ENOTTY` if `socket` is not a socket.
pub(crate) fn socket_netns(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    open_by_ioctl(socket, SIOCGSKNS)
}

/// Returns the file that a unix socket is bound to, as an `O_PATH` descriptor. `EPERM` unless the
/// caller holds `CAP_NET_ADMIN` over the network namespace of the socket, `ENOENT` if the socket is
/// not bound to a file.
pub(crate) fn bound_file(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    open_by_ioctl(socket, SIOCUNIXFILE)
}

fn open_by_ioctl(socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "no safe wrapper of these ioctls exists")]
    // SAFETY: neither request has a third argument or touches user memory; `socket` is borrowed,
    // hence open. A result that is not negative is a new, unowned descriptor.
    unsafe {
        let fd = libc::ioctl(socket.as_raw_fd(), request);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Connects a socket to the address that `address` encodes.
pub(crate) fn connect_to(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    with_address(socket, address, libc::connect)
}

/// Binds a socket to the address that `address` encodes.
pub(crate) fn bind_to(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    with_address(socket, address, libc::bind)
}

type AddressCall = unsafe extern "C" fn(i32, *const libc::sockaddr, libc::socklen_t) -> i32;

fn with_address(socket: BorrowedFd<'_>, address: &[u8], call: AddressCall) -> io::Result<()> {
    let length =
        libc::socklen_t::try_from(address.len()).map_err(|_long| rustix::io::Errno::INVAL)?;
    #[expect(unsafe_code, reason = "rustix takes typed addresses only")]
    // SAFETY: `call` is connect or bind, which read `length` bytes of `address` as they are and
    // keep none of them; the kernel copies them before it looks at them, so that alignment does not
    // matter. `socket` is borrowed, hence open.
    let done = unsafe { call(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads `into.len()` bytes at `address` of another process, once. `EFAULT` if not all of them are
/// there, `EPERM` without the right to trace the process.
pub(crate) fn read_memory(process: u32, address: u64, into: &mut [u8]) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(|_large| rustix::io::Errno::SRCH)?;
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(
            usize::try_from(address).map_err(|_large| rustix::io::Errno::FAULT)?,
        ),
        iov_len: into.len(),
    };
    #[expect(unsafe_code, reason = "rustix has no process_vm_readv")]
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`, which is borrowed exclusively
    // for the call. The remote address is of another process and is never dereferenced here.
    let read =
        unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(read) {
        Err(_negative) => Err(io::Error::last_os_error()),
        Ok(count) if count == into.len() => Ok(()),
        Ok(_) => Err(rustix::io::Errno::FAULT.into()),
    }
}

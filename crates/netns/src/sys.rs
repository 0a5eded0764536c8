// SPDX-License-Identifier: Apache-2.0
//! Safe wrappers of system calls that no safe crate offers. All `unsafe` code of the workspace is
//! in this module and below.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use netlink_sys::Socket;
use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) mod clone;
pub(crate) mod fork;
pub(crate) mod seccomp;
pub(crate) mod signals;
pub(crate) mod sockets;
mod transparent;

pub(crate) use transparent::{
    receive_with_destination, report_original_destination, set_mark, set_transparent,
};

/// `ioctl(NS_GET_USERNS)`, `_IO(0xb7, 1)`: the user namespace that owns a namespace.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Returns the user namespace that owns `namespace`; `EPERM` unless the caller's own or a
/// descendant.
pub(crate) fn owning_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: NS_GET_USERNS takes no third argument and touches no user memory; `namespace` is
    // borrowed, hence open. A non-negative result is a new, unowned descriptor.
    unsafe {
        let fd = libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Returns the parent of a user namespace; `EPERM` unless the caller's own or a descendant.
pub(crate) fn parent_user_namespace(userns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // For a user namespace, the owning one is the parent.
    owning_user_namespace(userns)
}

/// `ioctl(NS_GET_OWNER_UID)`, `_IO(0xb7, 4)`: the user who owns a user namespace.
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

/// Returns the owner of a user namespace, as seen from the caller's.
pub(crate) fn user_namespace_owner(userns: BorrowedFd<'_>) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: NS_GET_OWNER_UID writes one uid_t to its argument, which points to one that outlives
    // the call; `userns` is borrowed, hence open.
    let done = unsafe { libc::ioctl(userns.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(owner)
    }
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn unshare_netns() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for CLONE_FILES alone"
    )]
    // SAFETY: without CLONE_FILES no thread loses access to a descriptor.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?)
    }
}

/// Moves the calling process into a new control group namespace, which begins at its group.
pub(crate) fn unshare_cgroup_namespace() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for CLONE_FILES alone"
    )]
    // SAFETY: without CLONE_FILES no thread loses access to a descriptor.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP)?)
    }
}

/// Opens a socket of `[domain, type and flags, protocol]` in the caller's namespaces.
pub(crate) fn open_socket([domain, kind, protocol]: [i32; 3]) -> io::Result<OwnedFd> {
    #[expect(
        unsafe_code,
        reason = "rustix has no constants for all protocols asked for"
    )]
    // SAFETY: three integers go in; the result is negative or a new, unowned descriptor.
    unsafe {
        let fd = libc::socket(domain, kind, protocol);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Takes over a descriptor that was inherited, and closes it on `exec`; `EBADF` if `number` is not
/// open, or one of the standard streams.
pub(crate) fn adopt_inherited(number: i32) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    #[expect(
        unsafe_code,
        reason = "an inherited descriptor is known by its number only"
    )]
    // SAFETY: F_SETFD touches no memory. It fails unless the number is open, and then the caller
    // of `adopt_inherited_fd` promises that no other code of this process owns it.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Converts an open netlink socket to `netlink-sys`'s type, whose only constructor is unsafe.
pub(crate) fn into_netlink_socket(fd: OwnedFd) -> Socket {
    #[expect(unsafe_code, reason = "netlink_sys::Socket offers only FromRawFd")]
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, and `Socket` takes it over
    // and closes it once. The only caller, `NetnsRef::open_netlink_socket`, checks the family.
    unsafe {
        Socket::from_raw_fd(fd.into_raw_fd())
    }
}

/// Registers `fd` with the current runtime.
pub(crate) fn register_async_fd(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        unsafe_code,
        reason = "tokio has no safe constructor for arbitrary descriptors"
    )]
    // SAFETY: an OwnedFd is open, always returns the same number, and stays open until it is
    // dropped, which `AsyncFd` does after removing the registration. It cannot be replaced: the
    // only caller, `PollableFd`, lends it out shared and never calls `get_mut`.
    unsafe {
        Ok(AsyncFd::register_with_interest(fd, interest)?)
    }
}

/// Marks every descriptor from 3 on close-on-exec.
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no close_range")]
    // SAFETY: only descriptor flags change; nothing is closed here, so ownership is unaffected. The
    // next step is exec, which closes them, or exit.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes, in a forked child, its copies of all descriptors from 3 on but `kept`.
pub(crate) fn close_copies_except(kept: &[BorrowedFd<'_>]) {
    let mut numbers: Vec<u32> = kept
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers.into_iter().chain([u32::MAX]) {
        if first < number {
            #[expect(unsafe_code, reason = "rustix has no close_range")]
            // SAFETY: called only in a forked child that ends without dropping the parent's values,
            // of which the closed numbers are copies. All values that the child uses from here on
            // are in `kept`. The call fails only for a range that is none.
            unsafe {
                libc::syscall(libc::SYS_close_range, first, number.saturating_sub(1), 0);
            }
        }
        first = first.max(number.saturating_add(1));
    }
}

/// Adds `attributes` (`MOUNT_ATTR_…`) to the mount at `path`, and to all mounts below it if
/// `recursive`. Attributes are only added, so that no mount becomes less strict.
pub(crate) fn restrict_mount(path: &Path, attributes: u64, recursive: bool) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    #[expect(unsafe_code, reason = "rustix has no mount_setattr")]
    // SAFETY: `path` is a C string and `attr` a mount_attr of the given size; the kernel reads both
    // and keeps neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes, in a forked child, its copy of a descriptor owned by the parent.
pub(crate) fn close_in_child(copy: BorrowedFd<'_>) {
    #[expect(unsafe_code, reason = "the copy has no owner in the child")]
    // SAFETY: called only in a forked child that ends without dropping the parent's values, so the
    // closed number is neither closed nor used again by the owner in the parent's copy.
    unsafe {
        libc::close(copy.as_raw_fd());
    }
}

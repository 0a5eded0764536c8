// SPDX-License-Identifier: Apache-2.0
//! The system calls that no safe crate offers, each behind a safe function: all `unsafe` of the
//! project is below this module.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};

use netlink_sys::Socket;
use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) mod fork;

/// `ioctl(NS_GET_USERNS)`, `_IO(0xb7, 1)`: the user namespace that owns a namespace.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// Returns the user namespace that owns `namespace`; `EPERM` when it is not the caller's or below.
pub(crate) fn owning_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "no safe wrapper of this ioctl exists")]
    // SAFETY: NS_GET_USERNS takes no third argument and touches no memory of ours; `namespace` is
    // borrowed, hence open. What it returns, unless negative, is a new descriptor nobody else owns.
    unsafe {
        let fd = libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Moves the calling thread into a new network namespace.
pub(crate) fn leave_net() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for CLONE_FILES alone"
    )]
    // SAFETY: without CLONE_FILES no thread loses sight of a descriptor.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?)
    }
}

/// Opens a socket of `[domain, type and flags, protocol]` where the caller is.
pub(crate) fn socket([domain, kind, protocol]: [i32; 3]) -> io::Result<OwnedFd> {
    #[expect(
        unsafe_code,
        reason = "rustix has no constants for all protocols asked for"
    )]
    // SAFETY: three integers go in; a descriptor that nobody else owns comes out, or a negative.
    unsafe {
        let fd = libc::socket(domain, kind, protocol);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Turns an open netlink socket into `netlink-sys`'s, which has only an unsafe door.
pub(crate) fn netlink_socket(fd: OwnedFd) -> Socket {
    #[expect(unsafe_code, reason = "netlink_sys::Socket offers only FromRawFd")]
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, and `Socket` takes it over
    // and closes it once. That it is one of netlink is the callers' doing (`Place::netlink` only).
    unsafe {
        Socket::from_raw_fd(fd.into_raw_fd())
    }
}

/// Registers `fd` with the current runtime.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        unsafe_code,
        reason = "tokio has no safe door for descriptors of any kind"
    )]
    // SAFETY: an OwnedFd is open, always answers with the same number, and stays open until it is
    // dropped, which `AsyncFd` does after taking the registration back. Nobody can put another in
    // its place: the only caller, `Pollable`, lends it out shared and never calls `get_mut`.
    unsafe {
        Ok(AsyncFd::register_with_interest(fd, interest)?)
    }
}

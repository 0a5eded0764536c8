// SPDX-License-Identifier: Apache-2.0
//! Signal masks: blocked for the init process, unblocked for the workload.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;

/// Blocks every signal for the calling thread and returns a non-blocking descriptor that becomes
/// readable on `SIGCHLD`.
pub(crate) fn open_sigchld_fd() -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "rustix has no signal sets")]
    // SAFETY: both sets are initialised by sigfillset and sigemptyset before they are read, and
    // outlive the calls that read them. signalfd returns a new descriptor or a negative number.
    unsafe {
        let mut every = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(every.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, every.as_ptr(), ptr::null_mut());
        let mut child = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(child.as_mut_ptr());
        libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
        let fd = libc::signalfd(-1, child.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Unblocks every signal for the calling thread. Neither `execve` nor the standard library does.
pub(crate) fn unblock_all() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no signal sets")]
    // SAFETY: the set is initialised by sigemptyset before it is read, and outlives the call.
    let error = unsafe {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A forked child in new namespaces that continues in the code of its parent.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::process::Pid;

use crate::process::ProcessHandle;

/// Starts a child in new namespaces (`CLONE_NEW…`); it runs `child_main` and exits with the result.
///
/// Fails with `EDEADLK` if the caller has more than one thread: the child could deadlock on a lock
/// held by another thread at the time of the fork.
pub(crate) fn spawn_in_namespaces(
    namespaces: i32,
    child_main: impl FnOnce() -> u8,
) -> io::Result<ProcessHandle> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: i32 = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    let flags = libc::c_ulong::from(flags.unsigned_abs());
    #[expect(unsafe_code, reason = "no safe crate clones into namespaces")]
    // SAFETY: without CLONE_VM the child has its own copy of all memory and, with a null stack
    // pointer, continues after this call. The caller has one thread, as checked above, so no other
    // thread holds a lock or is in the middle of a change: the child may run any code. Of the C
    // library only its record of the thread id is stale; it serves locks that check their owner and
    // need only a constant value. The kernel stores the pidfd at the third argument; it is a new,
    // unowned descriptor.
    unsafe {
        let pid = libc::syscall(
            libc::SYS_clone,
            flags,
            ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_void>(),
            ptr::null_mut::<libc::c_void>(),
        );
        match i32::try_from(pid) {
            Ok(0) => {
                // The panic hook has reported it; unwinding must not continue into the parent's
                // code.
                let code = catch_unwind(AssertUnwindSafe(child_main)).unwrap_or(70);
                libc::_exit(i32::from(code))
            }
            Ok(pid) if pid > 0 => {
                let pidfd = OwnedFd::from_raw_fd(pidfd);
                let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
                Ok(ProcessHandle::from_parts(pid, pidfd))
            }
            _ => Err(io::Error::last_os_error()),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Ties the lifetime of child programs to the calling process.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Makes the kernel kill the program started by `command` when the calling thread ends.
///
/// The program gets a process group of its own, so that signals typed at the terminal do not reach
/// it. A program that changes its user id is no longer killed.
pub fn kill_on_parent_exit(command: &mut Command) {
    let parent = getpid();
    command.process_group(0);
    #[expect(unsafe_code, reason = "a prctl between fork and exec")]
    // SAFETY: the closure runs in the forked child. It makes two system calls and compares two
    // integers: it neither allocates nor takes a lock, whatever other threads held at the fork.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the prctl; a new parent means a missed signal.
            if getppid().map(Pid::as_raw_nonzero) == Some(parent.as_raw_nonzero()) {
                Ok(())
            } else {
                Err(rustix::io::Errno::SRCH.into())
            }
        });
    }
}

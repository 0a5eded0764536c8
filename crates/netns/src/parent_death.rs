// SPDX-License-Identifier: Apache-2.0
//! Ties a program that we start to our own end, so that none is left over when we are killed.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the kernel kill what `command` starts when the calling thread ends, and keeps the signals
/// that are typed at our terminal away from it.
///
/// The program loses the tie if it changes its user id; what is meant for us by the terminal does
/// not reach it in any case.
pub fn kill_on_parent_exit(command: &mut Command) {
    let us = getpid();
    command.process_group(0);
    #[expect(unsafe_code, reason = "a prctl between fork and exec")]
    // SAFETY: the closure runs in the forked child. It makes two system calls and compares two
    // integers: it neither allocates nor takes a lock, whatever other threads held at the fork.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // We may have ended before that: then somebody else is its parent.
            if getppid().map(Pid::as_raw_nonzero) == Some(us.as_raw_nonzero()) {
                Ok(())
            } else {
                Err(rustix::io::Errno::SRCH.into())
            }
        });
    }
}

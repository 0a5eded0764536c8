// SPDX-License-Identifier: Apache-2.0
//! Mounts that a child program makes for itself alone.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the program started by `command` a mount namespace whose mounts are private.
///
/// A program that makes another directory its root needs this on hosts where `/tmp` is a mount of
/// its own: `pivot_root(2)` refuses directories below a shared mount. The caller must have
/// `CAP_SYS_ADMIN`.
pub fn run_with_private_mounts(command: &mut Command) {
    #[expect(unsafe_code, reason = "two system calls between fork and exec")]
    // SAFETY: the closure runs in the forked child, which has one thread and shares no descriptors
    // with another. It makes two system calls with constant arguments: it neither allocates nor
    // takes a lock, whatever other threads held at the fork.
    unsafe {
        command.pre_exec(|| {
            unshare_unsafe(UnshareFlags::NEWNS)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            Ok(mount_change(c"/", private)?)
        });
    }
}

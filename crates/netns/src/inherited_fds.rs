// SPDX-License-Identifier: Apache-2.0
//! Takes over the descriptors that a service manager passes to a program.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// The descriptors of a process are taken over once.
static ADOPTED: AtomicBool = AtomicBool::new(false);

/// Takes over the descriptors with these numbers, `sd_listen_fds(3)`, before the process opens
/// files of its own. `EALREADY` at a second call, `EBADF` for a number that is not open or one of
/// the standard streams.
pub fn adopt_inherited_fds(numbers: &[i32]) -> io::Result<Vec<OwnedFd>> {
    if ADOPTED.swap(true, Ordering::Relaxed) {
        return Err(io::Error::from_raw_os_error(libc::EALREADY));
    }
    numbers
        .iter()
        .map(|number| sys::adopt_inherited(*number))
        .collect()
}

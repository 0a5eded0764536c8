// SPDX-License-Identifier: Apache-2.0
//! Opens the terminal a second time, without blocking.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::termios::ttyname;

/// Opens the terminal of `fd` again without blocking; other users of the terminal keep their mode.
pub(crate) fn reopen_tty(fd: impl AsFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    ttyname(fd, Vec::new())
        .and_then(|name| open(name.as_c_str(), flags, Mode::empty()))
        .or_else(|_not_accessible_by_name| open(c"/dev/tty", flags, Mode::empty()))
}

// SPDX-License-Identifier: Apache-2.0
//! Opens the terminal a second time, without blocking.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::termios::ttyname;

/// Opens the terminal of `fd` again without blocking; other users of the terminal keep their mode.
///
/// Returns a duplicate of `fd`, which may block, for a terminal of another user (su, runuser).
pub(crate) fn reopen_tty(fd: impl AsFd, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    ttyname(fd.as_fd(), Vec::new())
        .and_then(|name| open(name.as_c_str(), flags, Mode::empty()))
        .or_else(|_not_accessible_by_name| open(c"/dev/tty", flags, Mode::empty()))
        .or_else(|_not_controlling| fcntl_dupfd_cloexec(fd, 3))
}

// SPDX-License-Identifier: Apache-2.0
//! Questions of commands at the terminal.

use std::io::{BufRead as _, Write as _};

use rustix::termios::isatty;

use crate::CommandContext;

/// Returns `true` if a person can be asked: standard input and standard error are terminals.
pub(super) fn can_confirm(context: &CommandContext) -> bool {
    !context.json && isatty(std::io::stdin()) && isatty(std::io::stderr())
}

/// Asks a question at the terminal; anything but `y` or `yes` is no.
pub(super) fn confirm(question: &str) -> bool {
    let mut stderr = std::io::stderr();
    if write!(stderr, "{question}")
        .and_then(|()| stderr.flush())
        .is_err()
    {
        return false;
    }
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) => matches!(line.trim(), "y" | "Y" | "yes"),
        Err(_) => false,
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The command that opens the screen with all questions in a terminal window.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// A program with arguments that opens the screen in a new terminal window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenCommand {
    /// The terminal emulator.
    pub program: PathBuf,
    /// The arguments of the terminal emulator, the command of the screen among them.
    pub arguments: Vec<OsString>,
}

impl ScreenCommand {
    /// Starts the command. The window outlives the popups; `token` lets it take the focus.
    pub(super) fn spawn(&self, token: Option<&str>) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal of this program does not close the window.
            .process_group(0);
        if let Some(token) = token {
            command
                .env("XDG_ACTIVATION_TOKEN", token)
                .env("DESKTOP_STARTUP_ID", token);
        }
        command.spawn()
    }
}

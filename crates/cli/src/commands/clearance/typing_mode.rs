// SPDX-License-Identifier: Apache-2.0
//! The mode of the terminal in which the prompt shows the typed line itself.

use std::io;

use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::signal::unix::{SignalKind, signal};

/// Passes each key on at once, without showing it; Ctrl-C and Ctrl-Z stay signals. The mode before
/// is restored on drop.
#[derive(Debug)]
pub(super) struct TypingMode {
    before: Termios,
}

impl TypingMode {
    /// Sets the mode of the terminal at standard input. `None` in the background, where a change of
    /// the mode would stop this process.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !is_in_foreground() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mode = Self { before };
        mode.set()?;
        Ok(Some(mode))
    }

    fn set(&self) -> io::Result<()> {
        let mut typing = self.before.clone();
        typing.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        typing.special_codes[SpecialCodeIndex::VMIN] = 1;
        typing.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &typing)?)
    }

    fn restore(&self) {
        // The terminal may be gone; in the background the mode is another program's.
        if is_in_foreground()
            && let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.before)
        {
            tracing::debug!(%error, "cannot restore the terminal");
        }
    }

    /// Restores the mode while this process is stopped by Ctrl-Z. Never returns without an error.
    pub(super) async fn follow_job_control(&self) -> io::Result<std::convert::Infallible> {
        let mut stopped = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        loop {
            tokio::select! {
                _ = stopped.recv() => {
                    self.restore();
                    kill_process(getpid(), Signal::STOP)?;
                }
                _ = continued.recv() => if is_in_foreground() {
                    self.set()?;
                },
            }
        }
    }
}

impl Drop for TypingMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Returns `true` if the terminal at standard input belongs to this process's group.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}

/// Returns the columns of the terminal at standard output.
pub(super) fn terminal_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

// SPDX-License-Identifier: Apache-2.0
//! The outcome of a run.

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunOutcome {
    /// The command exited.
    Exited {
        /// The exit status.
        status: u8,
    },
    /// A signal ended the command.
    Killed {
        /// The number of the signal.
        signal: u8,
    },
    /// A signal to this process ended the run before the command started.
    Interrupted {
        /// The number of the signal.
        signal: u8,
    },
}

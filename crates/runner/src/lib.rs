// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, with questions at the terminal, on the desktop, or
//! in another program.
//!
//! The sequence provides the safety: [`PreparedRun::build`] builds the sandbox without any
//! connection; [`PreparedRun::run`] loads and verifies the firewall, connects the network, and only
//! then starts the command. This process is the supervisor; at the end of this process, however
//! caused, the kernel ends every process in the sandbox.
//!
//! The caller provides every value in a [`RunConfig`] and the text of every message as a
//! [`RunReporter`]. The crate reads neither the environment nor the home directory.

mod allowed_dest;
mod config;
mod console;
mod controlling_tty;
mod error;
mod frontend;
mod network_helper;
mod notice;
mod outcome;
mod prepared_run;
mod pty_relay;
mod sandbox_spec;
mod session;
mod signals;
mod summary;
mod terminal_modes;

pub use allowed_dest::{AllowedDestError, parse_allowed_dest};
pub use config::{NetworkChoice, PopupChoice, RunConfig, RunScreen};
pub use controlling_tty::ControllingTtyError;
pub use error::RunError;
pub use network_helper::{NetworkHelperError, NetworkHelperExit};
pub use notice::{PopupSource, RunNotice, RunReporter};
pub use outcome::RunOutcome;
pub use prepared_run::PreparedRun;
pub use summary::RunSummary;

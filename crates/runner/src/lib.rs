// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, with questions at the terminal, on the desktop, or
//! in another program.
//!
//! The sequence provides the safety: [`PreparedRun::build`] builds the sandbox, whose only link
//! ends in a gateway without a way on; [`PreparedRun::run`] loads and verifies the gateway's rules
//! and opens its sockets, and only then starts the command. This process is the supervisor, which
//! dials each allowed connection; at the end of this process, however caused, the kernel ends every
//! process in the sandbox and every connection.
//!
//! The caller provides every value in a [`RunConfig`] and the text of every message as a
//! [`RunReporter`]. The crate reads neither the environment nor the home directory.

mod audit_event;
mod config;
mod connection_programs;
mod console;
mod controlling_tty;
mod earlier_answers;
mod error;
mod frontend;
mod hotkey_filter;
mod kept_files;
mod learnt_dests;
mod nested;
mod notice;
mod open_files;
mod outcome;
mod prepared_run;
mod pty_relay;
mod run_record;
mod run_rules;
mod sandbox_audit;
mod sandbox_spec;
mod session;
mod signals;
mod ssh_config;
mod stand_in_key;
mod stream_relay;
mod summary;

pub use config::{NetworkChoice, PopupChoice, RunConfig, RunScreen};
pub use controlling_tty::ControllingTtyError;
pub use error::RunError;
pub use kept_files::KeptFiles;
pub use learnt_dests::{LearntDest, LearntDests, LearntGroup};
pub use nested::is_inside_sandbox;
pub use netns::sandbox::SandboxLimits;
pub use notice::{PopupSource, RunNotice, RunReporter};
pub use open_files::raise_open_files_limit;
pub use operator::bell::BellChoice;
pub use outcome::RunOutcome;
pub use prepared_run::PreparedRun;
pub use record::{RecordConfig, RecordNotice};
pub use run_rules::{RunRules, StartRule};
pub use sandbox_audit::{AuditOpenError, SandboxAudit};
pub use stand_in_key::load_stand_in_key;
pub use summary::RunSummary;
pub use supervisor::{
    ApproverConfig, EgressNotice, HoldLimit, LongestAnswer, ProxySettings, ProxyUrlError,
    ProxyVariableError, PublishError, PublishSpec, PublishedPort,
};

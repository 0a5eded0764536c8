// SPDX-License-Identifier: Apache-2.0
//! The errors of the commands. [`crate::exit`] chooses their hints and exit statuses.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use demo::DemoError;
use desktop::notifier::{ActionKey, DesktopError};
use desktop::{NotifierLockError, PopupDesktopError};
use host_setup::{ClassicUnitsError, HookProgramError, HostSetupError, UnitProgramError};
use hub::HubServeError;
use operator::script::SelectSandboxError;
use reader::NflogOwner;
use reader::daemon::{AttachError, ReaderDaemonError};
use record::ReadRecordError;
use runner::{ProxyVariableError, RunError};
use settings::{OrganisationError, OrganisationRefusal, UserSettingsError};
use shield_cli::ShieldVerbError;
use simple_clearance::SimpleClearanceError;
use store::RuleStoreError;
use supervisor::SupervisorStartError;
use terok_clearance::DisplayText;
use terok_clearance::client::{AnswerError, HubError};
use terok_clearance::socket::SocketBindError;
use terok_clearance::varlink::VarlinkServeError;

use crate::commands::podman::PodmanCommandError;
use crate::commands::profile::RunProfileError;
use crate::commands::request::RequestCommandError;
use crate::commands::run::{ApproverProgramError, EnvFileError, TrustedFileRefusal};
use crate::environment::RuntimeDirError;
use crate::output::OutputError;

/// A command failed or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A failure that has no hint, with its causes.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
    /// Standard output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The runtime directory cannot be used.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// The rules of a file in the project do not count.
    #[error(transparent)]
    TrustedFile(#[from] TrustedFileRefusal),
    /// The operator's rule files cannot be used.
    #[error(transparent)]
    RuleStore(#[from] RuleStoreError),
    /// No profile was made of a run.
    #[error(transparent)]
    RunProfile(#[from] RunProfileError),
    /// No popups can be shown.
    #[error(transparent)]
    PopupDesktop(#[from] PopupDesktopError),
    /// The hub of `--socket` cannot be used.
    #[error("clearance hub unavailable")]
    HubUnavailable {
        /// The name of the command.
        command: &'static str,
        /// The cause.
        #[source]
        source: HubError,
    },
    /// A socket was not bound.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: SocketBindError,
    },
    /// The program of `--shield` does not exist.
    #[error("there is no program at {}", path.display())]
    NoShieldProgram {
        /// The path of the program.
        path: PathBuf,
    },

    /// The selected sandbox was not found.
    #[error(transparent)]
    SelectSandbox(#[from] SelectSandboxError),
    /// A hub did not do what it was asked about its rules.
    #[error("cannot ask the hub of {sandbox} about its rules")]
    RuleCall {
        /// The name of the sandbox.
        sandbox: DisplayText,
        /// The cause.
        #[source]
        source: AnswerError,
    },
    /// The user's configuration cannot be used.
    #[error(transparent)]
    UserSettings(#[from] Arc<UserSettingsError>),
    /// The limits of the organisation are unknown.
    #[error(transparent)]
    OrganisationFile(#[from] OrganisationError),
    /// The organisation does not permit it.
    #[error(transparent)]
    Organisation(#[from] OrganisationRefusal),

    /// `demo` failed.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The units of the classic hub were not installed.
    #[error(transparent)]
    ClassicUnits(#[from] ClassicUnitsError),
    /// The program of `install-service` cannot be written in a unit.
    #[error("cannot install a unit with this program")]
    UnitProgram(#[from] UnitProgramError),
    /// `setup` or `uninstall` was not begun or not finished.
    #[error(transparent)]
    HostSetup(#[from] HostSetupError),
    /// The program must not be executed by hooks.
    #[error("hooks and units cannot execute this program")]
    HookProgram(#[from] HookProgramError),
    /// Some steps of `setup` or `uninstall` failed.
    #[error("{command} is not complete: {problems} of its steps need you, see above")]
    SetupProblems {
        /// The name of the command.
        command: &'static str,
        /// The number of the steps.
        problems: usize,
    },
    /// Guarded containers run.
    #[error("guarded containers are running: {}", supervisors.join(", "))]
    RunningSupervisors {
        /// The units or sockets of their supervisors.
        supervisors: Vec<String>,
    },
    /// Another `notifier` runs.
    #[error(transparent)]
    NotifierLock(#[from] NotifierLockError),
    /// `notify` has two actions with the same key.
    #[error("the action {key} is given twice")]
    DuplicateAction {
        /// The key.
        key: ActionKey,
    },
    /// `notify` did not show its notification.
    #[error("cannot show the notification")]
    ShowNotification(#[source] DesktopError),
    /// `notify --wait` cannot receive a choice.
    #[error("cannot wait for a choice: {reason}")]
    NoChoice {
        /// The reason.
        reason: &'static str,
    },
    /// `reader` did not find or enter the network namespace of the sandbox.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Another program listens to the packet log of `reader`.
    #[error(transparent)]
    PacketLogTaken(#[from] PacketLogTakenError),
    /// `reader` failed.
    #[error(transparent)]
    Reader(#[from] ReaderDaemonError),
    /// The record cannot be read.
    #[error(transparent)]
    ReadRecord(#[from] ReadRecordError),
    /// `run` failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// `run` failed before its sandbox was built.
    #[error(transparent)]
    RunSetup(Box<Self>),
    /// `run` has no line prompt.
    #[error("`run` has no `--ui prompt`")]
    RunPrompt,
    /// The hotkey in the environment is not usable.
    #[error("cannot use the key of TEROK_CLEARANCE_HOTKEY")]
    HotkeyVariable(#[source] ::tui::HotkeyError),
    /// `run` needs no helper program for its network any more.
    #[error("`run` has no `--network {0}`: it connects without helper programs")]
    RunNetworkHelper(&'static str),
    /// A variable about the proxy of the operator's network is not usable.
    #[error("cannot use the proxy of this network")]
    Proxy(#[from] ProxyVariableError),
    /// A file of variables for `run` is not usable.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    /// The program of `run --approver` is not executed.
    #[error("cannot use the approver")]
    Approver(#[from] ApproverProgramError),
    /// `podman` did not start a container.
    #[error(transparent)]
    Podman(#[from] PodmanCommandError),
    /// `request` failed.
    #[error(transparent)]
    Request(#[from] RequestCommandError),
    /// `serve` or `serve-verdict` failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A verb of `shield` failed.
    #[error(transparent)]
    Shield(#[from] ShieldVerbError),
    /// `simple-clearance` failed.
    #[error(transparent)]
    SimpleClearance(#[from] SimpleClearanceError),
    /// The process of `supervise` does not exist.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number of the process.
        pid: u32,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// `supervise` was not started.
    #[error("cannot guard the network namespace of process {pid}")]
    Supervise {
        /// The process in the network namespace.
        pid: u32,
        /// The cause.
        #[source]
        source: SupervisorStartError,
    },
    /// The command prints nothing for programs.
    #[error("`{command}` has no --json")]
    NoJson {
        /// The command.
        command: &'static str,
    },
    /// `man` was asked for a page that does not exist.
    #[error("there is no command {name:?}")]
    NoManualPage {
        /// The name of the command.
        name: String,
    },
    /// The command confines programs, and runs confined itself.
    #[error("this is already inside a sandbox of terok-clearance")]
    InsideSandbox,
    /// A full screen cannot be JSON.
    #[error("--json has no full screen")]
    JsonFullScreen,
    /// A full screen needs a terminal.
    #[error("standard input and output are no terminal")]
    NoTerminal,
    /// The terminal cannot show a full screen.
    #[error("this terminal (TERM) cannot show a screen")]
    LineTerminal,
}

impl CommandError {
    /// Returns `true` if the output was closed early, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Output(error) => matches!(error, OutputError::Closed),
            Self::Demo(DemoError::WriteOutput(error))
            | Self::Shield(ShieldVerbError::WriteOutput(error))
            | Self::Reader(ReaderDaemonError::Write(error))
            | Self::SimpleClearance(SimpleClearanceError::WriteOutput(error)) => {
                error.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// Returns the error with its causes in one line.
    pub(crate) fn message(&self) -> String {
        error_causes(self).join(": ")
    }
}

/// A part of a service failed, which indicates a bug.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The hub failed.
    #[error(transparent)]
    Hub(#[from] HubServeError),
    /// The verdict helper cannot be served.
    #[error("cannot serve verdicts")]
    Verdicts(#[source] VarlinkServeError),
}

/// Another program listens to the packet log of a sandbox.
#[derive(Debug)]
pub struct PacketLogTakenError {
    /// The error of the kernel.
    pub error: AttachError,
    /// The other program; `None` if the program has ended meanwhile.
    pub owner: io::Result<Option<NflogOwner>>,
}

impl fmt::Display for PacketLogTakenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for PacketLogTakenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Returns the texts of an error and of its causes.
pub(crate) fn error_causes(error: &dyn Error) -> Vec<String> {
    let causes = std::iter::successors(Some(error), |error| Error::source(*error));
    causes.map(ToString::to_string).collect()
}

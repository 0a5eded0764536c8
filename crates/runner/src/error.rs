// SPDX-License-Identifier: Apache-2.0
//! The errors of a run.

use std::io;
use std::path::PathBuf;

use desktop::PopupDesktopError;
use netns::gateway::GatewayBuildError;
use netns::sandbox::{SandboxBuildError, WorkloadStartError};
use supervisor::{DialedStartError, PublishError};
use terok_clearance::{DisplayText, IdParseError};

use crate::ControllingTtyError;

/// A run that could not be set up or continued. Its sandbox is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The command is empty.
    #[error("there is no command to run")]
    NoCommand,
    /// The gateway of the sandbox was not built.
    #[error("cannot build the gateway of the sandbox")]
    BuildGateway(#[source] GatewayBuildError),
    /// The operator's terminal cannot be used.
    #[error(transparent)]
    Terminal(#[from] ControllingTtyError),
    /// A socket of this program cannot be shared: the command could answer its own questions.
    #[error("cannot share {path:?}: a command that reaches it could answer its own questions")]
    SharedOwnSocket {
        /// The path.
        path: PathBuf,
    },
    /// A standard stream of the command cannot be replaced.
    #[error("cannot replace the standard streams of the command")]
    ReplaceStreams(#[source] io::Error),
    /// The sandbox was not built.
    #[error("cannot build the sandbox")]
    BuildSandbox(#[source] SandboxBuildError),
    /// The signals of this process cannot be caught.
    #[error("cannot catch signals")]
    CatchSignals(#[source] io::Error),
    /// The sandbox's first process cannot be referred to.
    #[error("cannot open the sandbox's first process")]
    OpenSandbox(#[source] io::Error),
    /// The kernel returned no random bytes for the id of the sandbox or the key of its names.
    #[error("cannot make an id for the sandbox")]
    RandomId(#[source] io::Error),
    /// The random id is invalid.
    #[error(transparent)]
    Id(#[from] IdParseError),
    /// The record that is required cannot be written.
    #[error("cannot write the record, without which your organisation does not permit a run")]
    Record(#[source] record::AppendError),
    /// The thread that writes the record did not start.
    #[error("cannot start the thread that writes the record")]
    RecordThread(#[source] io::Error),
    /// The rules or the sockets of the sandbox are missing.
    #[error("cannot start the sandbox's supervisor")]
    StartSupervisor(#[source] DialedStartError),
    /// A port cannot be published.
    #[error(transparent)]
    Publish(PublishError),
    /// Required popups cannot be shown.
    #[error(transparent)]
    Popups(#[from] PopupDesktopError),
    /// The command did not start.
    #[error("cannot start {program}")]
    StartCommand {
        /// The program.
        program: DisplayText,
        /// The cause.
        #[source]
        source: WorkloadStartError,
    },
    /// The hub of the sandbox cannot be listened to.
    #[error("cannot listen to the sandbox's hub")]
    ListenToHub(#[source] io::Error),
    /// The operator's terminal was not set up for the command.
    #[error("cannot set up the terminal")]
    SetUpTerminal(#[source] io::Error),
    /// The operator's terminal cannot be read.
    #[error("cannot read the terminal")]
    ReadTerminal(#[source] io::Error),
    /// This process did not stop together with the command.
    #[error("cannot stop together with the command")]
    Suspend(#[source] io::Error),
    /// The stopped command was not resumed.
    #[error("cannot resume the command")]
    ResumeCommand(#[source] io::Error),
    /// The terminal was not set up again after this process was stopped.
    #[error("cannot set up the terminal again after a stop")]
    ReacquireTerminal(#[source] io::Error),
    /// The end of the command cannot be waited for.
    #[error("cannot wait for the command")]
    WaitForCommand(#[source] io::Error),
}

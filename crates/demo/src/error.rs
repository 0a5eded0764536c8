// SPDX-License-Identifier: Apache-2.0
//! The errors of the demo.

use std::io;

use netns::EnterError;
use netns::gateway::GatewayBuildError;
use netns::link::LinkError;
use netns::sandbox::{SandboxBuildError, WorkloadStartError};
use shield::ShieldError;
use supervisor::{DialedStartError, SupervisorServeError};
use terok_clearance::socket::SocketConnectError;
use terok_clearance::varlink::CallError;
use terok_clearance::{DestParseError, DisplayText, IdParseError};

/// The failure of a user interface.
pub type UiFailure = Box<dyn std::error::Error + Send + Sync>;

/// The reason why a demo could not be set up or continued. All namespaces of the demo are gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The directory for the sockets could not be created.
    #[error("cannot create a directory for the demo's sockets")]
    CreateDirectory(#[source] io::Error),
    /// The pipes for the program's standard streams could not be created.
    #[error("cannot create the program's pipes")]
    CreatePipes(#[source] io::Error),
    /// The sandbox could not be built.
    #[error("cannot build the sandbox")]
    BuildSandbox(#[source] SandboxBuildError),
    /// The sandbox's gateway could not be built.
    #[error("cannot build the sandbox's gateway")]
    BuildGateway(#[source] GatewayBuildError),
    /// The sandbox's first process could not be opened.
    #[error("cannot open the sandbox's first process")]
    OpenSandbox(#[source] io::Error),
    /// An id made by the demo is invalid.
    #[error(transparent)]
    Id(#[from] IdParseError),
    /// A destination made by the demo is invalid.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// A process or thread of the demo failed.
    #[error("{part} failed")]
    Part {
        /// Name of the process or thread.
        part: &'static str,
        /// The failure.
        #[source]
        source: DemoPartError,
    },
    /// The network namespace of the simulated internet could not be entered.
    #[error("cannot open sockets in the simulated internet")]
    EnterInternet(#[source] EnterError),
    /// The sandbox or its gateway could not be entered for verification.
    #[error("cannot enter the sandbox to verify the firewall")]
    EnterSandbox(#[source] EnterError),
    /// The links of the sandbox or its gateway could not be read.
    #[error("cannot list the sandbox's links")]
    ListLinks(#[source] LinkError),
    /// The sandbox or its gateway has a link that may lead elsewhere.
    #[error("{0}")]
    UnexpectedLinks(String),
    /// The gateway's ruleset differs from the intended one or could not be read.
    #[error("cannot verify the firewall")]
    VerifyFirewall(#[source] ShieldError),
    /// The hub could not be connected.
    #[error("cannot connect to the hub")]
    ConnectHub(#[source] SocketConnectError),
    /// The hub's events cannot be read.
    #[error("cannot read the hub's events")]
    ReadEvents(#[source] CallError),
    /// The hub closed the connection.
    #[error("the hub closed the connection")]
    HubClosed,
    /// The program did not start.
    #[error("cannot start the program in the sandbox")]
    StartWorkload(#[source] WorkloadStartError),
    /// A user interface failed.
    #[error("the user interface `{ui}` failed")]
    Ui {
        /// Name of the user interface.
        ui: &'static str,
        /// The failure.
        #[source]
        source: UiFailure,
    },
    /// Standard input cannot be read.
    #[error("cannot read an answer from standard input")]
    ReadAnswer(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write a step of the demo")]
    WriteOutput(#[source] io::Error),
}

/// The failure of one process or thread of the demo.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoPartError {
    /// The part could not be started or connected.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// The part was not ready before the time limit.
    #[error("it was not ready before the time limit")]
    NotReady,
    /// The part did not end before the time limit.
    #[error("it did not end before the time limit")]
    NotEnded,
    /// The part did not reply before the time limit.
    #[error("it did not reply before the time limit")]
    NoReply,
    /// The part ended early. Contains the exit status, if known.
    #[error("it ended early ({0})")]
    Ended(String),
    /// The thread panicked.
    #[error("it panicked")]
    Panicked,
    /// The part sent a message out of turn.
    #[error("it sent an unexpected message")]
    UnexpectedMessage,
    /// The part reported an error.
    #[error("it reported: {0}")]
    Reported(DisplayText),
    /// A message could not be read or written.
    #[error("cannot exchange messages with it")]
    Message(#[from] ChildMessageError),
    /// Waiting for the end failed.
    #[error("cannot wait for its end")]
    Wait(#[source] io::Error),
    /// The supervisor did not start.
    #[error(transparent)]
    StartSupervisor(#[from] DialedStartError),
    /// The supervisor ended with an error.
    #[error(transparent)]
    Supervisor(#[from] SupervisorServeError),
    /// The network namespace of the part could not be opened.
    #[error("cannot open its network namespace")]
    OpenNamespace(#[source] io::Error),
}

impl DemoPartError {
    /// Returns a function that attributes a failure to `part`.
    pub(crate) fn of(part: &'static str) -> impl Fn(Self) -> DemoError {
        move |source| DemoError::Part { part, source }
    }
}

/// The reason why a message between the demo's processes was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildMessageError {
    /// The pipe failed.
    #[error("the pipe failed")]
    Pipe(#[from] io::Error),
    /// A line has no end or exceeds the limit.
    #[error("a line is incomplete, or longer than {0} bytes")]
    LineTooLong(u64),
    /// A line is not a valid message.
    #[error("a line is not a known message")]
    Malformed(#[from] serde_json::Error),
}

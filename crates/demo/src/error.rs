// SPDX-License-Identifier: Apache-2.0
//! The errors of the demo.

use std::io;

use netns::EnterError;
use netns::sandbox::{SandboxBuildError, WorkloadStartError};
use shield::{NetlinkError, PolicyError, ShieldError};
use supervisor::{SupervisorServeError, SupervisorStartError};
use terok_clearance::socket::SocketConnectError;
use terok_clearance::varlink::CallError;
use terok_clearance::{DestParseError, DisplayText, IdParseError};

use crate::answers::UiFailure;

/// A demo that could not be set up or continued. Its namespaces are gone, and nothing is open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No directory for the sockets.
    #[error("cannot create a directory for the demo's sockets")]
    CreateDirectory(#[source] io::Error),
    /// No pipes for the program's standard streams.
    #[error("cannot create the program's pipes")]
    CreatePipes(#[source] io::Error),
    /// No sandbox.
    #[error("cannot build the sandbox")]
    BuildSandbox(#[source] SandboxBuildError),
    /// The sandbox's first process cannot be referred to.
    #[error("cannot open the sandbox's first process")]
    OpenSandbox(#[source] io::Error),
    /// An id that the demo made is invalid.
    #[error(transparent)]
    Id(#[from] IdParseError),
    /// A destination that the demo made is invalid.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// The firewall's policy is invalid.
    #[error("cannot make the firewall's policy")]
    MakePolicy(#[source] PolicyError),
    /// A process or thread of the demo failed.
    #[error("{part} failed")]
    Part {
        /// Name of the process or thread.
        part: &'static str,
        /// The failure.
        #[source]
        source: DemoPartError,
    },
    /// The firewall in the sandbox could not be reached for verification.
    #[error("cannot enter the sandbox to verify the firewall")]
    EnterSandbox(#[source] EnterError),
    /// The kernel's ruleset is not the intended one, or could not be read.
    #[error("cannot verify the firewall")]
    VerifyFirewall(#[source] ShieldError),
    /// No connection to the hub.
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
    #[error("cannot ask with the {ui} user interface")]
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
    /// No start, or no connection.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// Not ready before the time limit.
    #[error("it was not ready before the time limit")]
    NotReady,
    /// No end before the time limit.
    #[error("it did not end before the time limit")]
    NotEnded,
    /// No reply before the time limit.
    #[error("it did not reply before the time limit")]
    NoReply,
    /// An early end, with the status if known.
    #[error("it ended early ({0})")]
    Ended(String),
    /// A panic.
    #[error("it panicked")]
    Panicked,
    /// A message out of turn.
    #[error("it sent an unexpected message")]
    UnexpectedMessage,
    /// A reported error.
    #[error("it reported: {0}")]
    Reported(DisplayText),
    /// No exchange of messages.
    #[error("cannot exchange messages with it")]
    Message(#[from] ChildMessageError),
    /// The end cannot be waited for.
    #[error("cannot wait for its end")]
    Wait(#[source] io::Error),
    /// The supervisor did not start.
    #[error(transparent)]
    StartSupervisor(#[from] SupervisorStartError),
    /// The supervisor ended with an error.
    #[error(transparent)]
    Supervisor(#[from] SupervisorServeError),
    /// The kernel's sets cannot be read.
    #[error("cannot read the kernel's sets")]
    ListElements(#[from] NetlinkError),
    /// A socket is missing from the sandbox's reply.
    #[error("the sandbox returned no socket")]
    NoSocket,
}

impl DemoPartError {
    /// Returns a function that attributes a failure to `part`.
    pub(crate) fn of(part: &'static str) -> impl Fn(Self) -> DemoError {
        move |source| DemoError::Part { part, source }
    }
}

/// A message between the demo's processes that was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildMessageError {
    /// The pipe failed.
    #[error("the pipe failed")]
    Pipe(#[from] io::Error),
    /// A line without an end, or one over the limit.
    #[error("a line is incomplete, or longer than {0} bytes")]
    LineTooLong(u64),
    /// A line that is no message.
    #[error("a line is not a known message")]
    Malformed(#[from] serde_json::Error),
}

/// Returns an error with its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

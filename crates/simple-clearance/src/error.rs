// SPDX-License-Identifier: Apache-2.0
//! The errors of the command.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use terok_clearance::socket::SocketConnectError;
use terok_clearance::{ContainerId, DisplayText, IdParseError};

/// The questions of the container could not be asked, or no longer. Nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimpleClearanceError {
    /// The target is not the name of a container.
    #[error("{target:?} is not the name of a container")]
    ContainerName {
        /// The target.
        target: DisplayText,
        /// The cause.
        #[source]
        source: IdParseError,
    },
    /// A path cannot be made absolute.
    #[error("cannot find {}", path.display())]
    FindPath {
        /// The path.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The state directory does not exist.
    #[error("there is no directory {}", path.display())]
    NoStateDir {
        /// The directory.
        path: PathBuf,
    },
    /// The state directory does not name its container.
    #[error("{} does not name its container", path.display())]
    UnnamedStateDir {
        /// The directory.
        path: PathBuf,
    },
    /// The state directory of the container is unknown.
    #[error("container '{container}' has no 'terok.shield.state_dir' annotation")]
    NoAnnotation {
        /// The container.
        container: ContainerId,
        /// The reason why podman does not describe the container, if that is the cause.
        #[source]
        source: Option<PodmanInspectError>,
    },
    /// The state directory of the container does not exist.
    #[error("{container} has no state directory {}", path.display())]
    MissingStateDir {
        /// The container.
        container: ContainerId,
        /// The directory.
        path: PathBuf,
    },
    /// A hub serves the container, or may do so.
    #[error("cannot ask for {container} here")]
    HubServes {
        /// The container.
        container: ContainerId,
        /// The hub.
        #[source]
        source: ServingHubError,
    },
    /// A hub of a release up to 0.5.12 runs. The message is that of the Python tool.
    #[error(
        "D-Bus hub (org.terok.Shield1) is active \u{2014} use a D-Bus clearance client (desktop \
         notifier or TUI)"
    )]
    BusHubRuns,
    /// The program to apply answers with does not exist.
    #[error("there is no program at {}", path.display())]
    NoShieldProgram {
        /// The path of the program.
        path: PathBuf,
    },
    /// No firewall was found.
    #[error("terok-shield was not found, so answers cannot be applied")]
    ShieldNotFound,
    /// The reader of the container's hook runs.
    #[error("the hook's reader listens to {container}: {reader}")]
    HookReaderRuns {
        /// The container.
        container: ContainerId,
        /// The process.
        reader: String,
    },
    /// The end of the hook's reader cannot be waited for.
    #[error("cannot wait for the hook's reader")]
    WaitForHookReader(#[source] io::Error),
    /// The hook's reader exceeded the time limit.
    #[error("the hook's reader, process {pid}, did not end")]
    HookReaderNotEnded {
        /// The process id.
        pid: u32,
    },
    /// The reader does not exist.
    #[error("there is no reader at {}", path.display())]
    NoReader {
        /// The path of the reader.
        path: PathBuf,
    },
    /// The reader was not started.
    #[error("cannot start the reader")]
    StartReader(#[source] io::Error),
    /// The reader was started without an output.
    #[error("the reader has no output")]
    ReaderWithoutOutput,
    /// The end of the reader cannot be waited for.
    #[error("cannot wait for the reader")]
    WaitForReader(#[source] io::Error),
    /// The reader ended with a failure, and has printed the reason.
    #[error("the reader ended: {0}")]
    ReaderFailed(ExitStatus),
    /// The output of the reader cannot be read.
    #[error("cannot read the reports")]
    ReadReports(#[source] io::Error),
    /// Standard input cannot be read.
    #[error("cannot read answers")]
    ReadAnswers(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    WriteOutput(#[source] io::Error),
}

/// The hub that serves the container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServingHubError {
    /// A hub listens.
    #[error("a hub serves it: process {process} at {}", path.display())]
    Serves {
        /// The process id, with the name of the program if known.
        process: DisplayText,
        /// The socket.
        path: PathBuf,
    },
    /// A socket exists and cannot be connected to, so that a hub may be there.
    #[error("a hub may serve it")]
    Unreachable(#[source] SocketConnectError),
}

/// podman does not describe a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodmanInspectError {
    /// podman was not found.
    #[error("podman is not on the PATH")]
    NotFound,
    /// podman cannot be executed.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// podman failed.
    #[error("podman knows no container {container}: {stderr}")]
    UnknownContainer {
        /// The container.
        container: ContainerId,
        /// The error of podman.
        stderr: DisplayText,
    },
    /// The output of podman is not JSON.
    #[error("cannot parse the output of podman")]
    Parse(#[source] serde_json::Error),
    /// The output of podman has no description.
    #[error("podman did not describe {0}")]
    NoDescription(ContainerId),
}

/// The reader of the container's hook was not started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookRestartError {
    /// The log of the reader cannot be opened.
    #[error("cannot open its reader.log")]
    OpenLog(#[source] io::Error),
    /// The command line of the reader was empty.
    #[error("its command line is empty")]
    NoCommand,
    /// setsid(1) was not started.
    #[error("cannot run setsid")]
    Start(#[source] io::Error),
    /// The file with the process id cannot be written.
    #[error("cannot write its reader.pid")]
    WritePid(#[source] io::Error),
}

// SPDX-License-Identifier: Apache-2.0
//! Exit statuses: the only module that turns errors into messages, hints and statuses.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use demo::DemoError;
use desktop::{NotifierLockError, PopupDesktopError};
use netns::sandbox::WorkloadStartError;
use runner::{NetworkHelperError, RunError, RunOutcome};
use simple_clearance::SimpleClearanceError;

use crate::args::{ProgramName, UsageError};
use crate::output::{BrokenPipeError, StandardStreams};
use crate::{CommandContext, UserEnvironment};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus(pub u8);

impl CommandStatus {
    /// Success.
    pub const OK: Self = Self(0);
    /// Failure.
    pub const FAILURE: Self = Self(1);
    /// Invalid arguments.
    pub const USAGE: Self = Self(2);
    /// No action of a notification was chosen.
    pub const NO_ACTION_CHOSEN: Self = Self(3);
    /// No hub has the question.
    pub const NO_SUCH_QUESTION: Self = Self(3);
    /// The question had been answered before.
    pub const ALREADY_ANSWERED: Self = Self(4);
    /// A required service is unavailable (`EX_UNAVAILABLE` of sysexits.h).
    pub const UNAVAILABLE: Self = Self(69);
    /// A bug in this program (`EX_SOFTWARE` of sysexits.h).
    pub const INTERNAL: Self = Self(70);
    /// Another process holds an exclusive resource (`EX_TEMPFAIL` of sysexits.h).
    pub const RESOURCE_BUSY: Self = Self(75);
    /// `run` failed before or apart from the command (as in env(1) and podman-run(1)).
    pub const RUN_FAILED: Self = Self(125);
    /// The command of `run` could not be executed, as in a shell.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command of `run` was not found, as in a shell.
    pub const COMMAND_NOT_FOUND: Self = Self(127);
    /// Ended by SIGHUP: the terminal was closed.
    pub const HUNG_UP: Self = Self(129);
    /// Ended by Ctrl-C, SIGINT: 128 plus the number of the signal, as in a shell.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGTERM.
    pub const TERMINATED: Self = Self(143);
}

impl From<RunOutcome> for CommandStatus {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Exited { status } => Self(status),
            RunOutcome::Killed { signal } | RunOutcome::Interrupted { signal } => {
                Self(128_u8.saturating_add(signal))
            }
            _ => Self::RUN_FAILED,
        }
    }
}

impl From<CommandStatus> for ExitCode {
    fn from(CommandStatus(code): CommandStatus) -> Self {
        code.into()
    }
}

/// The failure of a command: an error with hints and an exit status.
///
/// [`ErrorExt`] adds hint and status to an [`anyhow::Error`]. A failure does not implement
/// [`std::error::Error`], because only this module reports failures.
#[derive(Debug)]
pub struct CommandFailure {
    error: anyhow::Error,
    hints: Vec<String>,
    status: CommandStatus,
}

impl From<anyhow::Error> for CommandFailure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            error,
            hints: Vec::new(),
            status: CommandStatus::FAILURE,
        }
    }
}

impl From<DemoError> for CommandFailure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::WriteOutput(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                anyhow::Error::new(BrokenPipeError).into()
            }
            DemoError::BuildSandbox(ref source) => {
                let hints = source.advice().map(str::to_owned);
                Self {
                    hints: hints.into_iter().collect(),
                    ..anyhow::Error::new(error).into()
                }
            }
            _ => anyhow::Error::new(error).into(),
        }
    }
}

const DESKTOP_HINT: &str =
    "start it in your desktop session; `terok-clearance clearance` asks at a terminal";

impl From<PopupDesktopError> for CommandFailure {
    fn from(error: PopupDesktopError) -> Self {
        Self {
            hints: vec![DESKTOP_HINT.to_owned()],
            status: CommandStatus::UNAVAILABLE,
            ..anyhow::Error::new(error).into()
        }
    }
}

impl From<NotifierLockError> for CommandFailure {
    fn from(error: NotifierLockError) -> Self {
        let (status, hint) = match error {
            NotifierLockError::Held { .. } => (
                CommandStatus::RESOURCE_BUSY,
                Some("it asks for every sandbox; end it first to start another one".to_owned()),
            ),
            _ => (CommandStatus::FAILURE, None),
        };
        Self {
            hints: hint.into_iter().collect(),
            status,
            ..anyhow::Error::new(error).into()
        }
    }
}

impl From<RunError> for CommandFailure {
    fn from(error: RunError) -> Self {
        let status = match &error {
            RunError::StartCommand { source, .. } => match source {
                WorkloadStartError::NotFound(_) => CommandStatus::COMMAND_NOT_FOUND,
                WorkloadStartError::NotExecutable(_) => CommandStatus::NOT_EXECUTABLE,
                _ => CommandStatus::RUN_FAILED,
            },
            _ => CommandStatus::RUN_FAILED,
        };
        let advice = match &error {
            RunError::BuildSandbox(source) => source.advice(),
            _ => None,
        };
        let hints: &[&str] = match &error {
            RunError::Network(NetworkHelperError::NotInstalled { .. }) => &[
                "install pasta (package `passt`) or slirp4netns (package `slirp4netns`)",
                "`--network none` works without: the command then has no network at all",
            ],
            RunError::BuildSandbox(_) => advice.as_slice(),
            RunError::Popups(_) => &[DESKTOP_HINT],
            _ => &[],
        };
        Self {
            hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
            status,
            ..anyhow::Error::new(error).into()
        }
    }
}

impl From<SimpleClearanceError> for CommandFailure {
    fn from(error: SimpleClearanceError) -> Self {
        match error {
            SimpleClearanceError::WriteOutput(error)
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                anyhow::Error::new(BrokenPipeError).into()
            }
            _ => {
                let hints = simple_clearance_hints(&error).iter();
                Self {
                    hints: hints.map(|hint| (*hint).to_owned()).collect(),
                    ..anyhow::Error::new(error).into()
                }
            }
        }
    }
}

const fn simple_clearance_hints(error: &SimpleClearanceError) -> &'static [&'static str] {
    match error {
        SimpleClearanceError::ContainerName { .. } => {
            &["a state directory needs a slash, as in ./state"]
        }
        SimpleClearanceError::NoStateDir { .. } => {
            &["give the container's state directory or its name"]
        }
        SimpleClearanceError::UnnamedStateDir { .. } => &["add the name of the container"],
        SimpleClearanceError::NoAnnotation { .. } => &[
            "was it started through terok-shield?",
            "pass --state-dir=<root>, or its state directory, if you know where its state is",
        ],
        SimpleClearanceError::MissingStateDir { .. } => {
            &["--state-dir takes the directory that contains `containers`"]
        }
        SimpleClearanceError::HubServes { .. } => {
            &["answer its questions with `terok-clearance clearance`, or end that hub first"]
        }
        // The hint of the Python tool.
        SimpleClearanceError::BusHubRuns => {
            &["to use this terminal fallback, stop the hub first: \
              systemctl --user stop terok-clearance-hub"]
        }
        SimpleClearanceError::NoShieldProgram { .. } => {
            &["--shield takes the path of terok-shield"]
        }
        SimpleClearanceError::ShieldNotFound => {
            &["install terok-shield, or give its path with --shield"]
        }
        SimpleClearanceError::HookReaderRuns { .. } => {
            &["--take-over ends it, and starts it again afterwards"]
        }
        SimpleClearanceError::NoReader { .. } => {
            &["without --reader, the reader of this program is used"]
        }
        _ => &[],
    }
}

impl CommandFailure {
    /// Returns `true` if the output was closed early. The program then reports success.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error.is::<BrokenPipeError>()
    }

    /// Returns the error and the causes in one line.
    pub(crate) fn message(&self) -> String {
        let causes: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        causes.join(": ")
    }
}

/// Adds hint and status to an error.
pub trait ErrorExt<T> {
    /// Adds a hint on what to do.
    fn with_hint(self, text: impl Into<String>) -> Result<T, CommandFailure>;

    /// Sets the exit status.
    fn with_status(self, status: CommandStatus) -> Result<T, CommandFailure>;
}

impl<T, E: Into<CommandFailure>> ErrorExt<T> for Result<T, E> {
    fn with_hint(self, text: impl Into<String>) -> Result<T, CommandFailure> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.hints.push(text.into());
            failure
        })
    }

    fn with_status(self, status: CommandStatus) -> Result<T, CommandFailure> {
        self.map_err(|error| CommandFailure {
            status,
            ..error.into()
        })
    }
}

/// Prints a failure and returns the exit status.
pub(crate) fn report_failure(failure: &CommandFailure, context: &CommandContext) -> CommandStatus {
    // For example in `terok-clearance list | head -1`.
    if failure.is_broken_pipe() {
        return CommandStatus::OK;
    }
    let causes: Vec<String> = failure.error.chain().map(ToString::to_string).collect();
    if context.json {
        let object = serde_json::json!({
            "error": causes.first(),
            "causes": causes.get(1..),
            "hints": failure.hints,
            "status": failure.status.0,
        });
        context.output.print_error_line(&object.to_string());
    } else {
        context
            .output
            .print_error(&failure.message(), &failure.hints);
    }
    failure.status
}

/// Prints a usage error or the requested help, and returns the exit status.
pub(crate) fn report_usage_error(
    refusal: &UsageError,
    environment: &UserEnvironment,
) -> CommandStatus {
    let output = StandardStreams::new(environment.stream_colors(refusal.color));
    let text = |colored: bool| {
        let styled = refusal.error.render();
        if colored {
            styled.ansi().to_string()
        } else {
            styled.to_string()
        }
    };
    match refusal.error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed output is no failure.
            drop(output.print(&text(output.colors().stdout)));
            CommandStatus::OK
        }
        // The Python program prints the help on standard output and returns this status.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if refusal.name == ProgramName::Hub => {
            drop(output.print(&text(output.colors().stdout)));
            CommandStatus::USAGE
        }
        _ if refusal.json => {
            let object = serde_json::json!({
                "error": refusal.error.render().to_string().trim_end(),
                "causes": [],
                "hints": [],
                "status": CommandStatus::USAGE.0,
            });
            output.print_error_line(&object.to_string());
            CommandStatus::USAGE
        }
        _ => {
            output.print_error_line(text(output.colors().stderr).trim_end());
            CommandStatus::USAGE
        }
    }
}

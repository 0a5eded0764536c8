// SPDX-License-Identifier: Apache-2.0
//! How the program ends: the one place that turns errors into words, hints and statuses.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{ProgramName, UsageError};
use crate::output::{BrokenPipeError, StandardStreams};
use crate::{CommandContext, UserEnvironment};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandStatus(pub u8);

impl CommandStatus {
    /// It is done.
    pub const OK: Self = Self(0);
    /// It failed.
    pub const FAILURE: Self = Self(1);
    /// The arguments are wrong.
    pub const USAGE: Self = Self(2);
    /// Somebody was asked, and chose nothing.
    pub const NO_ACTION_CHOSEN: Self = Self(3);
    /// No hub asks the question that was to be answered.
    pub const NO_SUCH_QUESTION: Self = Self(3);
    /// Somebody else had answered the question.
    pub const ALREADY_ANSWERED: Self = Self(4);
    /// What it needs is not there (`EX_UNAVAILABLE` of sysexits.h).
    pub const UNAVAILABLE: Self = Self(69);
    /// A bug of ours (`EX_SOFTWARE` of sysexits.h).
    pub const INTERNAL: Self = Self(70);
    /// Somebody else has what only one can have: try again later (`EX_TEMPFAIL` of sysexits.h).
    pub const RESOURCE_BUSY: Self = Self(75);
    /// `run` itself failed, as against its command (env(1), podman-run(1)).
    pub const RUN_FAILED: Self = Self(125);
    /// The command of `run` could not be executed, as a shell has it.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command of `run` was not found, as a shell has it.
    pub const COMMAND_NOT_FOUND: Self = Self(127);
    /// Ended by SIGHUP: the terminal went away.
    pub const HUNG_UP: Self = Self(129);
    /// Ended by Ctrl-C, SIGINT: 128 and the signal's number, as a shell has it.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGTERM.
    pub const TERMINATED: Self = Self(143);
}

impl From<CommandStatus> for ExitCode {
    fn from(CommandStatus(code): CommandStatus) -> Self {
        code.into()
    }
}

/// Why a command could not do what it was asked: what failed, and what may help.
///
/// It comes from an [`anyhow::Error`] that says what was being done to what; [`Advise`] adds the
/// rest. It is no [`std::error::Error`]: it is not passed on but said, here.
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

impl CommandFailure {
    /// Says whether it is no failure: whoever read our output has what it wanted.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error.is::<BrokenPipeError>()
    }

    /// Returns what failed, and why, in one line.
    pub(crate) fn message(&self) -> String {
        let causes: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        causes.join(": ")
    }
}

/// Adds what helps to a failure.
pub trait ErrorExt<T> {
    /// Adds a line that says what to do about it.
    fn with_hint(self, text: impl Into<String>) -> Result<T, CommandFailure>;

    /// Chooses the exit status.
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

/// Says what failed and returns the status to exit with.
pub(crate) fn report_failure(failure: &CommandFailure, context: &CommandContext) -> CommandStatus {
    // Whoever read our output has what it wanted, as with `| head -1`.
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

/// Says what is wrong with the arguments, or gives the help that they ask for.
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
            // A reader that has gone away has what it wanted.
            drop(output.print(&text(output.colors().stdout)));
            CommandStatus::OK
        }
        // The original prints it where help is printed, and fails by its status alone.
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

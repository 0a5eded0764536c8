// SPDX-License-Identifier: Apache-2.0
//! How the program ends: the one place that turns errors into words, hints and statuses.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{Name, Refusal};
use crate::output::{Closed, Output};
use crate::{Context, Environment};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    /// It is done.
    pub const OK: Self = Self(0);
    /// It failed.
    pub const FAILURE: Self = Self(1);
    /// The arguments are wrong.
    pub const USAGE: Self = Self(2);
    /// Somebody was asked, and chose nothing.
    pub const NOT_CHOSEN: Self = Self(3);
    /// No hub asks the question that was to be answered.
    pub const NOT_ASKED: Self = Self(3);
    /// Somebody else had answered the question.
    pub const DECIDED: Self = Self(4);
    /// What it needs is not there (`EX_UNAVAILABLE` of sysexits.h).
    pub const UNAVAILABLE: Self = Self(69);
    /// A bug of ours (`EX_SOFTWARE` of sysexits.h).
    pub const INTERNAL: Self = Self(70);
    /// Somebody else has what only one can have: try again later (`EX_TEMPFAIL` of sysexits.h).
    pub const TAKEN: Self = Self(75);
    /// `run` itself failed, as against its command (env(1), podman-run(1)).
    pub const RUN_FAILED: Self = Self(125);
    /// The command of `run` could not be executed, as a shell has it.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command of `run` was not found, as a shell has it.
    pub const NOT_FOUND: Self = Self(127);
    /// Ended by SIGHUP: the terminal went away.
    pub const HUNG_UP: Self = Self(129);
    /// Ended by Ctrl-C, SIGINT: 128 and the signal's number, as a shell has it.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGTERM.
    pub const TERMINATED: Self = Self(143);
}

impl From<Status> for ExitCode {
    fn from(Status(code): Status) -> Self {
        code.into()
    }
}

/// Why a command could not do what it was asked: what failed, and what may help.
///
/// It comes from an [`anyhow::Error`] that says what was being done to what; [`Advise`] adds the
/// rest. It is no [`std::error::Error`]: it is not passed on but said, here.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hints: Vec<String>,
    status: Status,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            error,
            hints: Vec::new(),
            status: Status::FAILURE,
        }
    }
}

impl Failure {
    /// Says whether it is no failure: whoever read our output has what it wanted.
    pub(crate) fn is_closed(&self) -> bool {
        self.error.is::<Closed>()
    }

    /// Returns what failed, and why, in one line.
    pub(crate) fn words(&self) -> String {
        let causes: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        causes.join(": ")
    }
}

/// Adds what helps to a failure.
pub trait Advise<T> {
    /// Adds a line that says what to do about it.
    fn hint(self, text: impl Into<String>) -> Result<T, Failure>;

    /// Chooses the exit status.
    fn status(self, status: Status) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Advise<T> for Result<T, E> {
    fn hint(self, text: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.hints.push(text.into());
            failure
        })
    }

    fn status(self, status: Status) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            status,
            ..error.into()
        })
    }
}

/// Says what failed and returns the status to exit with.
pub(crate) fn failure(failure: &Failure, context: &Context) -> Status {
    // Whoever read our output has what it wanted, as with `| head -1`.
    if failure.is_closed() {
        return Status::OK;
    }
    let causes: Vec<String> = failure.error.chain().map(ToString::to_string).collect();
    if context.json {
        let object = serde_json::json!({
            "error": causes.first(),
            "causes": causes.get(1..),
            "hints": failure.hints,
            "status": failure.status.0,
        });
        context.output.error_line(&object.to_string());
    } else {
        context.output.error(&failure.words(), &failure.hints);
    }
    failure.status
}

/// Says what is wrong with the arguments, or gives the help that they ask for.
pub(crate) fn usage(refusal: &Refusal, environment: &Environment) -> Status {
    let output = Output::new(environment.colors(refusal.color));
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
            drop(output.text(&text(output.colors().stdout)));
            Status::OK
        }
        // The original prints it where help is printed, and fails by its status alone.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if refusal.name == Name::Hub => {
            drop(output.text(&text(output.colors().stdout)));
            Status::USAGE
        }
        _ if refusal.json => {
            let object = serde_json::json!({
                "error": refusal.error.render().to_string().trim_end(),
                "causes": [],
                "hints": [],
                "status": Status::USAGE.0,
            });
            output.error_line(&object.to_string());
            Status::USAGE
        }
        _ => {
            output.error_line(text(output.colors().stderr).trim_end());
            Status::USAGE
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! terok-clearance: arguments, wiring, words and exit codes.
//!
//! The way through: [`args`] says what was asked, [`environment`] where things are, a file under
//! [`commands`] does it, [`output`] is the one door to the terminal, [`exit`] turns the end,
//! good or bad, into words and a status. Libraries below get values and never look for them.

pub mod args;
pub mod commands;
mod desktop;
pub mod environment;
pub mod exit;
mod logging;
pub mod output;
mod runtime;
mod sandbox;
mod timezone;

use std::ffi::OsString;
use std::process::ExitCode;

pub use environment::UserEnvironment;
pub use exit::{CommandFailure, CommandStatus, ErrorExt};
pub use output::StandardStreams;
pub use runtime::{StopSignals, block_on};

/// What every command gets: where things are, and how to speak.
#[derive(Debug)]
pub struct CommandContext {
    /// Where things are.
    pub environment: UserEnvironment,
    /// The one door to standard output and standard error.
    pub output: StandardStreams,
    /// Whether a program reads the output: one JSON object per line.
    pub json: bool,
    /// The name that the program was called by.
    pub program_name: args::ProgramName,
}

/// Does what the arguments ask, `args[0]` being the program's name, and returns the exit status.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let outcome = std::panic::catch_unwind(|| run_cli(args));
    // The panic hook has already said where and why.
    outcome.unwrap_or(CommandStatus::INTERNAL).into()
}

fn run_cli(args: Vec<OsString>) -> CommandStatus {
    let environment = UserEnvironment::from_process();
    let cli = match args::parse_args(args) {
        Ok(cli) => cli,
        Err(refusal) => return exit::report_usage_error(&refusal, &environment),
    };
    let output = StandardStreams::new(environment.stream_colors(cli.color));
    if let Err(error) = logging::init(&cli, &environment) {
        // Nobody reads the log then, but what was asked can still be done.
        output.print_error_line(&format!("warning: {error}"));
    }
    let context = CommandContext {
        environment,
        output,
        json: cli.json,
        program_name: cli.name,
    };
    match cli.command.perform(&context) {
        Ok(status) => status,
        Err(failure) => exit::report_failure(&failure, &context),
    }
}

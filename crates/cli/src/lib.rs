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
mod zone;

use std::ffi::OsString;
use std::process::ExitCode;

pub use environment::Environment;
pub use exit::{Advise, Failure, Status};
pub use output::Output;
pub use runtime::{Stop, block_on};

/// What every command gets: where things are, and how to speak.
#[derive(Debug)]
pub struct Context {
    /// Where things are.
    pub environment: Environment,
    /// The one door to standard output and standard error.
    pub output: Output,
    /// Whether a program reads the output: one JSON object per line.
    pub json: bool,
    /// The name that the program was called by.
    pub name: args::Name,
}

/// Does what the arguments ask, `args[0]` being the program's name, and returns the exit status.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let outcome = std::panic::catch_unwind(|| perform(args));
    // The panic hook has already said where and why.
    outcome.unwrap_or(Status::INTERNAL).into()
}

fn perform(args: Vec<OsString>) -> Status {
    let environment = Environment::read();
    let cli = match args::parse(args) {
        Ok(cli) => cli,
        Err(refusal) => return exit::usage(&refusal, &environment),
    };
    let output = Output::new(environment.colors(cli.color));
    if let Err(error) = logging::start(&cli, &environment) {
        // Nobody reads the log then, but what was asked can still be done.
        output.error_line(&format!("warning: {error}"));
    }
    let context = Context {
        environment,
        output,
        json: cli.json,
        name: cli.name,
    };
    match cli.command.perform(&context) {
        Ok(status) => status,
        Err(failure) => exit::failure(&failure, &context),
    }
}

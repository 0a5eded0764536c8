// SPDX-License-Identifier: Apache-2.0
//! The library of the program `terok-clearance`: arguments, environment, messages and exit
//! statuses.
//!
//! [`args`] parses the arguments, [`environment`] reads the environment, a file of [`commands`]
//! runs the command, [`output`] writes to standard output and standard error, and [`exit`] chooses
//! hints and statuses. The libraries get values and read no environment.

pub mod args;
mod bell;
pub mod commands;
mod desktop;
pub mod environment;
pub mod error;
pub mod exit;
#[cfg(test)]
mod hostile_table;
mod logging;
pub mod output;
mod passed_arguments;
mod runtime;
mod screen_terminal;
mod service_manager;
mod settings_files;
mod settings_merge;
mod timezone;

use std::ffi::OsString;
use std::process::ExitCode;

pub use environment::UserEnvironment;
pub use error::CommandError;
pub use exit::CommandStatus;
pub use output::StandardStreams;
pub use settings_files::LoadedSettings;

pub use runtime::{StopSignals, block_on};

use logging::HeldLog;

/// The environment and the output of a command.
#[derive(Debug)]
pub struct CommandContext {
    /// The environment.
    pub environment: UserEnvironment,
    /// Standard output and standard error.
    pub output: StandardStreams,
    /// Whether the output is JSON, one object per line.
    pub json: bool,
    /// The user's configuration, or the reason why it cannot be used.
    pub settings: LoadedSettings,
    /// The name by which the program was called.
    pub program_name: args::ProgramName,
}

/// Runs the command of `args` and returns the exit status. The first argument is the name of the
/// program.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let outcome = std::panic::catch_unwind(|| run_cli(args));
    // The panic hook has printed the message.
    outcome.unwrap_or(CommandStatus::INTERNAL).into()
}

fn run_cli(args: Vec<OsString>) -> CommandStatus {
    let environment = UserEnvironment::from_process();
    let mut args = args;
    args::add_default_command(&mut args, environment.has_screen_terminal());
    let cli = match args::parse_args(args) {
        Ok(cli) => cli,
        Err(refusal) => return exit::report_usage_error(&refusal, &environment),
    };
    let settings = if cli.reads_settings() {
        LoadedSettings::read(&environment)
    } else {
        LoadedSettings::none(&environment)
    };
    let color = settings_merge::merged_color(cli.color, &environment, settings.usable());
    let output = StandardStreams::new(environment.stream_colors(color.value));
    // Dropped, and with it printed, after the command.
    let held_log = HeldLog::default();
    if let Err(error) = logging::init(&cli, &environment, output.colors(), &held_log) {
        // The command works without a log.
        output.print_error_line(&format!("warning: {error}"));
    }
    let context = CommandContext {
        environment,
        output,
        json: cli.json,
        settings,
        program_name: cli.name,
    };
    if let Some(command) = cli.command.without_json().filter(|_| cli.json) {
        return exit::report_error(&CommandError::NoJson { command }, &context);
    }
    match cli.command.perform(&context) {
        Ok(status) => status,
        Err(error) => exit::report_error(&error, &context),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `podman compose`: podman-compose, with a guard for each container that it starts.
//!
//! podman-compose is told to call this program instead of podman (`--podman-path`). Each container
//! is then checked and guarded as by `podman run`, whatever the compose file says about networks,
//! and its ports are published by its supervisor.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use containers::podman_command::{NetworkOptions, PodmanVerb};
use shield_cli::quote_for_shell;

use super::PodmanCommandError;
use super::container_start::{ContainerStart, find_local_podman, run_with_log};
use super::guard_args::{GuardArgs, MountArgs};
use super::hook_check::check_hooks;
use super::podman_process::run_podman;
use crate::{CommandContext, CommandError, CommandStatus};

pub(super) const AFTER_HELP: &str = "\
Examples:
  terok-clearance podman compose up
  terok-clearance podman compose --profile npm -f compose.yaml up -d
  terok-clearance podman compose down

The options of this command come first and count for every container; the first other argument
begins those of podman-compose, which must be installed. Each container is guarded as by
`terok-clearance podman run`: networks of the compose file are left out, ports are published by the
supervisors, and what defeats the guard is refused. Services do not reach each other. Image builds
(`podman build`) are not guarded.

Exit status: that of podman-compose; 125 if it could not be started.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub(super) struct ComposeArgs {
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// The arguments of podman-compose
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMPOSE-ARGS"
    )]
    compose: Vec<OsString>,
}

/// Command-line arguments of the program that podman-compose calls.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// The arguments of podman
    #[arg(last = true)]
    podman: Vec<OsString>,
}

/// Runs the command.
pub(super) fn perform(
    args: ComposeArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    find_local_podman(context)?;
    let compose = context.environment.find_program("podman-compose");
    let compose = compose.ok_or(PodmanCommandError::NoCompose)?;
    let engine = EngineScript::write(&args, context)?;
    let mut arguments = vec![OsString::from("--podman-path"), engine.path.clone().into()];
    arguments.extend(args.compose);
    run_podman(&compose, &arguments)
}

/// Runs podman for podman-compose.
pub(super) fn perform_engine(
    args: EngineArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let program = find_local_podman(context)?;
    let Some((verb, arguments)) = split_verb(&args.podman) else {
        return run_other_command(&program, &args.podman, context);
    };
    let start = ContainerStart {
        program,
        verb,
        networks: NetworkOptions::LeaveOut,
        mounts: args.mounts,
        dry_run: false,
    };
    start.perform(args.guard, arguments, context)
}

/// Returns the command that makes a container, and its arguments.
fn split_verb(arguments: &[OsString]) -> Option<(PodmanVerb, &[OsString])> {
    let arguments = match arguments {
        [first, rest @ ..] if first == "container" => rest,
        all => all,
    };
    let (verb, rest) = arguments.split_first()?;
    match verb.to_str()? {
        "run" => Some((PodmanVerb::Run, rest)),
        "create" => Some((PodmanVerb::Create, rest)),
        _ => None,
    }
}

/// Commands that start containers which exist.
const STARTING_COMMANDS: [&str; 3] = ["start", "restart", "unpause"];

fn run_other_command(
    program: &Path,
    arguments: &[OsString],
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let starts = |word: &OsString| STARTING_COMMANDS.iter().any(|known| word == known);
    if arguments.first().is_some_and(starts) {
        let mut state = check_hooks(&context.environment)?;
        state.require_configuration();
        state.establish(true, context)?;
        return run_with_log(program, arguments, context);
    }
    run_podman(program, arguments)
}

/// The program that podman-compose calls instead of podman; removed when it is dropped.
#[derive(Debug)]
struct EngineScript {
    path: PathBuf,
}

impl EngineScript {
    fn write(args: &ComposeArgs, context: &CommandContext) -> Result<Self, CommandError> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let program = program.to_str();
        let program = program.context("the path of this program is not UTF-8")?;
        let mut words = vec![program.to_owned(), "podman".into(), "compose-engine".into()];
        words.extend(args.guard.arguments());
        if args.mounts.trust_mounts {
            words.push("--trust-mounts".to_owned());
        }
        let words: Vec<_> = words.iter().map(|word| quote_for_shell(word)).collect();
        let text = format!("#!/bin/sh\nexec {} -- \"$@\"\n", words.join(" "));
        // The runtime directory may permit no programs.
        let directory = context.environment.state_dir().join("compose");
        let path = directory.join(format!("podman-{}", std::process::id()));
        write_program(&directory, &path, &text).map_err(|source| {
            PodmanCommandError::WriteEngine {
                path: path.clone(),
                source,
            }
        })?;
        Ok(Self { path })
    }
}

impl Drop for EngineScript {
    fn drop(&mut self) {
        // What podman-compose left running has podman's own path.
        drop(fs::remove_file(&self.path));
        if let Some(directory) = self.path.parent() {
            // Others may be in it.
            drop(fs::remove_dir(directory));
        }
    }
}

fn write_program(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    // Of a process with the same number, which was killed.
    drop(fs::remove_file(path));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_make_a_container_are_found() {
        let verb = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            split_verb(&words).map(|(verb, rest)| (verb, rest.to_vec()))
        };
        let one = |word: &str| vec![OsString::from(word)];
        assert_eq!(verb("run img"), Some((PodmanVerb::Run, one("img"))));
        let create = Some((PodmanVerb::Create, one("img")));
        assert_eq!(verb("container create img"), create);
        for other in ["start x", "pod create run", "--version", "build ."] {
            assert_eq!(verb(other), None, "{other}");
        }
    }
}

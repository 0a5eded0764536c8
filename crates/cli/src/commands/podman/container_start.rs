// SPDX-License-Identifier: Apache-2.0
//! `podman run` and `podman create`.

mod error_log;
mod exposed_paths;
mod pod_network;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use containers::hooks_in_force::HookFault;
use containers::podman_command::{
    GuardArguments, GuardableCommand, GuardedCommand, NetworkOptions, PodChoice, PodmanCommandLine,
    PodmanVerb,
};
use serde_json::json;
use shield_cli::quote_for_shell;

use super::PodmanCommandError;
use super::guard_args::{GuardArgs, MountArgs};
use super::hook_check::{HookState, check_hooks};
use super::podman_process::run_podman;
use crate::{CommandContext, CommandError, CommandStatus, UserEnvironment};

use error_log::HookErrorLog;
use exposed_paths::find_exposed;
use pod_network::check_pod;

pub(super) const AFTER_HELP: &str = "\
Examples:
  terok-clearance podman run --rm -it docker.io/library/alpine sh
  terok-clearance podman run --profile pypi --rm -v \"$PWD:/src\" -w /src python pip install .
  terok-clearance podman run --allow db.example:5432/tcp --hold 5m -d --name web my-image
  terok-clearance podman run -p 8080:80 -d nginx      published on 127.0.0.1 and ::1
  terok-clearance podman run --via filtered -it fedora
  terok-clearance podman run --dry-run -it alpine     show what podman would get, and why
  terok-clearance podman create --name web my-image; podman start --attach web

The options of this command come first; the first other argument begins podman's own, which are
passed on as they are. Questions are asked where those of every sandbox are: `terok-clearance tui`,
`clearance`, `notifier`.

Refused is what would defeat the guard: --network with anything but none, --privileged, --cap-add of
NET_RAW, NET_ADMIN, SYS_ADMIN, SYS_MODULE or ALL, --pid host, --hooks-dir, a --runtime other than
crun and runc; mounts with which the container could answer its own questions or start programs
outside, such as your whole home directory; and what has no effect: --dns, --ip, --mac-address,
--publish-all. Ports of --publish are served by the supervisor, at 127.0.0.1 and ::1 unless you
write another address.

Before podman runs, it is proven that the hooks are in force: podman starts a container silently
without a hook that is missing. `terok-clearance setup` installs them.

Exit status:
  125  the container was refused, or the hooks are not in force; also podman's own failures
  else that of podman: of the container's command, or 126 and 127 if it could not be executed; a
  start that the hook refused is 126 or 127, and its reason is printed";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// Print the whole command and what was added to it; start nothing
    #[arg(long)]
    dry_run: bool,
    /// The arguments of podman: options, image, command
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PODMAN-ARGS"
    )]
    podman: Vec<OsString>,
}

/// Runs the command.
pub(super) fn perform(
    verb: PodmanVerb,
    args: StartArgs,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let start = ContainerStart {
        program: find_local_podman(context)?,
        verb,
        networks: NetworkOptions::Refuse,
        mounts: args.mounts,
        dry_run: args.dry_run,
    };
    start.perform(args.guard, &args.podman, context)
}

/// Returns podman's path, if it starts containers on this machine.
pub(super) fn find_local_podman(context: &CommandContext) -> Result<PathBuf, CommandError> {
    if runner::is_inside_sandbox() {
        return Err(CommandError::InsideSandbox);
    }
    if let Some(variable) = context.environment.remote_podman_variable() {
        return Err(PodmanCommandError::Remote(variable).into());
    }
    let program = context.environment.find_program("podman");
    Ok(program.ok_or(PodmanCommandError::NoPodman)?)
}

/// A container to start.
#[derive(Debug)]
pub(super) struct ContainerStart {
    /// podman.
    pub(super) program: PathBuf,
    /// Its command.
    pub(super) verb: PodmanVerb,
    /// Whether options about networks are refused.
    pub(super) networks: NetworkOptions,
    /// Whether every mount is permitted.
    pub(super) mounts: MountArgs,
    /// Only show what would be done.
    pub(super) dry_run: bool,
}

impl ContainerStart {
    /// Starts the container.
    pub(super) fn perform(
        &self,
        guard: GuardArgs,
        arguments: &[OsString],
        context: &CommandContext,
    ) -> Result<CommandStatus, CommandError> {
        let line = PodmanCommandLine::parse(self.verb, arguments);
        let line = line.map_err(PodmanCommandError::from)?;
        let command = line.check(self.networks);
        let mut command = command.map_err(PodmanCommandError::from)?;
        if !self.mounts.trust_mounts {
            check_mounts(&command, &context.environment)?;
        }
        if let Some(PodChoice::Existing(pod)) = command.pod().cloned()
            && !check_pod(&self.program, &pod)?
        {
            command = command.with_own_network();
        }
        let mut state = check_hooks(&context.environment)?;
        if self.verb == PodmanVerb::Create {
            state.require_configuration();
        }
        let guarded = guard_command(&command, guard, &state, context)?;
        if self.dry_run {
            print_dry_run(&self.program, &guarded, &state, context)?;
            return Ok(CommandStatus::OK);
        }
        state.establish(self.verb == PodmanVerb::Run, context)?;
        run_with_log(&self.program, &guarded.arguments, context)
    }
}

/// Runs podman, and prints what hooks have logged meanwhile if it fails.
pub(super) fn run_with_log(
    program: &Path,
    arguments: &[OsString],
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let log = HookErrorLog::open(&context.environment.hook_dirs().start);
    let status = run_podman(program, arguments)?;
    if status != CommandStatus::OK {
        for line in log.new_lines() {
            context.output.print_error_line(&format!("hook: {line}"));
        }
    }
    Ok(status)
}

/// Refuses mounts with which the container could answer its own questions.
fn check_mounts(
    command: &GuardableCommand,
    environment: &UserEnvironment,
) -> Result<(), PodmanCommandError> {
    let sources = command.mount_sources();
    let exposed = sources
        .into_iter()
        .find_map(|source| Some((find_exposed(&source, environment)?, source)));
    match exposed {
        Some((exposed, source)) => Err(PodmanCommandError::Exposed {
            source_path: source,
            exposed,
        }),
        None => Ok(()),
    }
}

fn guard_command(
    command: &GuardableCommand,
    guard: GuardArgs,
    state: &HookState,
    context: &CommandContext,
) -> Result<GuardedCommand, CommandError> {
    let policy = guard.sign(command.name(), command.publish().to_vec(), context)?;
    Ok(command.guard(&GuardArguments {
        network: policy.network,
        policy: policy.value,
        hooks_directories: state.hooks_directories.clone(),
        has_proxy_variables: context.environment.has_proxy_variables(),
    }))
}

fn print_dry_run(
    program: &Path,
    guarded: &GuardedCommand,
    state: &HookState,
    context: &CommandContext,
) -> Result<(), CommandError> {
    let command: Vec<_> = std::iter::once(program.as_os_str())
        .chain(guarded.arguments.iter().map(OsString::as_os_str))
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if context.json {
        let added = guarded.added.iter().map(|added| {
            let words = added.words.iter().map(|word| word.to_string_lossy());
            json!({"arguments": words.collect::<Vec<_>>(), "reason": added.reason})
        });
        let faults = state.faults.iter().map(fault_json);
        let object = json!({
            "command": command,
            "added": added.collect::<Vec<_>>(),
            "faults": faults.collect::<Vec<_>>(),
            "starts_listener": state.needs_listener,
        });
        return Ok(context.output.print_line(&object.to_string())?);
    }
    let quoted: Vec<_> = command.iter().map(|word| quote_for_shell(word)).collect();
    let mut lines = vec![quoted.join(" "), String::new(), "Added:".to_owned()];
    for added in &guarded.added {
        let words = added
            .words
            .iter()
            .map(|word| quote_for_shell(&shorten(&word.to_string_lossy())));
        lines.push(format!("  {}", words.collect::<Vec<_>>().join(" ")));
        lines.push(format!("      {}", added.reason));
    }
    if state.needs_listener {
        lines.push(
            "No service manager starts supervisors here: `podman run` would start the listener."
                .to_owned(),
        );
    }
    context.output.print_line(&lines.join("\n"))?;
    for fault in &state.faults {
        let line = format!("warning: it would be refused: {fault}; {}", fault.remedy());
        context.output.print_error_line(&line);
    }
    Ok(())
}

fn fault_json(fault: &HookFault) -> serde_json::Value {
    json!({"fault": fault.to_string(), "remedy": fault.remedy()})
}

/// Maximum characters of an added argument in the list of reasons.
const MAX_LISTED_CHARS: usize = 72;

fn shorten(word: &str) -> String {
    if word.chars().count() <= MAX_LISTED_CHARS {
        return word.to_owned();
    }
    let kept: String = word.chars().take(MAX_LISTED_CHARS).collect();
    format!("{kept}...")
}

// SPDX-License-Identifier: Apache-2.0
//! `shield`, and the program `terok-shield`: the firewall of containers that its hooks prepare.

mod session;
mod verb;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use shield_cli::{
    LaunchError, OciHookRole, OciHookStage, PodmanHost, ProgramRunner, ShieldContainerName,
    ShieldVerbError, install_oci_hooks, read_logs, run_oci_hook,
};
use terok_clearance::error_chain;

use self::session::ShieldSession;
use self::verb::ShieldVerb;
use super::simple_clearance;
use crate::{CommandContext, CommandError, CommandStatus, args, block_on};

/// Long help.
pub(super) const ABOUT: &str = "\
Manage the firewall of podman containers, as the program `terok-shield` does.

`prepare` and `run` start a container that reaches nothing but its profiles; its hooks load the \
rules before the first program runs. The other verbs look at the rules of a running container and \
change them. State directories and rules are those of the Python package `terok-shield`: each of \
the two programs manages the containers of the other.

A symbolic link called `terok-shield` to this program has these verbs as its commands.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance shield run my-task -- alpine sh    start a container with the default profiles
  terok-clearance shield status my-task              up, down, disengaged, quarantine, offline
  terok-clearance shield allow my-task 203.0.113.7   open one address, now and at later starts
  terok-clearance shield deny my-task a.example      close the addresses of a name
  terok-clearance shield rules my-task               list the rules
  terok-clearance shield down my-task --container-id \"$(podman inspect -f '{{.Id}}' my-task)\"
  terok-clearance shield quarantine my-task          drop everything, at once
  terok-clearance shield logs --container my-task    what was allowed, denied and blocked

The state directory of a container is that of its annotation `terok.shield.state_dir`; with
--state-dir it is DIR/containers/CONTAINER.

Exit status: 0 after success, 1 after a failure (the reason is on standard error), 2 for invalid
arguments. After a failure the firewall is never more open than before.

Environment:
  TEROK_SHIELD_STATE_DIR     root of the state directories [default: ~/.local/state/terok/shield]
  TEROK_SHIELD_CONFIG_DIR    config.yml and profiles [default: ~/.config/terok/shield]")]
pub struct Args {
    /// Root of the state directories, in place of the annotations of containers
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Print the versions of this program and of podman
    #[arg(long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<ShieldVerb>,
}

impl Args {
    /// Returns the name of the command with a verb that prints nothing for programs. `prepare` has
    /// arguments as JSON, and the records are JSON anyway.
    pub(crate) const fn without_json(&self) -> Option<&'static str> {
        match &self.verb {
            Some(
                ShieldVerb::Prepare { .. }
                | ShieldVerb::Logs { .. }
                | ShieldVerb::Watch { .. }
                | ShieldVerb::SimpleClearance { .. },
            ) => None,
            _ => Some("shield"),
        }
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let verb = match args.verb {
        _ if args.version => return block_on(print_version(context)),
        None => {
            context
                .output
                .print(&args::shield_help(context.program_name))?;
            return Ok(CommandStatus::OK);
        }
        Some(verb) => verb,
    };
    match verb {
        ShieldVerb::SimpleClearance { container } => {
            let args = simple_clearance::Args::for_container(container, args.state_dir);
            simple_clearance::perform(args, context)
        }
        ShieldVerb::Setup => install_hooks(context),
        ShieldVerb::Hook { role, stage } => block_on(run_hook(context, &role, &stage)),
        ShieldVerb::Logs { container, n } => print_logs(context, args.state_dir, container, n),
        ShieldVerb::Run {
            container,
            profiles,
            podman_arguments,
        } => {
            let session = ShieldSession::new(context, args.state_dir)?;
            let mut command =
                block_on(session.prepare_run(&container, profiles, &podman_arguments))?;
            let error = command.exec();
            Err(anyhow::Error::new(error)
                .context("cannot execute podman")
                .into())
        }
        verb => {
            let session = ShieldSession::new(context, args.state_dir)?;
            block_on(session.perform(verb))
        }
    }
}

/// Returns the path of this program, without symbolic links.
fn own_program() -> Result<PathBuf, CommandError> {
    Ok(std::env::current_exe().context("cannot find the path of this program")?)
}

fn install_hooks(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let environment = &context.environment;
    for program in ["podman", "nft", "nsenter"] {
        if environment.find_program(program).is_none() {
            return Err(ShieldVerbError::from(LaunchError::NoProgram(program)).into());
        }
    }
    let hooks = environment.shield_data_dir().join("hooks");
    context
        .output
        .print_line(&format!("Installing hooks to {}...", hooks.display()))?;
    let conf = environment.containers_conf();
    install_oci_hooks(&hooks, &conf, &own_program()?).map_err(ShieldVerbError::from)?;
    context.output.print_line("Done. Global hooks installed.")?;
    Ok(CommandStatus::OK)
}

async fn run_hook(
    context: &CommandContext,
    role: &str,
    stage: &str,
) -> Result<CommandStatus, CommandError> {
    let runner = ProgramRunner::new(context.environment.search_path().clone());
    let description = std::io::read_to_string(std::io::stdin());
    let description = description.context("cannot read the description of the container")?;
    let role = match role {
        "rules" => OciHookRole::Rules,
        _ => OciHookRole::Reader,
    };
    let stage = match stage {
        "createRuntime" => OciHookStage::CreateRuntime,
        _ => OciHookStage::Poststop,
    };
    match run_oci_hook(&runner, role, stage, &description, &own_program()?).await {
        Ok(()) => Ok(CommandStatus::OK),
        // A container can do without its reader, and its end needs no hook.
        Err(error) if role == OciHookRole::Reader || stage == OciHookStage::Poststop => {
            let message = error_chain(&error);
            context
                .output
                .print_error_line(&format!("warning: {message}"));
            Ok(CommandStatus::OK)
        }
        Err(error) => Err(ShieldVerbError::from(error).into()),
    }
}

async fn print_version(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let runner = ProgramRunner::new(context.environment.search_path().clone());
    let podman = PodmanHost::installed_version(&runner).await;
    let podman = podman.unwrap_or_else(|| "not found".to_owned());
    let has_nft = context.environment.find_program("nft").is_some();
    let nft = if has_nft { "found" } else { "not found" };
    context.output.print(&format!(
        "terok-shield {VERSION}\npodman {podman}\nnft {nft}\n"
    ))?;
    Ok(CommandStatus::OK)
}

/// The version, and the program that it is one of.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (terok-clearance)");

fn print_logs(
    context: &CommandContext,
    state_dir: Option<PathBuf>,
    container: Option<String>,
    count: i64,
) -> Result<CommandStatus, CommandError> {
    let root = state_dir.unwrap_or_else(|| context.environment.shield_state_root());
    let container = container.map(|name| name.parse()).transpose();
    let container: Option<ShieldContainerName> = container.map_err(anyhow::Error::new)?;
    let count = usize::try_from(count).unwrap_or_default();
    let lines = read_logs(&root, container.as_ref(), count).map_err(ShieldVerbError::Record)?;
    if lines.is_empty() && container.is_none() {
        context.output.print_line("No audit logs found.")?;
    }
    for line in lines {
        context.output.print_line(&line)?;
    }
    Ok(CommandStatus::OK)
}

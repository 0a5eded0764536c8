// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, its questions answered here or elsewhere.
//!
//! The order is the safety: the sandbox is built, its firewall is put up and verified, only then
//! it is connected, and only then the command starts. This process is the supervisor; when it
//! ends, however it does, the kernel ends everything in the sandbox.

mod allow;
mod console;
mod controlling_tty;
mod frontend;
mod network;
mod pty_relay;
mod sandbox_spec;
mod session;
mod summary;
mod terminal_modes;

use std::ffi::OsString;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use netns::sandbox::{RunningSandbox, Sandbox, WorkloadStartError};
use shield::Policy;
use supervisor::{Supervisor, SupervisorConfig};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DisplayText, DomainName, Dossier, Target};

use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, block_on};

use allow::AllowArg;
use controlling_tty::ControllingTty;
use frontend::RunUiChoice;
use network::{NetworkChoice, NetworkHelper};
use session::{RunSession, RunSignals};
use summary::RunSummary;

const AFTER_HELP: &str = "\
Examples:
  terok-clearance run -- npm install
  terok-clearance run --allow registry.npmjs.org:443 -- npm install
  terok-clearance run --ui tui -- my-agent     Ctrl-] shows the questions
  terok-clearance run --ui none -- my-agent    answer with `terok-clearance clearance` elsewhere

The command sees your files as they are: `run` confines the network, not the files. Out of its
reach are: the network, except for what you allow; the sockets, configuration and state of this
program; your session bus, agents, container engines and terminal multiplexers; other processes. It
has no rights beyond yours (no sudo), and no devices but null, zero, full, random, urandom and tty.

With --ui desktop, each question is a popup with Allow and Deny; if `terok-clearance notifier` runs,
that shows it. With --ui auto, the same if a program of your session shows popups; a line at the
terminal announces each question, unless you chose --ui desktop. While a question waits, Ctrl-]
opens the screen of `terok-clearance tui` over the command, which waits; q goes back to the command,
and leaves the question open. With --ui tui, Ctrl-] always does. All other keys are the command's.
Without a terminal, and with TERM=dumb, answer with `terok-clearance clearance` elsewhere.

Exit status: that of the command; 128 and the signal's number if a signal ended it; 126 if it could
not be executed, 127 if it was not found, 125 if the sandbox failed, 2 for wrong arguments.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Open from the start: an address or a host name, or one port of it (`HOST:PORT`). May be
    /// repeated.
    #[arg(long, value_name = "DEST")]
    allow: Vec<AllowArg>,
    /// Where questions are asked.
    #[arg(long, value_enum, default_value_t = RunUiChoice::Auto, value_name = "UI")]
    ui: RunUiChoice,
    /// How the sandbox is connected.
    #[arg(long, value_enum, default_value_t = NetworkChoice::Auto, value_name = "HOW")]
    network: NetworkChoice,
    /// Name of the sandbox in questions [default: the name of the command].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print errors and questions only.
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Runs the command.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value"
)]
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    args.ui.check(context)?;
    run_sandboxed(&args, context).with_status(CommandStatus::RUN_FAILED)?
}

fn run_sandboxed(
    args: &Args,
    context: &CommandContext,
) -> Result<Result<CommandStatus, CommandFailure>, CommandFailure> {
    let environment = &context.environment;
    let runtime = environment.private_runtime_dir()?;
    let helper = NetworkHelper::find(
        args.network,
        environment.search_path().map(OsString::as_os_str),
    )?;
    let resolver = helper.as_ref().map(NetworkHelper::resolver);
    let (operator, terminal) = ControllingTty::find()?.unzip();
    let blueprint =
        sandbox_spec::build_sandbox_spec(&args.command, environment, resolver, terminal)?;
    let config = |process| {
        anyhow::Ok(SupervisorConfig {
            container: random_container_id().context("making an id for the sandbox")?,
            dossier: build_dossier(args.name.as_deref(), &args.command),
            process,
            policy: Policy::new(resolver).context("making the policy")?,
            allowed_dests: args
                .allow
                .iter()
                .map(|AllowArg(opening)| opening.clone())
                .collect(),
            runtime_dir: RuntimeDir::new(runtime),
        })
    };
    // Before there is a runtime: it forks.
    let sandbox = crate::sandbox::build_sandbox(&blueprint)?;
    drop(blueprint);

    block_on(async {
        let mut signals = RunSignals::catch()?;
        let process = sandbox
            .init_process()
            .try_clone()
            .context("finding the sandbox")?;
        let summary = RunSummary::default();
        let supervisor = Supervisor::start(config(process)?)
            .context("putting the sandbox's firewall up")?
            .with_observer(summary.observer());
        let place = sandbox.netns_ref().context("finding the sandbox")?;
        let connection = match &helper {
            None => None,
            Some(helper) => tokio::select! {
                biased;
                status = signals.next_terminating() => return Ok(Ok(status)),
                connected = helper.connect(sandbox.init_process(), &place) => Some(connected?),
            },
        };
        if let Some(resolver) = resolver.filter(|_| connection.is_some()) {
            tokio::select! {
                biased;
                status = signals.next_terminating() => return Ok(Ok(status)),
                silent = resolve_allowed_names(&supervisor, resolver, &args.allow) => {
                    for name in silent? {
                        let words = "could not be looked up yet: it opens when the command has";
                        context.output.print_error_line(&format!("terok-clearance: {name} {words}"));
                    }
                }
            }
        }
        let front = tokio::select! {
            biased;
            status = signals.next_terminating() => return Ok(Ok(status)),
            front = args.ui.select_frontend(connection.is_some(), context) => front?,
        };
        let command = start_command(sandbox, &args.command);
        let running = match command {
            Ok(running) => running,
            Err(failure) => return Ok(Err(failure)),
        };
        let attend = RunSession {
            running,
            signals,
            tty: operator,
            connection,
            frontend: front,
            quiet: args.quiet,
            summary,
            context,
        };
        Ok(attend
            .run_until_exit(supervisor)
            .await
            .with_status(CommandStatus::RUN_FAILED))
    })
}

/// Looks up the names that are allowed, so that the command's first packet finds them open.
/// Returns those about which the resolver says nothing.
async fn resolve_allowed_names(
    supervisor: &Supervisor,
    resolver: IpAddr,
    allowed: &[AllowArg],
) -> anyhow::Result<Vec<DomainName>> {
    let names: Vec<_> = allowed
        .iter()
        .filter_map(|AllowArg(opening)| match &opening.target {
            Target::Name(name) => Some(name.clone()),
            Target::Address(_) => None,
        })
        .collect();
    let silent = supervisor.resolve_names(resolver, &names).await;
    silent.context("looking up what is allowed")
}

/// Starts the command; what is wrong with it has the shells' statuses.
fn start_command(sandbox: Sandbox, command: &[OsString]) -> Result<RunningSandbox, CommandFailure> {
    let started = sandbox.start();
    let status = match &started {
        Err(WorkloadStartError::NotFound(_)) => CommandStatus::COMMAND_NOT_FOUND,
        Err(WorkloadStartError::NotExecutable(_)) => CommandStatus::NOT_EXECUTABLE,
        Err(_) | Ok(_) => CommandStatus::RUN_FAILED,
    };
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let name = DisplayText::new(&name.to_string_lossy());
    started
        .with_context(|| format!("starting {name}"))
        .with_status(status)
}

/// An id that no other sandbox has: as many hexadecimal digits as an id is cut to for its sockets.
fn random_container_id() -> anyhow::Result<ContainerId> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let digits = format!("{:016x}", u64::from_ne_bytes(bytes));
    Ok(digits.get(..12).unwrap_or_default().parse()?)
}

/// What the questions say of the sandbox.
fn build_dossier(name: Option<&str>, command: &[OsString]) -> Dossier {
    let program = command
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .unwrap_or_default();
    let name = name.map_or_else(|| program.to_string_lossy().into_owned(), str::to_owned);
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let entry = |key: &str, value: &str| (DisplayText::new(key), DisplayText::new(value));
    Dossier::new([entry("name", &name), entry("command", &words.join(" "))].into())
}

// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, its questions answered here or elsewhere.
//!
//! The order is the safety: the sandbox is built, its firewall is put up and verified, only then
//! it is connected, and only then the command starts. This process is the supervisor; when it
//! ends, however it does, the kernel ends everything in the sandbox.

mod allow;
mod ask;
mod attend;
mod desk;
mod modes;
mod network;
mod relay;
mod summary;
mod terminal;
mod ui;
mod workload;

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

use crate::{Advise as _, Context, Failure, Status, block_on};

use allow::Allow;
use attend::{Attend, Signals};
use network::{Choice, Helper};
use summary::Summary;
use terminal::Operator;
use ui::Ui;

const EXAMPLES: &str = "\
Examples:
  terok-clearance run -- npm install
  terok-clearance run --allow registry.npmjs.org:443 -- npm install
  terok-clearance run --ui tui -- my-agent       (Ctrl-] shows the questions)
  terok-clearance run --ui none -- my-agent      (answer with `terok-clearance clearance` elsewhere)

The command gets your files as they are: `run` confines the network, not the files. What it cannot
reach: the network, except what you allow; this program's sockets, configuration and state; your
session bus, agents, container engines and terminal multiplexers; other processes. It has no rights
beyond yours (no sudo), and no other device than null, zero, full, random, urandom and tty.

With --ui desktop each question is a popup with Allow and Deny, unless `terok-clearance notifier`
runs, which asks it then; Ctrl-] answers at the terminal, too. With --ui tui, Ctrl-] shows `terok-clearance tui` over the command, which
waits, and q goes back to it. Else, and with popups that nobody asked for, a notice at the terminal
tells of a question. Ctrl-] shows it; a allows, d denies, n shows the next, q goes back. Nothing else
is read as an answer.

Exit status: the command's own; 128 and the signal's number if a signal ended it; 126 if it could
not be executed, 127 if it was not found, 125 if the sandbox failed.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Open from the start: an address or a host name, or one port of it (`HOST:PORT`); again for
    /// more.
    #[arg(long, value_name = "DEST")]
    allow: Vec<Allow>,
    /// Where questions are answered: `desktop`, on popups; `tui`, on the whole screen of this
    /// terminal; `prompt`, at this terminal; `none`, with `terok-clearance clearance` elsewhere;
    /// `auto`, on popups if a program of this session shows them, else here if there is a terminal.
    #[arg(long, value_enum, default_value_t = Ui::Auto, value_name = "UI")]
    ui: Ui,
    /// How the sandbox is connected; `auto` takes pasta or slirp4netns, whichever is installed.
    #[arg(long, value_enum, default_value_t = Choice::Auto, value_name = "HOW")]
    network: Choice,
    /// What the questions call the sandbox [default: the command's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Say nothing of our own but errors and questions.
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

/// Does it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command takes its arguments by value"
)]
pub fn perform(args: Args, context: &Context) -> Result<Status, Failure> {
    // What fails before there is a command is ours; what the command does is its own.
    run(&args, context).status(Status::RUN_FAILED)?
}

fn run(args: &Args, context: &Context) -> Result<Result<Status, Failure>, Failure> {
    let environment = &context.environment;
    let runtime = environment.private_runtime()?;
    let helper = Helper::find(args.network, environment.path().map(OsString::as_os_str))?;
    let resolver = helper.as_ref().map(Helper::resolver);
    let (operator, terminal) = Operator::find()?.unzip();
    args.ui.check(operator.is_some(), context)?;
    let blueprint = workload::blueprint(&args.command, environment, resolver, terminal)?;
    let config = |process| {
        anyhow::Ok(SupervisorConfig {
            container: fresh_id().context("making an id for the sandbox")?,
            dossier: dossier(args.name.as_deref(), &args.command),
            process,
            policy: Policy::new(resolver).context("making the policy")?,
            allowed_dests: args
                .allow
                .iter()
                .map(|Allow(opening)| opening.clone())
                .collect(),
            runtime_dir: RuntimeDir::new(runtime),
        })
    };
    // Before there is a runtime: it forks.
    let sandbox = crate::sandbox::build(&blueprint)?;
    drop(blueprint);

    block_on(async {
        let mut signals = Signals::catch()?;
        let process = sandbox.init().try_clone().context("finding the sandbox")?;
        let summary = Summary::default();
        let supervisor = Supervisor::start(config(process)?)
            .context("putting the sandbox's firewall up")?
            .observed(summary.observer());
        let place = sandbox.place().context("finding the sandbox")?;
        let connection = match &helper {
            None => None,
            Some(helper) => tokio::select! {
                biased;
                status = signals.deadly() => return Ok(Ok(status)),
                connected = helper.connect(sandbox.init(), &place) => Some(connected?),
            },
        };
        if let Some(resolver) = resolver.filter(|_| connection.is_some()) {
            tokio::select! {
                biased;
                status = signals.deadly() => return Ok(Ok(status)),
                silent = look_up(&supervisor, resolver, &args.allow) => {
                    for name in silent? {
                        let words = "could not be looked up yet: it opens when the command has";
                        context.output.error_line(&format!("terok-clearance: {name} {words}"));
                    }
                }
            }
        }
        let front = tokio::select! {
            biased;
            status = signals.deadly() => return Ok(Ok(status)),
            front = args.ui.choose(connection.is_some(), operator.is_some(), context) => front?,
        };
        let command = start(sandbox, &args.command);
        let running = match command {
            Ok(running) => running,
            Err(failure) => return Ok(Err(failure)),
        };
        let attend = Attend {
            running,
            signals,
            operator,
            connection,
            front,
            quiet: args.quiet,
            summary,
            context,
        };
        Ok(attend
            .until_its_end(supervisor)
            .await
            .status(Status::RUN_FAILED))
    })
}

/// Looks up the names that are allowed, so that the command's first packet finds them open.
/// Returns those about which the resolver says nothing.
async fn look_up(
    supervisor: &Supervisor,
    resolver: IpAddr,
    allowed: &[Allow],
) -> anyhow::Result<Vec<DomainName>> {
    let names: Vec<_> = allowed
        .iter()
        .filter_map(|Allow(opening)| match &opening.target {
            Target::Name(name) => Some(name.clone()),
            Target::Address(_) => None,
        })
        .collect();
    let silent = supervisor.resolve_names(resolver, &names).await;
    silent.context("looking up what is allowed")
}

/// Starts the command; what is wrong with it has the shells' statuses.
fn start(sandbox: Sandbox, command: &[OsString]) -> Result<RunningSandbox, Failure> {
    let started = sandbox.start();
    let status = match &started {
        Err(WorkloadStartError::NotFound(_)) => Status::NOT_FOUND,
        Err(WorkloadStartError::NotExecutable(_)) => Status::NOT_EXECUTABLE,
        Err(WorkloadStartError::Sandbox(_)) | Ok(_) => Status::RUN_FAILED,
    };
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let name = DisplayText::new(&name.to_string_lossy());
    started
        .with_context(|| format!("starting {name}"))
        .status(status)
}

/// An id that no other sandbox has: as many hexadecimal digits as an id is cut to for its sockets.
fn fresh_id() -> anyhow::Result<ContainerId> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let digits = format!("{:016x}", u64::from_ne_bytes(bytes));
    Ok(digits.get(..12).unwrap_or_default().parse()?)
}

/// What the questions say of the sandbox.
fn dossier(name: Option<&str>, command: &[OsString]) -> Dossier {
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

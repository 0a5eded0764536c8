// SPDX-License-Identifier: Apache-2.0
//! `demo`: the whole way of one packet, on real packets, in namespaces of its own.
//!
//! Nothing is played: the sandbox is the one of `run`, the supervisor has the real reader, hub and
//! shield, the operator is a client on the hub's socket. Only the `internet` is a pretend one, in
//! a network namespace next door. The parts, in the order of the way: `world` (who is where),
//! `stage` (what runs), `tell` (what happens), `judge` (whether it is as it should be),
//! `page` and `story` (how it is said).

mod answer_source;
mod checks;
mod clock;
pub mod fake_internet;
mod processes;
mod protocol;
mod render;
mod report;
mod scenario;
mod topology;
pub mod workload;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use netns::sandbox::{Sandbox, SandboxSpec, WorkloadSpec};
use shield::Policy;
use supervisor::SupervisorConfig;
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DisplayText, Dossier};
use tokio::time::timeout;

use answer_source::{DemoAnswerPolicy, DemoAnswerSource, DemoUiChoice};
use checks::{FetchObservation, check_fetches};
use clock::now_us;
use processes::{
    InternetProcess, RulesetInspector, SupervisorThread, WorkloadPipes, WorkloadProcess,
};
use protocol::WorkloadMessage;
use render::StepRenderer;
use report::{DemoStep, DemoSummary, median};
use scenario::{DemoOperator, DemoScenario, StepReporter};

use super::tui;
use crate::{CommandContext, CommandFailure, CommandStatus, StopSignals};

/// How the name of the directory begins that has the demo's sockets.
const DIRECTORY_PREFIX: &str = "terok-demo-";
/// How long taking popups away may take in the end.
const POPUP_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What may be said to it.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(after_long_help = "\
Exit status:
  0    everything was answered, what was allowed passed, and nothing else did
  1    not so, or it could not be set up; the reason is said
  130  ended by Ctrl-C; 143 by SIGTERM

Without --answer you are asked on popups if a program of your session shows them, else here if
standard input is a terminal; if it is none, the demo answers itself, allow twice and deny once by
turns. --ui says where to ask: desktop, tui (the whole screen; q leaves it, and nobody answers any
more) or prompt. With `--answer ask` and no terminal, answers are read as lines: a or allow, d or
deny. At the end of input nobody answers any more, and what nobody answers stays shut.

With --json, one object per line: `step` is sandbox, firewall, internet, program, and for each
fetch fetch, packet, event, question, answer, set, and passed or refused; the last one is summary,
with `ok`, the counts and the median times. docs/demo.md describes every field.")]
pub struct Args {
    /// Who answers the questions
    #[arg(long, value_enum, value_name = "WHO")]
    answer: Option<DemoAnswerPolicy>,
    /// Where you are asked
    #[arg(long, value_enum, value_name = "UI", default_value_t = DemoUiChoice::Auto,
        conflicts_with = "answer")]
    ui: DemoUiChoice,
}

/// What was seen in the end.
#[derive(Debug, Default)]
struct DemoOutcome {
    /// Each fetch.
    observations: Vec<FetchObservation>,
    /// The times from packets to events.
    packet_to_event_us: Vec<u64>,
    /// The times from answers to set elements.
    answer_to_set_us: Vec<u64>,
    /// What was wrong besides.
    problems: Vec<String>,
}

/// Shows it all, and takes everything down again.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let began_at = now_us();
    let colored = context.output.colors().stdout;
    let teller = StepReporter {
        output: context.output,
        renderer: (!context.json).then_some(StepRenderer { colored }),
    };
    if let Some(page) = teller.renderer {
        context.output.print(&page.render_header())?;
    }
    let mut outcome = DemoOutcome::default();
    let ended = run_demo(args, teller, &mut outcome, context);

    let mut verdict = check_fetches(&outcome.observations);
    verdict.problems.extend(outcome.problems);
    match &ended {
        Ok(CommandStatus::INTERRUPTED | CommandStatus::TERMINATED) => {
            verdict
                .missing
                .push("it was stopped before its end".to_owned());
        }
        Ok(_) => {}
        Err(failure) => verdict.missing.push(failure.message()),
    }
    let ok = verdict.is_success();
    let summary = DemoStep::Summary(DemoSummary {
        ok,
        verdict,
        packet_to_event_us: median(outcome.packet_to_event_us),
        answer_to_set_us: median(outcome.answer_to_set_us),
        took_us: now_us() - began_at,
    });
    // A person reads of what could not be set up on standard error, and that is all there is.
    if ended.is_ok() || context.json || !outcome.observations.is_empty() {
        teller.report(&summary)?;
    }
    ended.map(|status| match status {
        CommandStatus::OK if !ok => CommandStatus::FAILURE,
        status => status,
    })
}

/// Sets up, tells, and takes down.
fn run_demo(
    args: Args,
    teller: StepReporter,
    outcome: &mut DemoOutcome,
    context: &CommandContext,
) -> Result<CommandStatus, CommandFailure> {
    if args.ui == DemoUiChoice::Tui {
        tui::reject_json(context)?;
        tui::require_screen_terminal(context)?;
    }
    let directory = tempfile::Builder::new()
        .prefix(DIRECTORY_PREFIX)
        .tempdir_in("/tmp")
        .context("making a directory for the sockets")?;
    // Before there is a runtime: building a sandbox forks.
    let began_at = now_us();
    let (pipes, inside) = WorkloadPipes::new().context("making pipes")?;
    let blueprint = build_sandbox_spec(directory.path(), inside)?;
    let sandbox = crate::sandbox::build_sandbox(&blueprint)?;
    drop(blueprint);
    teller.report(&DemoStep::Sandbox {
        pid: sandbox.init_process().pid(),
        took_us: now_us() - began_at,
    })?;
    crate::block_on(async {
        let mut stop = StopSignals::catch()?;
        let scene = DemoSetup {
            sandbox,
            pipes,
            directory: &directory,
        };
        // Whatever is dropped here ends with it: the sandbox, the internet, the supervisor.
        tokio::select! {
            biased;
            status = stop.wait() => Ok(status),
            played = scene.run(args, teller, outcome, context) => played,
        }
    })
}

fn build_sandbox_spec(
    runtime: &Path,
    stdio: [Option<Arc<OwnedFd>>; 3],
) -> anyhow::Result<SandboxSpec> {
    let program = std::env::current_exe().context("finding this program")?;
    Ok(SandboxSpec {
        workload: WorkloadSpec {
            program: program.into_os_string(),
            arguments: vec!["demo-program".into()],
            environment: Vec::new(),
            directory: "/".into(),
            stdio,
        },
        protected_paths: vec![runtime.to_owned()],
        resolvers: vec![topology::RESOLVER_ADDRESS],
        ..SandboxSpec::default()
    })
}

/// What stands before the first packet.
struct DemoSetup<'a> {
    sandbox: Sandbox,
    pipes: WorkloadPipes,
    directory: &'a TempDir,
}

impl DemoSetup<'_> {
    async fn run(
        self,
        args: Args,
        teller: StepReporter,
        outcome: &mut DemoOutcome,
        context: &CommandContext,
    ) -> Result<CommandStatus, CommandFailure> {
        let began_at = now_us();
        let container: ContainerId = "demo".parse().context("naming the sandbox")?;
        let policy = || Policy::new([topology::RESOLVER_ADDRESS]).context("making the policy");
        let place = self.sandbox.netns_ref().context("finding the sandbox")?;
        let keeper = SupervisorThread::start(SupervisorConfig {
            container: container.clone(),
            dossier: Dossier::default(),
            process: self
                .sandbox
                .init_process()
                .try_clone()
                .context("finding the sandbox")?,
            policy: policy()?,
            allowed_dests: Vec::new(),
            runtime_dir: RuntimeDir::new(self.directory.path()),
        })
        .await?;
        let mut kernel = RulesetInspector::attach(&place, &policy()?)?;
        teller.report(&DemoStep::Firewall {
            resolver: topology::RESOLVER_ADDRESS,
            verified: true,
            socket: DisplayText::new(&keeper.hub().to_string_lossy()),
            took_us: now_us() - began_at,
        })?;

        let began_at = now_us();
        let (internet, without_v6) =
            InternetProcess::start(self.sandbox.init_process(), self.directory.path()).await?;
        teller.report(&DemoStep::Internet {
            hosts: topology::HOSTS.len(),
            without_v6: without_v6.clone(),
            took_us: now_us() - began_at,
        })?;

        let answers = DemoAnswerSource::new(args.answer, args.ui, keeper.hub(), context).await?;
        let operator = DemoOperator::connect(keeper.hub()).await?;
        let began_at = now_us();
        let running = self
            .sandbox
            .start()
            .context("starting the program in the sandbox")?;
        let mut program = WorkloadProcess::new(running, self.pipes)?;
        let WorkloadMessage::Ready(confinement) = program.next_message().await? else {
            return Err(anyhow!("the program in the sandbox says something else").into());
        };
        teller.report(&DemoStep::Program {
            confinement,
            took_us: now_us() - began_at,
        })?;

        let mut cast = DemoScenario {
            reporter: teller,
            operator,
            answers,
            workload: &mut program,
            supervisor: &keeper,
            inspector: &mut kernel,
            container,
            without_v6,
            outcome,
        };
        let told = cast.run().await;
        // A desktop that does not answer keeps its popups.
        drop(timeout(POPUP_CLOSE_TIMEOUT, cast.answers.close()).await);
        drop(cast);
        told?;

        // From the inside out; each says if it did not end as it should.
        drop(program);
        keeper.close().await?;
        let reached = internet.close().await?;
        for seen in &mut outcome.observations {
            seen.connection_count = seen
                .host
                .map(|host| reached.get(&host).copied().unwrap_or(0));
        }
        Ok(CommandStatus::OK)
    }
}

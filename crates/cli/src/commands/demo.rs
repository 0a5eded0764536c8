// SPDX-License-Identifier: Apache-2.0
//! `demo`: the whole way of one packet, on real packets, in namespaces of its own.
//!
//! Nothing is played: the sandbox is the one of `run`, the supervisor has the real reader, hub and
//! shield, the operator is a client on the hub's socket. Only the `internet` is a pretend one, in
//! a network namespace next door. The parts, in the order of the way: `world` (who is where),
//! `stage` (what runs), `tell` (what happens), `judge` (whether it is as it should be),
//! `page` and `story` (how it is said).

mod answers;
mod clock;
pub mod internet;
mod judge;
mod page;
pub mod program;
mod stage;
mod story;
mod tell;
mod told;
mod world;

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

use answers::{Answer, Answers, Where};
use clock::now_us;
use judge::{Seen, judge};
use page::Page;
use stage::{Internet, Keeper, Kernel, Pipes, Program};
use story::{Step, Summary, median};
use tell::{Cast, Operator, Teller};
use told::FromProgram;

use super::tui;
use crate::{Context, Failure, Status, Stop};

/// How the name of the directory begins that has the demo's sockets.
const DIRECTORY: &str = "terok-demo-";
/// How long taking popups away may take in the end.
const FAREWELL: Duration = Duration::from_secs(3);

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
    answer: Option<Answer>,
    /// Where you are asked
    #[arg(long, value_enum, value_name = "UI", default_value_t = Where::Auto,
        conflicts_with = "answer")]
    ui: Where,
}

/// What was seen in the end.
#[derive(Debug, Default)]
struct Outcome {
    /// Each fetch.
    seen: Vec<Seen>,
    /// The times from packets to events.
    to_event: Vec<u64>,
    /// The times from answers to set elements.
    to_set: Vec<u64>,
    /// What was wrong besides.
    problems: Vec<String>,
}

/// Shows it all, and takes everything down again.
pub fn perform(args: Args, context: &Context) -> Result<Status, Failure> {
    let began_at = now_us();
    let colored = context.output.colors().stdout;
    let teller = Teller {
        output: context.output,
        page: (!context.json).then_some(Page { colored }),
    };
    if let Some(page) = teller.page {
        context.output.text(&page.opening())?;
    }
    let mut outcome = Outcome::default();
    let ended = play(args, teller, &mut outcome, context);

    let mut verdict = judge(&outcome.seen);
    verdict.problems.extend(outcome.problems);
    match &ended {
        Ok(Status::INTERRUPTED | Status::TERMINATED) => {
            verdict
                .missing
                .push("it was stopped before its end".to_owned());
        }
        Ok(_) => {}
        Err(failure) => verdict.missing.push(failure.words()),
    }
    let ok = verdict.is_as_it_should_be();
    let summary = Step::Summary(Summary {
        ok,
        verdict,
        packet_to_event_us: median(outcome.to_event),
        answer_to_set_us: median(outcome.to_set),
        took_us: now_us() - began_at,
    });
    // A person reads of what could not be set up on standard error, and that is all there is.
    if ended.is_ok() || context.json || !outcome.seen.is_empty() {
        teller.say(&summary)?;
    }
    ended.map(|status| match status {
        Status::OK if !ok => Status::FAILURE,
        status => status,
    })
}

/// Sets up, tells, and takes down.
fn play(
    args: Args,
    teller: Teller,
    outcome: &mut Outcome,
    context: &Context,
) -> Result<Status, Failure> {
    if args.ui == Where::Tui {
        tui::refuse_json(context)?;
        tui::fit_for_a_screen(context)?;
    }
    let directory = tempfile::Builder::new()
        .prefix(DIRECTORY)
        .tempdir_in("/tmp")
        .context("making a directory for the sockets")?;
    // Before there is a runtime: building a sandbox forks.
    let began_at = now_us();
    let (pipes, inside) = Pipes::new().context("making pipes")?;
    let blueprint = blueprint(directory.path(), inside)?;
    let sandbox = crate::sandbox::build(&blueprint)?;
    drop(blueprint);
    teller.say(&Step::Sandbox {
        pid: sandbox.init().pid(),
        took_us: now_us() - began_at,
    })?;
    crate::block_on(async {
        let mut stop = Stop::catch()?;
        let scene = Scene {
            sandbox,
            pipes,
            directory: &directory,
        };
        // Whatever is dropped here ends with it: the sandbox, the internet, the supervisor.
        tokio::select! {
            biased;
            status = stop.wait() => Ok(status),
            played = scene.play(args, teller, outcome, context) => played,
        }
    })
}

fn blueprint(runtime: &Path, stdio: [Option<Arc<OwnedFd>>; 3]) -> anyhow::Result<SandboxSpec> {
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
        resolvers: vec![world::RESOLVER],
        ..SandboxSpec::default()
    })
}

/// What stands before the first packet.
struct Scene<'a> {
    sandbox: Sandbox,
    pipes: Pipes,
    directory: &'a TempDir,
}

impl Scene<'_> {
    async fn play(
        self,
        args: Args,
        teller: Teller,
        outcome: &mut Outcome,
        context: &Context,
    ) -> Result<Status, Failure> {
        let began_at = now_us();
        let container: ContainerId = "demo".parse().context("naming the sandbox")?;
        let policy = || Policy::new([world::RESOLVER]).context("making the policy");
        let place = self.sandbox.netns_ref().context("finding the sandbox")?;
        let keeper = Keeper::start(SupervisorConfig {
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
        let mut kernel = Kernel::look(&place, &policy()?)?;
        teller.say(&Step::Firewall {
            resolver: world::RESOLVER,
            verified: true,
            socket: DisplayText::new(&keeper.hub().to_string_lossy()),
            took_us: now_us() - began_at,
        })?;

        let began_at = now_us();
        let (internet, without_v6) =
            Internet::start(self.sandbox.init_process(), self.directory.path()).await?;
        teller.say(&Step::Internet {
            hosts: world::HOSTS.len(),
            without_v6: without_v6.clone(),
            took_us: now_us() - began_at,
        })?;

        let answers = Answers::new(args.answer, args.ui, keeper.hub(), context).await?;
        let operator = Operator::connect(keeper.hub()).await?;
        let began_at = now_us();
        let running = self
            .sandbox
            .start()
            .context("starting the program in the sandbox")?;
        let mut program = Program::new(running, self.pipes)?;
        let FromProgram::Ready(confinement) = program.read().await? else {
            return Err(anyhow!("the program in the sandbox says something else").into());
        };
        teller.say(&Step::Program {
            confinement,
            took_us: now_us() - began_at,
        })?;

        let mut cast = Cast {
            teller,
            operator,
            answers,
            program: &mut program,
            keeper: &keeper,
            kernel: &mut kernel,
            container,
            without_v6,
            outcome,
        };
        let told = cast.tell().await;
        // A desktop that does not answer keeps its popups.
        drop(timeout(FAREWELL, cast.answers.end()).await);
        drop(cast);
        told?;

        // From the inside out; each says if it did not end as it should.
        drop(program);
        keeper.close().await?;
        let reached = internet.close().await?;
        for seen in &mut outcome.seen {
            seen.reached = seen
                .host
                .map(|host| reached.get(&host).copied().unwrap_or(0));
        }
        Ok(Status::OK)
    }
}

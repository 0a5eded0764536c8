// SPDX-License-Identifier: Apache-2.0
//! `demo`: shows the path of a packet from a sandbox to an answer, in private namespaces.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use ::tui::{FullScreenUi, UiEvent};
use anyhow::Context as _;
use clap::ValueEnum;
use demo::{
    AnsweringUi, DemoAnswers, DemoFormat, DemoOutcome, DemoOutput, PreparedDemo, UiFailure,
    UiFuture,
};
use desktop::{BackgroundPopups, PopupDesktop};
use operator::Session;
use operator::bell::BellChoice;
use rustix::process::{Signal, getpid, kill_process};
use terok_clearance::{Action, error_chain};

use super::tui;
use crate::desktop::popup_desktop_config;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Command-line arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(after_long_help = "\
Without --answer, each question is a popup if a program of your session shows popups, else a prompt
if standard input is a terminal; otherwise the demo answers itself: it allows two questions, denies
one, and so on. --ui chooses the user interface: desktop, tui (full screen; q ends all answering) or
prompt. With `--answer ask` and without a terminal, each line of standard input is an answer: a or
allow, d or deny. The end of input ends all answering. An unanswered question opens nothing.

With --json, each step is one object per line. `step` is sandbox, firewall, internet and program;
for each fetch fetch, packet, event, question, answer, rule, connected, and passed or refused; and
at the end summary, with `ok`, the counts and the median times. docs/demo.md describes every field.

Exit status:
  0    every question was answered, allowed fetches passed, and no others did
  1    otherwise, or if the set-up failed
  130  ended by Ctrl-C; 143 by SIGTERM")]
pub struct Args {
    /// The source of the answers
    #[arg(long, value_enum, value_name = "SOURCE")]
    answer: Option<DemoAnswerPolicy>,
    /// The user interface for the questions
    #[arg(long, value_enum, value_name = "UI", default_value_t = DemoUiChoice::Auto,
        conflicts_with = "answer")]
    ui: DemoUiChoice,
}

/// The values of `--answer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DemoAnswerPolicy {
    /// Allow every question
    Allow,
    /// Deny every question
    Deny,
    /// Ask: at the terminal, else one line of standard input (a or d) per question
    Ask,
}

/// The values of `--ui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DemoUiChoice {
    /// Popups if a program of this session shows them, else the prompt
    Auto,
    /// Popups on your desktop
    Desktop,
    /// Full screen in this terminal
    Tui,
    /// A prompt, if there is a terminal
    Prompt,
}

/// Arguments of the hidden command `demo-internet`.
#[derive(Debug, Clone, clap::Args)]
pub struct InternetArgs {
    /// Process id of a process of the sandbox
    pid: u32,
    /// The demo's directory, which is removed in case the demo was killed
    directory: PathBuf,
}

/// Arguments of the hidden command `demo-program`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct WorkloadArgs {}

/// Runs the demo and removes everything that it created.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let format = if context.json {
        DemoFormat::Json
    } else {
        DemoFormat::Text {
            colored: context.output.colors().stdout,
        }
    };
    let write = |text: &str| context.output.write(text);
    let output = DemoOutput::new(format, &write);
    output.write_header()?;
    let mut outcome = DemoOutcome::begin();
    let ended = run_demo(args, output, &mut outcome, context);

    // Without a fetch, the error on standard error is enough for a person.
    if ended.is_err() && !context.json && !outcome.has_fetches() {
        return ended;
    }
    let missing = match &ended {
        Ok(CommandStatus::OK) => None,
        Ok(_) => Some("the demo was stopped early".to_owned()),
        Err(failure) => Some(failure.message()),
    };
    let succeeded = outcome.report_summary(missing, output)?;
    ended.map(|status| match status {
        CommandStatus::OK if !succeeded => CommandStatus::FAILURE,
        status => status,
    })
}

fn run_demo(
    args: Args,
    output: DemoOutput<'_>,
    outcome: &mut DemoOutcome,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    if args.ui == DemoUiChoice::Tui {
        tui::reject_json(context)?;
        tui::require_screen_terminal(context)?;
    }
    if runner::is_inside_sandbox() {
        return Err(CommandError::InsideSandbox);
    }
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    // Before the runtime starts: building a sandbox forks.
    let prepared = PreparedDemo::build(&program, output)?;
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let demo = async {
            let started = prepared.start(output).await?;
            let answers = select_answers(args, started.hub_socket(), context).await?;
            started.run(answers, output, outcome).await?;
            Ok(CommandStatus::OK)
        };
        // Dropping the demo ends the sandbox, the simulated internet and the supervisor.
        tokio::select! {
            biased;
            status = stop.wait() => Ok(status),
            ended = demo => ended,
        }
    })
}

/// Runs the simulated internet. Errors are reported to the demo.
pub fn perform_internet(args: &InternetArgs) -> CommandStatus {
    match demo::run_fake_internet(args.pid, &args.directory) {
        Ok(()) => CommandStatus::OK,
        Err(_reported) => CommandStatus::FAILURE,
    }
}

/// Runs the program in the sandbox.
pub fn perform_workload() -> Result<CommandStatus, CommandError> {
    demo::run_demo_workload().map_err(anyhow::Error::new)?;
    Ok(CommandStatus::OK)
}

/// Returns the source of answers selected by the arguments. The default is popups if available,
/// then a terminal if available, then the demo's own answers, so that the demo runs everywhere.
async fn select_answers(
    args: Args,
    hub: &Path,
    context: &CommandContext,
) -> Result<DemoAnswers, CommandError> {
    let is_terminal = std::io::stdin().is_terminal();
    let session = || Session::at_socket(hub.to_owned()).context("cannot listen to the hub");
    let desktop = match (args.answer, args.ui) {
        (Some(DemoAnswerPolicy::Allow), _) => return Ok(DemoAnswers::Fixed(Action::Allow)),
        (Some(DemoAnswerPolicy::Deny), _) => return Ok(DemoAnswers::Fixed(Action::Deny)),
        (Some(DemoAnswerPolicy::Ask), _) => return Ok(DemoAnswers::StandardInput { is_terminal }),
        (None, DemoUiChoice::Tui) => {
            let ui = {
                let options = tui::tui_options(context, BellChoice::Off);
                FullScreenUi::new(session()?, "the demo", options)
            };
            return Ok(DemoAnswers::Ui(Box::new(ScreenAnswers(ui))));
        }
        (None, DemoUiChoice::Desktop) => {
            Some(PopupDesktop::connect(popup_desktop_config(context)?).await?)
        }
        (None, DemoUiChoice::Auto) => match popup_desktop_config(context) {
            Ok(config) => PopupDesktop::connect_if_running(config).await,
            Err(error) => {
                tracing::warn!(reason = error_chain(&error).as_str(), "cannot show popups");
                None
            }
        },
        (None, DemoUiChoice::Prompt) => None,
    };
    Ok(match desktop {
        Some(desktop) => {
            let popups = desktop.start_popups(session()?);
            DemoAnswers::Ui(Box::new(PopupAnswers(popups)))
        }
        None if is_terminal => DemoAnswers::StandardInput { is_terminal },
        None => DemoAnswers::Alternating,
    })
}

/// Popups as a source of answers.
struct PopupAnswers(BackgroundPopups);

impl AnsweringUi for PopupAnswers {
    fn name(&self) -> &'static str {
        "desktop"
    }

    fn hint(&self) -> Option<&'static str> {
        Some("click on the popup; Ctrl-C ends the demo")
    }

    fn run(&mut self) -> UiFuture<'_, Result<(), UiFailure>> {
        Box::pin(async {
            self.0.run().await;
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> UiFuture<'static, ()> {
        Box::pin(self.0.close())
    }
}

/// The full-screen user interface as a source of answers.
struct ScreenAnswers(FullScreenUi);

impl AnsweringUi for ScreenAnswers {
    fn name(&self) -> &'static str {
        "tui"
    }

    fn run(&mut self) -> UiFuture<'_, Result<(), UiFailure>> {
        Box::pin(async {
            let ui = &mut self.0;
            ui.open()?;
            loop {
                match ui.next().await? {
                    UiEvent::Handled | UiEvent::HotkeyPressed { .. } => {}
                    UiEvent::SuspendRequested => ui.suspend()?,
                    UiEvent::QuitRequested => return Ok(()),
                    // In raw mode, Ctrl-C is a key, not a signal.
                    UiEvent::Interrupted => {
                        ui.close();
                        kill_process(getpid(), Signal::INT)?;
                        return Ok(());
                    }
                }
            }
        })
    }

    fn hide(&mut self) {
        self.0.close();
    }

    fn close(self: Box<Self>) -> UiFuture<'static, ()> {
        Box::pin(async { drop(self) })
    }
}

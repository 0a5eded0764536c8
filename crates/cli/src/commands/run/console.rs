// SPDX-License-Identifier: Apache-2.0
//! The operator's terminal while the command has one of its own, and the questions that are asked
//! there: at a prompt between the command's lines, or on the whole screen over them.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use operator::discovery::{AnswerDispatcher, Hubs};
use operator::inbox::{Row, RowNumber};
use operator::tui::{FullScreenUi, UiEvent};
use tokio::time::Instant;

use super::controlling_tty::ControllingTty;
use super::inline_prompt::{ConsoleAction, ConsoleNoticeLimiter, HOTKEY, InlinePrompt};
use super::pty_relay::PtyRelay;
use crate::CommandContext;
use crate::commands::tui;

/// The terminal, while the command has one of its own.
#[derive(Debug)]
pub(super) struct RunConsole {
    tty: ControllingTty,
    relay: PtyRelay,
    view: ConsoleView,
}

/// How questions are asked at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsoleMode {
    /// At a prompt, with notices that tell of it.
    AnnouncedPrompt,
    /// At a prompt for whoever asks for it: they are also asked elsewhere.
    QuietPrompt,
    /// On the whole screen.
    FullScreen,
}

impl ConsoleMode {
    /// At a prompt, with notices or without.
    pub(super) const fn prompt(aloud: bool) -> Self {
        if aloud {
            Self::AnnouncedPrompt
        } else {
            Self::QuietPrompt
        }
    }
}

#[derive(Debug)]
enum ConsoleView {
    PassThrough,
    Prompt(Box<ConsolePrompt>),
    Screen(Box<ConsoleScreen>),
}

/// A prompt between the command's lines.
#[derive(Debug)]
struct ConsolePrompt {
    prompt: InlinePrompt,
    hubs: Hubs,
    answers: AnswerDispatcher,
    /// Whether it tells of questions by itself.
    announce: bool,
}

/// The whole screen, over the command or behind it.
#[derive(Debug)]
struct ConsoleScreen {
    ui: FullScreenUi,
    /// Whether it was asked for and is not there yet.
    open_requested: bool,
    notices: ConsoleNoticeLimiter,
    /// The newest question that was looked at.
    newest_seen: Option<RowNumber>,
}

impl RunConsole {
    /// Takes the terminal for the command whose own terminal's master side is `master`.
    pub(super) fn new(
        mut operator: ControllingTty,
        master: OwnedFd,
        asks: Option<(ConsoleMode, Hubs)>,
        context: &CommandContext,
    ) -> anyhow::Result<Self> {
        operator.enter_raw_mode()?;
        let relay = PtyRelay::new(operator.try_clone_fd()?, master)?;
        let front = match asks {
            None => ConsoleView::PassThrough,
            Some((ConsoleMode::FullScreen, hubs)) => ConsoleView::Screen(Box::new(ConsoleScreen {
                ui: FullScreenUi::new(hubs, "this command", tui::tui_options(context, true)),
                open_requested: false,
                notices: ConsoleNoticeLimiter::default(),
                newest_seen: None,
            })),
            Some((asks, hubs)) => ConsoleView::Prompt(Box::new(ConsolePrompt {
                prompt: InlinePrompt::default(),
                hubs,
                answers: AnswerDispatcher::default(),
                announce: asks == ConsoleMode::AnnouncedPrompt,
            })),
        };
        Ok(Self {
            tty: operator,
            relay,
            view: front,
        })
    }

    /// Does the next thing that is to be done at the terminal. A call that is dropped before it is
    /// done loses nothing.
    pub(super) async fn step(&mut self) -> anyhow::Result<()> {
        let listen = self.tty.is_foreground();
        match &mut self.view {
            ConsoleView::PassThrough => {
                let keys = read_keys(&mut self.relay, listen).await?;
                self.relay.forward_keys(&keys);
            }
            ConsoleView::Prompt(prompt) => {
                let ConsolePrompt {
                    prompt: ask,
                    hubs,
                    answers,
                    ..
                } = &mut **prompt;
                tokio::select! {
                    biased;
                    (answer, reply) = answers.next_reply() => {
                        let acts = ask.apply_reply(&answer, reply, Instant::now());
                        self.apply_actions(acts, &[]);
                    }
                    keys = read_keys(&mut self.relay, listen) => {
                        let keys = keys?;
                        let act = ask.handle_keys(&keys, Instant::now());
                        self.apply_actions([act], &keys);
                    }
                    (hub, news) = hubs.next_event() => {
                        let acts = ask.apply_event(&hub, news, Instant::now());
                        self.apply_actions(acts, &[]);
                    }
                }
            }
            ConsoleView::Screen(screen) => {
                if screen.open_requested {
                    self.relay.detach_tty().await;
                    screen.open_requested = false;
                    if let Err(error) = screen.ui.open() {
                        self.close_failed_screen(&error);
                    }
                    return Ok(());
                }
                tokio::select! {
                    happened = screen.ui.next() => self.handle_ui_event(happened)?,
                    keys = read_keys(&mut self.relay, listen) => match keys?.as_slice() {
                        [HOTKEY] => screen.open_requested = true,
                        keys => self.relay.forward_keys(keys),
                    },
                }
            }
        }
        Ok(())
    }

    /// Writes a line of our own on the terminal.
    pub(super) fn print_line(&mut self, words: &str) {
        self.relay.print(&format!("{words}\n"));
    }

    /// Stops us together with the command, as Ctrl-Z does, until the shell lets us go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        let screen = self.close_screen();
        self.tty.suspend()?;
        self.resize();
        if let ConsoleView::Screen(behind) = &mut self.view {
            behind.open_requested = screen;
        }
        Ok(())
    }

    /// Takes the terminal again, after a stop that nobody announced.
    pub(super) fn reacquire_tty(&mut self) -> io::Result<()> {
        self.tty.enter_raw_mode()?;
        self.resize();
        match &mut self.view {
            ConsoleView::Screen(screen) if screen.ui.is_open() => screen.ui.open(),
            _ => Ok(()),
        }
    }

    /// Gives the command's terminal the size of the operator's.
    pub(super) fn resize(&mut self) {
        if let Ok(size) = self.tty.size() {
            self.relay.resize(size);
        }
    }

    /// Writes what the command has still written, and gives the terminal back.
    pub(super) async fn close(&mut self) {
        self.close_screen();
        self.relay.drain().await;
        self.tty.restore();
    }

    fn apply_actions(&mut self, acts: impl IntoIterator<Item = ConsoleAction>, keys: &[u8]) {
        for act in acts {
            match act {
                ConsoleAction::Ignore => {}
                ConsoleAction::ForwardKeys => self.relay.forward_keys(keys),
                ConsoleAction::Print(words) => self.relay.print(&words),
                ConsoleAction::Open(words) => {
                    self.relay.set_output_paused(true);
                    let clear = if self.relay.is_full_screen() {
                        "\x1b[H\x1b[2J"
                    } else {
                        ""
                    };
                    self.relay.print(&format!("{clear}{words}"));
                }
                ConsoleAction::Close(words) => {
                    self.relay.print(&words);
                    self.relay.set_output_paused(false);
                    self.redraw();
                }
                ConsoleAction::Notice(count) => {
                    if matches!(&self.view, ConsoleView::Prompt(prompt) if prompt.announce) {
                        self.announce_questions(count);
                    }
                }
                ConsoleAction::SendAnswers(sent) => {
                    if let ConsoleView::Prompt(prompt) = &mut self.view {
                        prompt.answers.send(&prompt.hubs, sent);
                    }
                }
            }
        }
    }

    /// Sees to what happened on the whole screen, or behind it.
    fn handle_ui_event(&mut self, happened: io::Result<UiEvent>) -> anyhow::Result<()> {
        match happened {
            Ok(UiEvent::Handled) => {
                if let ConsoleView::Screen(screen) = &mut self.view
                    && let Some(count) = screen.take_new_question_count(Instant::now())
                {
                    self.announce_questions(count);
                }
            }
            Ok(UiEvent::QuitRequested | UiEvent::Interrupted) => {
                self.close_screen();
            }
            Ok(UiEvent::SuspendRequested) => self.suspend().context("stopping for the shell")?,
            Err(error) => self.close_failed_screen(&error),
        }
        Ok(())
    }

    /// Goes on with the command where the whole screen cannot be shown.
    fn close_failed_screen(&mut self, error: &io::Error) {
        self.close_screen();
        self.print_line(&format!("terok-clearance: the screen is lost: {error}"));
    }

    /// Takes the whole screen away, and has the command draw its own again. Returns whether it was
    /// there, or was about to be.
    fn close_screen(&mut self) -> bool {
        let ConsoleView::Screen(screen) = &mut self.view else {
            return false;
        };
        let wanted = std::mem::take(&mut screen.open_requested);
        let open = screen.ui.is_open();
        screen.ui.close();
        self.relay.reattach_tty();
        if open {
            self.relay.restore_modes();
            self.redraw();
        }
        open || wanted
    }

    fn redraw(&mut self) {
        if let Ok(size) = self.tty.size() {
            self.relay.force_redraw(size);
        }
    }

    /// Tells of questions in passing: a line between those of the command, or, if the command draws
    /// on the whole screen, over its last one.
    fn announce_questions(&mut self, count: usize) {
        let questions = if count == 1 { "question" } else { "questions" };
        let words = format!("terok-clearance: {count} {questions}; Ctrl-] to answer");
        if self.relay.is_full_screen() {
            self.relay
                .print(&format!("\x1b7\x1b[999;1H\x1b[7m{words}\x1b[0m\x1b[K\x1b8"));
        } else {
            self.relay.print(&format!("\n{words}\n"));
        }
    }
}

impl ConsoleScreen {
    /// Returns how many questions there are, if there is a new one to tell of.
    fn take_new_question_count(&mut self, now: Instant) -> Option<usize> {
        let rows = self.ui.inbox().rows();
        let (count, newest) = (rows.len(), rows.map(Row::number).max());
        let new = newest > self.newest_seen;
        self.newest_seen = self.newest_seen.max(newest);
        (new && !self.ui.is_open() && self.notices.is_due(count, now)).then_some(count)
    }
}

async fn read_keys(relay: &mut PtyRelay, listen: bool) -> anyhow::Result<Vec<u8>> {
    relay
        .read_keys(listen)
        .await
        .context("reading the terminal")
}

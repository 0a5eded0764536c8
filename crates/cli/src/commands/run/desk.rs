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

use super::ask::{Act, Ask, HOTKEY, Notices};
use super::relay::Relay;
use super::terminal::Operator;
use crate::Context;
use crate::commands::tui;

/// The terminal, while the command has one of its own.
#[derive(Debug)]
pub(super) struct Desk {
    operator: Operator,
    relay: Relay,
    front: Front,
}

/// How questions are asked at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// At a prompt, with notices that tell of it.
    Aloud,
    /// At a prompt for whoever asks for it: they are also asked elsewhere.
    Quietly,
    /// On the whole screen.
    OnTheScreen,
}

impl Asks {
    /// At a prompt, with notices or without.
    pub(super) const fn at_a_prompt(aloud: bool) -> Self {
        if aloud { Self::Aloud } else { Self::Quietly }
    }
}

#[derive(Debug)]
enum Front {
    Nothing,
    Prompt(Box<Prompt>),
    Screen(Box<Screen>),
}

/// A prompt between the command's lines.
#[derive(Debug)]
struct Prompt {
    ask: Ask,
    hubs: Hubs,
    answers: AnswerDispatcher,
    /// Whether it tells of questions by itself.
    aloud: bool,
}

/// The whole screen, over the command or behind it.
#[derive(Debug)]
struct Screen {
    ui: FullScreenUi,
    /// Whether it was asked for and is not there yet.
    wanted: bool,
    notices: Notices,
    /// The newest question that was looked at.
    newest: Option<RowNumber>,
}

impl Desk {
    /// Takes the terminal for the command whose own terminal's master side is `master`.
    pub(super) fn new(
        mut operator: Operator,
        master: OwnedFd,
        asks: Option<(Asks, Hubs)>,
        context: &Context,
    ) -> anyhow::Result<Self> {
        operator.take()?;
        let relay = Relay::new(operator.handle()?, master)?;
        let front = match asks {
            None => Front::Nothing,
            Some((Asks::OnTheScreen, hubs)) => Front::Screen(Box::new(Screen {
                ui: FullScreenUi::new(hubs, "this command", tui::options(context, true)),
                wanted: false,
                notices: Notices::default(),
                newest: None,
            })),
            Some((asks, hubs)) => Front::Prompt(Box::new(Prompt {
                ask: Ask::default(),
                hubs,
                answers: AnswerDispatcher::default(),
                aloud: asks == Asks::Aloud,
            })),
        };
        Ok(Self {
            operator,
            relay,
            front,
        })
    }

    /// Does the next thing that is to be done at the terminal. A call that is dropped before it is
    /// done loses nothing.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        let listen = self.operator.is_ours();
        match &mut self.front {
            Front::Nothing => {
                let keys = typed(&mut self.relay, listen).await?;
                self.relay.pass(&keys);
            }
            Front::Prompt(prompt) => {
                let Prompt {
                    ask, hubs, answers, ..
                } = &mut **prompt;
                tokio::select! {
                    biased;
                    (answer, reply) = answers.next_reply() => {
                        let acts = ask.settle(&answer, reply, Instant::now());
                        self.act(acts, &[]);
                    }
                    keys = typed(&mut self.relay, listen) => {
                        let keys = keys?;
                        let act = ask.typed(&keys, Instant::now());
                        self.act([act], &keys);
                    }
                    (hub, news) = hubs.next_event() => {
                        let acts = ask.hear(&hub, news, Instant::now());
                        self.act(acts, &[]);
                    }
                }
            }
            Front::Screen(screen) => {
                if screen.wanted {
                    self.relay.lend().await;
                    screen.wanted = false;
                    if let Err(error) = screen.ui.open() {
                        self.screen_is_lost(&error);
                    }
                    return Ok(());
                }
                tokio::select! {
                    happened = screen.ui.next() => self.happened(happened)?,
                    keys = typed(&mut self.relay, listen) => match keys?.as_slice() {
                        [HOTKEY] => screen.wanted = true,
                        keys => self.relay.pass(keys),
                    },
                }
            }
        }
        Ok(())
    }

    /// Writes a line of our own on the terminal.
    pub(super) fn say(&mut self, words: &str) {
        self.relay.say(&format!("{words}\n"));
    }

    /// Stops us together with the command, as Ctrl-Z does, until the shell lets us go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        let screen = self.close_screen();
        self.operator.suspend()?;
        self.resize();
        if let Front::Screen(behind) = &mut self.front {
            behind.wanted = screen;
        }
        Ok(())
    }

    /// Takes the terminal again, after a stop that nobody announced.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        self.operator.take()?;
        self.resize();
        match &mut self.front {
            Front::Screen(screen) if screen.ui.is_open() => screen.ui.open(),
            _ => Ok(()),
        }
    }

    /// Gives the command's terminal the size of the operator's.
    pub(super) fn resize(&mut self) {
        if let Ok(size) = self.operator.size() {
            self.relay.resize(size);
        }
    }

    /// Writes what the command has still written, and gives the terminal back.
    pub(super) async fn end(&mut self) {
        self.close_screen();
        self.relay.drain().await;
        self.operator.give_back();
    }

    fn act(&mut self, acts: impl IntoIterator<Item = Act>, keys: &[u8]) {
        for act in acts {
            match act {
                Act::Nothing => {}
                Act::Pass => self.relay.pass(keys),
                Act::Say(words) => self.relay.say(&words),
                Act::Open(words) => {
                    self.relay.hold(true);
                    let clear = if self.relay.is_full_screen() {
                        "\x1b[H\x1b[2J"
                    } else {
                        ""
                    };
                    self.relay.say(&format!("{clear}{words}"));
                }
                Act::Close(words) => {
                    self.relay.say(&words);
                    self.relay.hold(false);
                    self.redraw();
                }
                Act::Notice(count) => {
                    if matches!(&self.front, Front::Prompt(prompt) if prompt.aloud) {
                        self.notice(count);
                    }
                }
                Act::Send(sent) => {
                    if let Front::Prompt(prompt) = &mut self.front {
                        prompt.answers.send(&prompt.hubs, sent);
                    }
                }
            }
        }
    }

    /// Sees to what happened on the whole screen, or behind it.
    fn happened(&mut self, happened: io::Result<UiEvent>) -> anyhow::Result<()> {
        match happened {
            Ok(UiEvent::Handled) => {
                if let Front::Screen(screen) = &mut self.front
                    && let Some(count) = screen.has_news(Instant::now())
                {
                    self.notice(count);
                }
            }
            Ok(UiEvent::QuitRequested | UiEvent::Interrupted) => {
                self.close_screen();
            }
            Ok(UiEvent::SuspendRequested) => self.suspend().context("stopping for the shell")?,
            Err(error) => self.screen_is_lost(&error),
        }
        Ok(())
    }

    /// Goes on with the command where the whole screen cannot be shown.
    fn screen_is_lost(&mut self, error: &io::Error) {
        self.close_screen();
        self.say(&format!("terok-clearance: the screen is lost: {error}"));
    }

    /// Takes the whole screen away, and has the command draw its own again. Returns whether it was
    /// there, or was about to be.
    fn close_screen(&mut self) -> bool {
        let Front::Screen(screen) = &mut self.front else {
            return false;
        };
        let wanted = std::mem::take(&mut screen.wanted);
        let open = screen.ui.is_open();
        screen.ui.close();
        self.relay.take_back();
        if open {
            self.relay.restore_modes();
            self.redraw();
        }
        open || wanted
    }

    fn redraw(&mut self) {
        if let Ok(size) = self.operator.size() {
            self.relay.redraw(size);
        }
    }

    /// Tells of questions in passing: a line between those of the command, or, if the command draws
    /// on the whole screen, over its last one.
    fn notice(&mut self, count: usize) {
        let questions = if count == 1 { "question" } else { "questions" };
        let words = format!("terok-clearance: {count} {questions}; Ctrl-] to answer");
        if self.relay.is_full_screen() {
            self.relay
                .say(&format!("\x1b7\x1b[999;1H\x1b[7m{words}\x1b[0m\x1b[K\x1b8"));
        } else {
            self.relay.say(&format!("\n{words}\n"));
        }
    }
}

impl Screen {
    /// Returns how many questions there are, if there is a new one to tell of.
    fn has_news(&mut self, now: Instant) -> Option<usize> {
        let rows = self.ui.inbox().rows();
        let (count, newest) = (rows.len(), rows.map(Row::number).max());
        let new = newest > self.newest;
        self.newest = self.newest.max(newest);
        (new && !self.ui.is_open() && self.notices.is_due(count, now)).then_some(count)
    }
}

async fn typed(relay: &mut Relay, listen: bool) -> anyhow::Result<Vec<u8>> {
    relay.typed(listen).await.context("reading the terminal")
}

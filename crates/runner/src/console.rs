// SPDX-License-Identifier: Apache-2.0
//! The operator's terminal while the command has a separate one, and the full screen over the
//! command.
//!
//! Keys go to the command until the hotkey is pressed. The screen then has the terminal, with an
//! answer guard over the keys; the command's output waits. Both decode the same input, so that the
//! rest of a reply whose start went to the command is no key on the screen.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ::tui::{FullScreenUi, UiEvent};
use operator::Session;
use operator::bell::QuestionBell;
use operator::inbox::{Row, RowNumber};
use tokio::time::{Instant, sleep, sleep_until};

use crate::controlling_tty::ControllingTty;
use crate::hotkey_filter::HotkeyFilter;
use crate::pty_relay::PtyRelay;
use crate::{RunError, RunNotice, RunReporter, RunScreen};

/// Time between two looks at whether a shell has brought this process to the foreground.
const FOREGROUND_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The operator's terminal while the command has a separate one.
pub(crate) struct RunConsole<'a> {
    tty: ControllingTty,
    relay: PtyRelay,
    screen: Option<Box<ConsoleScreen>>,
    reporter: &'a dyn RunReporter,
    is_hang_up_reported: bool,
}

/// The full screen, over the command or closed.
#[derive(Debug)]
struct ConsoleScreen {
    ui: FullScreenUi,
    filter: HotkeyFilter,
    /// The bytes of the hotkey that opened the screen.
    pressed_hotkey: Vec<u8>,
    announces_questions: bool,
    bell: QuestionBell,
    start: Instant,
    /// The hotkey was pressed, and the screen is not open yet.
    open_requested: bool,
    notices: NoticeLimiter,
    /// The newest announced or shown question.
    newest_seen: Option<RowNumber>,
}

/// Limits the notices of new questions: the first question, then one notice per interval.
#[derive(Debug, Default)]
struct NoticeLimiter {
    last_notice: Option<Instant>,
}

impl NoticeLimiter {
    const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

    /// Returns `true` if a new question, of `count` in all, is to be announced now.
    fn take_due(&mut self, count: usize, now: Instant) -> bool {
        let recent = self
            .last_notice
            .is_some_and(|at| now.duration_since(at) < Self::NOTICE_INTERVAL);
        let due = count == 1 || !recent;
        if due {
            self.last_notice = Some(now);
        }
        due
    }
}

impl<'a> RunConsole<'a> {
    /// Puts the operator's terminal into raw mode. `master` is the master side of the command's
    /// terminal.
    pub(crate) fn new(
        mut tty: ControllingTty,
        master: OwnedFd,
        screen: Option<(RunScreen, Session)>,
        reporter: &'a dyn RunReporter,
    ) -> io::Result<Self> {
        tty.enter_raw_mode()?;
        let relay = PtyRelay::new(tty.operator_tty()?, master, tty.size()?, screen.is_some())?;
        let screen = screen.map(|(screen, session)| {
            let mut options = screen.options;
            options.hotkey = Some(screen.hotkey);
            let bell = QuestionBell::new(options.bell);
            Box::new(ConsoleScreen {
                ui: FullScreenUi::new(session, "this command", options),
                filter: HotkeyFilter::new(screen.hotkey),
                pressed_hotkey: Vec::new(),
                announces_questions: screen.announces_questions,
                bell,
                start: Instant::now(),
                open_requested: false,
                notices: NoticeLimiter::default(),
                newest_seen: None,
            })
        });
        Ok(Self {
            tty,
            relay,
            screen,
            reporter,
            is_hang_up_reported: false,
        })
    }

    /// Handles the next input, output or change of a question.
    ///
    /// Cancel safe.
    pub(crate) async fn step(&mut self) -> Result<(), RunError> {
        if self.tty.was_brought_to_front() {
            let entered = self.tty.enter_raw_mode();
            entered.map_err(RunError::ReacquireTerminal)?;
            self.resize();
        }
        if self.tty.is_foreground() {
            return self.relay_until_event(true).await;
        }
        tokio::select! {
            done = self.relay_until_event(false) => done,
            () = sleep(FOREGROUND_POLL_INTERVAL) => Ok(()),
        }
    }

    /// Handles the next input, if `listen` is set, output or change of a question.
    ///
    /// Cancel safe.
    async fn relay_until_event(&mut self, listen: bool) -> Result<(), RunError> {
        let Some(screen) = &mut self.screen else {
            let keys = read_keys(&mut self.relay, listen).await?;
            self.relay.forward_keys(&keys);
            return Ok(());
        };
        if screen.open_requested {
            self.relay.detach_tty().await;
            screen.open_requested = false;
            screen.ui.continue_input(screen.filter.take_decoder());
            if let Err(error) = screen.ui.open() {
                self.close_failed_screen(&error);
            }
            return Ok(());
        }
        let release = screen.filter.deadline();
        tokio::select! {
            event = screen.ui.next() => self.handle_ui_event(event)?,
            keys = read_keys(&mut self.relay, listen) => {
                let input = screen.filter.filter(&keys?, Instant::now());
                self.relay.forward_keys(&input.forward);
                if let Some(pressed) = input.hotkey {
                    screen.pressed_hotkey = pressed;
                    screen.open_requested = true;
                }
            }
            () = sleep_until(release.unwrap_or(screen.start)), if release.is_some() => {
                let held = screen.filter.release();
                self.relay.forward_keys(&held);
            }
        }
        Ok(())
    }

    /// Writes a line on the operator's terminal.
    pub(crate) fn print_line(&mut self, text: &str) {
        self.relay.print(text);
    }

    /// Stops this process together with the command, as Ctrl-Z does, until the shell resumes both.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        let was_open = self.close_screen();
        self.tty.suspend()?;
        self.resize();
        if let Some(screen) = &mut self.screen {
            screen.open_requested = was_open;
        }
        Ok(())
    }

    /// Puts the terminal into raw mode again, after a SIGSTOP.
    pub(crate) fn reacquire_tty(&mut self) -> io::Result<()> {
        self.tty.reenter_raw_mode()?;
        self.resize();
        match &mut self.screen {
            Some(screen) if screen.ui.is_open() => screen.ui.open(),
            _ => Ok(()),
        }
    }

    /// Returns `true` once, after the operator's terminal was closed.
    pub(crate) const fn take_hang_up(&mut self) -> bool {
        let hung_up = self.relay.is_hung_up() && !self.is_hang_up_reported;
        self.is_hang_up_reported |= hung_up;
        hung_up
    }

    /// Gives the command's terminal the size of the operator's.
    pub(crate) fn resize(&mut self) {
        if let Ok(size) = self.tty.size() {
            self.relay.resize(size);
        }
    }

    /// Writes the command's remaining output, and restores the terminal.
    pub(crate) async fn close(&mut self) {
        self.close_screen();
        self.relay.drain().await;
        self.tty.restore();
    }

    /// Handles an event of the screen, open or closed.
    fn handle_ui_event(&mut self, event: io::Result<UiEvent>) -> Result<(), RunError> {
        match event {
            Ok(UiEvent::Handled) => {
                if let Some(screen) = &mut self.screen
                    && let Some(count) = screen.take_new_question_count(Instant::now())
                {
                    let sign = screen.bell.ring(count, screen.start.elapsed());
                    self.announce_questions(count, &sign.unwrap_or_default());
                }
            }
            Ok(UiEvent::HotkeyPressed { is_first_key }) => {
                self.close_screen();
                // Pressed twice, it is the command's.
                if let Some(screen) = &mut self.screen
                    && is_first_key
                {
                    let pressed = std::mem::take(&mut screen.pressed_hotkey);
                    self.relay.forward_keys(&pressed);
                }
            }
            Ok(UiEvent::QuitRequested | UiEvent::Interrupted) => {
                self.close_screen();
            }
            Ok(UiEvent::SuspendRequested) => self.suspend().map_err(RunError::Suspend)?,
            Err(error) => self.close_failed_screen(&error),
        }
        Ok(())
    }

    /// Returns to the command after the screen failed.
    fn close_failed_screen(&mut self, error: &io::Error) {
        self.close_screen();
        if let Some(text) = self.reporter.message(&RunNotice::ScreenFailed(error)) {
            self.print_line(&text);
        }
    }

    /// Closes the screen, and makes the command redraw. Returns `true` if the screen was
    /// open or about to open.
    fn close_screen(&mut self) -> bool {
        let Some(screen) = &mut self.screen else {
            return false;
        };
        let wanted = std::mem::take(&mut screen.open_requested);
        let open = screen.ui.is_open();
        screen.ui.close();
        if open {
            screen.filter.continue_input(screen.ui.take_input());
        }
        self.relay.reattach_tty();
        if open {
            self.redraw();
        }
        open || wanted
    }

    fn redraw(&mut self) {
        if let Ok(size) = self.tty.size() {
            self.relay.force_redraw(size);
        }
    }

    /// Announces questions, with the sign of the bell.
    fn announce_questions(&mut self, count: usize, sign: &str) {
        if let Some(text) = self.reporter.message(&RunNotice::QuestionsPending(count)) {
            self.relay.print_signed(sign, &text);
        }
    }
}

impl ConsoleScreen {
    /// Returns the number of questions if a new question is to be announced.
    fn take_new_question_count(&mut self, now: Instant) -> Option<usize> {
        let rows = self.ui.inbox().rows();
        let (count, newest) = (rows.len(), rows.map(Row::number).max());
        let new = newest > self.newest_seen;
        self.newest_seen = self.newest_seen.max(newest);
        let announces = self.announces_questions && !self.ui.is_open();
        (new && announces && self.notices.take_due(count, now)).then_some(count)
    }
}

async fn read_keys(relay: &mut PtyRelay, listen: bool) -> Result<Vec<u8>, RunError> {
    relay
        .read_keys(listen)
        .await
        .map_err(RunError::ReadTerminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_questions_is_announced_once_per_interval() {
        let (mut notices, start) = (NoticeLimiter::default(), Instant::now());
        let announced = |notices: &mut NoticeLimiter, now| {
            let due: Vec<_> = (1..=100)
                .filter(|&count| notices.take_due(count, now))
                .collect();
            due
        };
        assert_eq!(announced(&mut notices, start), [1]);
        let later = start + NoticeLimiter::NOTICE_INTERVAL;
        assert!(!notices.take_due(101, start + Duration::from_secs(4)));
        assert!(notices.take_due(101, later));
        assert!(!notices.take_due(102, later));
        // After all were answered, the next is the first one again.
        assert!(notices.take_due(1, later));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The guards of keys on a screen.

use std::time::Duration;

use terok_clearance::Action;

use super::{
    AUTO_SELECTED_DELAY, CONFIRM_DELAY, MIN_KEY_INTERVAL, MIN_REPEAT_INTERVAL, USER_SELECTED_DELAY,
};
use crate::inbox::RowNumber;

/// The question that the screen shows, and since when: decides whether a key answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerGuard {
    number: RowNumber,
    /// The text of what an answer opens, as drawn.
    opens: String,
    /// Whether all required lines are on the screen or, if they do not fit, have been.
    complete: bool,
    /// Number of lines that have been on the screen, from the first on without a gap.
    lines_read: usize,
    shown_since: Duration,
    min_delay: Duration,
}

/// The reason why a key answers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// The question is not visible long enough.
    JustAppeared,
    /// An answer would open something else than the screen says.
    Changed,
    /// The screen did not show all that an answer would open.
    NotFullyShown,
}

/// The visible part of the lines about a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisibleLines {
    /// Number of lines, from the first on, that must be read.
    pub required_lines: usize,
    /// The index of the first visible line.
    pub first: usize,
    /// Number of lines that fit on the screen.
    pub height: usize,
}

impl VisibleLines {
    /// Returns the number of lines that have been read, `before` of them earlier.
    fn lines_read(self, before: usize) -> usize {
        if self.first <= before {
            before.max(self.first.saturating_add(self.height))
        } else {
            before
        }
    }

    /// Returns `true` if all required lines are visible or, if they do not fit, have been `read`.
    const fn is_complete(self, read: usize) -> bool {
        if self.required_lines <= self.height {
            self.first == 0
        } else {
            self.required_lines <= read
        }
    }
}

impl AnswerGuard {
    /// Records a drawn question, and returns the new guard. If `before` is about the same question
    /// with the same text, its time goes on.
    ///
    /// `user_selected` means that the operator selected the question in an unchanging list.
    pub fn record_drawn(
        before: Option<Self>,
        number: RowNumber,
        opens: String,
        lines: VisibleLines,
        user_selected: bool,
        now: Duration,
    ) -> Self {
        match before {
            Some(before) if before.number == number && before.opens == opens => {
                let read = lines.lines_read(before.lines_read);
                let complete = lines.is_complete(read);
                // Until now, the operator could not read all of it.
                let since = if complete && !before.complete {
                    now
                } else {
                    before.shown_since
                };
                Self {
                    complete,
                    lines_read: read,
                    shown_since: since,
                    ..before
                }
            }
            before => {
                let is_other = before.is_none_or(|before| before.number != number);
                let read = lines.lines_read(0);
                Self {
                    number,
                    opens,
                    complete: lines.is_complete(read),
                    lines_read: read,
                    shown_since: now,
                    min_delay: if user_selected && is_other {
                        USER_SELECTED_DELAY
                    } else {
                        AUTO_SELECTED_DELAY
                    },
                }
            }
        }
    }

    /// Restarts the time, because the terminal showed the question only now.
    pub const fn restart(&mut self, now: Duration) {
        self.shown_since = now;
    }

    /// Returns `true` if the time started at `now`.
    pub fn starts_at(&self, now: Duration) -> bool {
        self.shown_since == now
    }

    /// Returns whether a key that is pressed now answers the question `number`, of which an answer
    /// opens `opens`.
    ///
    /// A key that comes too soon restarts the time, so a held key answers nothing.
    pub fn check_key(
        &mut self,
        number: RowNumber,
        opens: &str,
        now: Duration,
    ) -> Result<(), KeyRefusal> {
        if self.number != number {
            return Err(KeyRefusal::JustAppeared);
        }
        if self.opens != opens {
            return Err(KeyRefusal::Changed);
        }
        if !self.complete {
            return Err(KeyRefusal::NotFullyShown);
        }
        if now.saturating_sub(self.shown_since) < self.min_delay {
            self.shown_since = now;
            return Err(KeyRefusal::JustAppeared);
        }
        Ok(())
    }
}

/// Decides whether the list of questions has been unchanged for a while. In a list that changes,
/// the operator may have aimed at a question that was in the same place before.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListGuard {
    changed_at: Option<Duration>,
}

impl ListGuard {
    /// Records that a list was drawn with questions added or removed.
    pub const fn record_change(&mut self, now: Duration) {
        self.changed_at = Some(now);
    }

    /// Returns `true` if the drawn list did not change shortly before.
    pub fn is_unchanging(self, now: Duration) -> bool {
        self.changed_at
            .is_none_or(|at| now.saturating_sub(at) >= AUTO_SELECTED_DELAY)
    }
}

/// Detects keys that follow others too soon for an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyBurstDetector {
    last_key_at: Option<Duration>,
    /// The time of the last answer, until another key is pressed.
    last_answer: Option<(Action, Duration)>,
}

impl KeyBurstDetector {
    /// Records a key or other input. Returns `true` if the previous one came shortly before.
    pub fn record_key(&mut self, now: Duration) -> bool {
        let before = self.last_key_at.replace(now);
        before.is_some_and(|at| now.saturating_sub(at) < MIN_KEY_INTERVAL)
    }

    /// Records that the last key answered with `action`.
    pub const fn record_answer(&mut self, action: Action, now: Duration) {
        self.last_answer = Some((action, now));
    }

    /// Records a key that is no answer: the key that answered was released.
    pub const fn record_other_key(&mut self) {
        self.last_answer = None;
    }

    /// Returns `true` if the key of `action` may still be held since it answered.
    pub fn is_held(&mut self, action: Action, now: Duration) -> bool {
        let held = self
            .last_answer
            .filter(|(last, at)| *last == action && now.saturating_sub(*at) < MIN_REPEAT_INTERVAL);
        // While the key is held, each repetition is one.
        self.last_answer = held.map(|(last, _)| (last, now));
        held.is_some()
    }
}

/// Accepts the confirmation of several answers only after time to read them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfirmGuard {
    fully_shown_since: Option<Duration>,
}

impl ConfirmGuard {
    /// Records a frame after which every question that must be read was shown.
    pub fn record_fully_shown(&mut self, now: Duration) {
        self.fully_shown_since.get_or_insert(now);
    }

    /// Restarts the time, because the terminal showed the last question only now.
    pub fn restart(&mut self, now: Duration) {
        self.fully_shown_since = self.fully_shown_since.map(|_| now);
    }

    /// Returns `true` if the time started at `now`.
    pub fn starts_at(&self, now: Duration) -> bool {
        self.fully_shown_since == Some(now)
    }

    /// Restarts the time to read, after the screen was hidden.
    pub const fn reset(&mut self) {
        self.fully_shown_since = None;
    }

    /// Returns whether a confirmation counts now.
    pub fn check_key(self, now: Duration) -> Result<(), KeyRefusal> {
        match self.fully_shown_since {
            None => Err(KeyRefusal::NotFullyShown),
            Some(since) if now.saturating_sub(since) < CONFIRM_DELAY => {
                Err(KeyRefusal::JustAppeared)
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn number(number: u64) -> RowNumber {
        RowNumber::try_from(number).unwrap()
    }

    /// The visible part of five required lines.
    const fn lines(first: usize, height: usize) -> VisibleLines {
        VisibleLines {
            required_lines: 5,
            first,
            height,
        }
    }

    fn draw(
        before: Option<AnswerGuard>,
        row: u64,
        opens: &str,
        user_selected: bool,
        at: u64,
    ) -> AnswerGuard {
        AnswerGuard::record_drawn(
            before,
            number(row),
            opens.to_owned(),
            lines(0, 5),
            user_selected,
            ms(at),
        )
    }

    #[test]
    fn question_that_appeared_must_be_visible_for_half_a_second() {
        let mut shown = draw(None, 1, "x", false, 0);
        shown = draw(Some(shown), 1, "x", false, 400);
        assert_eq!(
            shown.check_key(number(1), "x", ms(499)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(
            shown.check_key(number(1), "x", ms(998)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key(number(1), "x", ms(1498)), Ok(()));
    }

    #[test]
    fn selected_question_counts_after_a_twentieth_of_a_second() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(
            shown.check_key(number(1), "x", ms(1)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key(number(1), "x", ms(51)), Ok(()));
    }

    #[test]
    fn changed_question_must_be_read_again_even_if_selected() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(
            shown.check_key(number(1), "y", ms(9000)),
            Err(KeyRefusal::Changed)
        );
        shown = draw(Some(shown), 1, "y", true, 9001);
        assert_eq!(
            shown.check_key(number(1), "y", ms(9100)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key(number(1), "y", ms(9600)), Ok(()));
    }

    #[test]
    fn question_counts_only_since_it_was_shown_in_full() {
        let cut =
            AnswerGuard::record_drawn(None, number(1), "x".to_owned(), lines(0, 4), true, ms(0));
        let mut shown = cut.clone();
        assert_eq!(
            shown.check_key(number(1), "x", ms(9000)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = draw(Some(cut), 1, "x", false, 9000);
        assert_eq!(
            shown.check_key(number(1), "x", ms(9001)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key(number(1), "x", ms(9051)), Ok(()));
    }

    #[test]
    fn question_that_does_not_fit_must_be_scrolled_through() {
        let scroll = |before: Option<AnswerGuard>, first, at| {
            let lines = lines(first, 2);
            AnswerGuard::record_drawn(before, number(1), "x".to_owned(), lines, true, ms(at))
        };
        // The third line was skipped.
        let mut shown = scroll(None, 0, 0);
        shown = scroll(Some(shown), 3, 100);
        assert_eq!(
            shown.check_key(number(1), "x", ms(900)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = scroll(Some(shown), 2, 1000);
        assert_eq!(
            shown.check_key(number(1), "x", ms(1900)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = scroll(Some(shown), 4, 2000);
        assert_eq!(
            shown.check_key(number(1), "x", ms(2001)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key(number(1), "x", ms(2051)), Ok(()));
        shown = AnswerGuard::record_drawn(
            Some(shown),
            number(1),
            "y".to_owned(),
            lines(4, 2),
            true,
            ms(3000),
        );
        assert_eq!(
            shown.check_key(number(1), "y", ms(9000)),
            Err(KeyRefusal::NotFullyShown)
        );
    }

    #[test]
    fn question_that_fits_must_be_on_the_screen_in_full() {
        let mut shown =
            AnswerGuard::record_drawn(None, number(1), "x".to_owned(), lines(0, 5), true, ms(0));
        shown = AnswerGuard::record_drawn(
            Some(shown),
            number(1),
            "x".to_owned(),
            lines(1, 5),
            true,
            ms(10),
        );
        assert_eq!(
            shown.check_key(number(1), "x", ms(900)),
            Err(KeyRefusal::NotFullyShown)
        );
    }

    #[test]
    fn another_question_is_not_answered() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(
            shown.check_key(number(2), "x", ms(9000)),
            Err(KeyRefusal::JustAppeared)
        );
    }

    #[test]
    fn list_is_unchanging_half_a_second_after_a_change() {
        let mut guard = ListGuard::default();
        assert!(guard.is_unchanging(ms(0)));
        guard.record_change(ms(1000));
        assert!(!guard.is_unchanging(ms(1499)));
        assert!(guard.is_unchanging(ms(1500)));
    }

    #[test]
    fn keys_of_a_text_are_a_burst() {
        let mut keys = KeyBurstDetector::default();
        let presses = [
            (0, false),
            (399, true),
            (519, true),
            (639, true),
            (1039, false),
            (1039, true),
        ];
        for (at, is_burst) in presses {
            assert_eq!(keys.record_key(ms(at)), is_burst, "{at} ms");
        }
    }

    #[test]
    fn a_held_key_answers_once() {
        let mut keys = KeyBurstDetector::default();
        assert!(!keys.is_held(Action::Allow, ms(0)));
        keys.record_answer(Action::Allow, ms(1000));
        assert!(keys.is_held(Action::Allow, ms(1660)));
        assert!(
            keys.is_held(Action::Allow, ms(2300)),
            "each repetition counts"
        );
        assert!(!keys.is_held(Action::Allow, ms(3000)));
        keys.record_answer(Action::Allow, ms(4000));
        assert!(!keys.is_held(Action::Deny, ms(4100)), "another key");
        keys.record_answer(Action::Allow, ms(5000));
        keys.record_other_key();
        assert!(!keys.is_held(Action::Allow, ms(5500)), "after another key");
    }

    #[test]
    fn confirmation_counts_half_a_second_after_everything_was_shown() {
        let mut guard = ConfirmGuard::default();
        assert_eq!(guard.check_key(ms(9000)), Err(KeyRefusal::NotFullyShown));
        guard.record_fully_shown(ms(1000));
        guard.record_fully_shown(ms(1400));
        assert_eq!(guard.check_key(ms(1499)), Err(KeyRefusal::JustAppeared));
        assert_eq!(guard.check_key(ms(1500)), Ok(()));
        guard.reset();
        assert_eq!(guard.check_key(ms(9000)), Err(KeyRefusal::NotFullyShown));
    }
}

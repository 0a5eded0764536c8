// SPDX-License-Identifier: Apache-2.0
//! What the screen has said, and since when: the measure of what a key may answer.

use std::time::Duration;

use operator::inbox::RowNumber;

/// How long a question must stand there that the person did not go to themselves, or to which they
/// went while questions came and went: they may have aimed at another.
pub(crate) const AUTO_SELECTED_DELAY: Duration = Duration::from_millis(500);
/// How long any other: longer than a burst of keys that nobody typed, and no more.
const USER_SELECTED_DELAY: Duration = Duration::from_millis(50);

/// Keys that follow each other faster are not typed, but pasted into a terminal that does not say so,
/// or come in one piece over a network: none of them is an answer.
pub(crate) const MIN_KEY_INTERVAL: Duration = Duration::from_millis(20);

/// What the screen says that an answer would open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerGuard {
    pub(crate) number: RowNumber,
    /// The words for what an answer opens, as they were drawn.
    pub(crate) opens: String,
    /// Whether all of them are on the screen, or, where it has no room for that, have been.
    pub(crate) complete: bool,
    /// How many lines have been on the screen, from the first on without a gap.
    lines_read: usize,
    shown_since: Duration,
    min_delay: Duration,
}

/// Why a key answers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    /// It stands there for too short a time.
    JustAppeared,
    /// What an answer would open is not what the screen says.
    Changed,
    /// The screen has no room to say what an answer would open.
    NotFullyShown,
}

/// The part of a question's lines that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VisibleLines {
    /// How many of the lines, from the first on, have to be read.
    pub(crate) required_lines: usize,
    /// The first one on the screen.
    pub(crate) first: usize,
    /// How many there is room for.
    pub(crate) height: usize,
}

impl VisibleLines {
    /// Returns how many lines have been read, of which `before` were so already.
    fn lines_read(self, before: usize) -> usize {
        if self.first <= before {
            before.max(self.first.saturating_add(self.height))
        } else {
            before
        }
    }

    /// Says whether all of the lines that have to be read are there; in a window that has no room
    /// for them at once, whether they have been.
    const fn is_complete(self, read: usize) -> bool {
        if self.required_lines <= self.height {
            self.first == 0
        } else {
            self.required_lines <= read
        }
    }
}

impl AnswerGuard {
    /// Notes what is drawn now; what stood there already keeps its time.
    pub(crate) fn record_drawn(
        before: Option<Self>,
        number: RowNumber,
        opens: String,
        part: VisibleLines,
        by_the_person: bool,
        now: Duration,
    ) -> Self {
        match before {
            Some(before) if before.number == number && before.opens == opens => {
                let read = part.lines_read(before.lines_read);
                let complete = part.is_complete(read);
                // What is whole only now could not be read before.
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
                let moved = before.is_none_or(|before| before.number != number);
                let read = part.lines_read(0);
                Self {
                    number,
                    opens,
                    complete: part.is_complete(read),
                    lines_read: read,
                    shown_since: now,
                    min_delay: if by_the_person && moved {
                        USER_SELECTED_DELAY
                    } else {
                        AUTO_SELECTED_DELAY
                    },
                }
            }
        }
    }

    /// Says whether a key that is pressed now answers what is shown, which would open `opens`.
    ///
    /// Whoever presses too soon has to wait anew, so a key that is held down answers nothing.
    pub(crate) fn check_key(&mut self, opens: &str, now: Duration) -> Result<(), KeyRefusal> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn number(number: u64) -> RowNumber {
        RowNumber::try_from(number).unwrap()
    }

    /// Five lines have to be read.
    const fn part(first: usize, room: usize) -> VisibleLines {
        VisibleLines {
            required_lines: 5,
            first,
            height: room,
        }
    }

    fn draw(
        before: Option<AnswerGuard>,
        row: u64,
        opens: &str,
        person: bool,
        at: u64,
    ) -> AnswerGuard {
        AnswerGuard::record_drawn(
            before,
            number(row),
            opens.to_owned(),
            part(0, 5),
            person,
            ms(at),
        )
    }

    #[test]
    fn what_came_by_itself_must_stand_there_for_half_a_second() {
        let mut shown = draw(None, 1, "x", false, 0);
        shown = draw(Some(shown), 1, "x", false, 400);
        assert_eq!(shown.check_key("x", ms(499)), Err(KeyRefusal::JustAppeared));
        assert_eq!(shown.check_key("x", ms(998)), Err(KeyRefusal::JustAppeared));
        assert_eq!(shown.check_key("x", ms(1498)), Ok(()));
    }

    #[test]
    fn what_the_person_went_to_is_theirs_at_once_but_not_in_a_burst() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(shown.check_key("x", ms(1)), Err(KeyRefusal::JustAppeared));
        assert_eq!(shown.check_key("x", ms(51)), Ok(()));
    }

    #[test]
    fn what_changed_is_asked_again_even_if_the_person_went_there() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(shown.check_key("y", ms(9000)), Err(KeyRefusal::Changed));
        shown = draw(Some(shown), 1, "y", true, 9001);
        assert_eq!(
            shown.check_key("y", ms(9100)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key("y", ms(9600)), Ok(()));
    }

    #[test]
    fn what_was_not_all_there_has_not_been_read() {
        let cut =
            AnswerGuard::record_drawn(None, number(1), "x".to_owned(), part(0, 4), true, ms(0));
        let mut shown = cut.clone();
        assert_eq!(
            shown.check_key("x", ms(9000)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = draw(Some(cut), 1, "x", false, 9000);
        assert_eq!(
            shown.check_key("x", ms(9001)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key("x", ms(9051)), Ok(()));
    }

    #[test]
    fn where_there_is_no_room_for_all_of_it_it_is_read_part_by_part() {
        let scroll = |before: Option<AnswerGuard>, first, at| {
            let part = part(first, 2);
            AnswerGuard::record_drawn(before, number(1), "x".to_owned(), part, true, ms(at))
        };
        // The third and the fourth line were skipped.
        let mut shown = scroll(None, 0, 0);
        shown = scroll(Some(shown), 3, 100);
        assert_eq!(
            shown.check_key("x", ms(900)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = scroll(Some(shown), 2, 1000);
        assert_eq!(
            shown.check_key("x", ms(1900)),
            Err(KeyRefusal::NotFullyShown)
        );
        shown = scroll(Some(shown), 4, 2000);
        assert_eq!(
            shown.check_key("x", ms(2001)),
            Err(KeyRefusal::JustAppeared)
        );
        assert_eq!(shown.check_key("x", ms(2051)), Ok(()));
        shown = AnswerGuard::record_drawn(
            Some(shown),
            number(1),
            "y".to_owned(),
            part(4, 2),
            true,
            ms(3000),
        );
        assert_eq!(
            shown.check_key("y", ms(9000)),
            Err(KeyRefusal::NotFullyShown)
        );
    }

    #[test]
    fn where_there_is_room_it_has_to_be_on_the_screen() {
        let mut shown =
            AnswerGuard::record_drawn(None, number(1), "x".to_owned(), part(0, 5), true, ms(0));
        shown = AnswerGuard::record_drawn(
            Some(shown),
            number(1),
            "x".to_owned(),
            part(1, 5),
            true,
            ms(10),
        );
        assert_eq!(
            shown.check_key("x", ms(900)),
            Err(KeyRefusal::NotFullyShown)
        );
    }
}

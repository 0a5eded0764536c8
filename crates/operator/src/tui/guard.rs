// SPDX-License-Identifier: Apache-2.0
//! What the screen has said, and since when: the measure of what a key may answer.

use std::time::Duration;

use crate::inbox::RowNumber;

/// How long a question must stand there that the person did not go to themselves.
const BY_ITSELF: Duration = Duration::from_millis(500);
/// How long one that they did go to: longer than a burst of keys that nobody typed, and no more.
const BY_THE_PERSON: Duration = Duration::from_millis(50);

/// What the screen says that an answer would open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) number: RowNumber,
    /// The words for what an answer opens, as they were drawn.
    pub(super) opens: String,
    /// Whether there was room for all of them.
    pub(super) complete: bool,
    since: Duration,
    needs: Duration,
}

/// Why a key answers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSoon {
    /// It stands there for too short a time.
    JustAppeared,
    /// What an answer would open is not what the screen says.
    Changed,
    /// The screen has no room to say what an answer would open.
    NoRoom,
}

impl Shown {
    /// Notes what is drawn now; what stood there already keeps its time.
    pub(super) fn draw(
        before: Option<Self>,
        number: RowNumber,
        opens: String,
        complete: bool,
        by_the_person: bool,
        now: Duration,
    ) -> Self {
        match before {
            Some(before) if before.number == number && before.opens == opens => {
                // What is whole only now could not be read before.
                let since = if complete && !before.complete {
                    now
                } else {
                    before.since
                };
                Self {
                    complete,
                    since,
                    ..before
                }
            }
            before => {
                let moved = before.is_none_or(|before| before.number != number);
                Self {
                    number,
                    opens,
                    complete,
                    since: now,
                    needs: if by_the_person && moved {
                        BY_THE_PERSON
                    } else {
                        BY_ITSELF
                    },
                }
            }
        }
    }

    /// Says whether a key that is pressed now answers what is shown, which would open `opens`.
    ///
    /// Whoever presses too soon has to wait anew, so a key that is held down answers nothing.
    pub(super) fn accepts(&mut self, opens: &str, now: Duration) -> Result<(), TooSoon> {
        if self.opens != opens {
            return Err(TooSoon::Changed);
        }
        if !self.complete {
            return Err(TooSoon::NoRoom);
        }
        if now.saturating_sub(self.since) < self.needs {
            self.since = now;
            return Err(TooSoon::JustAppeared);
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

    fn draw(before: Option<Shown>, row: u64, opens: &str, person: bool, at: u64) -> Shown {
        Shown::draw(before, number(row), opens.to_owned(), true, person, ms(at))
    }

    #[test]
    fn what_came_by_itself_must_stand_there_for_half_a_second() {
        let mut shown = draw(None, 1, "x", false, 0);
        shown = draw(Some(shown), 1, "x", false, 400);
        assert_eq!(shown.accepts("x", ms(499)), Err(TooSoon::JustAppeared));
        assert_eq!(shown.accepts("x", ms(998)), Err(TooSoon::JustAppeared));
        assert_eq!(shown.accepts("x", ms(1498)), Ok(()));
    }

    #[test]
    fn what_the_person_went_to_is_theirs_at_once_but_not_in_a_burst() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(shown.accepts("x", ms(1)), Err(TooSoon::JustAppeared));
        assert_eq!(shown.accepts("x", ms(51)), Ok(()));
    }

    #[test]
    fn what_changed_is_asked_again_even_if_the_person_went_there() {
        let mut shown = draw(None, 1, "x", true, 0);
        assert_eq!(shown.accepts("y", ms(9000)), Err(TooSoon::Changed));
        shown = draw(Some(shown), 1, "y", true, 9001);
        assert_eq!(shown.accepts("y", ms(9100)), Err(TooSoon::JustAppeared));
        assert_eq!(shown.accepts("y", ms(9600)), Ok(()));
    }

    #[test]
    fn what_was_not_all_there_has_not_been_read() {
        let cut = Shown::draw(None, number(1), "x".to_owned(), false, true, ms(0));
        let mut shown = cut.clone();
        assert_eq!(shown.accepts("x", ms(9000)), Err(TooSoon::NoRoom));
        shown = draw(Some(cut), 1, "x", false, 9000);
        assert_eq!(shown.accepts("x", ms(9001)), Err(TooSoon::JustAppeared));
        assert_eq!(shown.accepts("x", ms(9051)), Ok(()));
    }
}

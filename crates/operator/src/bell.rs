// SPDX-License-Identifier: Apache-2.0
//! The sign of a terminal for a new question: a bell, or a notification of the desktop.
//!
//! The text of a notification has nothing but a number, so no sandbox can choose any of it.

use std::time::Duration;

/// The sign of a new question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BellChoice {
    /// None.
    #[default]
    Off,
    /// The terminal's bell, BEL.
    Bell,
    /// A bell, and a notification in the form of iTerm2: `OSC 9 ; TEXT ST`.
    Osc9,
    /// A bell, and a notification in the form of urxvt: `OSC 777 ; notify ; TITLE ; TEXT ST`.
    Osc777,
}

/// Rings for new questions, at most once in an interval.
#[derive(Debug)]
pub struct QuestionBell {
    choice: BellChoice,
    last_ring: Option<Duration>,
}

/// Minimum time between two signs. A sandbox chooses how often it asks.
const RING_INTERVAL: Duration = Duration::from_secs(5);

impl QuestionBell {
    /// Returns a bell that has not rung.
    pub const fn new(choice: BellChoice) -> Self {
        Self {
            choice,
            last_ring: None,
        }
    }

    /// Returns the bytes to write for a new question, of `count` that wait; `None` if it rang
    /// shortly before `now`, or never rings.
    pub fn ring(&mut self, count: usize, now: Duration) -> Option<String> {
        let is_recent = self
            .last_ring
            .is_some_and(|at| now.saturating_sub(at) < RING_INTERVAL);
        if self.choice == BellChoice::Off || is_recent {
            return None;
        }
        self.last_ring = Some(now);
        let text = match count {
            0 | 1 => "1 question waits".to_owned(),
            count => format!("{count} questions wait"),
        };
        Some(match self.choice {
            BellChoice::Off => return None,
            BellChoice::Bell => "\x07".to_owned(),
            BellChoice::Osc9 => format!("\x07\x1b]9;terok-clearance: {text}\x1b\\"),
            BellChoice::Osc777 => format!("\x07\x1b]777;notify;terok-clearance;{text}\x1b\\"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_form() {
        let ring = |choice, count| QuestionBell::new(choice).ring(count, Duration::ZERO);
        for (choice, count, expected) in [
            (BellChoice::Off, 1, None),
            (BellChoice::Bell, 3, Some("\x07")),
            (
                BellChoice::Osc9,
                1,
                Some("\x07\x1b]9;terok-clearance: 1 question waits\x1b\\"),
            ),
            (
                BellChoice::Osc777,
                3,
                Some("\x07\x1b]777;notify;terok-clearance;3 questions wait\x1b\\"),
            ),
        ] {
            assert_eq!(ring(choice, count).as_deref(), expected, "{choice:?}");
        }
    }

    #[test]
    fn a_flood_of_questions_rings_once_per_interval() {
        let mut bell = QuestionBell::new(BellChoice::Bell);
        let ms = Duration::from_millis;
        let rings = (0..20_000).filter(|at| bell.ring(1, ms(*at)).is_some());
        assert_eq!(rings.collect::<Vec<_>>(), [0, 5000, 10_000, 15_000]);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The guard against answers to a question that the operator cannot have read.
//!
//! A question appears under the finger or under the pointer, changes while it is read, or moves
//! because another one disappeared; the key or click was then meant for something else. The rules,
//! and all their times, are here:
//!
//! - [`AnswerGuard`]: a key answers the selected question only if all of it was drawn, unchanged
//!   and long enough.
//! - [`ListGuard`]: a selection counts as chosen only in a list that does not change.
//! - [`KeyBurstDetector`]: a key answers nothing if another one was pressed shortly before. Text
//!   that is typed into the wrong window is a row of such keys.
//! - [`ConfirmGuard`]: the confirmation of several answers counts only after time to read.
//! - [`ClickGuard`]: a click on a popup counts only if no popup appeared, moved or disappeared
//!   shortly before.
//!
//! Pure: the caller passes every time, on one clock.

mod click;
mod key;

use std::time::Duration;

pub use click::ClickGuard;
pub use key::{AnswerGuard, ConfirmGuard, KeyBurstDetector, KeyRefusal, ListGuard, VisibleLines};

/// How long a question must be visible before a key answers it, if the operator did not select it,
/// or selected it while the list was changing. The time starts when the terminal has accepted the
/// last byte of the question. Also the time without a change after which a list
/// counts as unchanging.
const AUTO_SELECTED_DELAY: Duration = Duration::from_millis(500);
/// How long a question must be visible that the operator selected in an unchanging list, with the
/// mouse; after a key, [`MIN_KEY_INTERVAL`] is longer.
const USER_SELECTED_DELAY: Duration = Duration::from_millis(50);
/// How long the last of several questions must be visible before the confirmation counts.
const CONFIRM_DELAY: Duration = Duration::from_millis(500);
/// Minimum time between an answer key and the key before: a person who types text presses the next
/// key sooner, and so does a terminal that does not mark pasted text.
const MIN_KEY_INTERVAL: Duration = Duration::from_millis(400);
/// Minimum time between an answer and the next press of the same key, which may be held: longer
/// than the usual delay before a keyboard repeats a key, at most 660 ms.
const MIN_REPEAT_INTERVAL: Duration = Duration::from_millis(680);
/// How long the popups must not have changed before a click counts: the time in which an operator
/// can see what the button under the pointer has become.
pub const CLICK_GUARD_DELAY: Duration = Duration::from_millis(600);

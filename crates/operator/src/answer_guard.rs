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
//! - [`KeyBurstDetector`]: keys that follow each other faster than typing answer nothing.
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
/// or selected it while the list was changing. Also the time without a change after which a list
/// counts as unchanging.
const AUTO_SELECTED_DELAY: Duration = Duration::from_millis(500);
/// How long a question must be visible that the operator selected in an unchanging list: longer
/// than a burst of keys that was not typed.
const USER_SELECTED_DELAY: Duration = Duration::from_millis(50);
/// How long the last of several questions must be visible before the confirmation counts.
const CONFIRM_DELAY: Duration = Duration::from_millis(500);
/// Minimum time between two typed keys. Faster keys were pasted into a terminal that does not mark
/// pasted text, or arrived in one packet.
const MIN_KEY_INTERVAL: Duration = Duration::from_millis(20);
/// How long the popups must not have changed before a click counts: the time in which an operator
/// can see what the button under the pointer has become.
pub const CLICK_GUARD_DELAY: Duration = Duration::from_millis(600);

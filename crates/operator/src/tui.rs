// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI: what waits for an answer, what an answer opens, and what became of it.
//!
//! [`Model`] is pure: what happens comes in as a [`Msg`] with the time, what is to be done goes out
//! as an [`Effect`], and `&Model` is the widget. [`Ui`] is the one loop around it, [`converse`] the
//! same from its start to its end. Nothing
//! ticks: times are shown as the clock's, so that an idle screen has nothing to redraw.
//!
//! What keeps an answer from meeting another question than the one that was read: the selection
//! follows the question, not the line; a key counts only when the question has stood there for a
//! moment ([`Model`]'s guard); and the answer is refused when what it would open is no longer what
//! the screen says, to the letter.

mod activity_log;
mod answer_guard;
mod confirm;
mod decoder;
mod details;
mod event_loop;
mod footer;
mod header;
mod help;
mod input;
mod keys;
mod layout;
mod log_view;
mod model;
mod mouse;
mod question_table;
mod sandbox_table;
mod selection;
mod theme;
mod tty;
mod wrap;
mod writer;

pub use crate::clock::{ClockReading, TimeZone};
pub use event_loop::{FullScreenUi, TuiEnd, TuiOptions, UiEvent, run_tui};
pub use keys::{CursorMove, TuiCommand};
pub use model::{TuiEffect, TuiMessage, TuiModel};
pub use theme::Theme;

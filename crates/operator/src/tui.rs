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

mod confirm;
mod details;
mod footer;
mod decoder;
mod answer_guard;
mod header;
mod help;
mod input;
mod keys;
mod selection;
mod activity_log;
mod model;
mod mouse;
mod log_view;
mod writer;
mod question_table;
mod event_loop;
mod sandbox_table;
mod layout;
mod tty;
mod theme;
mod wrap;

pub use crate::clock::{ClockReading, TimeZone};
pub use keys::{TuiCommand, CursorMove};
pub use model::{TuiEffect, TuiModel, TuiMessage};
pub use event_loop::{TuiEnd, UiEvent, TuiOptions, FullScreenUi, run_tui};
pub use theme::Theme;

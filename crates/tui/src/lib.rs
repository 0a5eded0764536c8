// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI: pending questions, what an answer to each opens, and its outcome.
//!
//! [`TuiModel`] is pure: a [`TuiMessage`] with the time comes in, a [`TuiEffect`] goes out, and
//! `&TuiModel` is the widget. [`FullScreenUi`] is the event loop around it; [`run_tui`] runs one
//! until it ends. There is no tick: times are shown as clock times, so an idle screen has nothing to
//! redraw.
//!
//! An answer meets only the question that was read: the selection follows the question, not the
//! line; a key counts only if the question was visible long enough; and an answer is refused if it
//! would open anything but what the screen says, to the letter.

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

pub use event_loop::{FullScreenUi, TuiEnd, TuiOptions, UiEvent, run_tui};
pub use keys::{CursorMove, TuiCommand};
pub use model::{TuiEffect, TuiMessage, TuiModel};
pub use operator::clock::{ClockReading, TimeZone};
pub use theme::Theme;

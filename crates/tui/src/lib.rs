// SPDX-License-Identifier: Apache-2.0
//! The full-screen user interface: pending questions, what an answer to each opens, and its result.
//!
//! [`TuiModel`] is pure: a [`TuiMessage`], the time and a [`SessionView`] go in, a [`TuiEffect`]
//! comes out. [`ScreenLayout`] computes a frame from the model without changing the model.
//! [`FullScreenUi`] is the event loop around both; [`run_tui`] runs one until its end. There is no
//! tick: times are shown as clock times, so an idle screen has nothing to redraw.
//!
//! A key answers only the question that the operator has read: the selection follows the question,
//! not the line; a key counts only if a frame with the whole question reached the terminal and was
//! visible long enough; and an answer is refused if the frame described another effect, word for
//! word.

mod activity_log;
mod answer_text;
mod confirm_dialog;
mod decoder;
mod drawn;
mod event_loop;
mod hotkey;
mod input;
mod key_press;
mod keys;
mod layout;
mod model;
mod open_terminal;
mod panes;
mod revoke_dialog;
mod rule_calls;
mod rule_list;
mod sandbox_list;
mod scope_picker;
mod selection;
mod terminal_state;
mod theme;
mod tty;
mod tty_file;
mod view;
mod wrap;
mod writer;

pub use decoder::{InputDecoder, InputFrame};
pub use drawn::DrawnScreen;
pub use event_loop::{FullScreenUi, TuiEnd, TuiOptions, UiEvent, run_tui};
pub use hotkey::{Hotkey, HotkeyError};
pub use key_press::KeyPress;
pub use keys::{CursorMove, TuiCommand};
pub use layout::ScreenLayout;
pub use model::{IgnoredInput, TuiEffect, TuiMessage, TuiModel};
pub use operator::clock::{ClockReading, TimeZone};
pub use terminal_state::{TerminalStateTracker, enter_sequence, leave_sequence};
pub use theme::Theme;
pub use view::SessionView;

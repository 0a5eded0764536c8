// SPDX-License-Identifier: Apache-2.0
//! Questions as popups.
//!
//! [`PopupModel`] is pure: changes of the inbox go in, popups to show and to close come out.
//! [`run_popups`] runs the model's event loop over any [`crate::notifier::Notifier`].
//!
//! Only a click on Allow or Deny in the popup of a question is an answer, on an action such as
//! Allow 5 min, and on Deny all in the popup that lists many. Closing the popup, expiry, and the
//! end of the desktop or of this program are no answers. A click answers only the scope that the
//! popup showed; if the scope has changed since, the question is shown again. Where the notifier
//! may cut the line that says what Allow opens, no answer is offered.
//!
//! A click counts only if no popup appeared, moved or disappeared for [`CLICK_GUARD_DELAY`]. This
//! prevents an accidental click on a popup that appears under a moving pointer, or that moves up
//! because another popup disappears. A popup that is closed within that time is shown again, a few
//! times. All notifiers share this guard; [`GuardedPopup`] applies the guard to a single popup
//! without a hub.

mod category;
mod event_loop;
mod guarded_popup;
mod model;
mod rate_limit;
mod scope_actions;
mod screen_command;
mod text;

pub use category::{Categories, PopupCategory};
pub use event_loop::{PopupOptions, run_popups};
pub use guarded_popup::GuardedPopup;
pub use model::{
    ClickOutcome, MAX_SINGLE_POPUPS, PopupCommand, PopupModel, PopupSlot, PopupUpdate,
};
pub use operator::answer_guard::CLICK_GUARD_DELAY;
pub use screen_command::ScreenCommand;

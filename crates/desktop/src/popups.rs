// SPDX-License-Identifier: Apache-2.0
//! Questions as popups.
//!
//! [`PopupModel`] is pure: changes of the inbox go in, popups to show and to close come out.
//! [`run_popups`] is the loop around it, over any [`crate::notifier::Notifier`].
//!
//! Only a click on Allow or Deny of a question's own popup is an answer: not closing the popup, its
//! expiry, or the end of the desktop or of this program. A click answers exactly what the popup
//! said; if that has changed since, the question is shown again. A click counts only if the popups
//! stood still for [`CLICK_GUARD_DELAY`]: neither a popup that appears under a moving pointer is
//! clicked through, nor one that moves up because another disappears. This guard is the only one,
//! for every notifier; [`GuardedPopup`] applies it to one popup without a hub.

mod category;
mod click_guard;
mod event_loop;
mod guarded_popup;
mod model;
mod rate_limit;
mod text;

pub use category::{Categories, PopupCategory};
pub use event_loop::{PopupOptions, run_popups};
pub use guarded_popup::GuardedPopup;
pub use model::{
    CLICK_GUARD_DELAY, ClickOutcome, MAX_SINGLE_POPUPS, PopupCommand, PopupModel, PopupSlot,
    PopupUpdate,
};

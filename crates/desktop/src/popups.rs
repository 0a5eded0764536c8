// SPDX-License-Identifier: Apache-2.0
//! Questions as popups: the same questions as everywhere, where a person works.
//!
//! [`Board`] is pure: what the inbox changed goes in, what to show and to take away comes out.
//! [`converse`] is the one loop around it, over any [`crate::notifier::Notifier`].
//!
//! An answer is a click on Allow or Deny of a question's own popup, and nothing else: not closing
//! it, not its expiry, not the end of the desktop or of this. It is about exactly what the popup
//! said; where that has changed since, the question is shown anew. And it counts only when the
//! popups have not moved for [`GUARD`]: what comes up under a moving pointer is not clicked
//! through, nor what moves up when another popup goes.

mod category;
mod event_loop;
mod model;
mod rate_limit;
mod text;

pub use category::{Categories, PopupCategory};
pub use event_loop::{PopupOptions, run_popups};
pub use model::{
    CLICK_GUARD_DELAY, ClickOutcome, MAX_SINGLE_POPUPS, PopupCommand, PopupModel, PopupSlot,
    PopupUpdate,
};

// SPDX-License-Identifier: Apache-2.0
//! Questions as desktop popups.
//!
//! [`notifier`] shows notifications and reports the choices: on a desktop, by callbacks, or not at
//! all. [`popups`] decides which popup is shown when, and sends the answers to the hubs.
//! [`identity`] finds the container and the task of a sandbox whose questions do not name them.
//! [`PopupDesktop`] combines the three for the desktop of one user.

pub mod identity;
pub mod notifier;
mod notifier_lock;
mod popup_desktop;
pub mod popups;

pub use notifier_lock::{NotifierLock, NotifierLockError};
pub use popup_desktop::{
    BackgroundPopups, ICON_NAME, ICON_SVG, PopupDesktop, PopupDesktopConfig, PopupDesktopError,
};

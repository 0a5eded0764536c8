// SPDX-License-Identifier: Apache-2.0
//! The best notifier that a person's session has.

use std::sync::Once;

use super::{
    ActionCallback, DbusConnectError, DbusNotifier, DesktopError, DesktopSession, Notification,
    NotificationId, Notifier, NullNotifier,
};
use operator::error_chain;

/// A notifier of a session that may have no desktop.
#[derive(Debug)]
pub enum SessionNotifier {
    /// There is a desktop.
    Desktop(DbusNotifier),
    /// There is none.
    Null(NullNotifier),
}

/// Returns the best notifier that there is for a program called `app`, where `bus` is the address of
/// this person's session bus, if they have one.
///
/// Where nothing shows notifications it is the one that shows them to nobody, and the log says why,
/// once in the life of the process.
pub async fn create_notifier(app: &str, bus: Option<&str>) -> SessionNotifier {
    static WARN_ONCE: Once = Once::new();
    let connected = match bus {
        Some(address) => DbusNotifier::connect(DesktopSession::new(address, app)).await,
        None => Err(DbusConnectError::NoAddress),
    };
    match connected {
        Ok(desktop) => SessionNotifier::Desktop(desktop),
        Err(error) => {
            let why = error_chain(&error);
            WARN_ONCE.call_once(|| tracing::warn!(app, %why, "notifications are not shown"));
            SessionNotifier::Null(NullNotifier)
        }
    }
}

impl Notifier for SessionNotifier {
    type Error = DesktopError;

    async fn notify(&self, notification: Notification) -> Result<NotificationId, DesktopError> {
        match self {
            Self::Desktop(desktop) => desktop.notify(notification).await,
            Self::Null(null) => Ok(unwrap_infallible(null.notify(notification).await)),
        }
    }

    async fn on_action(&self, id: NotificationId, on_action: ActionCallback) {
        match self {
            Self::Desktop(desktop) => desktop.on_action(id, on_action).await,
            Self::Null(null) => null.on_action(id, on_action).await,
        }
    }

    async fn close(&self, id: NotificationId) -> Result<(), DesktopError> {
        match self {
            Self::Desktop(desktop) => desktop.close(id).await,
            Self::Null(null) => {
                unwrap_infallible(null.close(id).await);
                Ok(())
            }
        }
    }

    async fn disconnect(&self) {
        match self {
            Self::Desktop(desktop) => desktop.disconnect().await,
            Self::Null(null) => null.disconnect().await,
        }
    }

    fn is_visible(&self) -> bool {
        match self {
            Self::Desktop(desktop) => desktop.is_visible(),
            Self::Null(null) => null.is_visible(),
        }
    }

    fn losses(&self) -> u64 {
        match self {
            Self::Desktop(desktop) => desktop.losses(),
            Self::Null(null) => null.losses(),
        }
    }

    fn supports_actions(&self) -> bool {
        match self {
            Self::Desktop(desktop) => desktop.supports_actions(),
            Self::Null(null) => null.supports_actions(),
        }
    }
}

fn unwrap_infallible<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

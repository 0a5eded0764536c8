// SPDX-License-Identifier: Apache-2.0
//! The notifier of a session that may have no desktop.

use terok_clearance::error_chain;
use tokio::sync::OnceCell;

use super::{
    Closed, ClosedCallback, DbusConnectError, DbusNotifier, DesktopError, DesktopSession,
    Notification, NotificationId, NotificationOutcome, Notifier, NotifierCapabilities, TextLimits,
};

/// A notifier of a session that may have no desktop. Without a desktop, nothing is shown.
#[derive(Debug)]
pub struct SessionNotifier {
    session: Option<DesktopSession>,
    connection: OnceCell<Result<DbusNotifier, DbusConnectError>>,
}

/// Returns the notifier for a program called `app`; `bus` is the address of the session bus.
///
/// The first notification connects to the bus. Without a bus or a notification service, every
/// notification has the id 0, no operation fails, and the reason is logged at the debug level.
/// [`SessionNotifier::connect`] returns the reason.
pub fn create_notifier(app: &str, bus: Option<&str>) -> SessionNotifier {
    SessionNotifier {
        session: bus.map(|address| DesktopSession::new(address, app)),
        connection: OnceCell::new(),
    }
}

impl SessionNotifier {
    /// Connects on the first call. Returns the notifier of the desktop, or the reason why
    /// notifications are not shown.
    pub async fn connect(&self) -> Result<&DbusNotifier, &DbusConnectError> {
        let connect = async || {
            let connected = match self.session.clone() {
                Some(session) => DbusNotifier::connect(session).await,
                None => Err(DbusConnectError::NoAddress),
            };
            if let Err(error) = &connected {
                tracing::debug!(error = %error_chain(error), "notifications are not shown");
            }
            connected
        };
        self.connection.get_or_init(connect).await.as_ref()
    }

    fn connected(&self) -> Option<&DbusNotifier> {
        self.connection.get()?.as_ref().ok()
    }
}

impl Notifier for SessionNotifier {
    type Error = DesktopError;

    async fn notify(&self, notification: Notification) -> Result<NotificationId, DesktopError> {
        match self.connect().await {
            Ok(desktop) => desktop.notify(notification).await,
            Err(_) => Ok(NotificationId::NONE),
        }
    }

    async fn on_closed(&self, id: NotificationId, callback: ClosedCallback) {
        match self.connected() {
            Some(desktop) => desktop.on_closed(id, callback).await,
            None => callback(NotificationOutcome::now(Closed::Expired)),
        }
    }

    async fn close(&self, id: NotificationId) -> Result<(), DesktopError> {
        match self.connected() {
            Some(desktop) => desktop.close(id).await,
            None => Ok(()),
        }
    }

    async fn disconnect(&self) {
        if let Some(desktop) = self.connected() {
            desktop.disconnect().await;
        }
    }

    fn text_limits(&self) -> TextLimits {
        self.connected()
            .map_or(TextLimits::CONSERVATIVE, Notifier::text_limits)
    }

    async fn limits_changed(&self, known: TextLimits) {
        match self.connected() {
            Some(desktop) => desktop.limits_changed(known).await,
            None => std::future::pending().await,
        }
    }

    fn capabilities(&self) -> NotifierCapabilities {
        match self.connection.get() {
            Some(Ok(desktop)) => desktop.capabilities(),
            None if self.session.is_some() => NotifierCapabilities::ALL,
            Some(Err(_)) | None => NotifierCapabilities::NONE,
        }
    }
}

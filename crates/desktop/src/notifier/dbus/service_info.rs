// SPDX-License-Identifier: Apache-2.0
//! What the notification service of a session says about itself.

use terok_clearance::DisplayText;

use super::session_bus::SessionBus;
use super::{DbusConnectError, DesktopSession};
use crate::notifier::text_limits::service_limits;

/// The notification service of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotificationServiceState {
    /// A service runs.
    Running(NotificationServiceInfo),
    /// None runs; the bus starts one for the first notification.
    Activatable,
    /// None runs, and the bus cannot start one.
    Absent,
    /// A service has the name, and does not answer.
    Silent,
}

/// The words of a notification service about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationServiceInfo {
    /// Its name.
    pub name: DisplayText,
    /// Its vendor.
    pub vendor: DisplayText,
    /// Its version.
    pub version: DisplayText,
    /// Its capabilities, such as `actions` and `body`.
    pub capabilities: Vec<DisplayText>,
    /// Actions are buttons. A service that has them in a menu, or not at all, shows a question, and
    /// where to answer it.
    pub has_buttons: bool,
}

/// Asks the notification service of `session` what it is. No service is started, and no
/// notification is shown.
pub async fn query_notification_service(
    session: &DesktopSession,
) -> Result<NotificationServiceState, DbusConnectError> {
    let bus = SessionBus::connect(session).await?;
    if bus.owner.is_none() {
        return Ok(if bus.activatable {
            NotificationServiceState::Activatable
        } else {
            NotificationServiceState::Absent
        });
    }
    let Ok(capabilities) = bus.capabilities().await else {
        return Ok(NotificationServiceState::Silent);
    };
    let (name, vendor, version, _) = bus.server_information().await.unwrap_or_default();
    let has_actions = capabilities.iter().any(|known| known == "actions");
    Ok(NotificationServiceState::Running(NotificationServiceInfo {
        has_buttons: has_actions && service_limits(&name, &vendor).0,
        name: DisplayText::new(&name),
        vendor: DisplayText::new(&vendor),
        version: DisplayText::new(&version),
        capabilities: capabilities
            .iter()
            .map(|name| DisplayText::new(name))
            .collect(),
    }))
}

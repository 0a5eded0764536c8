// SPDX-License-Identifier: Apache-2.0
//! The inputs of the notification state, and the calls to the service.

use tokio::sync::oneshot;

use super::DesktopError;
use super::render::RenderedTexts;
use crate::notifier::{Closed, ClosedCallback, Notification, NotificationId};

/// The name of one connection; the bus never reuses a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UniqueBusName(pub(super) String);

pub(super) type DesktopReplySender<T> = oneshot::Sender<Result<T, DesktopError>>;

/// An input of the notification state, from the program, the clock or the bus.
pub(super) enum StateEvent {
    /// The bus is connected. `activatable` is `true` if the bus can start a service.
    Connected {
        owner: Option<UniqueBusName>,
        activatable: bool,
    },
    ConnectionLost,
    Tick,
    Notify(Box<Notification>, DesktopReplySender<NotificationId>),
    OnClosed(NotificationId, ClosedCallback),
    Close(NotificationId, DesktopReplySender<()>),
    Dbus(DbusEvent),
}

/// A message of the bus.
#[derive(Debug)]
pub(super) enum DbusEvent {
    /// The name of the service has another owner or no owner.
    OwnerChanged(Option<UniqueBusName>),
    Reply {
        call_id: DbusCallId,
        from: Option<UniqueBusName>,
        reply: DbusReply,
    },
    /// A signal from any connection.
    Signal {
        from: UniqueBusName,
        id: u32,
        signal: NotificationSignal,
    },
}

/// A signal about one notification.
#[derive(Debug)]
pub(super) enum NotificationSignal {
    ActionInvoked {
        key: String,
    },
    NotificationClosed(Closed),
    /// The token for the choice that follows.
    ActivationToken(String),
}

/// The reply to a call.
#[derive(Debug)]
pub(super) enum DbusReply {
    Shown(u32),
    Capabilities(Vec<String>),
    /// The name and the vendor of the service.
    ServerInformation {
        name: String,
        vendor: String,
    },
    Empty,
    /// The error of the service.
    Refused(String),
    /// No service runs, or the service ended before replying.
    ServiceGone,
    /// The deadline passed. The reply may still come later.
    TimedOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DbusCallId(pub(super) u64);

#[derive(Debug)]
pub(super) struct QueuedCall {
    pub(super) call_id: DbusCallId,
    pub(super) call: DbusCall,
}

/// A call to the service.
#[derive(Debug)]
pub(super) enum DbusCall {
    Capabilities,
    ServerInformation,
    Notify {
        notification: Box<Notification>,
        texts: RenderedTexts,
        replaces: u32,
    },
    /// Addressed to the connection that assigned the id: a later owner of the service's name uses
    /// the same id for another popup.
    Close {
        owner: UniqueBusName,
        id: u32,
    },
}

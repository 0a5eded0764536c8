// SPDX-License-Identifier: Apache-2.0
//! The connection to the session bus, and the messages of `org.freedesktop.Notifications`.
//!
//! All messages are read from one stream, in the order of the bus. The origin of a signal is the
//! sender field, which the bus writes into every message; match rule and destination field prove
//! nothing about the origin.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::timeout;
use zbus::connection::{Builder, Connection};
use zbus::message::{Message, Type};
use zbus::{MessageStream, Variant};

use super::event::{DbusCall, DbusEvent, DbusReply, NotificationSignal, UniqueBusName};
use super::{DbusConnectError, DesktopSession, anonymous_auth, uid};
use crate::notifier::dbus::render::RenderedTexts;
use crate::notifier::{Closed, Notification};

const DBUS_NAME: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";
const NOTIFICATIONS_NAME: &str = "org.freedesktop.Notifications";
const NOTIFICATIONS_PATH: &str = "/org/freedesktop/Notifications";
/// The reason in `NotificationClosed` for a notification that expired.
const EXPIRED_REASON: u32 = 1;

/// The errors of a bus that failed to deliver a call or a reply.
const UNDELIVERED_ERRORS: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// A connection to a session bus, subscribed to the messages about notifications.
#[derive(Debug)]
pub(super) struct SessionBus {
    pub(super) connection: Connection,
    pub(super) stream: MessageStream,
    pub(super) owner: Option<UniqueBusName>,
    /// The bus can start a service.
    pub(super) activatable: bool,
}

impl SessionBus {
    /// Connects with the first user id that the bus accepts (see [`uid::uid_candidates`]), or
    /// without a user id.
    pub(super) async fn connect(session: &DesktopSession) -> Result<Self, DbusConnectError> {
        let mut failed = DbusConnectError::NoAddress;
        for address in session.address.split(';').filter(|part| !part.is_empty()) {
            let named = uid::uid_candidates().into_iter().map(Some);
            for uid in named.chain([None]) {
                match timeout(
                    session.call_timeout,
                    Self::connect_as(address, uid, session.call_timeout),
                )
                .await
                {
                    Ok(Ok(bus)) => return Ok(bus),
                    // The errors of the attempts with a user id are more helpful.
                    Ok(Err(_)) if uid.is_none() => {}
                    Ok(Err(source)) => {
                        let address = address.to_owned();
                        failed = DbusConnectError::Bus { address, source };
                    }
                    Err(_) => return Err(DbusConnectError::TimedOut(address.to_owned())),
                }
            }
        }
        Err(failed)
    }

    async fn connect_as(
        address: &str,
        uid: Option<u32>,
        call_timeout: Duration,
    ) -> zbus::Result<Self> {
        let builder = match uid {
            Some(uid) => Builder::address(address).user_id(uid),
            None => anonymous_auth::connect_anonymously(address).await?,
        };
        let connection = builder.method_timeout(call_timeout).build().await?;
        if uid.is_none() {
            call_bus(&connection, "Hello", &()).await?;
        }
        // Created before the first request, so that no message is missed.
        let stream = MessageStream::from(&connection);
        let signals =
            format!("type='signal',interface='{NOTIFICATIONS_NAME}',path='{NOTIFICATIONS_PATH}'");
        let owners = format!(
            "type='signal',sender='{DBUS_NAME}',interface='{DBUS_NAME}',member='NameOwnerChanged',\
             arg0='{NOTIFICATIONS_NAME}'"
        );
        for rule in [owners, signals] {
            call_bus(&connection, "AddMatch", &rule.as_str()).await?;
        }
        let has_owner: bool = {
            let answer = call_bus(&connection, "NameHasOwner", &NOTIFICATIONS_NAME).await?;
            answer.body().deserialize()?
        };
        let owner = if has_owner {
            // If the owner ends before this call, the stream brings an event.
            let answer = call_bus(&connection, "GetNameOwner", &NOTIFICATIONS_NAME).await;
            answer
                .ok()
                .and_then(|answer| answer.body().deserialize::<String>().ok())
        } else {
            None
        };
        let answer = call_bus(&connection, "ListActivatableNames", &()).await?;
        let names: Vec<String> = answer.body().deserialize()?;
        Ok(Self {
            stream,
            owner: owner.map(UniqueBusName),
            activatable: names.iter().any(|name| name == NOTIFICATIONS_NAME),
            connection,
        })
    }
}

impl SessionBus {
    /// Asks the notification service for its name, vendor and version.
    pub(super) async fn server_information(&self) -> zbus::Result<ServerInformation> {
        let reply = self.call_service("GetServerInformation").await?;
        reply.body().deserialize()
    }

    /// Asks the notification service for its capabilities.
    pub(super) async fn capabilities(&self) -> zbus::Result<Vec<String>> {
        let reply = self.call_service("GetCapabilities").await?;
        reply.body().deserialize()
    }

    async fn call_service(&self, method: &str) -> zbus::Result<Message> {
        let to = Some(NOTIFICATIONS_NAME);
        self.connection
            .call_method(to, NOTIFICATIONS_PATH, to, method, &())
            .await
    }
}

/// Calls a method of the bus, as opposed to a method of the notification service.
async fn call_bus<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let to = Some(DBUS_NAME);
    connection
        .call_method(to, DBUS_PATH, to, method, body)
        .await
}

/// Returns the D-Bus message for `call` by the program `app`.
pub(super) fn build_message(call: &DbusCall, app: &str) -> zbus::Result<Message> {
    let to = |member: &'static str| {
        Message::method_call(NOTIFICATIONS_PATH, member).interface(NOTIFICATIONS_NAME)
    };
    match call {
        DbusCall::Capabilities => to("GetCapabilities")
            .destination(NOTIFICATIONS_NAME)
            .build(&()),
        DbusCall::ServerInformation => to("GetServerInformation")
            .destination(NOTIFICATIONS_NAME)
            .build(&()),
        DbusCall::Notify {
            notification,
            texts,
            replaces,
        } => to("Notify")
            .destination(NOTIFICATIONS_NAME)
            .build(&notify_arguments(app, notification, texts, *replaces)),
        DbusCall::Close { owner: at, id } => {
            to("CloseNotification").destination(at.0.as_str()).build(id)
        }
    }
}

type NotifyArguments<'a> = (
    &'a str,
    u32,
    &'a str,
    &'a str,
    &'a str,
    Vec<&'a str>,
    HashMap<&'static str, Variant<'a>>,
    i32,
);

fn notify_arguments<'a>(
    app: &'a str,
    notification: &'a Notification,
    texts: &'a RenderedTexts,
    replaces: u32,
) -> NotifyArguments<'a> {
    let actions = texts.actions.iter();
    let actions = actions.flat_map(|action| [action.key().as_str(), action.label()]);
    let hints = notification.hints;
    let mut hint_values: HashMap<&'static str, Variant<'a>> = HashMap::new();
    if let Some(urgency) = hints.urgency {
        hint_values.insert("urgency", Variant::from(urgency.level()));
    }
    for (name, set) in [("resident", hints.resident), ("transient", hints.transient)] {
        if set {
            hint_values.insert(name, Variant::from(true));
        }
    }
    let words = [
        ("category", hints.category),
        ("desktop-entry", hints.desktop_entry),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            hint_values.insert(name, Variant::from(word));
        }
    }
    (
        app,
        replaces,
        notification.icon.as_deref().unwrap_or_default(),
        &texts.summary,
        &texts.body,
        actions.collect(),
        hint_values,
        notification.expiry.milliseconds(),
    )
}

/// A message about notifications.
#[derive(Debug)]
pub(super) enum BusMessage {
    Event(DbusEvent),
    /// The reply to the message of this number.
    Reply {
        serial: NonZeroU32,
        from: Option<UniqueBusName>,
        reply: DbusReply,
    },
}

/// Parses a message. Returns `None` for malformed messages and for other subjects.
pub(super) fn parse_message(message: &Message) -> Option<BusMessage> {
    let header = message.header();
    let from = header
        .sender()
        .map(|name| UniqueBusName(name.as_str().to_owned()));
    match message.message_type() {
        Type::Signal => {
            let path = header.path()?.as_str();
            let interface = header.interface()?.as_str();
            let member = header.member()?.as_str();
            parse_signal(from?, (path, interface, member), message).map(BusMessage::Event)
        }
        Type::MethodReturn => Some(BusMessage::Reply {
            serial: header.reply_serial()?,
            from,
            reply: parse_reply(message),
        }),
        Type::Error => {
            let name = header.error_name()?.as_str();
            let answer = if UNDELIVERED_ERRORS.contains(&name) {
                DbusReply::ServiceGone
            } else {
                let words: Option<String> = message.body().deserialize().ok();
                DbusReply::Refused(
                    words.map_or_else(|| name.to_owned(), |it| format!("{name}: {it}")),
                )
            };
            Some(BusMessage::Reply {
                serial: header.reply_serial()?,
                from,
                reply: answer,
            })
        }
        Type::MethodCall => None,
    }
}

fn parse_signal(
    from: UniqueBusName,
    what: (&str, &str, &str),
    message: &Message,
) -> Option<DbusEvent> {
    let body = message.body();
    match what {
        (_, DBUS_NAME, "NameOwnerChanged") if from.0 == DBUS_NAME => {
            let (name, _, new): (String, String, String) = body.deserialize().ok()?;
            let owner = (!new.is_empty()).then_some(UniqueBusName(new));
            (name == NOTIFICATIONS_NAME).then_some(DbusEvent::OwnerChanged(owner))
        }
        (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME, "ActionInvoked") => {
            let (id, key) = body.deserialize().ok()?;
            let signal = NotificationSignal::ActionInvoked { key };
            Some(DbusEvent::Signal { from, id, signal })
        }
        (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME, "NotificationClosed") => {
            let (id, reason): (u32, u32) = body.deserialize().ok()?;
            let closed = if reason == EXPIRED_REASON {
                Closed::Expired
            } else {
                Closed::Dismissed
            };
            let signal = NotificationSignal::NotificationClosed(closed);
            Some(DbusEvent::Signal { from, id, signal })
        }
        (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME, "ActivationToken") => {
            let (id, token) = body.deserialize().ok()?;
            let signal = NotificationSignal::ActivationToken(token);
            Some(DbusEvent::Signal { from, id, signal })
        }
        _ => None,
    }
}

/// Name, vendor, version, version of the specification.
pub(super) type ServerInformation = (String, String, String, String);

/// Parses a reply by the type of its body, which differs for every method.
fn parse_reply(message: &Message) -> DbusReply {
    let body = message.body();
    if let Ok(id) = body.deserialize::<u32>() {
        DbusReply::Shown(id)
    } else if let Ok(names) = body.deserialize::<Vec<String>>() {
        DbusReply::Capabilities(names)
    } else if let Ok((name, vendor, _, _)) = body.deserialize::<ServerInformation>() {
        DbusReply::ServerInformation { name, vendor }
    } else {
        DbusReply::Empty
    }
}

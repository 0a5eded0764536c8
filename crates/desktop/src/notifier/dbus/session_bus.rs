// SPDX-License-Identifier: Apache-2.0
//! The session bus: reaching it, and the calls and signals of `org.freedesktop.Notifications`.
//!
//! Everything that the bus passes on is read from one stream, in the order of the bus. Neither the
//! matching by the bus nor the addressee of a signal says who sent it; the sender does, which the
//! bus itself writes into every message.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::timeout;
use zbus::connection::{Builder, Connection};
use zbus::message::{Message, Type};
use zbus::{MessageStream, Variant};

use super::state::{DbusCall, DbusEvent, DbusReply, UniqueBusName};
use super::{DbusConnectError, DesktopSession, anonymous_auth, uid};
use crate::notifier::Notification;
use crate::notifier::dbus::render::RenderedTexts;

const DBUS_NAME: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";
const NOTIFICATIONS_NAME: &str = "org.freedesktop.Notifications";
const NOTIFICATIONS_PATH: &str = "/org/freedesktop/Notifications";

/// What a bus says that could not bring a call to anybody, or an answer back.
const UNDELIVERED_ERRORS: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// A connection to a session bus that passes on what concerns notifications.
#[derive(Debug)]
pub(super) struct SessionBus {
    pub(super) connection: Connection,
    pub(super) stream: MessageStream,
    pub(super) owner: Option<UniqueBusName>,
    /// The bus can start the service.
    pub(super) activatable: bool,
}

impl SessionBus {
    /// Connects, as whom the bus takes us for: see [`uid::candidates`]. Where none of these is it,
    /// we do not say who we are.
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
                    // The others say what is wrong.
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

    async fn connect_as(address: &str, uid: Option<u32>, patience: Duration) -> zbus::Result<Self> {
        let builder = match uid {
            Some(uid) => Builder::address(address).user_id(uid),
            None => anonymous_auth::connect_anonymously(address).await?,
        };
        let connection = builder.method_timeout(patience).build().await?;
        if uid.is_none() {
            call_bus(&connection, "Hello", &()).await?;
        }
        // Before anything is asked for, so that nothing is missed.
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
            // One that goes away meanwhile is news on the stream.
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

/// Calls the bus itself.
async fn call_bus<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let to = Some(DBUS_NAME);
    connection
        .call_method(to, DBUS_PATH, to, method, body)
        .await
}

/// Returns the message that a call is, for the service of this `app`.
pub(super) fn build_message(call: &DbusCall, app: &str) -> zbus::Result<Message> {
    let to = |member: &'static str| {
        Message::method_call(NOTIFICATIONS_PATH, member).interface(NOTIFICATIONS_NAME)
    };
    match call {
        DbusCall::Capabilities => to("GetCapabilities")
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

/// Returns the arguments of `Notify`.
fn notify_arguments<'a>(
    app: &'a str,
    notification: &'a Notification,
    texts: &'a RenderedTexts,
    replaces: u32,
) -> NotifyArguments<'a> {
    let actions = notification.actions.iter();
    let actions = actions.flat_map(|action| [action.key().as_str(), action.label()]);
    let hints = notification.hints;
    let mut said: HashMap<&'static str, Variant<'a>> = HashMap::new();
    if let Some(urgency) = hints.urgency {
        said.insert("urgency", Variant::from(urgency.level()));
    }
    for (name, set) in [("resident", hints.resident), ("transient", hints.transient)] {
        if set {
            said.insert(name, Variant::from(true));
        }
    }
    let words = [
        ("category", hints.category),
        ("desktop-entry", hints.desktop_entry),
    ];
    for (name, word) in words {
        if let Some(word) = word {
            said.insert(name, Variant::from(word));
        }
    }
    (
        app,
        replaces,
        notification.icon.as_deref().unwrap_or_default(),
        &texts.summary,
        &texts.body,
        actions.collect(),
        said,
        notification.expiry.milliseconds(),
    )
}

/// What a message is.
#[derive(Debug)]
pub(super) enum BusMessage {
    /// It concerns everybody.
    Event(DbusEvent),
    /// It answers the message of this number.
    Reply {
        serial: NonZeroU32,
        from: Option<UniqueBusName>,
        reply: DbusReply,
    },
}

/// Reads a message; `None` is one that does not concern us, or that is not as it should be.
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
            Some(DbusEvent::ActionInvoked { from, id, key })
        }
        (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME, "NotificationClosed") => {
            let (id, _reason): (u32, u32) = body.deserialize().ok()?;
            Some(DbusEvent::NotificationClosed { from, id })
        }
        (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME, "ActivationToken") => {
            let (id, token) = body.deserialize().ok()?;
            Some(DbusEvent::ActivationToken { from, id, token })
        }
        _ => None,
    }
}

/// Reads an answer by its shape: each of our calls has another one.
fn parse_reply(message: &Message) -> DbusReply {
    let body = message.body();
    if let Ok(id) = body.deserialize::<u32>() {
        DbusReply::Shown(id)
    } else if let Ok(names) = body.deserialize::<Vec<String>>() {
        DbusReply::Capabilities(names)
    } else {
        DbusReply::Empty
    }
}

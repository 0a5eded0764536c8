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

use super::desk::{Answer, Call, News, Owner};
use super::{ConnectError, Session, nameless, uid};
use crate::notifier::Notification;
use crate::notifier::desktop::shown::Texts;

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const NOTIFICATIONS: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// What a bus says that could not bring a call to anybody, or an answer back.
const VANISHED: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// A connection to a session bus that passes on what concerns notifications.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) connection: Connection,
    pub(super) stream: MessageStream,
    pub(super) owner: Option<Owner>,
    /// The bus can start the service.
    pub(super) activatable: bool,
}

impl Bus {
    /// Connects, as whom the bus takes us for: see [`uid::candidates`]. Where none of these is it,
    /// we do not say who we are.
    pub(super) async fn connect(session: &Session) -> Result<Self, ConnectError> {
        let mut failed = ConnectError::NoAddress;
        for address in session.address.split(';').filter(|part| !part.is_empty()) {
            let named = uid::candidates().into_iter().map(Some);
            for uid in named.chain([None]) {
                match timeout(
                    session.patience,
                    Self::enter(address, uid, session.patience),
                )
                .await
                {
                    Ok(Ok(bus)) => return Ok(bus),
                    // The others say what is wrong.
                    Ok(Err(_)) if uid.is_none() => {}
                    Ok(Err(source)) => {
                        let address = address.to_owned();
                        failed = ConnectError::Bus { address, source };
                    }
                    Err(_) => return Err(ConnectError::TimedOut(address.to_owned())),
                }
            }
        }
        Err(failed)
    }

    async fn enter(address: &str, uid: Option<u32>, patience: Duration) -> zbus::Result<Self> {
        let builder = match uid {
            Some(uid) => Builder::address(address).user_id(uid),
            None => nameless::reach(address).await?,
        };
        let connection = builder.method_timeout(patience).build().await?;
        if uid.is_none() {
            ask(&connection, "Hello", &()).await?;
        }
        // Before anything is asked for, so that nothing is missed.
        let stream = MessageStream::from(&connection);
        let signals = format!("type='signal',interface='{NOTIFICATIONS}',path='{PATH}'");
        let owners = format!(
            "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',\
             arg0='{NOTIFICATIONS}'"
        );
        for rule in [owners, signals] {
            ask(&connection, "AddMatch", &rule.as_str()).await?;
        }
        let has_owner: bool = {
            let answer = ask(&connection, "NameHasOwner", &NOTIFICATIONS).await?;
            answer.body().deserialize()?
        };
        let owner = if has_owner {
            // One that goes away meanwhile is news on the stream.
            let answer = ask(&connection, "GetNameOwner", &NOTIFICATIONS).await;
            answer
                .ok()
                .and_then(|answer| answer.body().deserialize::<String>().ok())
        } else {
            None
        };
        let answer = ask(&connection, "ListActivatableNames", &()).await?;
        let names: Vec<String> = answer.body().deserialize()?;
        Ok(Self {
            stream,
            owner: owner.map(Owner),
            activatable: names.iter().any(|name| name == NOTIFICATIONS),
            connection,
        })
    }
}

/// Calls the bus itself.
async fn ask<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let to = Some(BUS);
    connection.call_method(to, BUS_PATH, to, method, body).await
}

/// Returns the message that a call is, for the service of this `app`.
pub(super) fn message(call: &Call, app: &str) -> zbus::Result<Message> {
    let to = |member: &'static str| Message::method_call(PATH, member).interface(NOTIFICATIONS);
    match call {
        Call::Capabilities => to("GetCapabilities").destination(NOTIFICATIONS).build(&()),
        Call::Notify {
            notification,
            texts,
            replaces,
        } => to("Notify").destination(NOTIFICATIONS).build(&notify(
            app,
            notification,
            texts,
            *replaces,
        )),
        Call::Close { at, id } => to("CloseNotification").destination(at.0.as_str()).build(id),
    }
}

type Notify<'a> = (
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
fn notify<'a>(
    app: &'a str,
    notification: &'a Notification,
    texts: &'a Texts,
    replaces: u32,
) -> Notify<'a> {
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
pub(super) enum Heard {
    /// It concerns everybody.
    News(News),
    /// It answers the message of this number.
    Answer {
        to: NonZeroU32,
        from: Option<Owner>,
        answer: Answer,
    },
}

/// Reads a message; `None` is one that does not concern us, or that is not as it should be.
pub(super) fn read(message: &Message) -> Option<Heard> {
    let header = message.header();
    let from = header.sender().map(|name| Owner(name.as_str().to_owned()));
    match message.message_type() {
        Type::Signal => {
            let path = header.path()?.as_str();
            let interface = header.interface()?.as_str();
            let member = header.member()?.as_str();
            signal(from?, (path, interface, member), message).map(Heard::News)
        }
        Type::MethodReturn => Some(Heard::Answer {
            to: header.reply_serial()?,
            from,
            answer: answer(message),
        }),
        Type::Error => {
            let name = header.error_name()?.as_str();
            let answer = if VANISHED.contains(&name) {
                Answer::Vanished
            } else {
                let words: Option<String> = message.body().deserialize().ok();
                Answer::Refused(words.map_or_else(|| name.to_owned(), |it| format!("{name}: {it}")))
            };
            Some(Heard::Answer {
                to: header.reply_serial()?,
                from,
                answer,
            })
        }
        Type::MethodCall => None,
    }
}

fn signal(from: Owner, what: (&str, &str, &str), message: &Message) -> Option<News> {
    let body = message.body();
    match what {
        (_, BUS, "NameOwnerChanged") if from.0 == BUS => {
            let (name, _, new): (String, String, String) = body.deserialize().ok()?;
            let owner = (!new.is_empty()).then_some(Owner(new));
            (name == NOTIFICATIONS).then_some(News::Owner(owner))
        }
        (PATH, NOTIFICATIONS, "ActionInvoked") => {
            let (id, key) = body.deserialize().ok()?;
            Some(News::Chosen { from, id, key })
        }
        (PATH, NOTIFICATIONS, "NotificationClosed") => {
            let (id, _reason): (u32, u32) = body.deserialize().ok()?;
            Some(News::Closed { from, id })
        }
        (PATH, NOTIFICATIONS, "ActivationToken") => {
            let (id, token) = body.deserialize().ok()?;
            Some(News::Token { from, id, token })
        }
        _ => None,
    }
}

/// Reads an answer by its shape: each of our calls has another one.
fn answer(message: &Message) -> Answer {
    let body = message.body();
    if let Ok(id) = body.deserialize::<u32>() {
        Answer::Posted(id)
    } else if let Ok(names) = body.deserialize::<Vec<String>>() {
        Answer::Able(names)
    } else {
        Answer::Done
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A notification service that does exactly what the test says.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use terok_clearance_desktop::notifier::{
    ActionChoice, Closed, DbusNotifier, DesktopSession, Notification, NotificationId,
    NotificationOutcome, Notifier as _,
};
use tokio::sync::oneshot;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedVariant, Variant};

use crate::bus::Bus;

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// What every desktop with buttons can do.
pub(crate) const USUAL: &[&str] = &["actions", "body", "body-markup", "persistence"];

/// A service. Nothing is answered unless the test says so.
pub(crate) struct Fake {
    pub(crate) connection: Connection,
    calls: MessageStream,
}

/// The arguments of a `Notify`.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) app: String,
    pub(crate) replaces: u32,
    pub(crate) icon: String,
    pub(crate) summary: String,
    pub(crate) body: String,
    pub(crate) actions: Vec<String>,
    pub(crate) hints: HashMap<String, OwnedVariant>,
    pub(crate) timeout: i32,
}

impl Posted {
    /// Returns the hints in a fixed order, as text.
    pub(crate) fn hints(&self) -> Vec<String> {
        let text = |(name, value): (&String, &OwnedVariant)| {
            let value: Variant<'_> = value.try_clone().unwrap().into();
            format!("{name}={value:?}")
        };
        let mut hints: Vec<_> = self.hints.iter().map(text).collect();
        hints.sort();
        hints
    }
}

impl Fake {
    /// Has the name, from whoever had it.
    pub(crate) async fn new(bus: &Bus) -> Self {
        let connection = bus.somebody().await;
        let calls = MessageStream::from(&connection);
        let fake = Self { connection, calls };
        fake.take_name().await;
        fake
    }

    pub(crate) async fn take_name(&self) {
        // Others may take it, we take it from others, and we do not queue for it.
        let arguments = (NAME, 1_u32 | 2 | 4);
        let answer = ask_bus(&self.connection, "RequestName", &arguments).await;
        let owner = 1_u32;
        assert_eq!(answer.body().deserialize::<u32>().unwrap(), owner);
    }

    pub(crate) async fn give_name_up(&self) {
        ask_bus(&self.connection, "ReleaseName", &NAME).await;
    }

    /// Returns the next call, which is of `method`.
    pub(crate) async fn call(&mut self, method: &str) -> Message {
        let call = self.any_call().await;
        assert_eq!(call.header().member().unwrap().as_str(), method);
        call
    }

    pub(crate) async fn any_call(&mut self) -> Message {
        loop {
            let message = self.calls.next().await.unwrap().unwrap();
            if message.message_type() == Type::MethodCall {
                return message;
            }
        }
    }

    pub(crate) async fn reply<B>(&self, to: &Message, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        self.connection.reply(&to.header(), body).await.unwrap();
    }

    /// Says what it can do, when asked.
    pub(crate) async fn introduces(&mut self, able: &[&str]) {
        let call = self.call("GetCapabilities").await;
        self.reply(&call, &able).await;
    }

    /// Takes a notification and gives it the number `id`.
    pub(crate) async fn shows(&mut self, id: u32) -> Posted {
        let call = self.call("Notify").await;
        let posted = posted(&call);
        self.reply(&call, &id).await;
        posted
    }

    pub(crate) async fn closes(&mut self, id: u32) {
        let call = self.call("CloseNotification").await;
        assert_eq!(call.body().deserialize::<u32>().unwrap(), id);
        self.reply(&call, &()).await;
    }

    pub(crate) async fn chosen(&self, id: u32, key: &str) {
        signal(&self.connection, None, "ActionInvoked", &(id, key)).await;
    }

    pub(crate) async fn closed(&self, id: u32) {
        self.closed_because(id, 2).await;
    }

    /// Closes a notification for a reason of the specification.
    pub(crate) async fn closed_because(&self, id: u32, reason: u32) {
        signal(&self.connection, None, "NotificationClosed", &(id, reason)).await;
    }

    /// Connects a notifier to this service.
    pub(crate) async fn meets(&mut self, session: DesktopSession, able: &[&str]) -> DbusNotifier {
        let connecting = DbusNotifier::connect(session);
        let (notifier, ()) = tokio::join!(connecting, self.introduces(able));
        notifier.unwrap()
    }

    /// A service and a notifier which asks question `a` there, shown as `number`; with what is
    /// chosen.
    pub(crate) async fn asks(
        bus: &Bus,
        number: u32,
    ) -> (
        Self,
        DbusNotifier,
        NotificationId,
        oneshot::Receiver<ActionChoice>,
    ) {
        let mut service = Self::new(bus).await;
        let notifier = service.meets(bus.session(), USUAL).await;
        let (id, _) = service.is_shown(&notifier, question("a"), number).await;
        let chosen = choice(&notifier, id).await;
        (service, notifier, id, chosen)
    }

    /// Shows what the notifier is given, as `id`.
    pub(crate) async fn is_shown(
        &mut self,
        notifier: &DbusNotifier,
        notification: Notification,
        id: u32,
    ) -> (NotificationId, Posted) {
        let (shown, posted) = tokio::join!(notifier.notify(notification), self.shows(id));
        (shown.unwrap(), posted)
    }
}

pub(crate) fn posted(call: &Message) -> Posted {
    let body = call.body();
    let (app, replaces, icon, summary, body, actions, hints, timeout) = body.deserialize().unwrap();
    Posted {
        app,
        replaces,
        icon,
        summary,
        body,
        actions,
        hints,
        timeout,
    }
}

/// Sends a signal as a notification service does, to all or `to` one connection.
pub(crate) async fn signal<B>(from: &Connection, to: Option<&str>, name: &str, body: &B)
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    from.emit_signal(to, PATH, NAME, name, body).await.unwrap();
}

/// Calls the bus; when it has answered, it has passed on all that was sent before.
pub(crate) async fn ask_bus<B>(connection: &Connection, method: &str, body: &B) -> Message
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let bus = Some("org.freedesktop.DBus");
    let answer = connection.call_method(bus, "/org/freedesktop/DBus", bus, method, body);
    answer.await.unwrap()
}

pub(crate) async fn settle(connection: &Connection) {
    ask_bus(connection, "GetId", &()).await;
}

/// A question with two answers.
pub(crate) fn question(summary: &str) -> Notification {
    Notification {
        actions: vec!["allow:Allow".parse().unwrap(), "deny:Deny".parse().unwrap()],
        ..Notification::new(summary)
    }
}

/// Waits for the choice of `id`; an end without a choice is an error.
pub(crate) async fn choice(
    notifier: &DbusNotifier,
    id: NotificationId,
) -> oneshot::Receiver<ActionChoice> {
    let (tell, chosen) = oneshot::channel();
    let callback = |outcome: NotificationOutcome| {
        if let Closed::Chosen(choice) = outcome.closed {
            drop(tell.send(choice));
        }
    };
    notifier.on_closed(id, Box::new(callback)).await;
    chosen
}

/// Waits for the end of `id`.
pub(crate) async fn outcome(
    notifier: &DbusNotifier,
    id: NotificationId,
) -> oneshot::Receiver<NotificationOutcome> {
    let (tell, ended) = oneshot::channel();
    let callback = Box::new(|outcome| drop(tell.send(outcome)));
    notifier.on_closed(id, callback).await;
    ended
}

/// Returns the key of the choice that is made.
pub(crate) async fn key(chosen: oneshot::Receiver<ActionChoice>) -> Option<String> {
    chosen.await.ok().map(|choice| choice.key.to_string())
}

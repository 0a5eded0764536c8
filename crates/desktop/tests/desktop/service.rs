// SPDX-License-Identifier: Apache-2.0
//! A notification service whose replies and signals the test decides.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use terok_clearance_desktop::notifier::{
    ActionChoice, Closed, DbusNotifier, DesktopSession, Notification, NotificationId,
    NotificationOutcome, Notifier as _,
};
use test_support::notification_service::USUAL_CAPABILITIES;
use test_support::test_bus::{NOTIFICATIONS_NAME, TestBus};
use tokio::sync::oneshot;
use zbus::connection::Builder;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedVariant, Variant};

const NOTIFICATIONS_PATH: &str = "/org/freedesktop/Notifications";

/// Returns the settings of a notifier on this bus.
pub(crate) fn session(bus: &TestBus) -> DesktopSession {
    DesktopSession::new(&bus.address(), "the-app")
}

/// Connects another program of the same session.
pub(crate) async fn connect(bus: &TestBus) -> Connection {
    let address = bus.address();
    Builder::address(address.as_str()).build().await.unwrap()
}

/// A notification service. No call is answered unless the test does.
pub(crate) struct ScriptedService {
    pub(crate) connection: Connection,
    calls: MessageStream,
    /// The name and the vendor in the reply to `GetServerInformation`.
    pub(crate) server: (&'static str, &'static str),
}

/// The arguments of a `Notify`.
#[derive(Debug)]
pub(crate) struct NotifyCall {
    pub(crate) app: String,
    pub(crate) replaces: u32,
    pub(crate) icon: String,
    pub(crate) summary: String,
    pub(crate) body: String,
    pub(crate) actions: Vec<String>,
    pub(crate) hints: HashMap<String, OwnedVariant>,
    pub(crate) timeout: i32,
}

impl NotifyCall {
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

impl ScriptedService {
    /// Connects, and takes the name of notification services from its owner.
    pub(crate) async fn start(bus: &TestBus) -> Self {
        let connection = connect(bus).await;
        let calls = MessageStream::from(&connection);
        let server = ("scripted", "test");
        let service = Self {
            connection,
            calls,
            server,
        };
        service.take_name().await;
        service
    }

    pub(crate) async fn take_name(&self) {
        // Allow replacement, replace the owner, do not queue.
        let arguments = (NOTIFICATIONS_NAME, 1_u32 | 2 | 4);
        let answer = call_bus(&self.connection, "RequestName", &arguments).await;
        let owner = 1_u32;
        assert_eq!(answer.body().deserialize::<u32>().unwrap(), owner);
    }

    pub(crate) async fn release_name(&self) {
        call_bus(&self.connection, "ReleaseName", &NOTIFICATIONS_NAME).await;
    }

    /// Returns the next call, which has to be one of `method`.
    pub(crate) async fn call(&mut self, method: &str) -> Message {
        let call = self.any_call().await;
        assert_eq!(call.header().member().unwrap().as_str(), method);
        call
    }

    pub(crate) async fn any_call(&mut self) -> Message {
        loop {
            let message = self.calls.next().await.unwrap().unwrap();
            if message.message_type() != Type::MethodCall {
                continue;
            }
            if message.header().member().unwrap().as_str() == "GetServerInformation" {
                let (name, vendor) = self.server;
                self.reply(&message, &(name, vendor, "1", "1.2")).await;
                continue;
            }
            return message;
        }
    }

    pub(crate) async fn reply<B>(&self, to: &Message, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        self.connection.reply(&to.header(), body).await.unwrap();
    }

    /// Replies to `GetCapabilities`.
    pub(crate) async fn reply_capabilities(&mut self, capabilities: &[&str]) {
        let call = self.call("GetCapabilities").await;
        self.reply(&call, &capabilities).await;
    }

    /// Replies to `Notify` with an id.
    pub(crate) async fn accept_notify(&mut self, id: u32) -> NotifyCall {
        let call = self.call("Notify").await;
        let notify = parse_notify(&call);
        self.reply(&call, &id).await;
        notify
    }

    pub(crate) async fn accept_close(&mut self, id: u32) {
        let call = self.call("CloseNotification").await;
        assert_eq!(call.body().deserialize::<u32>().unwrap(), id);
        self.reply(&call, &()).await;
    }

    pub(crate) async fn invoke_action(&self, id: u32, key: &str) {
        signal(&self.connection, None, "ActionInvoked", &(id, key)).await;
    }

    pub(crate) async fn emit_closed(&self, id: u32) {
        self.emit_closed_for(id, 2).await;
    }

    /// Closes a notification for a reason of the specification.
    pub(crate) async fn emit_closed_for(&self, id: u32, reason: u32) {
        signal(&self.connection, None, "NotificationClosed", &(id, reason)).await;
    }

    /// Connects a notifier to this service.
    pub(crate) async fn connect_notifier(
        &mut self,
        session: DesktopSession,
        capabilities: &[&str],
    ) -> DbusNotifier {
        let connecting = DbusNotifier::connect(session);
        let (notifier, ()) = tokio::join!(connecting, self.reply_capabilities(capabilities));
        notifier.unwrap()
    }

    /// Starts a service and a notifier, and shows question `a` with this id.
    pub(crate) async fn with_question(
        bus: &TestBus,
        number: u32,
    ) -> (
        Self,
        DbusNotifier,
        NotificationId,
        oneshot::Receiver<ActionChoice>,
    ) {
        let mut service = Self::start(bus).await;
        let notifier = service
            .connect_notifier(session(bus), USUAL_CAPABILITIES)
            .await;
        let (id, _) = service.show(&notifier, question("a"), number).await;
        let chosen = choice(&notifier, id).await;
        (service, notifier, id, chosen)
    }

    /// Shows a notification with this id.
    pub(crate) async fn show(
        &mut self,
        notifier: &DbusNotifier,
        notification: Notification,
        id: u32,
    ) -> (NotificationId, NotifyCall) {
        let (shown, notify) = tokio::join!(notifier.notify(notification), self.accept_notify(id));
        (shown.unwrap(), notify)
    }
}

pub(crate) fn parse_notify(call: &Message) -> NotifyCall {
    let body = call.body();
    let (app, replaces, icon, summary, body, actions, hints, timeout) = body.deserialize().unwrap();
    NotifyCall {
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
    let (path, interface) = (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME);
    from.emit_signal(to, path, interface, name, body)
        .await
        .unwrap();
}

/// Calls the bus. Its reply comes after it has delivered all earlier messages of the connection.
pub(crate) async fn call_bus<B>(connection: &Connection, method: &str, body: &B) -> Message
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let bus = Some("org.freedesktop.DBus");
    let answer = connection.call_method(bus, "/org/freedesktop/DBus", bus, method, body);
    answer.await.unwrap()
}

pub(crate) async fn sync_with_bus(connection: &Connection) {
    call_bus(connection, "GetId", &()).await;
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
    let (sender, chosen) = oneshot::channel();
    let callback = |outcome: NotificationOutcome| {
        if let Closed::Chosen(choice) = outcome.closed {
            drop(sender.send(choice));
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
    let (sender, ended) = oneshot::channel();
    let callback = Box::new(|outcome| drop(sender.send(outcome)));
    notifier.on_closed(id, callback).await;
    ended
}

/// Returns the key of the choice that is made.
pub(crate) async fn key(chosen: oneshot::Receiver<ActionChoice>) -> Option<String> {
    chosen.await.ok().map(|choice| choice.key.to_string())
}

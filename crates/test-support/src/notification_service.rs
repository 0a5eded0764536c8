// SPDX-License-Identifier: Apache-2.0
//! A notification service that draws nothing and records the calls.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use futures_util::StreamExt as _;
use zbus::connection::Builder;
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MessageStream, OwnedVariant};

use crate::test_bus::NOTIFICATIONS_NAME;

const NOTIFICATIONS_PATH: &str = "/org/freedesktop/Notifications";

/// The capabilities of a usual desktop with buttons.
pub const USUAL_CAPABILITIES: &[&str] = &["actions", "body", "body-markup", "persistence"];

/// A call of a [`RecordingNotificationService`].
#[derive(Debug)]
pub enum NotificationCall {
    /// A call to show a popup or to replace the popup with this id.
    Notify {
        /// When the call was received.
        received: Instant,
        /// The id in the reply.
        id: u32,
        /// The title.
        summary: String,
    },
    /// A call to close a popup.
    Close {
        /// The id of the popup.
        id: u32,
    },
}

/// The notification service, in a separate thread. As with most desktops, a click on an action
/// closes the popup, and a popup that replaces a closed popup keeps the id.
#[derive(Debug)]
pub struct RecordingNotificationService {
    clicks: Option<tokio::sync::mpsc::Sender<(u32, String)>>,
    thread: Option<JoinHandle<()>>,
}

impl RecordingNotificationService {
    /// Starts the service on the bus at `address`, and waits until the service owns its name.
    /// `record` is called before each reply.
    pub fn start(
        address: String,
        mut record: impl FnMut(NotificationCall) + Send + 'static,
    ) -> Self {
        let (clicks, clicked) = tokio::sync::mpsc::channel(1);
        let (announce, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(&address, &mut record, clicked, &announce));
        });
        ready.recv().expect("the notification service starts");
        Self {
            clicks: Some(clicks),
            thread: Some(thread),
        }
    }

    /// Simulates a click on an action.
    pub fn click(&self, id: u32, key: &str) {
        let clicks = self.clicks.as_ref().unwrap();
        clicks.try_send((id, key.to_owned())).unwrap();
    }
}

impl Drop for RecordingNotificationService {
    fn drop(&mut self) {
        self.clicks = None;
        let served = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(served, Some(Ok(()))),
            "the notification service panicked"
        );
    }
}

async fn serve(
    address: &str,
    record: &mut impl FnMut(NotificationCall),
    mut clicked: tokio::sync::mpsc::Receiver<(u32, String)>,
    ready: &mpsc::Sender<()>,
) {
    let connection = Builder::address(address).build().await.unwrap();
    let mut calls = MessageStream::from(&connection);
    let (bus, path) = (Some("org.freedesktop.DBus"), "/org/freedesktop/DBus");
    let name = (NOTIFICATIONS_NAME, 0_u32);
    let owner = connection.call_method(bus, path, bus, "RequestName", &name);
    let owner: u32 = owner.await.unwrap().body().deserialize().unwrap();
    assert_eq!(owner, 1, "{NOTIFICATIONS_NAME} has no other owner");
    ready.send(()).unwrap();
    let mut last_id = 0;
    loop {
        tokio::select! {
            call = calls.next() => {
                let call = call.expect("the bus is running").unwrap();
                if call.message_type() == Type::MethodCall {
                    handle_call(&connection, &call, record, &mut last_id).await;
                }
            }
            click = clicked.recv() => {
                let Some((id, key)) = click else { return };
                record(NotificationCall::Close { id });
                emit(&connection, "ActionInvoked", &(id, key.as_str())).await;
                emit(&connection, "NotificationClosed", &(id, 2_u32)).await;
            }
        }
    }
}

async fn emit<B>(connection: &Connection, signal: &str, body: &B)
where
    B: serde::Serialize + DynamicType + Sync,
{
    let broadcast = None::<&str>;
    let (path, interface) = (NOTIFICATIONS_PATH, NOTIFICATIONS_NAME);
    let sent = connection.emit_signal(broadcast, path, interface, signal, body);
    sent.await.unwrap();
}

async fn handle_call(
    connection: &Connection,
    call: &Message,
    record: &mut impl FnMut(NotificationCall),
    last_id: &mut u32,
) {
    type NotifyArguments = (
        String,
        u32,
        String,
        String,
        String,
        Vec<String>,
        HashMap<String, OwnedVariant>,
        i32,
    );
    let header = call.header();
    let body = call.body();
    match header.member().unwrap().as_str() {
        "GetCapabilities" => {
            let reply = connection.reply(&header, &USUAL_CAPABILITIES);
            reply.await.unwrap();
        }
        "GetServerInformation" => {
            let reply = connection.reply(&header, &("recorder", "terok", "1", "1.2"));
            reply.await.unwrap();
        }
        "Notify" => {
            let received = now();
            let (_, replaces, _, summary, ..): NotifyArguments = body.deserialize().unwrap();
            let id = if replaces == 0 {
                *last_id += 1;
                *last_id
            } else {
                replaces
            };
            record(NotificationCall::Notify {
                received,
                id,
                summary,
            });
            connection.reply(&header, &id).await.unwrap();
        }
        "CloseNotification" => {
            let id = body.deserialize().unwrap();
            record(NotificationCall::Close { id });
            connection.reply(&header, &()).await.unwrap();
        }
        // User interfaces make no other calls.
        _ => {}
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark measures the arrival of popups"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_bus::TestBus;

    #[tokio::test]
    async fn calls_are_recorded_and_a_click_is_signalled() {
        let bus = TestBus::start();
        let (sender, recorded) = mpsc::channel();
        let service = RecordingNotificationService::start(bus.address(), move |call| {
            let text = match call {
                NotificationCall::Notify { id, summary, .. } => format!("{id} {summary}"),
                NotificationCall::Close { id } => format!("{id} closed"),
            };
            sender.send(text).unwrap();
        });
        let address = bus.address();
        let connection = Builder::address(address.as_str()).build().await.unwrap();
        let rule = format!("type='signal',interface='{NOTIFICATIONS_NAME}'");
        let (daemon, path) = (Some("org.freedesktop.DBus"), "/org/freedesktop/DBus");
        let watch = connection.call_method(daemon, path, daemon, "AddMatch", &rule);
        watch.await.unwrap();
        let mut signals = MessageStream::from(&connection);

        let hints = HashMap::<String, OwnedVariant>::new();
        let name = Some(NOTIFICATIONS_NAME);
        let body = |title| {
            (
                "app",
                0_u32,
                "",
                title,
                "",
                Vec::<&str>::new(),
                &hints,
                -1_i32,
            )
        };
        for (title, id) in [("one", 1_u32), ("two", 2)] {
            let body = body(title);
            let notify = connection.call_method(name, NOTIFICATIONS_PATH, name, "Notify", &body);
            assert_eq!(
                notify.await.unwrap().body().deserialize::<u32>().unwrap(),
                id
            );
        }
        service.click(2, "allow");
        let mut invoked = Vec::new();
        while invoked.len() < 2 {
            let message = signals.next().await.unwrap().unwrap();
            if message.message_type() == Type::Signal {
                invoked.push(message.header().member().unwrap().to_string());
            }
        }
        assert_eq!(invoked, ["ActionInvoked", "NotificationClosed"]);
        let close =
            connection.call_method(name, NOTIFICATIONS_PATH, name, "CloseNotification", &1_u32);
        close.await.unwrap();
        let recorded: Vec<_> = recorded.try_iter().collect();
        assert_eq!(recorded, ["1 one", "2 two", "2 closed", "1 closed"]);
    }
}

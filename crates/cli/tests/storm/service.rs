// SPDX-License-Identifier: Apache-2.0
//! A session bus of one test, and on it a notification service whose screen is a [`Desk`].

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use zbus::connection::Builder;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedVariant};

use crate::desk::Desk;

const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// The real `dbus-daemon`, which can start nothing.
pub(crate) struct Bus {
    daemon: Child,
    directory: TempDir,
}

impl Bus {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={path}/bus</listen>\
             <auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>"
        );
        std::fs::write(directory.path().join("config"), config).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={path}/config"))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says its address when it takes connections.
        let mut said = BufReader::new(daemon.stdout.take().unwrap());
        assert_ne!(said.read_line(&mut String::new()).unwrap(), 0);
        Self { daemon, directory }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// The service, in a thread of its own. It does as most do: an action closes its popup, and what
/// replaces one that is not there any more is there again under the same number.
pub(crate) struct Service {
    clicks: Option<tokio::sync::mpsc::Sender<(u32, String)>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Serves on `bus`; it has its name when this returns.
    pub(crate) fn start(bus: &Bus, desk: Arc<Desk>) -> Self {
        let (clicks, clicked) = tokio::sync::mpsc::channel(1);
        let (tell, ready) = mpsc::channel();
        let address = bus.address();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .unwrap()
                .block_on(serve(&address, &desk, clicked, &tell));
        });
        ready.recv().unwrap();
        Self {
            clicks: Some(clicks),
            thread: Some(thread),
        }
    }

    /// Clicks on an action.
    pub(crate) fn click(&self, id: u32, key: &str) {
        let clicks = self.clicks.as_ref().unwrap();
        clicks.try_send((id, key.to_owned())).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.clicks = None;
        let served = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(served, Some(Ok(()))),
            "the service broke"
        );
    }
}

async fn serve(
    address: &str,
    desk: &Desk,
    mut clicked: tokio::sync::mpsc::Receiver<(u32, String)>,
    ready: &mpsc::Sender<()>,
) {
    let connection = Builder::address(address).build().await.unwrap();
    let mut calls = MessageStream::from(&connection);
    let bus = Some("org.freedesktop.DBus");
    let path = "/org/freedesktop/DBus";
    let owner = connection.call_method(bus, path, bus, "RequestName", &(NAME, 0_u32));
    assert_eq!(owner.await.unwrap().body().deserialize::<u32>().unwrap(), 1);
    ready.send(()).unwrap();
    let mut last = 0;
    loop {
        tokio::select! {
            call = calls.next() => {
                let call = call.unwrap().unwrap();
                if call.message_type() == Type::MethodCall {
                    take(&connection, &call, desk, &mut last).await;
                }
            }
            click = clicked.recv() => {
                let Some((id, key)) = click else { return };
                desk.close(id);
                say(&connection, "ActionInvoked", &(id, key.as_str())).await;
                say(&connection, "NotificationClosed", &(id, 2_u32)).await;
            }
        }
    }
}

async fn say<B>(connection: &Connection, signal: &str, body: &B)
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let everybody = None::<&str>;
    let said = connection.emit_signal(everybody, PATH, NAME, signal, body);
    said.await.unwrap();
}

async fn take(connection: &Connection, call: &Message, desk: &Desk, last: &mut u32) {
    type Notify = (
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
            let able = ["actions", "body", "body-markup", "persistence"];
            connection.reply(&header, &able.as_slice()).await.unwrap();
        }
        "Notify" => {
            let (_, replaces, _, summary, ..): Notify = body.deserialize().unwrap();
            let id = if replaces == 0 {
                *last += 1;
                *last
            } else {
                replaces
            };
            desk.notify(id, &summary);
            connection.reply(&header, &id).await.unwrap();
        }
        "CloseNotification" => {
            desk.close(body.deserialize().unwrap());
            connection.reply(&header, &()).await.unwrap();
        }
        _ => {}
    }
}

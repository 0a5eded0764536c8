// SPDX-License-Identifier: Apache-2.0
//! A session bus with a notification service on it that draws nothing and notes what it is told.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zbus::connection::Builder;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedVariant};

use crate::latency_samples::SpanTimer;
use crate::proc_stats::MeasuredChild;

const NOTIFICATIONS_BUS_NAME: &str = "org.freedesktop.Notifications";
/// Longer than anything is waited for.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The bus and the service, each ended with this.
#[derive(Debug)]
pub(crate) struct FakeDesktop {
    calls: Receiver<FakeDesktopCall>,
    stop: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    _bus: MeasuredChild,
    directory: TempDir,
}

/// What the service was told.
#[derive(Debug)]
pub(crate) enum FakeDesktopCall {
    /// To show something with this title.
    Notify(SpanTimer, String),
    /// To take something away.
    Close,
}

impl FakeDesktop {
    /// Starts both; the service has its name when this returns.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
        let path = directory.path().display();
        // The limit is that of every session bus; without it 128 calls may be on their way.
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={path}/bus</listen>\
             <auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy>\
             <limit name=\"max_replies_per_connection\">50000</limit></busconfig>"
        );
        let file = directory.path().join("config");
        std::fs::write(&file, config).context("writing the bus's configuration")?;
        let mut daemon = Command::new("dbus-daemon");
        daemon.arg(format!("--config-file={}", file.display()));
        daemon.args(["--nofork", "--print-address"]);
        daemon.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bus = MeasuredChild::start(&mut daemon).context("is package dbus installed?")?;
        // It says its address when it takes connections.
        let said = bus.0.stdout.take().context("no output")?;
        let mut address = String::new();
        let read = BufReader::new(said).read_line(&mut address);
        ensure!(
            read.context("reading the bus's address")? > 0,
            "the bus ended"
        );

        let (tell, told) = channel();
        let (ready, is_ready) = channel();
        let stop = CancellationToken::new();
        let halt = stop.clone();
        let address = format!("unix:path={path}/bus");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the runtime")?;
            let serving = serve(&address, &tell, &ready);
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = halt.cancelled() => Ok(()),
                    served = serving => served,
                }
            })
        });
        let desktop = Self {
            calls: told,
            stop,
            thread: Some(thread),
            _bus: bus,
            directory,
        };
        match is_ready.recv() {
            Ok(()) => Ok(desktop),
            Err(_) => desktop.into_failure("the service did not start"),
        }
    }

    /// Returns the bus's address.
    pub(crate) fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }

    /// Returns the next thing that the service is told.
    pub(crate) fn next_call(&mut self) -> anyhow::Result<FakeDesktopCall> {
        match self.calls.recv_timeout(WAIT_TIMEOUT) {
            Ok(told) => Ok(told),
            Err(RecvTimeoutError::Timeout) => bail!("no notification within {WAIT_TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                self.stop.cancel();
                match self.thread.take().map(JoinHandle::join) {
                    Some(Ok(Err(error))) => Err(error.context("the service broke")),
                    _ => bail!("the service broke"),
                }
            }
        }
    }

    /// Returns the title of the next notification, and when it came.
    pub(crate) fn next_notification(&mut self) -> anyhow::Result<(SpanTimer, String)> {
        loop {
            if let FakeDesktopCall::Notify(at, title) = self.next_call()? {
                return Ok((at, title));
            }
        }
    }

    /// Waits for a notification with a title like this, and returns when it came.
    pub(crate) fn wait_for_notification(
        &mut self,
        what: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> anyhow::Result<SpanTimer> {
        let clock = SpanTimer::start();
        loop {
            let (at, title) = self
                .next_notification()
                .with_context(|| format!("no {what}"))?;
            if is_it(&title) {
                return Ok(at);
            }
            let waited = clock.elapsed();
            ensure!(
                waited < WAIT_TIMEOUT,
                "no {what} within {WAIT_TIMEOUT:?}, but {title:?}"
            );
        }
    }

    /// Forgets what the service was told up to now.
    pub(crate) fn discard_calls(&mut self) {
        while self.calls.try_recv().is_ok() {}
    }

    /// Waits until something is taken away.
    pub(crate) fn wait_for_close(&mut self) -> anyhow::Result<()> {
        while !matches!(
            self.next_call().context("nothing is closed")?,
            FakeDesktopCall::Close
        ) {}
        Ok(())
    }

    fn into_failure<T>(mut self, what: &'static str) -> anyhow::Result<T> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(error.context(what)),
            _ => bail!(what),
        }
    }
}

impl Drop for FakeDesktop {
    fn drop(&mut self) {
        self.stop.cancel();
        // What broke is told by whoever misses a notification.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn serve(
    address: &str,
    tell: &Sender<FakeDesktopCall>,
    ready: &Sender<()>,
) -> anyhow::Result<()> {
    let connection = Builder::address(address).build().await?;
    let mut calls = MessageStream::from(&connection);
    let (bus, path) = (Some("org.freedesktop.DBus"), "/org/freedesktop/DBus");
    let owner = connection.call_method(
        bus,
        path,
        bus,
        "RequestName",
        &(NOTIFICATIONS_BUS_NAME, 0_u32),
    );
    let owner: u32 = owner.await?.body().deserialize()?;
    ensure!(owner == 1, "somebody has the name {NOTIFICATIONS_BUS_NAME}");
    ready.send(()).context("nobody waits for the service")?;
    let mut last = 0;
    while let Some(call) = calls.next().await {
        let call = call?;
        if call.message_type() == Type::MethodCall {
            handle_call(&connection, &call, tell, &mut last).await?;
        }
    }
    bail!("the bus ended")
}

async fn handle_call(
    connection: &Connection,
    call: &Message,
    tell: &Sender<FakeDesktopCall>,
    last: &mut u32,
) -> anyhow::Result<()> {
    type ReceivedNotifyArgs = (
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
    match header.member().map_or("", |member| member.as_str()) {
        "GetCapabilities" => {
            let able = ["actions", "body", "body-markup", "persistence"];
            connection.reply(&header, &able.as_slice()).await?;
        }
        "Notify" => {
            let at = SpanTimer::start();
            let (_, replaces, _, summary, ..): ReceivedNotifyArgs = body.deserialize()?;
            if replaces == 0 {
                *last = last.saturating_add(1);
            }
            let id = if replaces == 0 { *last } else { replaces };
            connection.reply(&header, &id).await?;
            // Nobody need listen.
            drop(tell.send(FakeDesktopCall::Notify(at, summary)));
        }
        "CloseNotification" => {
            connection.reply(&header, &()).await?;
            drop(tell.send(FakeDesktopCall::Close));
        }
        // What else there is, no UI of these asks for: an answer would be one more thing to
        // measure.
        _ => {}
    }
    Ok(())
}

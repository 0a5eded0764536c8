// SPDX-License-Identifier: Apache-2.0
//! Listens to one hub, and reconnects when the hub restarts.

use std::time::Duration;

use terok_clearance::client::{Client, EventStream, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::error_chain;
use terok_clearance::socket::{SandboxRecord, SocketConnectError};
use terok_clearance::wire::clearance2::Event;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::location::SocketFileId;
use crate::inbox::{HubId, InboxEvent};

/// A message from a listener to [`Hubs`](super::Hubs).
#[derive(Debug)]
pub(super) enum ListenerUpdate {
    /// The listener is connected; answers use this client.
    Up(Client, ProtocolVersion),
    /// An event for the inbox.
    Event(InboxEvent),
    /// The hub was killed, and its sandbox has ended: the socket file stays without a listener.
    Leftover,
}

/// How long a socket may be missing before its hub counts as gone: a hub that replaces a killed
/// one removes the old socket first.
const RESTART_GRACE: Duration = Duration::from_secs(1);

/// Listens to `hub` over one connection until the end of its snapshot, without a second attempt.
///
/// The end is [`Event::Synced`], or the connection itself for Clearance1, which has no snapshots.
///
/// A socket without a listener is reported as gone if `ignore_no_listener` is set.
pub(super) async fn listen_once(
    hub: HubId,
    updates: mpsc::Sender<(HubId, ListenerUpdate)>,
    ignore_no_listener: bool,
) {
    let listener = HubListener {
        hub,
        updates,
        snapshot_only: true,
        answers: false,
        is_named: false,
    };
    let ended = match Client::start(listener.hub.path()).await {
        Ok((client, events)) => {
            let mut server = HubProcess::default();
            listener.relay_events(&client, events, &mut server).await
        }
        Err(HubError::Connect(SocketConnectError::NoListener { .. })) if ignore_no_listener => {
            let gone = ListenerUpdate::Event(InboxEvent::Gone);
            listener.send_update(gone).await
        }
        Err(error) => {
            let unreachable = InboxEvent::Unreachable(error_chain(&error));
            listener
                .send_update(ListenerUpdate::Event(unreachable))
                .await
        }
    };
    // An error means that the receiver was dropped.
    drop(ended);
}

/// Listens to `hub` until both its socket and its connection are gone, or its sandbox has ended.
///
/// `answers` tells the hub that an operator is there to answer. `is_named`: the operator named this
/// socket, and is told that no process listens there. A socket that was only found without a
/// listener is what a killed hub has left.
pub(super) async fn listen_to_hub(
    hub: HubId,
    mut socket: watch::Receiver<Option<SocketFileId>>,
    updates: mpsc::Sender<(HubId, ListenerUpdate)>,
    answers: bool,
    is_named: bool,
) {
    let listener = HubListener {
        hub,
        updates,
        snapshot_only: false,
        answers,
        is_named,
    };
    // An error means that the receiver was dropped.
    drop(listener.run(&mut socket).await);
}

struct HubListener {
    hub: HubId,
    updates: mpsc::Sender<(HubId, ListenerUpdate)>,
    /// Whether to end after the snapshot.
    snapshot_only: bool,
    /// Whether the hub is told that an operator is there to answer.
    answers: bool,
    /// Whether the operator named the socket.
    is_named: bool,
}

type ListenerSendError = mpsc::error::SendError<(HubId, ListenerUpdate)>;

impl HubListener {
    async fn send_update(&self, update: ListenerUpdate) -> Result<(), ListenerSendError> {
        self.updates.send((self.hub.clone(), update)).await
    }

    async fn run(
        &self,
        socket: &mut watch::Receiver<Option<SocketFileId>>,
    ) -> Result<(), ListenerSendError> {
        let mut retries = RetrySchedule::default();
        let mut server = HubProcess::default();
        loop {
            let started = if self.answers {
                Client::start_answering(self.hub.path()).await
            } else {
                Client::start(self.hub.path()).await
            };
            match started {
                Ok((client, events)) => {
                    retries = RetrySchedule::default();
                    self.relay_events(&client, events, &mut server).await?;
                }
                Err(error) => {
                    retries.record_failure(&error);
                    if retries.no_listener && self.has_sandbox_ended() {
                        return self.send_update(ListenerUpdate::Leftover).await;
                    }
                    if retries.is_first_without_listener() {
                        let unserved = ListenerUpdate::Event(InboxEvent::NoListener);
                        self.send_update(unserved).await?;
                    }
                    if retries.is_first_slow_retry() && (self.is_named || !retries.no_listener) {
                        let reason = error_chain(&error);
                        self.send_update(ListenerUpdate::Event(InboxEvent::Unreachable(reason)))
                            .await?;
                    }
                }
            }
            if socket.borrow_and_update().is_none() {
                let back = timeout(RESTART_GRACE, socket.wait_for(Option::is_some)).await;
                match back.map(|back| back.map(drop)) {
                    Ok(Ok(())) => {
                        retries = RetrySchedule::default();
                        continue;
                    }
                    Ok(Err(_closed)) => return Ok(()),
                    Err(_elapsed) => {
                        return self
                            .send_update(ListenerUpdate::Event(InboxEvent::Gone))
                            .await;
                    }
                }
            }
            tokio::select! {
                changed = socket.changed() => match changed {
                    Ok(()) => retries = RetrySchedule::default(),
                    Err(_closed) => return Ok(()),
                },
                () = retries.wait() => {}
                () = self.wait_for_sandbox_end(), if retries.no_listener => {}
            }
        }
    }

    fn has_sandbox_ended(&self) -> bool {
        SandboxRecord::read(self.hub.path()).is_some_and(|record| record.has_ended())
    }

    /// Waits for the end of the hub's sandbox; forever if its process is not known.
    async fn wait_for_sandbox_end(&self) {
        let record = SandboxRecord::read(self.hub.path());
        // A pipe is tokio's safe way to wait for a descriptor.
        if let Some(pidfd) = record.and_then(|record| record.pidfd())
            && let Ok(process) = pipe::Receiver::from_owned_fd_unchecked(pidfd)
            && process.readable().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Relays the events of the hub until the connection breaks.
    ///
    /// `server` is the last known process behind the socket.
    async fn relay_events(
        &self,
        client: &Client,
        mut events: EventStream,
        server: &mut HubProcess,
    ) -> Result<(), ListenerSendError> {
        loop {
            match events.next().await {
                StreamUpdate::Connected(version) => {
                    if server.detect_restart(events.hub_pid()) {
                        self.send_update(ListenerUpdate::Event(InboxEvent::Restarted))
                            .await?;
                    }
                    self.send_update(ListenerUpdate::Up(client.clone(), version))
                        .await?;
                    if self.snapshot_only && version == ProtocolVersion::Clearance1 {
                        return Ok(());
                    }
                }
                StreamUpdate::Event(event) => {
                    let synced = event == Event::Synced;
                    self.send_update(ListenerUpdate::Event(InboxEvent::Received(event)))
                        .await?;
                    if self.snapshot_only && synced {
                        return Ok(());
                    }
                }
                StreamUpdate::UnknownEvent(event) => {
                    self.send_update(ListenerUpdate::Event(InboxEvent::UnknownEvent(event)))
                        .await?;
                }
                StreamUpdate::Disconnected { reason, .. } => {
                    return self
                        .send_update(ListenerUpdate::Event(InboxEvent::Down(reason)))
                        .await;
                }
                // The enum may grow.
                _ => {}
            }
        }
    }
}

/// The process behind a hub socket; distinguishes a restart from a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum HubProcess {
    /// No connection yet.
    #[default]
    Unseen,
    /// Connected, but the kernel does not report the process.
    Unknown,
    /// The process with this id.
    Pid(i32),
}

impl HubProcess {
    /// Records the current process. Returns `true` if it may differ from the previous one.
    fn detect_restart(&mut self, process: Option<i32>) -> bool {
        let current = process.map_or(Self::Unknown, Self::Pid);
        let previous = std::mem::replace(self, current);
        previous != Self::Unseen && (previous != current || current == Self::Unknown)
    }
}

/// The delays between connection attempts.
///
/// A socket file exists a moment before its hub listens, and stays when the hub is killed, so the
/// first attempts follow quickly, within a second in all. After that, a socket without a listener
/// is not tried again: a new hub creates a new file, which inotify reports. A hub that refuses the
/// connection is tried every ten seconds; a hub that does not respond, from the first attempt on.
#[derive(Debug, Default)]
struct RetrySchedule {
    failures: u32,
    no_listener: bool,
}

impl RetrySchedule {
    const MAX_QUICK_RETRIES: u32 = 10;
    /// Attempts within some 10 ms, in which a new hub goes from its socket's file to listening.
    const NO_LISTENER_ATTEMPTS: u32 = 3;
    const FIRST_RETRY_DELAY: Duration = Duration::from_millis(1);
    const SLOW_RETRY_DELAY: Duration = Duration::from_secs(10);

    fn record_failure(&mut self, error: &HubError) {
        self.failures = self.failures.saturating_add(1);
        if matches!(error, HubError::TimedOut { .. }) {
            // The time limit of the attempt was delay enough.
            self.failures = self.failures.max(Self::MAX_QUICK_RETRIES);
        }
        self.no_listener = matches!(
            error,
            HubError::Connect(
                SocketConnectError::NoListener { .. } | SocketConnectError::OtherUser { .. }
            )
        );
    }

    /// Returns `true` once, after enough attempts to say that no process listens.
    const fn is_first_without_listener(&self) -> bool {
        self.no_listener && self.failures == Self::NO_LISTENER_ATTEMPTS
    }

    /// Returns `true` after the last quick attempt.
    const fn is_first_slow_retry(&self) -> bool {
        self.failures == Self::MAX_QUICK_RETRIES
    }

    /// Waits until the next attempt is due; forever if an attempt would be pointless.
    async fn wait(&self) {
        if self.failures < Self::MAX_QUICK_RETRIES {
            sleep(Self::FIRST_RETRY_DELAY.saturating_mul(1 << self.failures)).await;
        } else if self.no_listener {
            std::future::pending::<()>().await;
        } else {
            sleep(Self::SLOW_RETRY_DELAY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_listener() -> HubError {
        HubError::Connect(SocketConnectError::NoListener {
            path: "/run/hub.sock".into(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        })
    }

    fn not_a_hub() -> HubError {
        HubError::NotAHub {
            path: "/run/hub.sock".into(),
            product: "something else".into(),
        }
    }

    fn timed_out() -> HubError {
        HubError::TimedOut {
            path: "/run/hub.sock".into(),
        }
    }

    /// Returns the sum of the delays after `failures` failures, `None` if a delay never ends.
    async fn total_delay(failures: u32, error: fn() -> HubError) -> Option<Duration> {
        let mut retries = RetrySchedule::default();
        let start = tokio::time::Instant::now();
        for _ in 0..failures {
            retries.record_failure(&error());
            timeout(Duration::from_secs(3600), retries.wait())
                .await
                .ok()?;
        }
        Some(start.elapsed())
    }

    #[test]
    fn other_or_unknown_process_is_a_restart() {
        let mut server = HubProcess::default();
        let seen = [Some(7), Some(7), Some(8), None, None, Some(8), Some(8)];
        let replaced = seen.map(|process| server.detect_restart(process));
        assert_eq!(replaced, [false, false, true, true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn socket_without_listener_is_tried_for_one_second() {
        let quick = total_delay(RetrySchedule::MAX_QUICK_RETRIES - 1, no_listener)
            .await
            .unwrap();
        assert!((900..1200).contains(&quick.as_millis()), "{quick:?}");
        assert_eq!(
            total_delay(RetrySchedule::MAX_QUICK_RETRIES, no_listener).await,
            None
        );
        let slow = total_delay(RetrySchedule::MAX_QUICK_RETRIES + 1, not_a_hub)
            .await
            .unwrap();
        assert!((20..23).contains(&slow.as_secs()), "{slow:?}");
        let silent = total_delay(2, timed_out).await.unwrap();
        assert!((20..21).contains(&silent.as_secs()), "{silent:?}");
    }
}

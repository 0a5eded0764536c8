// SPDX-License-Identifier: Apache-2.0
//! One hub's listener: it comes back when the hub does.

use std::time::Duration;

use terok_clearance::client::{Client, EventStream, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::SocketConnectError;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::location::SocketFileId;
use crate::error_chain;
use crate::inbox::{HubId, InboxEvent};

/// What a listener tells.
#[derive(Debug)]
pub(super) enum ListenerUpdate {
    /// The connection stands; answers go this way.
    Up(Client, ProtocolVersion),
    /// What the hub says, or that it is gone.
    Event(InboxEvent),
}

/// How long a socket may be away before the hub is gone: one that starts in a killed one's place
/// takes the old socket away first.
const RESTART_GRACE: Duration = Duration::from_secs(1);

/// Listens to `hub` until its socket is gone, and its connection too.
pub(super) async fn listen_to_hub(
    hub: HubId,
    mut socket: watch::Receiver<Option<SocketFileId>>,
    tell: mpsc::Sender<(HubId, ListenerUpdate)>,
) {
    let listener = HubListener { hub, updates: tell };
    // An error means that nobody wants to know any more.
    drop(listener.run(&mut socket).await);
}

struct HubListener {
    hub: HubId,
    updates: mpsc::Sender<(HubId, ListenerUpdate)>,
}

type ListenerSendError = mpsc::error::SendError<(HubId, ListenerUpdate)>;

impl HubListener {
    async fn send_update(&self, told: ListenerUpdate) -> Result<(), ListenerSendError> {
        self.updates.send((self.hub.clone(), told)).await
    }

    async fn run(
        &self,
        socket: &mut watch::Receiver<Option<SocketFileId>>,
    ) -> Result<(), ListenerSendError> {
        let mut tries = RetrySchedule::default();
        let mut server = HubProcess::default();
        loop {
            match Client::start(self.hub.path()).await {
                Ok((client, events)) => {
                    tries = RetrySchedule::default();
                    self.relay_events(&client, events, &mut server).await?;
                }
                Err(error) => {
                    tries.record_failure(&error);
                    if tries.is_first_slow_retry() {
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
                        tries = RetrySchedule::default();
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
                    Ok(()) => tries = RetrySchedule::default(),
                    Err(_closed) => return Ok(()),
                },
                () = tries.wait() => {}
            }
        }
    }

    /// Passes on what the hub says until its connection breaks.
    ///
    /// `server` is the process that served the hub last.
    async fn relay_events(
        &self,
        client: &Client,
        mut events: EventStream,
        server: &mut HubProcess,
    ) -> Result<(), ListenerSendError> {
        loop {
            match events.next().await {
                StreamUpdate::Connected(speaks) => {
                    if server.detect_restart(events.hub_pid()) {
                        self.send_update(ListenerUpdate::Event(InboxEvent::Restarted))
                            .await?;
                    }
                    self.send_update(ListenerUpdate::Up(client.clone(), speaks))
                        .await?;
                }
                StreamUpdate::Event(event) => {
                    self.send_update(ListenerUpdate::Event(InboxEvent::Received(event)))
                        .await?;
                }
                StreamUpdate::Disconnected { reason, .. } => {
                    return self
                        .send_update(ListenerUpdate::Event(InboxEvent::Down(reason)))
                        .await;
                }
            }
        }
    }
}

/// The process behind a hub's socket, which tells a restart from a hiccup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum HubProcess {
    /// There was none yet.
    #[default]
    Unseen,
    /// It is one of which the kernel does not say which.
    Unknown,
    /// It is this one.
    Pid(i32),
}

impl HubProcess {
    /// Takes in which process it is now, and says whether that may be another than before.
    fn detect_restart(&mut self, process: Option<i32>) -> bool {
        let now = process.map_or(Self::Unknown, Self::Pid);
        let before = std::mem::replace(self, now);
        before != Self::Unseen && (before != now || now == Self::Unknown)
    }
}

/// When to try again.
///
/// A socket's file is there a moment before anybody listens on it, and stays there when a hub is
/// killed. So a few tries follow each other quickly, a second in all; then it depends. Where
/// nobody listens, nobody will before there is a new file, and of that the kernel tells. A hub
/// that is there but does not take us is asked every ten seconds, one that does not answer at all
/// from the first time on.
#[derive(Debug, Default)]
struct RetrySchedule {
    failures: u32,
    no_listener: bool,
}

impl RetrySchedule {
    const MAX_QUICK_RETRIES: u32 = 10;
    const FIRST_RETRY_DELAY: Duration = Duration::from_millis(1);
    const SLOW_RETRY_DELAY: Duration = Duration::from_secs(10);

    fn record_failure(&mut self, error: &HubError) {
        self.failures = self.failures.saturating_add(1);
        if matches!(error, HubError::TimedOut { .. }) {
            // That was long enough.
            self.failures = self.failures.max(Self::MAX_QUICK_RETRIES);
        }
        self.no_listener = matches!(
            error,
            HubError::Connect(
                SocketConnectError::NoListener { .. } | SocketConnectError::OtherUser { .. }
            )
        );
    }

    /// Says whether the quick tries have just ended.
    const fn is_first_slow_retry(&self) -> bool {
        self.failures == Self::MAX_QUICK_RETRIES
    }

    /// Waits until the next try is due; for ever where a try would change nothing.
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

    fn nobody() -> HubError {
        HubError::Connect(SocketConnectError::NoListener {
            path: "/run/hub.sock".into(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        })
    }

    fn another() -> HubError {
        HubError::NotAHub {
            path: "/run/hub.sock".into(),
            product: "something else".into(),
        }
    }

    fn silent() -> HubError {
        HubError::TimedOut {
            path: "/run/hub.sock".into(),
        }
    }

    /// Returns how long all waits take together after `failures` failures, `None` for ever.
    async fn waited(failures: u32, error: fn() -> HubError) -> Option<Duration> {
        let mut tries = RetrySchedule::default();
        let start = tokio::time::Instant::now();
        for _ in 0..failures {
            tries.record_failure(&error());
            timeout(Duration::from_secs(3600), tries.wait())
                .await
                .ok()?;
        }
        Some(start.elapsed())
    }

    #[test]
    fn another_process_is_a_restart_and_so_is_one_that_nobody_knows() {
        let mut server = HubProcess::default();
        let seen = [Some(7), Some(7), Some(8), None, None, Some(8), Some(8)];
        let replaced = seen.map(|process| server.detect_restart(process));
        assert_eq!(replaced, [false, false, true, true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_nobody_serves_is_tried_for_a_second_and_then_left_alone() {
        let quick = waited(RetrySchedule::MAX_QUICK_RETRIES - 1, nobody)
            .await
            .unwrap();
        assert!((900..1200).contains(&quick.as_millis()), "{quick:?}");
        assert_eq!(waited(RetrySchedule::MAX_QUICK_RETRIES, nobody).await, None);
        let slow = waited(RetrySchedule::MAX_QUICK_RETRIES + 1, another)
            .await
            .unwrap();
        assert!((20..23).contains(&slow.as_secs()), "{slow:?}");
        let silent = waited(2, silent).await.unwrap();
        assert!((20..21).contains(&silent.as_secs()), "{silent:?}");
    }
}

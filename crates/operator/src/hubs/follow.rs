// SPDX-License-Identifier: Apache-2.0
//! One hub's listener: it comes back when the hub does.

use std::time::Duration;

use terok_clearance::client::{Client, EventStream, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::SocketConnectError;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::place::Mark;
use crate::inbox::{HubId, News};
use crate::whole_story;

/// What a listener tells.
#[derive(Debug)]
pub(super) enum Told {
    /// The connection stands; answers go this way.
    Up(Client, ProtocolVersion),
    /// What the hub says, or that it is gone.
    News(News),
}

/// How long a socket may be away before the hub is gone: one that starts in a killed one's place
/// takes the old socket away first.
const BETWEEN: Duration = Duration::from_secs(1);

/// Listens to `hub` until its socket is gone, and its connection too.
pub(super) async fn follow(
    hub: HubId,
    mut socket: watch::Receiver<Option<Mark>>,
    tell: mpsc::Sender<(HubId, Told)>,
) {
    let listener = Listener { hub, tell };
    // An error means that nobody wants to know any more.
    drop(listener.listen(&mut socket).await);
}

struct Listener {
    hub: HubId,
    tell: mpsc::Sender<(HubId, Told)>,
}

type Unheard = mpsc::error::SendError<(HubId, Told)>;

impl Listener {
    async fn tell(&self, told: Told) -> Result<(), Unheard> {
        self.tell.send((self.hub.clone(), told)).await
    }

    async fn listen(&self, socket: &mut watch::Receiver<Option<Mark>>) -> Result<(), Unheard> {
        let mut tries = Tries::default();
        let mut server = Server::default();
        loop {
            match Client::start(self.hub.path()).await {
                Ok((client, events)) => {
                    tries = Tries::default();
                    self.converse(&client, events, &mut server).await?;
                }
                Err(error) => {
                    tries.failed(&error);
                    if tries.first_slow() {
                        let reason = whole_story(&error);
                        self.tell(Told::News(News::Unreachable(reason))).await?;
                    }
                }
            }
            if socket.borrow_and_update().is_none() {
                let back = timeout(BETWEEN, socket.wait_for(Option::is_some)).await;
                match back.map(|back| back.map(drop)) {
                    Ok(Ok(())) => {
                        tries = Tries::default();
                        continue;
                    }
                    Ok(Err(_closed)) => return Ok(()),
                    Err(_elapsed) => return self.tell(Told::News(News::Gone)).await,
                }
            }
            tokio::select! {
                changed = socket.changed() => match changed {
                    Ok(()) => tries = Tries::default(),
                    Err(_closed) => return Ok(()),
                },
                () = tries.wait() => {}
            }
        }
    }

    /// Passes on what the hub says until its connection breaks.
    ///
    /// `server` is the process that served the hub last.
    async fn converse(
        &self,
        client: &Client,
        mut events: EventStream,
        server: &mut Server,
    ) -> Result<(), Unheard> {
        loop {
            match events.next().await {
                StreamUpdate::Connected(speaks) => {
                    if server.is_replaced(events.hub_pid()) {
                        self.tell(Told::News(News::Restarted)).await?;
                    }
                    self.tell(Told::Up(client.clone(), speaks)).await?;
                }
                StreamUpdate::Event(event) => self.tell(Told::News(News::Said(event))).await?,
                StreamUpdate::Disconnected { reason, .. } => {
                    return self.tell(Told::News(News::Down(reason))).await;
                }
            }
        }
    }
}

/// The process behind a hub's socket, which tells a restart from a hiccup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Server {
    /// There was none yet.
    #[default]
    Unseen,
    /// It is one of which the kernel does not say which.
    Hidden,
    /// It is this one.
    Process(i32),
}

impl Server {
    /// Takes in which process it is now, and says whether that may be another than before.
    fn is_replaced(&mut self, process: Option<i32>) -> bool {
        let now = process.map_or(Self::Hidden, Self::Process);
        let before = std::mem::replace(self, now);
        before != Self::Unseen && (before != now || now == Self::Hidden)
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
struct Tries {
    failed: u32,
    nobody: bool,
}

impl Tries {
    const QUICK: u32 = 10;
    const FIRST: Duration = Duration::from_millis(1);
    const SLOW: Duration = Duration::from_secs(10);

    fn failed(&mut self, error: &HubError) {
        self.failed = self.failed.saturating_add(1);
        if matches!(error, HubError::Silent { .. }) {
            // That was long enough.
            self.failed = self.failed.max(Self::QUICK);
        }
        self.nobody = matches!(
            error,
            HubError::Connect(ConnectError::NobodyListens { .. } | ConnectError::Impostor { .. })
        );
    }

    /// Says whether the quick tries have just ended.
    const fn first_slow(&self) -> bool {
        self.failed == Self::QUICK
    }

    /// Waits until the next try is due; for ever where a try would change nothing.
    async fn wait(&self) {
        if self.failed < Self::QUICK {
            sleep(Self::FIRST.saturating_mul(1 << self.failed)).await;
        } else if self.nobody {
            std::future::pending::<()>().await;
        } else {
            sleep(Self::SLOW).await;
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
        let mut tries = Tries::default();
        let start = tokio::time::Instant::now();
        for _ in 0..failures {
            tries.failed(&error());
            timeout(Duration::from_secs(3600), tries.wait())
                .await
                .ok()?;
        }
        Some(start.elapsed())
    }

    #[test]
    fn another_process_is_a_restart_and_so_is_one_that_nobody_knows() {
        let mut server = Server::default();
        let seen = [Some(7), Some(7), Some(8), None, None, Some(8), Some(8)];
        let replaced = seen.map(|process| server.is_replaced(process));
        assert_eq!(replaced, [false, false, true, true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_nobody_serves_is_tried_for_a_second_and_then_left_alone() {
        let quick = waited(Tries::QUICK - 1, nobody).await.unwrap();
        assert!((900..1200).contains(&quick.as_millis()), "{quick:?}");
        assert_eq!(waited(Tries::QUICK, nobody).await, None);
        let slow = waited(Tries::QUICK + 1, another).await.unwrap();
        assert!((20..23).contains(&slow.as_secs()), "{slow:?}");
        let silent = waited(2, silent).await.unwrap();
        assert!((20..21).contains(&silent.as_secs()), "{silent:?}");
    }
}

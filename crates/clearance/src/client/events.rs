// SPDX-License-Identifier: Apache-2.0
//! The event stream, which connects again for as long as it is asked for events.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::legacy::Legacy;
use super::{Backoff, Hub, HubError, Notify, Speaks};
use crate::DisplayText;
use crate::varlink::{CallError, NoParameters, ReplyStream};
use crate::wire::clearance2::Event;
use crate::wire::{clearance1, clearance2};

/// What there is to tell a program.
#[derive(Debug)]
pub enum Update {
    /// Something happened.
    ///
    /// [`Event::Pending`] may name a question that was named before: it is the same one.
    Event(Event),
    /// The subscription is there, for the first time or again.
    ///
    /// A hub that speaks Clearance2 now says everything that is pending, then [`Event::Synced`]:
    /// a question it did not name in between is void. One that speaks Clearance1 says only what
    /// happens from now on.
    Connected(Speaks),
    /// The hub is gone; the next attempt is made after this time.
    Disconnected {
        /// Why.
        reason: DisplayText,
        /// The time until the next attempt.
        retry: Duration,
    },
}

/// What happens at a hub; see [`super::Client::start`].
#[derive(Debug)]
pub struct Events {
    hub: Arc<Hub>,
    poke: Arc<Poke>,
    state: State,
    backoff: Backoff,
    legacy: Legacy,
    /// What was understood but not handed out yet: one message can mean several events.
    ready: VecDeque<Update>,
}

#[derive(Debug)]
enum State {
    Subscribed(ReplyStream, Speaks),
    Waiting(Instant),
    Trying(Attempt),
}

/// An attempt to subscribe, which goes on where it was when [`Events::next`] is called again: a
/// program that looks elsewhere ten times a second would else never get through.
struct Attempt(Pin<Box<dyn Future<Output = Subscription> + Send>>);

type Subscription = Result<(ReplyStream, Speaks), HubError>;

impl Attempt {
    fn new(hub: Arc<Hub>) -> Self {
        Self(Box::pin(async move { subscribe(&hub).await }))
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

impl Events {
    pub(super) async fn start(hub: Arc<Hub>, poke: Arc<Poke>) -> Result<Self, HubError> {
        let (stream, speaks) = subscribe(&hub).await?;
        Ok(Self {
            hub,
            poke,
            state: State::Subscribed(stream, speaks),
            backoff: Backoff::default(),
            legacy: Legacy::default(),
            ready: VecDeque::from([Update::Connected(speaks)]),
        })
    }

    /// Returns the next thing there is to tell; never ends.
    ///
    /// A message that makes no sense is skipped, and the reason logged. A call that is dropped
    /// before it is done loses nothing.
    pub async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return update;
            }
            match &mut self.state {
                State::Subscribed(stream, speaks) => match stream.next_raw().await {
                    Ok(Some(parameters)) => {
                        self.backoff = Backoff::default();
                        let speaks = *speaks;
                        self.understand(speaks, parameters.get());
                    }
                    Ok(None) => self.lose("the hub ended the stream"),
                    Err(CallError::Protocol(reason)) => {
                        tracing::warn!(%reason, "skipped a message of the hub");
                    }
                    Err(error) => self.lose(&error.to_string()),
                },
                State::Waiting(until) => {
                    self.poke.wait_until(*until).await;
                    self.state = State::Trying(Attempt::new(Arc::clone(&self.hub)));
                }
                State::Trying(attempt) => match attempt.0.as_mut().await {
                    Ok((stream, speaks)) => {
                        tracing::info!(path = %self.hub.path.display(), "subscribed again");
                        self.poke.arm(false);
                        self.state = State::Subscribed(stream, speaks);
                        self.ready.push_back(Update::Connected(speaks));
                    }
                    Err(error) => self.lose(&error.to_string()),
                },
            }
        }
    }

    /// Returns the process at the other end; `None` while the hub is away, or where that is not
    /// known.
    ///
    /// Another process than before is a hub that was restarted: what it does not ask, it may
    /// never have known.
    pub fn hub_process(&self) -> Option<i32> {
        match &self.state {
            State::Subscribed(stream, _) => stream.process(),
            State::Waiting(_) | State::Trying(_) => None,
        }
    }

    /// Hands every update to `handler`, forever.
    ///
    /// A handler that fails, or panics, is logged, and gets the next update: it cannot end the
    /// stream for the program's other events.
    pub async fn each<E: fmt::Display>(
        mut self,
        mut handler: impl AsyncFnMut(Update) -> Result<(), E>,
    ) {
        loop {
            let update = self.next().await;
            let mut running = pin!(handler(update));
            let caught = std::future::poll_fn(|context| {
                let poll = AssertUnwindSafe(|| running.as_mut().poll(context));
                match catch_unwind(poll) {
                    Ok(poll) => poll.map(Some),
                    Err(_panic) => Poll::Ready(None),
                }
            });
            match caught.await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let error = DisplayText::new(&error.to_string());
                    tracing::error!(%error, "an event's handler failed");
                }
                None => tracing::error!("an event's handler panicked"),
            }
        }
    }

    fn understand(&mut self, speaks: Speaks, parameters: &str) {
        #[derive(Deserialize)]
        struct Old {
            event: clearance1::Received,
        }
        let understood = match speaks {
            Speaks::Clearance1 => serde_json::from_str(parameters)
                .map_err(|error| error.to_string())
                .and_then(|Old { event }| self.legacy.translate(event)),
            Speaks::Clearance2 => serde_json::from_str(parameters)
                .map(|clearance2::Received { event }| event.event.into_iter().collect())
                .map_err(|error| error.to_string()),
        };
        match understood {
            Ok(events) => self.ready.extend(events.into_iter().map(Update::Event)),
            Err(reason) => {
                let reason = DisplayText::new(&reason);
                tracing::warn!(%reason, "skipped an event of the hub");
            }
        }
    }

    fn lose(&mut self, reason: &str) {
        let reason = DisplayText::new(reason);
        let retry = self.backoff.next();
        tracing::info!(%reason, ?retry, "the hub is gone");
        let now = Instant::now();
        self.poke.arm(true);
        self.state = State::Waiting(now.checked_add(retry).unwrap_or(now));
        self.ready.push_back(Update::Disconnected { reason, retry });
    }
}

async fn subscribe(hub: &Hub) -> Subscription {
    let (connection, speaks) = hub.connect().await?;
    let method = match speaks {
        Speaks::Clearance1 => clearance1::SUBSCRIBE,
        Speaks::Clearance2 => clearance2::SUBSCRIBE,
    };
    match connection.call_more(method, &NoParameters {}).await {
        Ok(stream) => Ok((stream, speaks)),
        Err(source) => Err(HubError::Call {
            path: hub.path.clone(),
            source,
        }),
    }
}

/// Ends a wait early; forgets what is said while nobody waits for a hub.
#[derive(Debug, Default)]
pub(super) struct Poke {
    armed: AtomicBool,
    notify: Notify,
}

impl Poke {
    pub(super) fn poke(&self) {
        if self.armed.swap(false, Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    async fn wait_until(&self, until: Instant) {
        tokio::select! {
            biased;
            () = self.notify.notified() => {}
            () = sleep_until(until) => {}
        }
    }
}

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

use super::clearance1_translator::Clearance1Translator;
use super::{HubEndpoint, HubError, Notify, ProtocolVersion, ReconnectBackoff};
use crate::DisplayText;
use crate::varlink::{CallError, NoParameters, ReplyStream};
use crate::wire::clearance2::Event;
use crate::wire::{clearance1, clearance2};

/// What there is to tell a program.
#[derive(Debug)]
pub enum StreamUpdate {
    /// Something happened.
    ///
    /// [`Event::Pending`] may name a question that was named before: it is the same one.
    Event(Event),
    /// The subscription is there, for the first time or again.
    ///
    /// A hub that speaks Clearance2 now says everything that is pending, then [`Event::Synced`]:
    /// a question it did not name in between is void. One that speaks Clearance1 says only what
    /// happens from now on.
    Connected(ProtocolVersion),
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
pub struct EventStream {
    endpoint: Arc<HubEndpoint>,
    reconnect: Arc<ReconnectSignal>,
    state: StreamState,
    backoff: ReconnectBackoff,
    translator: Clearance1Translator,
    /// What was understood but not handed out yet: one message can mean several events.
    ready_updates: VecDeque<StreamUpdate>,
}

#[derive(Debug)]
enum StreamState {
    Subscribed(ReplyStream, ProtocolVersion),
    BackingOff(Instant),
    Connecting(SubscribeAttempt),
}

/// An attempt to subscribe, which goes on where it was when [`Events::next`] is called again: a
/// program that looks elsewhere ten times a second would else never get through.
struct SubscribeAttempt(Pin<Box<dyn Future<Output = SubscribeResult> + Send>>);

type SubscribeResult = Result<(ReplyStream, ProtocolVersion), HubError>;

impl SubscribeAttempt {
    fn new(hub: Arc<HubEndpoint>) -> Self {
        Self(Box::pin(async move { subscribe(&hub).await }))
    }
}

impl fmt::Debug for SubscribeAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

impl EventStream {
    pub(super) async fn start(
        hub: Arc<HubEndpoint>,
        poke: Arc<ReconnectSignal>,
    ) -> Result<Self, HubError> {
        let (stream, speaks) = subscribe(&hub).await?;
        Ok(Self {
            endpoint: hub,
            reconnect: poke,
            state: StreamState::Subscribed(stream, speaks),
            backoff: ReconnectBackoff::default(),
            translator: Clearance1Translator::default(),
            ready_updates: VecDeque::from([StreamUpdate::Connected(speaks)]),
        })
    }

    /// Returns the next thing there is to tell; never ends.
    ///
    /// A message that makes no sense is skipped, and the reason logged. A call that is dropped
    /// before it is done loses nothing.
    pub async fn next(&mut self) -> StreamUpdate {
        loop {
            if let Some(update) = self.ready_updates.pop_front() {
                return update;
            }
            match &mut self.state {
                StreamState::Subscribed(stream, speaks) => match stream.next_raw().await {
                    Ok(Some(parameters)) => {
                        self.backoff = ReconnectBackoff::default();
                        let speaks = *speaks;
                        self.decode_event(speaks, parameters.get());
                    }
                    Ok(None) => self.handle_disconnect("the hub ended the stream"),
                    Err(CallError::Protocol(reason)) => {
                        tracing::warn!(%reason, "skipped a message of the hub");
                    }
                    Err(error) => self.handle_disconnect(&error.to_string()),
                },
                StreamState::BackingOff(until) => {
                    self.reconnect.wait_until(*until).await;
                    self.state =
                        StreamState::Connecting(SubscribeAttempt::new(Arc::clone(&self.endpoint)));
                }
                StreamState::Connecting(attempt) => match attempt.0.as_mut().await {
                    Ok((stream, speaks)) => {
                        tracing::info!(path = %self.endpoint.path.display(), "subscribed again");
                        self.reconnect.set_armed(false);
                        self.state = StreamState::Subscribed(stream, speaks);
                        self.ready_updates
                            .push_back(StreamUpdate::Connected(speaks));
                    }
                    Err(error) => self.handle_disconnect(&error.to_string()),
                },
            }
        }
    }

    /// Returns the process at the other end; `None` while the hub is away, or where that is not
    /// known.
    ///
    /// Another process than before is a hub that was restarted: what it does not ask, it may
    /// never have known.
    pub fn hub_pid(&self) -> Option<i32> {
        match &self.state {
            StreamState::Subscribed(stream, _) => stream.service_pid(),
            StreamState::BackingOff(_) | StreamState::Connecting(_) => None,
        }
    }

    /// Hands every update to `handler`, forever.
    ///
    /// A handler that fails, or panics, is logged, and gets the next update: it cannot end the
    /// stream for the program's other events.
    pub async fn for_each<E: fmt::Display>(
        mut self,
        mut handler: impl AsyncFnMut(StreamUpdate) -> Result<(), E>,
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

    fn decode_event(&mut self, speaks: ProtocolVersion, parameters: &str) {
        #[derive(Deserialize)]
        struct Clearance1SubscribeReply {
            event: clearance1::ClearanceEvent,
        }
        let understood = match speaks {
            ProtocolVersion::Clearance1 => serde_json::from_str(parameters)
                .map_err(|error| error.to_string())
                .and_then(|Clearance1SubscribeReply { event }| self.translator.translate(event)),
            ProtocolVersion::Clearance2 => serde_json::from_str(parameters)
                .map(|clearance2::Clearance2SubscribeReply { event }| {
                    event.event.into_iter().collect()
                })
                .map_err(|error| error.to_string()),
        };
        match understood {
            Ok(events) => self
                .ready_updates
                .extend(events.into_iter().map(StreamUpdate::Event)),
            Err(reason) => {
                let reason = DisplayText::new(&reason);
                tracing::warn!(%reason, "skipped an event of the hub");
            }
        }
    }

    fn handle_disconnect(&mut self, reason: &str) {
        let reason = DisplayText::new(reason);
        let retry = self.backoff.next_delay();
        tracing::info!(%reason, ?retry, "the hub is gone");
        let now = Instant::now();
        self.reconnect.set_armed(true);
        self.state = StreamState::BackingOff(now.checked_add(retry).unwrap_or(now));
        self.ready_updates
            .push_back(StreamUpdate::Disconnected { reason, retry });
    }
}

async fn subscribe(hub: &HubEndpoint) -> SubscribeResult {
    let (connection, speaks) = hub.connect().await?;
    let method = match speaks {
        ProtocolVersion::Clearance1 => clearance1::SUBSCRIBE,
        ProtocolVersion::Clearance2 => clearance2::SUBSCRIBE,
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
pub(super) struct ReconnectSignal {
    armed: AtomicBool,
    notify: Notify,
}

impl ReconnectSignal {
    pub(super) fn trigger(&self) {
        if self.armed.swap(false, Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    fn set_armed(&self, armed: bool) {
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

// SPDX-License-Identifier: Apache-2.0
//! The event stream, which reconnects after every disconnect.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::clearance1_translator::{Clearance1Translator, is_known_type};
use super::unknown_event::UnknownEvent;
use super::{HubEndpoint, HubError, Notify, ProtocolVersion, reconnect_backoff, supports_answers};
use crate::varlink::{CallError, NoParameters, ReplyStream};
use crate::wire::clearance2::Event;
use crate::wire::{clearance1, clearance2};
use crate::{Backoff, DisplayText};

/// An update of an [`EventStream`].
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamUpdate {
    /// An event of the hub.
    ///
    /// A second [`Event::Pending`] with the same id is the same question.
    Event(Event),
    /// An event of a type that this release does not know.
    UnknownEvent(UnknownEvent),
    /// The subscription is established, for the first time or again.
    ///
    /// A Clearance2 hub now sends every pending question, then [`Event::Synced`]: a question that
    /// is missing in between is no longer pending. A Clearance1 hub sends later events only.
    Connected(ProtocolVersion),
    /// The connection was lost, or an attempt to reconnect failed.
    Disconnected {
        /// The reason.
        reason: DisplayText,
        /// The delay before the next attempt.
        retry: Duration,
    },
}

/// The events of a hub; see [`Client::start`](super::Client::start).
#[derive(Debug)]
pub struct EventStream {
    endpoint: Arc<HubEndpoint>,
    reconnect: Arc<ReconnectSignal>,
    state: StreamState,
    backoff: Backoff,
    translator: Clearance1Translator,
    /// Updates for the next calls: one message can stand for several events.
    ready_updates: VecDeque<StreamUpdate>,
}

#[derive(Debug)]
enum StreamState {
    Subscribed(ReplyStream, ProtocolVersion),
    BackingOff(Instant),
    Connecting(SubscribeAttempt),
}

/// An attempt to subscribe, which the next call of [`EventStream::next`] continues.
///
/// A program that drops the call ten times a second would otherwise never reconnect.
struct SubscribeAttempt(Pin<Box<dyn Future<Output = SubscribeResult> + Send>>);

type SubscribeResult = Result<(ReplyStream, ProtocolVersion), HubError>;

impl SubscribeAttempt {
    fn new(endpoint: Arc<HubEndpoint>) -> Self {
        Self(Box::pin(async move { subscribe(&endpoint).await }))
    }
}

impl fmt::Debug for SubscribeAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscribeAttempt")
    }
}

impl EventStream {
    pub(super) async fn start(
        endpoint: Arc<HubEndpoint>,
        reconnect: Arc<ReconnectSignal>,
    ) -> Result<Self, HubError> {
        let (stream, version) = subscribe(&endpoint).await?;
        Ok(Self {
            endpoint,
            reconnect,
            state: StreamState::Subscribed(stream, version),
            backoff: reconnect_backoff(),
            translator: Clearance1Translator::default(),
            ready_updates: VecDeque::from([StreamUpdate::Connected(version)]),
        })
    }

    /// Returns the next update. Never ends. Cancel safe.
    ///
    /// An invalid message is skipped and logged.
    pub async fn next(&mut self) -> StreamUpdate {
        loop {
            if let Some(update) = self.ready_updates.pop_front() {
                return update;
            }
            match &mut self.state {
                StreamState::Subscribed(stream, version) => match stream.next_raw().await {
                    Ok(Some(parameters)) => {
                        self.backoff.reset();
                        let version = *version;
                        self.decode_event(version, parameters.get());
                    }
                    Ok(None) => self.handle_disconnect("the hub ended the stream"),
                    Err(CallError::Protocol(reason)) => {
                        tracing::warn!(%reason, "skipped an invalid message of the hub");
                    }
                    Err(error) => self.handle_disconnect(&error.to_string()),
                },
                StreamState::BackingOff(retry_at) => {
                    self.reconnect.wait_until(*retry_at).await;
                    self.state =
                        StreamState::Connecting(SubscribeAttempt::new(Arc::clone(&self.endpoint)));
                }
                StreamState::Connecting(attempt) => match attempt.0.as_mut().await {
                    Ok((stream, version)) => {
                        let path = self.endpoint.path.display();
                        tracing::info!(%path, "reconnected to the hub");
                        self.reconnect.set_armed(false);
                        self.state = StreamState::Subscribed(stream, version);
                        self.ready_updates
                            .push_back(StreamUpdate::Connected(version));
                    }
                    Err(error) => self.handle_disconnect(&error.to_string()),
                },
            }
        }
    }

    /// Returns the hub's process id; `None` while disconnected, or if unknown.
    ///
    /// A changed process id means a restarted hub, which has forgotten the earlier questions.
    pub fn hub_pid(&self) -> Option<i32> {
        match &self.state {
            StreamState::Subscribed(stream, _) => stream.service_pid(),
            StreamState::BackingOff(_) | StreamState::Connecting(_) => None,
        }
    }

    /// Calls `handler` for every update. Never ends.
    ///
    /// An error or a panic of the handler is logged, and the stream continues.
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
                    tracing::error!(%error, "the event handler failed");
                }
                None => tracing::error!("the event handler panicked"),
            }
        }
    }

    fn decode_event(&mut self, version: ProtocolVersion, parameters: &str) {
        let (decoded, is_known): (_, fn(&str) -> bool) = match version {
            ProtocolVersion::Clearance1 => (self.decode_clearance1(parameters), is_known_type),
            ProtocolVersion::Clearance2 => (decode_clearance2(parameters), Event::is_known_kind),
        };
        let reason = match decoded {
            Ok(events) => {
                let events = events.into_iter().map(StreamUpdate::Event);
                return self.ready_updates.extend(events);
            }
            Err(reason) => reason,
        };
        // Looked at only now: the JSON of a known event is parsed once.
        if let Some(event) = UnknownEvent::parse(version, parameters, is_known) {
            self.ready_updates
                .push_back(StreamUpdate::UnknownEvent(event));
        } else {
            let reason = DisplayText::new(&reason);
            tracing::warn!(%reason, "skipped an invalid event of the hub");
        }
    }

    fn decode_clearance1(&mut self, parameters: &str) -> Result<Vec<Event>, String> {
        #[derive(Deserialize)]
        struct Clearance1SubscribeReply {
            event: clearance1::ClearanceEvent,
        }
        let Clearance1SubscribeReply { event } =
            serde_json::from_str(parameters).map_err(|error| error.to_string())?;
        self.translator.translate(event)
    }

    fn handle_disconnect(&mut self, reason: &str) {
        let reason = DisplayText::new(reason);
        let retry = self.backoff.record_failure();
        tracing::info!(%reason, ?retry, "disconnected from the hub");
        let now = Instant::now();
        self.reconnect.set_armed(true);
        self.state = StreamState::BackingOff(now.checked_add(retry).unwrap_or(now));
        self.ready_updates
            .push_back(StreamUpdate::Disconnected { reason, retry });
    }
}

fn decode_clearance2(parameters: &str) -> Result<Vec<Event>, String> {
    let reply: clearance2::Clearance2SubscribeReply =
        serde_json::from_str(parameters).map_err(|error| error.to_string())?;
    match reply.event.event {
        Some(event) => Ok(vec![event]),
        None => Err("kind: unknown".to_owned()),
    }
}

async fn subscribe(endpoint: &HubEndpoint) -> SubscribeResult {
    let (mut connection, version) = endpoint.connect().await?;
    let subscribed = match version {
        ProtocolVersion::Clearance1 => {
            // Every subscriber of Clearance1 counts as one that answers.
            connection
                .call_more(clearance1::SUBSCRIBE, &NoParameters {})
                .await
        }
        ProtocolVersion::Clearance2 => {
            let limit = HubEndpoint::CONNECT_TIMEOUT;
            let answers = endpoint.answers
                && timeout(limit, supports_answers(&mut connection))
                    .await
                    .unwrap_or_default();
            let parameters = clearance2::SubscribeParameters { answers };
            connection
                .call_more(clearance2::SUBSCRIBE, &parameters)
                .await
        }
    };
    match subscribed {
        Ok(stream) => Ok((stream, version)),
        Err(source) => Err(HubError::Call {
            path: endpoint.path.clone(),
            source,
        }),
    }
}

/// Ends a back-off early. A trigger outside of a back-off is ignored.
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

    async fn wait_until(&self, deadline: Instant) {
        tokio::select! {
            biased;
            () = self.notify.notified() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The hub's varlink service: both Clearance interfaces, from one ledger.

use std::sync::Arc;

use serde::Serialize;
use terok_clearance::socket::{PeerCredentials, SameUserListener};
use terok_clearance::varlink::{
    self, ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface,
    VarlinkServeError, VarlinkService,
};
use terok_clearance::wire::clearance1::{self, Clearance1Dialect, VerdictError};
use terok_clearance::wire::clearance2::{self, DecideError, DecideParameters, RuleCallError};
use terok_clearance::{Action, DecisionAction, DisplayText};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::event_frames::ClearanceInterface;
use crate::fanout::FlushStatus;
use crate::hub::{DecisionEnforcer, Hub, HubDecideError};
use crate::ingest::{IngestError, ingest};
use crate::ledger::{ClaimError, QuestionTriple, RequestedScope};

/// Serves `org.terok.Clearance1` and `org.terok.Clearance2` on `listener` until `stop`.
///
/// Ends at most [`ServiceLimits::drain_timeout`](varlink::ServiceLimits::drain_timeout) after
/// `stop`. A panic of a connection's task or of the enforcer is an error: the program must end.
pub async fn serve<E: DecisionEnforcer>(
    hub: Arc<Hub<E>>,
    listener: SameUserListener,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let service = Arc::new(ClearanceService {
        hub: Arc::clone(&hub),
    });
    tokio::select! {
        biased;
        () = hub.wait_for_panic() => {
            Err(VarlinkServeError::Panicked(DisplayText::new("the enforcer")))
        }
        served = varlink::serve(listener, service, stop) => served,
    }
}

/// The listening sockets of a hub.
#[derive(Debug)]
pub struct HubListeners {
    /// The socket for operators.
    pub operators: SameUserListener,
    /// The socket for readers.
    pub readers: SameUserListener,
}

/// The reason why a hub ended without being asked to. The program must end, too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubServeError {
    /// The socket for operators failed.
    #[error("cannot serve operators")]
    Operators(#[from] VarlinkServeError),
    /// The socket for readers failed.
    #[error("cannot receive reports")]
    Readers(#[from] IngestError),
}

/// Serves operators ([`serve`]) and readers ([`ingest`]) until `stop`, or until one of the two
/// fails.
///
/// ```no_run
/// # async fn run<E: terok_clearance_hub::DecisionEnforcer>(
/// #     enforcer: E,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use terok_clearance::socket::{RuntimeDir, bind};
/// use terok_clearance_hub::{Hub, HubListeners, HubOptions, serve_sockets};
/// use tokio_util::sync::CancellationToken;
///
/// let paths = RuntimeDir::new("/run/user/1000").shared_hub_sockets();
/// let listeners = HubListeners {
///     operators: bind(&paths.hub)?,
///     readers: bind(&paths.ingester)?,
/// };
/// let hub = Hub::new(enforcer, HubOptions::default());
/// serve_sockets(hub, listeners, CancellationToken::new()).await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve_sockets<E: DecisionEnforcer>(
    hub: Arc<Hub<E>>,
    listeners: HubListeners,
    stop: CancellationToken,
) -> Result<(), HubServeError> {
    let stop = stop.child_token();
    // The end of one part ends the other, and each finishes what it has begun.
    let operators = async {
        let served = serve(Arc::clone(&hub), listeners.operators, stop.clone()).await;
        stop.cancel();
        served
    };
    let readers = async {
        let read = ingest(Arc::clone(&hub), listeners.readers, stop.clone()).await;
        stop.cancel();
        read
    };
    let (served, read) = tokio::join!(operators, readers);
    served?;
    read?;
    Ok(())
}

/// A hub as a varlink service.
struct ClearanceService<E> {
    hub: Arc<Hub<E>>,
}

const INTERFACES: &[VarlinkInterface] = &[clearance1::INTERFACE, clearance2::INTERFACE];
const INTERFACES_A: &[VarlinkInterface] = &[clearance1::INTERFACE_A, clearance2::INTERFACE];

impl<E: DecisionEnforcer> VarlinkService for ClearanceService<E> {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "terok",
            product: "terok-clearance",
            version: env!("CARGO_PKG_VERSION"),
            url: "https://github.com/terok-ai/terok-clearance",
            interfaces: match self.hub.options().dialect {
                Clearance1Dialect::A => INTERFACES_A,
                Clearance1Dialect::B | Clearance1Dialect::D => INTERFACES,
            },
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        if call.interface() == clearance1::INTERFACE.name {
            match clearance1::Clearance1Method::parse(&call) {
                Ok(clearance1::Clearance1Method::Subscribe) => {
                    let interface = ClearanceInterface::Clearance1(self.hub.options().dialect);
                    // The interface has no word for it, and its clients are user interfaces.
                    self.stream_events(interface, true, replies).await
                }
                Ok(clearance1::Clearance1Method::Verdict(verdict)) => {
                    match self.answer_verdict(verdict, peer).await {
                        Ok(applied) => replies.send(&applied).await,
                        Err(error) => replies.send_error(&error).await,
                    }
                }
                Err(error) => replies.send_error(&error).await,
            }
        } else {
            match clearance2::Clearance2Method::parse(&call) {
                Ok(clearance2::Clearance2Method::Subscribe(subscribe)) => {
                    let interface = ClearanceInterface::Clearance2;
                    self.stream_events(interface, subscribe.answers, replies)
                        .await
                }
                Ok(clearance2::Clearance2Method::Decide(decide)) => {
                    match self.answer_decide(decide, peer).await {
                        Ok(decided) => replies.send(&decided).await,
                        Err(error) => replies.send_error(&error).await,
                    }
                }
                Ok(clearance2::Clearance2Method::List) => {
                    let frame = self.encode_list().await;
                    replies.send_frames(&frame).await
                }
                Ok(clearance2::Clearance2Method::History { limit }) => {
                    let decisions = self.hub.recent_decisions(limit);
                    replies.send(&clearance2::HistoryReply { decisions }).await
                }
                Ok(clearance2::Clearance2Method::Status) => {
                    let status = self.hub.status();
                    replies.send(&clearance2::StatusReply { status }).await
                }
                Ok(
                    method @ (clearance2::Clearance2Method::Rules
                    | clearance2::Clearance2Method::Revoke(_)
                    | clearance2::Clearance2Method::Explain(_)
                    | clearance2::Clearance2Method::Bypass(_)),
                ) => self.call_about_rules(method, peer, replies).await,
                Err(error) => replies.send_error(&error).await,
            }
        }
    }
}

impl<E: DecisionEnforcer> ClearanceService<E> {
    /// Streams a snapshot and then live events, until the client disconnects.
    ///
    /// A slow client is not disconnected: the hub keeps a cursor, and a client that has fallen too
    /// far behind receives a new snapshot.
    async fn stream_events(
        &self,
        interface: ClearanceInterface,
        answers: bool,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        let (writer, mut hang_up) = replies.split();
        let wake = Arc::new(Notify::new());
        let subscription =
            self.hub
                .subscribe(interface, answers, writer.clone(), Arc::clone(&wake));
        loop {
            match subscription.flush() {
                FlushStatus::Idle => tokio::select! {
                    biased;
                    closed = hang_up.wait() => return Err(closed),
                    () = wake.notified() => {}
                },
                FlushStatus::Blocked => tokio::select! {
                    biased;
                    closed = hang_up.wait() => return Err(closed),
                    ready = writer.writable() => ready?,
                },
                FlushStatus::TurnOver => tokio::task::yield_now().await,
                FlushStatus::Closed(error) => return Err(error.into()),
            }
        }
    }

    async fn answer_verdict(
        &self,
        verdict: clearance1::VerdictParameters,
        peer: PeerCredentials,
    ) -> Result<clearance1::Clearance1VerdictReply, VerdictError> {
        let clearance1::VerdictParameters {
            container,
            request_id,
            dest,
            action,
        } = verdict;
        let Ok(parsed_action) = action.parse::<Action>() else {
            return Err(VerdictError::InvalidAction { action });
        };
        let asked = QuestionTriple {
            request: &request_id,
            container: &container,
            dest: &dest,
        };
        // Clearance1 has no scopes: a verdict is for the whole destination.
        match self
            .hub
            .decide(
                asked,
                parsed_action,
                RequestedScope::WholeDest,
                describe_peer(peer),
            )
            .await
        {
            Ok(_) => Ok(clearance1::Clearance1VerdictReply { ok: true }),
            Err(HubDecideError::EnforcementFailed(reason)) => Err(VerdictError::ShieldCliFailed {
                action,
                stderr: reason.as_str().to_owned(),
            }),
            Err(HubDecideError::Refused(ClaimError::Mismatch(mismatch))) => {
                Err(VerdictError::VerdictTupleMismatch {
                    expected_container: mismatch.container.as_str().to_owned(),
                    expected_dest: mismatch.dest.as_str().to_owned(),
                    got_container: container,
                    got_dest: dest,
                })
            }
            Err(HubDecideError::Refused(
                ClaimError::UnknownRequest
                | ClaimError::BeingDecided(_)
                | ClaimError::AlreadyDecided(_),
            )) => Err(VerdictError::UnknownRequest { request_id }),
        }
    }

    async fn answer_decide(
        &self,
        decide: DecideParameters,
        peer: PeerCredentials,
    ) -> Result<clearance2::DecideReply, DecideError> {
        let DecideParameters {
            request,
            container,
            dest,
            action,
            scope,
            replace,
        } = decide;
        let asked = QuestionTriple {
            request: request.as_str(),
            container: container.as_str(),
            dest: dest.as_str(),
        };
        let action = match action {
            DecisionAction::Allow => Action::Allow,
            DecisionAction::Deny => Action::Deny,
            DecisionAction::Dismiss => {
                return match self.hub.dismiss(asked, describe_peer(peer)) {
                    Ok(decision) => Ok(clearance2::DecideReply { decision }),
                    Err(refusal) => Err(to_decide_error(request, refusal)),
                };
            }
        };
        let scope = scope.map_or(RequestedScope::Default, RequestedScope::Explicit);
        let by = describe_peer(peer);
        let decided = if replace {
            self.hub.decide_again(asked, action, scope, by).await
        } else {
            self.hub.decide(asked, action, scope, by).await
        };
        match decided {
            Ok(decision) => Ok(clearance2::DecideReply { decision }),
            Err(HubDecideError::EnforcementFailed(reason)) => {
                Err(DecideError::EnforcementFailed { request, reason })
            }
            Err(HubDecideError::Refused(refusal)) => Err(to_decide_error(request, refusal)),
        }
    }

    /// Answers a call about the rules of the sandbox.
    async fn call_about_rules(
        &self,
        method: clearance2::Clearance2Method,
        peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        use clearance2::Clearance2Method as Method;
        let enforcer = self.hub.enforcer();
        match method {
            Method::Revoke(revoke) => {
                let by = describe_peer(peer);
                send_result(replies, enforcer.revoke(&revoke.rule, &by).await).await
            }
            Method::Explain(dest) => send_result(replies, enforcer.explain(&dest)).await,
            Method::Bypass(bypass) => {
                let by = describe_peer(peer);
                send_result(replies, enforcer.bypass(bypass.seconds, &by)).await
            }
            _ => {
                let rules = enforcer.rules();
                let rules = rules.map(|rules| clearance2::RulesReply { rules });
                send_result(replies, rules).await
            }
        }
    }

    /// Encodes the reply to `List` in pieces, so that other tasks run in between.
    async fn encode_list(&self) -> Vec<u8> {
        const LIST_CHUNK_BYTES: usize = 256 << 10;
        let mut frame = br#"{"parameters":{"requests":["#.to_vec();
        let mut after = 0;
        loop {
            let piece = frame.len().saturating_add(LIST_CHUNK_BYTES);
            let mut full = false;
            let next = self.hub.visit_pending(after, |question| {
                let start = frame.len();
                if !frame.ends_with(b"[") {
                    frame.push(b',');
                }
                let written = serde_json::to_writer(&mut frame, &question.to_request());
                // A longer reply would exceed the client's limit.
                full = frame.len() > varlink::MAX_REPLY_BYTES.saturating_sub(16);
                if full || written.is_err() {
                    frame.truncate(start);
                }
                !full && frame.len() < piece
            });
            match next {
                Some(number) if !full => after = number,
                _ => break,
            }
            tokio::task::yield_now().await;
        }
        frame.extend_from_slice(b"]}}\0");
        frame
    }
}

async fn send_result<T: Serialize + Sync>(
    replies: &mut ReplyWriter<'_>,
    result: Result<T, RuleCallError>,
) -> Result<(), ConnectionClosed> {
    match result {
        Ok(reply) => replies.send(&reply).await,
        Err(error) => replies.send_error(&error).await,
    }
}

fn to_decide_error(request: terok_clearance::RequestId, refusal: ClaimError) -> DecideError {
    match refusal {
        ClaimError::UnknownRequest => DecideError::NoSuchRequest { request },
        ClaimError::BeingDecided(decision) | ClaimError::AlreadyDecided(decision) => {
            DecideError::AlreadyDecided { decision }
        }
        ClaimError::Mismatch(mismatch) => DecideError::NotWhatWasAsked {
            request,
            field: DisplayText::new(mismatch.field),
            asked: mismatch.expected,
            got: mismatch.got,
        },
    }
}

/// Describes the peer for the record of a decision.
fn describe_peer(peer: PeerCredentials) -> DisplayText {
    let PeerCredentials { uid, pid, .. } = peer;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    match name.as_deref().map(str::trim_end) {
        Ok(name) => DisplayText::new(&format!("uid {uid} pid {pid} ({name})")),
        Err(_) => DisplayText::new(&format!("uid {uid} pid {pid}")),
    }
}

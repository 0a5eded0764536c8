// SPDX-License-Identifier: Apache-2.0
//! The clearance socket: both Clearance interfaces, on one ledger.

use std::sync::Arc;

use terok_clearance::socket::{PeerCredentials, SameUserListener};
use terok_clearance::varlink::{
    self, ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface as Description,
    VarlinkServeError, VarlinkService,
};
use terok_clearance::wire::clearance1::{self, Clearance1Dialect, VerdictError};
use terok_clearance::wire::clearance2::{self, DecideError as Refused2, DecideParameters};
use terok_clearance::{Action, DecisionAction, DisplayText};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fanout::Pumped;
use crate::frame::Interface;
use crate::hub::{DecideError, Enforcer, Hub};
use crate::ledger::{Asked, Reach, Refusal};

/// Serves `org.terok.Clearance1` and `org.terok.Clearance2` on `listener` until `stop`.
///
/// It ends within [`varlink::Limits::drain`] of that, whatever its clients do. A panic of a
/// connection's task or of the enforcer ends it with an error: the program must not go on.
pub async fn serve<E: Enforcer>(
    hub: Arc<Hub<E>>,
    listener: SameUserListener,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let service = Arc::new(Clearance {
        hub: Arc::clone(&hub),
    });
    tokio::select! {
        biased;
        () = hub.broke_down() => {
            Err(VarlinkServeError::Panicked(DisplayText::new("the enforcer")))
        }
        served = varlink::serve(listener, service, stop) => served,
    }
}

/// A hub as a varlink service.
struct Clearance<E> {
    hub: Arc<Hub<E>>,
}

const INTERFACES: &[Description] = &[clearance1::INTERFACE, clearance2::INTERFACE];
const INTERFACES_A: &[Description] = &[clearance1::INTERFACE_A, clearance2::INTERFACE];

impl<E: Enforcer> VarlinkService for Clearance<E> {
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
                    let interface = Interface::One(self.hub.options().dialect);
                    self.stream(interface, replies).await
                }
                Ok(clearance1::Clearance1Method::Verdict(verdict)) => {
                    match self.verdict(verdict, peer).await {
                        Ok(applied) => replies.send(&applied).await,
                        Err(error) => replies.send_error(&error).await,
                    }
                }
                Err(error) => replies.send_error(&error).await,
            }
        } else {
            match clearance2::Clearance2Method::parse(&call) {
                Ok(clearance2::Clearance2Method::Subscribe) => {
                    self.stream(Interface::Two, replies).await
                }
                Ok(clearance2::Clearance2Method::Decide(decide)) => {
                    match self.decide(decide, peer).await {
                        Ok(decided) => replies.send(&decided).await,
                        Err(error) => replies.send_error(&error).await,
                    }
                }
                Ok(clearance2::Clearance2Method::List) => {
                    let frame = self.list().await;
                    replies.send_frames(&frame).await
                }
                Ok(clearance2::Clearance2Method::History { limit }) => {
                    let decisions = self.hub.decisions(limit);
                    replies.send(&clearance2::HistoryReply { decisions }).await
                }
                Err(error) => replies.send_error(&error).await,
            }
        }
    }
}

impl<E: Enforcer> Clearance<E> {
    /// Streams what is pending and then what happens, until the client leaves.
    ///
    /// A client that reads slowly is not closed: it costs the hub a cursor, and hears when it
    /// reads again what is pending then.
    async fn stream(
        &self,
        interface: Interface,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        let (writer, mut hang_up) = replies.split();
        let wake = Arc::new(Notify::new());
        let subscription = self
            .hub
            .subscribe(interface, writer.clone(), Arc::clone(&wake));
        loop {
            match subscription.pump() {
                Pumped::Idle => tokio::select! {
                    biased;
                    closed = hang_up.wait() => return Err(closed),
                    () = wake.notified() => {}
                },
                Pumped::Blocked => tokio::select! {
                    biased;
                    closed = hang_up.wait() => return Err(closed),
                    ready = writer.writable() => ready?,
                },
                Pumped::More => tokio::task::yield_now().await,
                Pumped::Gone(error) => return Err(error.into()),
            }
        }
    }

    async fn verdict(
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
        let Ok(order) = action.parse::<Action>() else {
            return Err(VerdictError::InvalidAction { action });
        };
        let asked = Asked {
            request: &request_id,
            container: &container,
            dest: &dest,
        };
        // These clients know nothing of scopes: their verdict opens the whole destination.
        match self.hub.decide(asked, order, Reach::Whole, who(peer)).await {
            Ok(_) => Ok(clearance1::Clearance1VerdictReply { ok: true }),
            Err(DecideError::Failed(reason)) => Err(VerdictError::ShieldCliFailed {
                action,
                stderr: reason.as_str().to_owned(),
            }),
            Err(DecideError::Refused(Refusal::NotAsked(mismatch))) => {
                Err(VerdictError::VerdictTupleMismatch {
                    expected_container: mismatch.container.as_str().to_owned(),
                    expected_dest: mismatch.dest.as_str().to_owned(),
                    got_container: container,
                    got_dest: dest,
                })
            }
            Err(DecideError::Refused(
                Refusal::Unknown | Refusal::Deciding(_) | Refusal::Decided(_),
            )) => Err(VerdictError::UnknownRequest { request_id }),
        }
    }

    async fn decide(
        &self,
        decide: DecideParameters,
        peer: PeerCredentials,
    ) -> Result<clearance2::DecideReply, Refused2> {
        let DecideParameters {
            request,
            container,
            dest,
            action,
            scope,
        } = decide;
        let asked = Asked {
            request: request.as_str(),
            container: container.as_str(),
            dest: dest.as_str(),
        };
        let action = match action {
            DecisionAction::Allow => Action::Allow,
            DecisionAction::Deny => Action::Deny,
            DecisionAction::Dismiss => {
                return match self.hub.dismiss(asked, who(peer)) {
                    Ok(decision) => Ok(clearance2::DecideReply { decision }),
                    Err(refusal) => Err(refused(request, refusal)),
                };
            }
        };
        let reach = scope.map_or(Reach::Asked, Reach::Within);
        match self.hub.decide(asked, action, reach, who(peer)).await {
            Ok(decision) => Ok(clearance2::DecideReply { decision }),
            Err(DecideError::Failed(reason)) => {
                Err(Refused2::EnforcementFailed { request, reason })
            }
            Err(DecideError::Refused(refusal)) => Err(refused(request, refusal)),
        }
    }

    /// Returns the reply to `List`, made piece by piece so that others have their turn.
    async fn list(&self) -> Vec<u8> {
        /// A turn's worth.
        const PIECE: usize = 256 << 10;
        let mut frame = br#"{"parameters":{"requests":["#.to_vec();
        let mut after = 0;
        loop {
            let piece = frame.len().saturating_add(PIECE);
            let mut full = false;
            let next = self.hub.walk(after, |question| {
                let start = frame.len();
                if !frame.ends_with(b"[") {
                    frame.push(b',');
                }
                let written = serde_json::to_writer(&mut frame, &question.request());
                // The rest of the list would make the client close its end.
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

fn refused(request: terok_clearance::RequestId, refusal: Refusal) -> Refused2 {
    match refusal {
        Refusal::Unknown => Refused2::NoSuchRequest { request },
        Refusal::Deciding(decision) | Refusal::Decided(decision) => {
            Refused2::AlreadyDecided { decision }
        }
        Refusal::NotAsked(mismatch) => Refused2::NotWhatWasAsked {
            request,
            field: DisplayText::new(mismatch.field),
            asked: mismatch.asked,
            got: mismatch.got,
        },
    }
}

/// Returns who the peer is, in the words of a decision's record.
fn who(peer: PeerCredentials) -> DisplayText {
    let PeerCredentials { uid, pid, .. } = peer;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    match name.as_deref().map(str::trim_end) {
        Ok(name) => DisplayText::new(&format!("uid {uid} pid {pid} ({name})")),
        Err(_) => DisplayText::new(&format!("uid {uid} pid {pid}")),
    }
}

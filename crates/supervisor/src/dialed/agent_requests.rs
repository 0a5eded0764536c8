// SPDX-License-Identifier: Apache-2.0
//! The service at which programs in the sandbox ask ahead of a connection.
//!
//! Every caller is the workload: no reply tells of a rule, a person or another sandbox more than a
//! connection would, nothing here answers a question, and everything has a limit.

mod request_book;
mod texts;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use egress::{AheadAnswer, AheadQuery, EgressVerdict, is_dialed_protocol};
use hub::Hub;
use policy::{RuleId, RuleOrigin};
use terok_clearance::socket::PeerCredentials;
use terok_clearance::varlink::{
    ConnectionClosed, ReplyWriter, ServiceInfo, ServiceLimits, VarlinkCall, VarlinkService,
};
use terok_clearance::wire::request1::{
    self, AskedReply, MAX_REQUEST_BYTES, Request1Method, RequestError, RequestReply, RequestState,
    RequestedDest,
};
use terok_clearance::{DisplayText, PacketDest, PacketHost, Protocol, RequestId, Target};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::rules::DialedRules;
use request_book::{BookRefusal, RequestBook};
use texts::Denier;

/// Queries that wait for the engine.
pub(super) const MAX_WAITING_QUERIES: usize = 16;

/// The limits of the socket. A workload that holds all connections holds up itself alone.
pub(super) const LIMITS: ServiceLimits = ServiceLimits {
    max_connections: 32,
    max_call_bytes: MAX_REQUEST_BYTES,
    write_timeout: Duration::from_secs(5),
    drain_timeout: Duration::from_millis(100),
};

/// Time between two looks at a question that is waited for: a file of rules can settle it, which is
/// no answer to it.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The port that is meant if none is given.
const DEFAULT_PORT: u16 = 443;

/// The service of one sandbox.
#[derive(Debug)]
pub(super) struct RequestService {
    hub: Arc<Hub<DialedRules>>,
    rules: DialedRules,
    /// The engine; `None` for a sandbox without any connection.
    engine: Option<mpsc::Sender<AheadQuery>>,
    book: Mutex<RequestBook>,
}

impl VarlinkService for RequestService {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "terok",
            product: "terok-clearance",
            version: env!("CARGO_PKG_VERSION"),
            url: "https://github.com/terok-ai/terok-clearance",
            interfaces: &[request1::INTERFACE],
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        _peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        // A slow reply is the limit of a fast caller.
        let delay = self.lock_book().pace_call(Instant::now().into_std());
        sleep(delay).await;
        match Request1Method::parse(&call) {
            Ok(Request1Method::Request { dest, reason }) => {
                let reply = self.request(&dest, &reason).await;
                replies.send(&reply).await
            }
            Ok(Request1Method::Explain { dest }) => {
                let reply = self.explain(&dest).await;
                replies.send(&reply).await
            }
            Ok(Request1Method::Status { id }) => {
                send_result(replies, self.status(&id).await, &id).await
            }
            Ok(Request1Method::Wait { id, seconds }) => {
                let limit = Duration::from_secs(seconds.into());
                let (_, mut hang_up) = replies.split();
                let status = tokio::select! {
                    biased;
                    closed = hang_up.wait() => return Err(closed),
                    status = self.wait(&id, limit) => status,
                };
                send_result(replies, status, &id).await
            }
            Err(error) => replies.send_error(&error).await,
        }
    }
}

async fn send_result(
    replies: &mut ReplyWriter<'_>,
    status: Option<RequestReply>,
    id: &DisplayText,
) -> Result<(), ConnectionClosed> {
    if let Some(reply) = status {
        return replies.send(&reply).await;
    }
    let id = id.clone();
    replies
        .send_error(&RequestError::NoSuchRequest { id })
        .await
}

impl RequestService {
    pub(super) fn new(
        hub: Arc<Hub<DialedRules>>,
        rules: DialedRules,
        engine: Option<mpsc::Sender<AheadQuery>>,
    ) -> Self {
        Self {
            hub,
            rules,
            engine,
            book: Mutex::default(),
        }
    }

    /// Asks the operator, unless a rule covers the destination or a limit is reached.
    async fn request(&self, dest: &RequestedDest, reason: &DisplayText) -> AskedReply {
        let refused = |text: &str| AskedReply {
            id: None,
            reply: RequestReply::new(RequestState::Refused, text),
        };
        if reason.is_empty() {
            return refused(texts::NO_REASON);
        }
        let dest = match parse_dest(dest) {
            Ok(dest) => dest,
            Err(text) => return refused(text),
        };
        // The first query finds the destination as the question would name it.
        let Some(answer) = self.query(dest.clone(), None).await else {
            return refused(texts::NO_NETWORK);
        };
        if answer.verdict != EgressVerdict::Ask {
            return AskedReply {
                id: None,
                reply: self.decided_reply(&answer),
            };
        }
        let is_pending = |id: &RequestId| self.hub.is_pending(id);
        let now = Instant::now().into_std();
        let known = self.lock_book().admit(&answer.dest, now, is_pending);
        match known {
            Ok(Some(id)) => return asked_reply(&id, &answer.dest),
            Ok(None) => {}
            Err(BookRefusal::TooFast { seconds }) => return refused(&texts::too_fast(seconds)),
            Err(BookRefusal::TooManyPending) => return refused(texts::TOO_MANY_PENDING),
        }
        let asked = self.query(dest, Some(reason.clone())).await;
        let Some(asked) = asked else {
            return refused(texts::NO_NETWORK);
        };
        if asked.verdict != EgressVerdict::Ask {
            return AskedReply {
                id: None,
                reply: self.decided_reply(&asked),
            };
        }
        let Some(request) = asked.request else {
            return refused(&texts::too_fast(1));
        };
        // The question may have existed before, with another id.
        let id = match self.hub.pending_request(&request) {
            Some(question) => question.id,
            None => request,
        };
        self.lock_book().insert(id.clone(), asked.dest.clone());
        asked_reply(&id, &asked.dest)
    }

    /// Tells what a connection would meet.
    async fn explain(&self, dest: &RequestedDest) -> RequestReply {
        let dest = match parse_dest(dest) {
            Ok(dest) => dest,
            Err(text) => return RequestReply::new(RequestState::Refused, text),
        };
        match self.query(dest, None).await {
            Some(answer) => self.decided_reply(&answer),
            None => RequestReply::new(RequestState::Refused, texts::NO_NETWORK),
        }
    }

    /// Tells how a question stands; `None` for an unknown one.
    async fn status(&self, id: &DisplayText) -> Option<RequestReply> {
        let (request, dest) = self.lock_book().find(id)?;
        // Before the rules are looked at: an answer in between is a rule, and no end without one.
        let is_pending = self.hub.is_pending(&request);
        let Some(answer) = self.query(dest, None).await else {
            return Some(RequestReply::new(RequestState::Refused, texts::NO_NETWORK));
        };
        Some(if answer.verdict != EgressVerdict::Ask {
            self.decided_reply(&answer)
        } else if is_pending {
            let text = texts::pending(&answer.dest, &request);
            RequestReply::new(RequestState::Pending, &text)
        } else {
            RequestReply::new(RequestState::Refused, &texts::ended(&answer.dest))
        })
    }

    /// Waits until a question is not pending any more, up to `limit`.
    async fn wait(&self, id: &DisplayText, limit: Duration) -> Option<RequestReply> {
        let until = Instant::now().checked_add(limit)?;
        let mut ends = self.hub.question_ends();
        loop {
            ends.mark_unchanged();
            let status = self.status(id).await?;
            if status.state != RequestState::Pending {
                return Some(status);
            }
            tokio::select! {
                biased;
                () = sleep_until(until) => return Some(status),
                _ = timeout(RECHECK_INTERVAL, ends.changed()) => {}
            }
        }
    }

    async fn query(&self, dest: PacketDest, reason: Option<DisplayText>) -> Option<AheadAnswer> {
        let (reply, answer) = oneshot::channel();
        let query = AheadQuery {
            dest,
            reason,
            reply,
        };
        self.engine.as_ref()?.send(query).await.ok()?;
        answer.await.ok()
    }

    fn decided_reply(&self, answer: &AheadAnswer) -> RequestReply {
        let dest = &answer.dest;
        let (state, text) = match answer.verdict {
            EgressVerdict::Allow(_) => (RequestState::Allowed, texts::allowed(dest)),
            EgressVerdict::Ask => (RequestState::Ask, texts::ask(dest)),
            EgressVerdict::Floor => (RequestState::Denied, texts::denied(dest, Denier::Floor)),
            EgressVerdict::Deny(rule) => {
                let origin = rule.and_then(|rule| self.rules.origin_of(RuleId::new(rule.0)));
                let denier = match (rule, origin) {
                    (None, _) | (_, Some(RuleOrigin::Organisation | RuleOrigin::Ceiling)) => {
                        Denier::Organisation
                    }
                    _ => Denier::Operator,
                };
                (RequestState::Denied, texts::denied(dest, denier))
            }
        };
        RequestReply::new(state, &text)
    }

    fn lock_book(&self) -> MutexGuard<'_, RequestBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asked_reply(id: &RequestId, dest: &PacketDest) -> AskedReply {
    AskedReply {
        id: Some(DisplayText::new(id.as_str())),
        reply: RequestReply::new(RequestState::Pending, &texts::pending(dest, id)),
    }
}

/// Parses a destination of a workload; the error is a text for it.
fn parse_dest(asked: &RequestedDest) -> Result<PacketDest, &'static str> {
    let host = match asked.dest.parse::<Target>() {
        Ok(Target::Name(name)) => PacketHost::Name(name),
        Ok(Target::Address(address)) => PacketHost::Address(address),
        Err(_) => return Err(texts::NO_DEST),
    };
    let protocol = match (asked.protocol.unwrap_or(Protocol::TCP), &host) {
        (Protocol::ICMP | Protocol::ICMPV6, PacketHost::Address(IpAddr::V6(_))) => Protocol::ICMPV6,
        (Protocol::ICMPV6, PacketHost::Name(_)) => Protocol::ICMP,
        (protocol, _) if is_dialed_protocol(protocol) => protocol,
        _ => return Err(texts::NO_PROTOCOL),
    };
    let port = match (protocol, asked.port) {
        (Protocol::ICMP | Protocol::ICMPV6, _) => 0,
        (_, Some(0)) => return Err(texts::NO_PORT),
        (_, port) => port.unwrap_or(DEFAULT_PORT),
    };
    Ok(PacketDest {
        host,
        port,
        protocol,
    })
}

#[cfg(test)]
mod tests;

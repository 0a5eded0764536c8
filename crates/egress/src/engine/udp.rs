// SPDX-License-Identifier: Apache-2.0
//! UDP: one flow for each pair of addresses; the first datagrams wait for the answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use names::{DNS_PORT, DnsTransport, NameLookup, QueryPlan};
use netns::transparent::ReceivedDatagram;
use terok_clearance::{PacketDest, PacketHost, Protocol};
use tokio::net::UdpSocket;
use tokio::task::{self, AbortHandle};
use tokio::time::Instant;

use super::dialing::DialRefusal;
use super::{AskOutcome, EgressEngine, MAX_DATAGRAM_BYTES, MAX_LOOKUPS, TaskEnd, ZonedDest};
use crate::dial::DialSockets;
use crate::flow_activity::FlowActivity;
use crate::held_connections::ConnectionKey;
use crate::live_connections::{ConnectionEnd, ConnectionGuard, DialedConnection};
use crate::packet_build::IcmpErrorKind;
use crate::{EgressNotice, EgressPolicy, EgressSink, EgressVerdict, RuleTag};

mod replies;

use replies::{FlowReplies, send_refusal, send_reply};

/// The port of HTTP/3, which uses QUIC.
const HTTPS_PORT: u16 = 443;
/// Maximum flows at the same time; over it the one that was idle for the longest time ends.
const MAX_FLOWS: usize = 4_096;
/// Time after which an idle flow ends (RFC 4787 section 4.3 requires two minutes).
const FLOW_IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// Maximum datagrams of one flow that wait for an answer.
const MAX_WAITING_DATAGRAMS: usize = 8;
/// Maximum bytes of all datagrams that wait for an answer.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Maximum datagrams read before other events get their turn.
const DATAGRAMS_PER_STEP: usize = 64;

/// The flows of a sandbox.
#[derive(Debug, Default)]
pub(super) struct UdpFlows {
    flows: HashMap<ConnectionKey, UdpFlow>,
    /// The flows that wait for an answer, by destination.
    asked: HashMap<PacketDest, BTreeSet<ConnectionKey>>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct UdpFlow {
    destination: ZonedDest,
    since: Instant,
    state: FlowState,
}

#[derive(Debug)]
enum FlowState {
    /// Waits for an answer, with its first datagrams.
    Asked(VecDeque<Vec<u8>>),
    /// The addresses are being looked up.
    Dialing {
        queue: VecDeque<Vec<u8>>,
        dial: AbortHandle,
        /// The rule that allows the flow.
        rule: RuleTag,
    },
    Open {
        outside: Arc<UdpSocket>,
        /// Reads the replies.
        reader: AbortHandle,
        activity: Arc<FlowActivity>,
        guard: ConnectionGuard,
    },
}

impl UdpFlow {
    fn last_used(&self) -> Instant {
        match &self.state {
            FlowState::Open { activity, .. } => activity.last(),
            FlowState::Asked(_) | FlowState::Dialing { .. } => self.since,
        }
    }

    fn is_asked(&self) -> bool {
        matches!(self.state, FlowState::Asked(_))
    }
}

impl UdpFlows {
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Returns the number of flows that wait for an answer about `dest`, and the time of the
    /// oldest.
    pub(super) fn waiting(&self, dest: &PacketDest) -> (usize, Option<std::time::Instant>) {
        let keys = self.asked.get(dest);
        let since = keys
            .into_iter()
            .flatten()
            .filter_map(|key| Some(self.flows.get(key)?.since.into_std()))
            .min();
        (keys.map_or(0, BTreeSet::len), since)
    }

    fn insert(&mut self, key: ConnectionKey, flow: UdpFlow) {
        self.remove(&key);
        if flow.is_asked() {
            let keys = self.asked.entry(flow.destination.dest.clone());
            keys.or_default().insert(key);
        }
        self.flows.insert(key, flow);
    }

    /// Marks a flow that waited for an answer as being dialed by this task.
    fn start_dialing(&mut self, key: &ConnectionKey, dial: AbortHandle, rule: RuleTag) {
        if let Some(flow) = self.flows.get_mut(key)
            && let FlowState::Asked(queue) = &mut flow.state
        {
            let queue = std::mem::take(queue);
            flow.state = FlowState::Dialing { queue, dial, rule };
            let dest = flow.destination.dest.clone();
            self.forget_asked(key, &dest);
        }
    }

    fn forget_asked(&mut self, key: &ConnectionKey, dest: &PacketDest) {
        if let Some(keys) = self.asked.get_mut(dest) {
            keys.remove(key);
            if keys.is_empty() {
                self.asked.remove(dest);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &ConnectionKey) {
        drop(self.take(key));
    }

    /// Removes a flow whose reader has ended, but not a later one with the same addresses.
    pub(super) fn remove_ended(&mut self, key: &ConnectionKey) {
        let flow = self.flows.get(key);
        let has_ended = |flow: &UdpFlow| match &flow.state {
            FlowState::Open { reader, .. } => reader.is_finished(),
            FlowState::Asked(_) | FlowState::Dialing { .. } => false,
        };
        if flow.is_some_and(has_ended)
            && let Some(flow) = self.take(key)
            && let FlowState::Open { guard, .. } = flow.state
        {
            guard.finish(ConnectionEnd::Broken);
        }
    }

    /// Removes a flow that is dialed by this task, and returns its destination and its datagrams;
    /// `None` if it ended meanwhile, even if there is a later flow with the same addresses.
    fn take_dialed(
        &mut self,
        key: &ConnectionKey,
        dialed_by: task::Id,
    ) -> Option<(ZonedDest, VecDeque<Vec<u8>>, RuleTag)> {
        match &self.flows.get(key)?.state {
            FlowState::Dialing { dial, .. } if dial.id() == dialed_by => {}
            _ => return None,
        }
        let flow = self.take(key)?;
        match flow.state {
            FlowState::Dialing { queue, rule, .. } => Some((flow.destination, queue, rule)),
            FlowState::Asked(_) | FlowState::Open { .. } => None,
        }
    }

    /// Removes a flow and ends its task.
    fn take(&mut self, key: &ConnectionKey) -> Option<UdpFlow> {
        let flow = self.flows.remove(key)?;
        self.forget_asked(key, &flow.destination.dest);
        match &flow.state {
            FlowState::Dialing { dial, .. } => dial.abort(),
            FlowState::Open { reader, .. } => reader.abort(),
            FlowState::Asked(_) => {}
        }
        if let FlowState::Asked(queue) | FlowState::Dialing { queue, .. } = &flow.state {
            let bytes = queue.iter().map(Vec::len).sum::<usize>();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        }
        Some(flow)
    }

    /// Ends the flow that was idle for the longest time if there are too many.
    fn make_room(&mut self) -> Option<UdpFlow> {
        if self.flows.len() < MAX_FLOWS {
            return None;
        }
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last_used());
        let key = oldest.map(|(key, _)| *key)?;
        self.take(&key)
    }

    /// Appends a datagram to those that wait; a full queue loses it, like a full link.
    fn push_waiting(&mut self, key: &ConnectionKey, payload: &[u8]) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (FlowState::Asked(queue) | FlowState::Dialing { queue, .. }) = &mut flow.state else {
            return;
        };
        let bytes = self.waiting_bytes.saturating_add(payload.len());
        if queue.len() < MAX_WAITING_DATAGRAMS && bytes <= MAX_WAITING_BYTES {
            queue.push_back(payload.to_vec());
            self.waiting_bytes = bytes;
        }
    }

    fn keys_where(&self, wanted: impl Fn(&UdpFlow) -> bool) -> Vec<ConnectionKey> {
        let found = self.flows.iter().filter(|(_, flow)| wanted(flow));
        found.map(|(key, _)| *key).collect()
    }
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets, S: EgressSink> EgressEngine<P, N, D, S> {
    /// Handles the queued datagrams, up to a limit.
    pub(super) fn handle_datagrams(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..DATAGRAMS_PER_STEP {
            match self.sockets.udp.try_receive(&mut buffer) {
                Ok(received) => {
                    let payload = buffer.get(..received.length).unwrap_or_default();
                    self.handle_datagram(&received, payload);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "a datagram of the sandbox was not received");
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn handle_datagram(&mut self, datagram: &ReceivedDatagram, payload: &[u8]) {
        let key = ConnectionKey {
            client: datagram.source,
            remote: datagram.destination,
        };
        if key.remote.port() == DNS_PORT {
            return self.answer_query(key, payload);
        }
        if let Some(flow) = self.flows.flows.get(&key) {
            if let FlowState::Open {
                outside,
                activity,
                guard,
                ..
            } = &flow.state
            {
                activity.touch();
                let sent = outside.try_send(payload);
                if let Ok(bytes) = &sent {
                    guard.stats().add_out(*bytes);
                }
                if sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
                }
            } else {
                self.flows.push_waiting(&key, payload);
            }
            return;
        }
        if is_multicast(key.remote) {
            return; // announcements to neighbours, which the sandbox has not
        }
        let destination = self.destination(key.remote, Protocol::UDP);
        let is_name = matches!(destination.dest.host, PacketHost::Name(_));
        if self.check_server_names && is_name && key.remote.port() == HTTPS_PORT {
            // The server name of QUIC is encrypted; programs fall back to TCP.
            self.tell(EgressNotice::ServerNameUnreadable(destination.dest));
            return self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
        }
        self.decide_flow(key, destination, payload);
    }

    fn decide_flow(&mut self, key: ConnectionKey, destination: ZonedDest, payload: &[u8]) {
        match self.decide(&destination.dest, destination.zone) {
            EgressVerdict::Allow(rule) => {
                self.policy.note_uses(rule, 1);
                let dial = self.dial_flow(key, destination.dest.clone());
                let queue = VecDeque::new();
                self.add_flow(key, destination, FlowState::Dialing { queue, dial, rule });
                self.flows.push_waiting(&key, payload);
            }
            EgressVerdict::Deny(rule) => {
                self.report_refused(&destination.dest, rule);
                self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
            }
            EgressVerdict::Floor => {
                self.tell_floor(destination.dest);
                self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
            }
            EgressVerdict::Ask => {
                let dest = destination.dest.clone();
                match self.ask_and_hold(&destination, key) {
                    AskOutcome::Hold => {
                        self.add_flow(key, destination, FlowState::Asked(VecDeque::new()));
                        self.flows.push_waiting(&key, payload);
                        self.report_waiting(&dest, None);
                    }
                    AskOutcome::Refuse => {
                        self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
                    }
                    AskOutcome::Later => {}
                }
            }
        }
    }

    fn add_flow(&mut self, key: ConnectionKey, destination: ZonedDest, state: FlowState) {
        if let Some(ended) = self.flows.make_room()
            && ended.is_asked()
        {
            self.report_waiting(&ended.destination.dest, None);
        }
        let flow = UdpFlow {
            destination,
            since: Instant::now(),
            state,
        };
        self.flows.insert(key, flow);
    }

    fn dial_flow(&mut self, key: ConnectionKey, dest: PacketDest) -> AbortHandle {
        let dialer = Arc::clone(&self.dialer);
        self.tasks.spawn(async move {
            let result = dialer.connect_udp(&dest).await;
            let dial = task::id();
            TaskEnd::UdpDialed { key, dial, result }
        })
    }

    /// Sends the datagrams that waited, and begins to pass replies on.
    pub(super) fn finish_udp_dial(
        &mut self,
        key: ConnectionKey,
        dial: task::Id,
        result: Result<(UdpSocket, SocketAddr), DialRefusal>,
    ) {
        let Some((destination, queue, rule)) = self.flows.take_dialed(&key, dial) else {
            return;
        };
        match result {
            Ok((outside, address)) => {
                let mut dialed = DialedConnection {
                    rule,
                    dest: destination.dest.clone(),
                    zone: destination.zone,
                    address,
                    is_proxied: false,
                    client: key.client,
                    remote: key.remote,
                };
                // The rules may have changed during the lookup.
                let Some(rule) = self.policy.rule_to_go_on(&dialed) else {
                    for payload in &queue {
                        self.refuse_datagram(key, payload, IcmpErrorKind::PortUnreachable);
                    }
                    return;
                };
                dialed.rule = rule;
                let (connection, guard) = self.connections.open(dialed);
                self.policy.note_opened(rule);
                self.sink.connected(&connection);
                let outside = Arc::new(outside);
                for payload in &queue {
                    // An error is reported again by the reader of the replies.
                    if let Ok(bytes) = outside.try_send(payload) {
                        guard.stats().add_out(bytes);
                    }
                }
                let state = self.open_flow(key, outside, guard);
                self.add_flow(key, destination, state);
            }
            Err(DialRefusal::AskAddress(address)) => {
                for payload in &queue {
                    if self.flows.flows.contains_key(&key) {
                        self.flows.push_waiting(&key, payload);
                    } else {
                        self.decide_flow(key, address.clone(), payload);
                    }
                }
            }
            Err(refusal) => {
                let kind = self.tell_refusal(&destination.dest, &refusal);
                let kind = kind.unwrap_or(IcmpErrorKind::PortUnreachable);
                for payload in &queue {
                    self.refuse_datagram(key, payload, kind);
                }
            }
        }
    }

    /// Begins to pass the replies of a flow on, until no rule allows it any more.
    fn open_flow(
        &mut self,
        key: ConnectionKey,
        outside: Arc<UdpSocket>,
        guard: ConnectionGuard,
    ) -> FlowState {
        let activity = Arc::new(FlowActivity::begin());
        let replies = FlowReplies {
            outside: Arc::clone(&outside),
            raw: Arc::clone(&self.sockets.raw),
            activity: Arc::clone(&activity),
            stats: Arc::clone(guard.stats()),
            key,
        };
        let revoked = guard.stop_token();
        let reader = self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = revoked.cancelled() => {}
                () = replies.pass_on() => {}
            }
            TaskEnd::UdpEnded(key)
        });
        FlowState::Open {
            outside,
            reader,
            activity,
            guard,
        }
    }

    pub(super) fn apply_rules_to_flows(&mut self) {
        let mut allowed: HashMap<RuleTag, u64> = HashMap::new();
        for key in self.flows.keys_where(UdpFlow::is_asked) {
            let Some(flow) = self.flows.flows.get(&key) else {
                continue;
            };
            let dest = flow.destination.dest.clone();
            match self.decide(&dest, flow.destination.zone) {
                EgressVerdict::Ask => continue,
                EgressVerdict::Allow(rule) => {
                    let dial = self.dial_flow(key, dest.clone());
                    self.flows.start_dialing(&key, dial, rule);
                    allowed
                        .entry(rule)
                        .and_modify(|uses| *uses = u64::saturating_add(*uses, 1))
                        .or_insert(1);
                }
                EgressVerdict::Deny(_) | EgressVerdict::Floor => self.refuse_flow(&key),
            }
            self.finish_question(&dest);
        }
        // After all of them: a rule for one connection is for every flow that has waited.
        for (rule, uses) in allowed {
            self.policy.note_uses(rule, uses);
        }
    }

    /// Ends flows that are idle, or that got no answer within their time.
    pub(super) fn expire_flows(&mut self) {
        let now = Instant::now();
        let age = |since: Instant| now.saturating_duration_since(since);
        let idle = |flow: &UdpFlow| age(flow.last_used()) >= FLOW_IDLE_TIMEOUT;
        for key in self.flows.keys_where(|flow| !flow.is_asked() && idle(flow)) {
            if let Some(flow) = self.flows.take(&key)
                && let FlowState::Open { guard, .. } = flow.state
            {
                guard.finish(ConnectionEnd::Closed);
            }
        }
        let (limit, is_unattended) = (self.hold_time(), self.is_unattended());
        let over = self
            .flows
            .keys_where(|flow| flow.is_asked() && age(flow.since) >= limit);
        for key in over {
            let dest = self
                .flows
                .flows
                .get(&key)
                .map(|flow| flow.destination.dest.clone());
            self.refuse_flow(&key);
            if let Some(dest) = dest {
                self.report_waiting(&dest, None);
                self.tell_hold_ended(dest, is_unattended);
            }
        }
    }

    fn refuse_flow(&mut self, key: &ConnectionKey) {
        if let Some(flow) = self.flows.take(key)
            && let FlowState::Asked(queue) = flow.state
        {
            for payload in &queue {
                self.refuse_datagram(*key, payload, IcmpErrorKind::PortUnreachable);
            }
        }
    }

    /// Answers a datagram with an ICMP error.
    fn refuse_datagram(&self, key: ConnectionKey, payload: &[u8], kind: IcmpErrorKind) {
        send_refusal(&self.sockets.raw, key, payload, kind);
    }

    fn answer_query(&mut self, key: ConnectionKey, query: &[u8]) {
        match self.names.plan(query, DnsTransport::Udp) {
            QueryPlan::Reply(reply) => send_reply(&self.sockets.raw, key, &reply),
            QueryPlan::Ignore => {}
            // Over the limit the query is lost, and the sandbox repeats it.
            QueryPlan::Lookup(_) if self.lookups.len() >= MAX_LOOKUPS => {}
            QueryPlan::Lookup(pending) => {
                let names = Arc::clone(&self.names);
                let raw = Arc::clone(&self.sockets.raw);
                self.lookups.spawn(async move {
                    let reply = names.finish(pending).await;
                    send_reply(&raw, key, &reply);
                });
            }
        }
    }
}

fn is_multicast(remote: SocketAddr) -> bool {
    match remote {
        SocketAddr::V4(remote) => remote.ip().is_multicast() || remote.ip().is_broadcast(),
        SocketAddr::V6(remote) => remote.ip().is_multicast(),
    }
}

#[cfg(test)]
mod tests;

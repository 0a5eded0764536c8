// SPDX-License-Identifier: Apache-2.0
//! A record of the supervisor's steps: questions, rules, connections and notices.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use supervisor::{EgressNotice, TraceEvent, TraceObserver};
use terok_clearance::{Action, PacketDest, PacketHost, RequestId};

use crate::clock::now_us;
use crate::topology::FakeHost;

/// A rule that an answer made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TracedRule {
    /// The answered question.
    pub(crate) request: RequestId,
    /// The destination of the answer: a name or an address.
    pub(crate) dest: String,
    /// Whether the rule allows or denies.
    pub(crate) action: Action,
    /// Time when the rule was in force, on the monotonic clock.
    pub(crate) at: u64,
}

/// The record of the supervisor's steps. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SupervisorTrace(Arc<Mutex<TraceRecord>>);

#[derive(Debug, Default)]
struct TraceRecord {
    asked: Vec<(RequestId, u64)>,
    rules: Vec<TracedRule>,
    connections: Vec<(PacketDest, SocketAddr)>,
    notices: Vec<EgressNotice>,
}

impl SupervisorTrace {
    /// Returns an observer that adds to the record.
    pub(crate) fn observer(&self) -> TraceObserver {
        let this = self.clone();
        Box::new(move |event| this.add(event, now_us()))
    }

    fn add(&self, event: TraceEvent<'_>, at: u64) {
        let mut record = self.lock();
        match event {
            TraceEvent::Asked(blocked) => record.asked.push((blocked.request.clone(), at)),
            TraceEvent::Enforced {
                request,
                dest,
                action,
                ..
            } => record.rules.push(TracedRule {
                request: request.clone(),
                dest: dest.to_string(),
                action,
                at,
            }),
            TraceEvent::Connected { connection, .. } => {
                let dialed = &connection.dialed;
                record
                    .connections
                    .push((dialed.dest.clone(), dialed.address));
            }
            TraceEvent::Notice(notice) => record.notices.push(notice.clone()),
            _ => {}
        }
    }

    /// Returns the time when the packet of a question was read.
    pub(crate) fn asked_at(&self, request: &RequestId) -> Option<u64> {
        let record = self.lock();
        let mut asked = record.asked.iter();
        asked.find_map(|(known, at)| (known == request).then_some(*at))
    }

    /// Returns the rule that the answer to a question made.
    pub(crate) fn rule_of(&self, request: &RequestId) -> Option<TracedRule> {
        let record = self.lock();
        let mut rules = record.rules.iter();
        rules.find(|rule| rule.request == *request).cloned()
    }

    /// Returns all rules that answers made.
    pub(crate) fn rules(&self) -> Vec<TracedRule> {
        self.lock().rules.clone()
    }

    /// Returns the addresses of the connections made to a host of the simulated internet.
    pub(crate) fn connections_to(&self, host: &FakeHost) -> Vec<SocketAddr> {
        let record = self.lock();
        let made = record.connections.iter();
        made.filter(|(dest, _)| is_host(dest, host))
            .map(|(_, address)| *address)
            .collect()
    }

    /// Returns the number of all connections.
    pub(crate) fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Returns `true` if the supervisor said that the host is never opened.
    pub(crate) fn has_floor_notice(&self, host: &FakeHost) -> bool {
        self.lock()
            .notices
            .iter()
            .any(|notice| matches!(notice, EgressNotice::Floor(dest) if is_host(dest, host)))
    }

    fn lock(&self) -> MutexGuard<'_, TraceRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_host(dest: &PacketDest, host: &FakeHost) -> bool {
    let is_same = match (&dest.host, host.name) {
        (PacketHost::Name(name), Some(known)) => name.as_str() == known,
        (PacketHost::Address(address), None) => *address == host.address,
        (PacketHost::Name(_), None) | (PacketHost::Address(_), Some(_)) => false,
    };
    is_same && dest.port == host.port
}

// SPDX-License-Identifier: Apache-2.0
//! Passes the engine's questions and notices to the hub and to the observer.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use egress::{
    ClosedConnection, EgressNotice, EgressQuestion, EgressSink, HeldCount, LiveConnection, RuleTag,
};
use hub::Hub;
use reader::socket_owner::{SocketDiag, SocketState};
use terok_clearance::{
    BlockedPacket, ContainerId, Dest, PacketDest, PacketHost, Protocol, RequestId, SandboxEvent,
    Timestamp,
};

use super::approver::ApproverQueue;
use super::refusal_log::RefusalLog;
use super::rules::DialedRules;
use crate::state_journal::{JournalChange, OpenedJournal, SharedJournal};
use crate::waiting::to_waiting_connections;
use crate::who_asks::{SearchSubject, WhoAsks};
use crate::{DossierSource, TraceEvent};

/// The hub's side of the engine.
#[derive(Debug)]
pub(super) struct QuestionSink {
    hub: Arc<Hub<DialedRules>>,
    rules: DialedRules,
    identity: QuestionIdentity,
    who_asks: WhoAsks,
    approver: Option<ApproverQueue>,
    /// The list of the sandbox's sockets; `None` if it cannot be read.
    sockets_inside: Option<SocketDiag>,
    refusals: RefusalLog,
    next_request: u64,
    journal: Option<SharedJournal>,
}

/// The sandbox, as every question names it.
#[derive(Debug)]
pub(super) struct QuestionIdentity {
    pub(super) container: ContainerId,
    pub(super) dossier: DossierSource,
}

impl QuestionSink {
    pub(super) fn new(
        hub: Arc<Hub<DialedRules>>,
        rules: DialedRules,
        identity: QuestionIdentity,
        who_asks: WhoAsks,
        approver: Option<ApproverQueue>,
        sockets_inside: OwnedFd,
        journal: Option<&OpenedJournal>,
    ) -> Self {
        let next_request = journal.and_then(|opened| opened.state.next_request);
        Self {
            sockets_inside: SocketDiag::new(sockets_inside)
                .inspect_err(|error| tracing::warn!(%error, "the sandbox's sockets are unknown"))
                .ok(),
            hub,
            rules,
            identity,
            who_asks,
            approver,
            refusals: RefusalLog::default(),
            next_request: next_request.unwrap_or_else(|| first_number(Timestamp::now())),
            journal: journal.map(|opened| opened.journal.clone()),
        }
    }

    fn next_request_id(&mut self) -> RequestId {
        let number = self.next_request;
        self.next_request = number.wrapping_add(1);
        if let Some(journal) = &self.journal {
            let number = self.next_request;
            journal.record(vec![JournalChange::NextRequest { number }]);
        }
        RequestId::numbered(&self.identity.container, number)
    }
}

impl EgressSink for QuestionSink {
    fn ask(&mut self, question: &EgressQuestion<'_>) -> RequestId {
        let request = self.next_request_id();
        let blocked = BlockedPacket {
            container: self.identity.container.clone(),
            request: request.clone(),
            address: to_dest(question.dest),
            port: question.dest.port,
            protocol: question.dest.protocol,
            domain: None,
            dossier: self.identity.dossier.read(),
            process: None,
            zone: question.zone.question_zone(),
            looked_up_as: question.looked_up_as.cloned(),
            previous: self.rules.previous_answer(question.dest, question.zone),
            reason: question.reason.cloned(),
        };
        self.rules.emit_trace(TraceEvent::Asked(&blocked));
        self.hub.report(SandboxEvent::Blocked(blocked));
        if let Some(approver) = &mut self.approver {
            approver.submit(&request);
        }
        // The socket of a refused connection is gone before it can be found.
        if question.is_held {
            let EgressQuestion { client, remote, .. } = *question;
            let subject = SearchSubject::Question(request.clone());
            self.who_asks
                .search(subject, question.dest.protocol, client, remote);
        }
        request
    }

    fn still_waits(&mut self, client: SocketAddr, remote: SocketAddr) -> bool {
        let Some(sockets) = &mut self.sockets_inside else {
            return true;
        };
        // An unknown state is no reason to keep an answer from a connection.
        match sockets.find_socket(Protocol::TCP, client, remote) {
            Ok(socket) => socket.is_some_and(|socket| socket.state == SocketState::SYN_SENT),
            Err(_) => true,
        }
    }

    fn set_waiting(&mut self, request: &RequestId, held: HeldCount) {
        self.hub.set_waiting(request, to_waiting_connections(held));
    }

    fn connected(&mut self, connection: &LiveConnection) {
        let rule = self.rules.rule(connection.dialed.rule);
        let rule = rule.as_deref();
        self.rules
            .emit_trace(TraceEvent::Connected { connection, rule });
        if self.rules.learns() {
            let dialed = &connection.dialed;
            let subject = SearchSubject::Connection(connection.id);
            let protocol = dialed.dest.protocol;
            self.who_asks
                .search(subject, protocol, dialed.client, dialed.remote);
        }
    }

    fn closed(&mut self, connection: &ClosedConnection) {
        self.rules.emit_trace(TraceEvent::Closed(connection));
    }

    fn refused(&mut self, dest: &PacketDest, rule: Option<RuleTag>) {
        let now = tokio::time::Instant::now().into_std();
        if let Some(count) = self.refusals.record(dest, now) {
            let rule = rule.and_then(|rule| self.rules.rule(rule));
            let rule = rule.as_deref();
            self.rules
                .emit_trace(TraceEvent::RuleRefused { dest, rule, count });
        }
    }

    fn notice(&mut self, notice: EgressNotice) {
        tracing::info!(?notice, "a packet of the sandbox was refused");
        self.rules.emit_trace(TraceEvent::Notice(&notice));
    }
}

/// Returns the number of a sandbox's first question, of three digits: people type it.
///
/// The container's id is new with every sandbox, so that no request id is repeated. Names of
/// sandboxes are: with another start, an id by name seldom fits the question of an earlier one.
fn first_number(now: Timestamp) -> u64 {
    100 + now.as_micros() % 900
}

/// Returns the destination as the question shows it: the name, or the address.
fn to_dest(dest: &PacketDest) -> Dest {
    match &dest.host {
        PacketHost::Name(name) => Dest::from(name),
        PacketHost::Address(address) => Dest::from(*address),
    }
}

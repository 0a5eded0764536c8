// SPDX-License-Identifier: Apache-2.0
//! The engine of one sandbox: packets and connections of the gateway, answers, and dialing.
//!
//! One task owns all state. [`EgressEngine::step`] handles the next event of the sockets, the
//! dialing tasks, the rules and the clock; the owner passes the logged packets.

mod ahead;
mod config;
pub(crate) mod dialing;
mod echo;
mod tcp;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use names::{ForwarderNotice, NameLookup};
use rustix::io::Errno;
use terok_clearance::{
    DestZone, DisplayText, DomainName, PacketDest, PacketHost, Protocol, RequestId,
    classify_destination,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use crate::dial::DialSockets;
use crate::flow_activity::wait_until;
use crate::gateway_sockets::EgressSockets;
use crate::held_connections::{ConnectionKey, HeldConnections, MAX_HELD_CONNECTIONS};
use crate::hold_limit::HoldLimit;
use crate::name_server::NameServer;
use crate::packet_build::IcmpErrorKind;
use crate::question_rate::QuestionRate;
use crate::told_notices::ToldNotices;
use crate::{
    EgressNotice, EgressPolicy, EgressQuestion, EgressSink, EgressVerdict, HeldCount,
    LiveConnections, RuleTag,
};

pub use ahead::{AheadAnswer, AheadQuery, is_dialed_protocol};
pub use config::EgressConfig;

use dialing::{DialRefusal, Dialer};
use echo::RefusedPing;
use tcp::HandOver;
use udp::UdpFlows;

/// Time between two looks at the connections that wait, while there are any.
const TICK: Duration = Duration::from_millis(500);
/// Time that connections stay held after the last operator left: one may be about to come back.
const ANSWERER_GRACE: Duration = Duration::from_secs(5);
/// The same after the start, when no operator is expected.
const UNEXPECTED_ANSWERER_GRACE: Duration = Duration::from_secs(1);
/// Maximum connections that are being dialed.
const MAX_DIALS: usize = 4_096;
/// Time between two attempts to accept while this process has too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Maximum remembered questions that nothing waits for any more.
const MAX_GIVEN_UP: usize = 4_096;
/// Maximum DNS connections at the same time.
const MAX_DNS_STREAMS: usize = 64;
/// Maximum lookups for the sandbox at the same time.
const MAX_LOOKUPS: usize = 256;

/// The engine cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// A socket of the gateway failed.
    #[error("a socket of the gateway failed")]
    Socket(#[from] io::Error),
    /// A task panicked, which indicates a bug.
    #[error("a task panicked: {0}")]
    Panicked(DisplayText),
}

/// Holds, dials, hands over and relays the connections of one sandbox.
pub struct EgressEngine<P, N, D, S> {
    sockets: EgressSockets,
    policy: Arc<P>,
    rules_changed: Arc<Notify>,
    connections: LiveConnections,
    names: Arc<NameServer<P, N, D>>,
    dialer: Arc<Dialer<P, N, D>>,
    sink: S,
    hold: HoldLimit,
    check_server_names: bool,
    answerers: watch::Receiver<usize>,
    /// The number of questions that the operator's approver decides; `None` without one.
    approver: Option<watch::Receiver<usize>>,
    ahead: Option<mpsc::Receiver<AheadQuery>>,
    /// The end of the time that connections wait for an operator to come; `None` while one is
    /// connected.
    operator_due: Option<Instant>,
    held: HeldConnections,
    /// The dials of held connections.
    dials: HashMap<ConnectionKey, AbortHandle>,
    hand_overs: HashMap<ConnectionKey, HandOver>,
    flows: UdpFlows,
    /// The questions that connections wait for, or have waited for and given up.
    questions: HashMap<PacketDest, AskedQuestion>,
    question_rate: QuestionRate,
    told: ToldNotices,
    tasks: JoinSet<TaskEnd>,
    lookups: JoinSet<()>,
    relays: JoinSet<Option<EgressNotice>>,
    dns_streams: JoinSet<()>,
    pings: JoinSet<Option<RefusedPing>>,
    next_tick: Option<Instant>,
    /// The time until which connections wait because this process has too many open files.
    accept_after: Option<Instant>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
enum TaskEnd {
    TcpDialed {
        key: ConnectionKey,
        sequence: u32,
        result: Result<(tokio::net::TcpStream, SocketAddr), DialRefusal>,
    },
    UdpDialed {
        key: ConnectionKey,
        dial: task::Id,
        result: Result<(tokio::net::UdpSocket, SocketAddr), DialRefusal>,
    },
    UdpEnded(ConnectionKey),
}

/// A question about a destination.
#[derive(Debug)]
struct AskedQuestion {
    request: RequestId,
    is_waited_for: bool,
    /// The wait of the last program that gave up. Once told, it stays part of the question: a line
    /// that a workload could make come and go would delay the answer.
    gave_up_after: Option<Duration>,
}

/// What to do with a packet whose destination was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskOutcome {
    /// Its connection waits for the answer.
    Hold,
    /// It is refused.
    Refuse,
    /// It is dropped: its repetition may ask.
    Later,
}

/// A destination with its part of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZonedDest {
    dest: PacketDest,
    zone: DestZone,
    /// The name that led to the destination, an address.
    looked_up_as: Option<DomainName>,
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets, S: EgressSink> EgressEngine<P, N, D, S> {
    /// Creates the engine of a gateway.
    pub fn new(mut sockets: EgressSockets, config: EgressConfig<P, N, D, S>) -> Self {
        let EgressConfig {
            policy,
            rules_changed,
            lookup,
            sockets: dial_sockets,
            proxy,
            forwarder,
            hold,
            check_server_names,
            mut answerers,
            approver,
            ahead,
            expects_operator,
            connections,
            sink,
        } = config;
        let grace = if expects_operator {
            ANSWERER_GRACE
        } else {
            UNEXPECTED_ANSWERER_GRACE
        };
        let operator_due = (*answerers.borrow_and_update() == 0).then(|| deadline(grace));
        let dialer = Arc::new(Dialer {
            policy: Arc::clone(&policy),
            lookup,
            sockets: dial_sockets,
            proxy,
            own_names: forwarder.own_names.clone(),
        });
        let names = Arc::new(NameServer::new(forwarder, Arc::clone(&dialer)));
        let mut dns_streams = JoinSet::new();
        if let Some(loopback) = sockets.loopback.take() {
            dns_streams.spawn(loopback.serve(Arc::clone(&names)));
        }
        Self {
            names,
            dialer,
            sockets,
            policy,
            rules_changed,
            connections,
            sink,
            hold,
            check_server_names,
            answerers,
            approver,
            ahead,
            operator_due,
            held: HeldConnections::default(),
            dials: HashMap::new(),
            hand_overs: HashMap::new(),
            flows: UdpFlows::default(),
            questions: HashMap::new(),
            question_rate: QuestionRate::default(),
            told: ToldNotices::default(),
            tasks: JoinSet::new(),
            lookups: JoinSet::new(),
            relays: JoinSet::new(),
            dns_streams,
            pings: JoinSet::new(),
            next_tick: None,
            accept_after: None,
            buffer: vec![0; MAX_DATAGRAM_BYTES].into_boxed_slice(),
        }
    }

    /// Waits for the next event and handles it. Cancel safe.
    pub async fn step(&mut self) -> Result<(), EgressError> {
        self.schedule_tick();
        let next_tick = self.next_tick;
        tokio::select! {
            accepted = self.sockets.tcp.accept(), if self.accept_after.is_none() => {
                if let Some((stream, client)) = self.check_accepted(accepted)? {
                    self.finish_hand_over(stream, client);
                }
            }
            accepted = self.sockets.dns.accept(),
                if self.accept_after.is_none() && self.dns_streams.len() < MAX_DNS_STREAMS =>
            {
                if let Some((stream, _)) = self.check_accepted(accepted)? {
                    let names = Arc::clone(&self.names);
                    self.dns_streams.spawn(names.serve_stream(stream));
                }
            }
            () = wait_until(self.accept_after), if self.accept_after.is_some() => {
                self.accept_after = None;
            }
            ready = self.sockets.udp.wait_readable() => {
                ready?;
                self.handle_datagrams();
            }
            Some(ended) = self.tasks.join_next() => {
                if let Some(ended) = check_panic(ended)? {
                    self.finish_task(ended);
                }
            }
            Some(ended) = self.relays.join_next() => {
                if let Some(notice) = check_panic(ended)?.flatten() {
                    self.tell(notice);
                }
            },
            Some(ended) = self.lookups.join_next() => {
                check_panic(ended)?;
            },
            Some(ended) = self.dns_streams.join_next() => {
                check_panic(ended)?;
            },
            Some(ended) = self.pings.join_next() => {
                if let Some(refused) = check_panic(ended)?.flatten() {
                    self.finish_refused_ping(refused);
                }
            },
            () = self.rules_changed.notified() => self.apply_rules(),
            Ok(()) = self.answerers.changed() => self.note_answerers(),
            query = ahead::next_query(&mut self.ahead) => self.answer_ahead(query),
            () = wait_until(next_tick), if next_tick.is_some() => {
                self.next_tick = None;
                self.tick();
            }
        }
        self.tell_name_server_notices();
        self.report_closed();
        Ok(())
    }

    /// Returns an accepted connection; `None` after an error that passes.
    fn check_accepted<T>(&mut self, accepted: io::Result<T>) -> io::Result<Option<T>> {
        let error = match accepted {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                if !self.release_reserved_files() {
                    self.accept_after = Instant::now().checked_add(ACCEPT_BACKOFF);
                }
                Ok(None)
            }
            // The connection has ended already: accept(2) passes its error on.
            _ if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error),
        }
    }

    /// Reports the connections that have ended.
    fn report_closed(&mut self) {
        for closed in self.connections.take_closed() {
            self.policy.note_closed(closed.connection.dialed.rule);
            self.sink.closed(&closed);
        }
    }

    /// Reports a connection that a rule refused.
    fn report_refused(&mut self, dest: &PacketDest, rule: Option<RuleTag>) {
        if let Some(rule) = rule {
            self.policy.note_uses(rule, 1);
        }
        self.sink.refused(dest, rule);
    }

    fn finish_task(&mut self, ended: TaskEnd) {
        match ended {
            TaskEnd::TcpDialed {
                key,
                sequence,
                result,
            } => self.finish_tcp_dial(key, sequence, result),
            TaskEnd::UdpDialed { key, dial, result } => self.finish_udp_dial(key, dial, result),
            TaskEnd::UdpEnded(key) => self.flows.remove_ended(&key),
        }
    }

    /// Returns the effect of the rules on a destination.
    fn decide(&self, dest: &PacketDest, zone: DestZone) -> EgressVerdict {
        if self.dialer.is_proxy(dest) {
            EgressVerdict::Floor
        } else {
            self.policy.decide(dest, zone)
        }
    }

    /// Returns the destination that packets to `remote` mean.
    fn destination(&self, remote: SocketAddr, protocol: Protocol) -> ZonedDest {
        let ip = remote.ip().to_canonical();
        let host = match self.names.name_of(ip) {
            Some(name) => PacketHost::Name(name),
            None => PacketHost::Address(ip),
        };
        let dest = PacketDest {
            host,
            port: remote.port(),
            protocol,
        };
        ZonedDest {
            zone: self.zone_of(&dest),
            dest,
            looked_up_as: None,
        }
    }

    fn zone_of(&self, dest: &PacketDest) -> DestZone {
        match &dest.host {
            PacketHost::Name(name) if self.dialer.own_names.contains(name) => DestZone::ThisHost,
            PacketHost::Name(_) => DestZone::Public,
            PacketHost::Address(address) => self.zone(*address),
        }
    }

    fn zone(&self, ip: IpAddr) -> DestZone {
        classify_destination(ip, |ip| self.dialer.is_host_address(ip))
    }

    /// Returns `true` if a connection may wait for an answer.
    fn may_hold(&self) -> bool {
        match self.hold {
            HoldLimit::Refuse => false,
            // An approver decides a new question. If it leaves it to a person, and none is there,
            // the connection is refused then.
            HoldLimit::For(_) | HoldLimit::Forever => {
                self.approver.is_some() || !self.is_unattended()
            }
        }
    }

    /// Returns `true` if no operator is connected or about to be, and no approver decides.
    fn is_unattended(&self) -> bool {
        let decided = self.approver.as_ref().map_or(0, |count| *count.borrow());
        decided == 0 && self.operator_due.is_some_and(|due| Instant::now() >= due)
    }

    /// Returns the time after which a held connection is refused.
    fn hold_time(&self) -> Duration {
        match self.hold {
            _ if self.is_unattended() => Duration::ZERO,
            HoldLimit::Refuse => Duration::ZERO,
            HoldLimit::For(limit) => limit,
            HoldLimit::Forever => Duration::MAX,
        }
    }

    /// Reports that a connection was refused because its wait has ended.
    fn tell_hold_ended(&mut self, dest: PacketDest, is_unattended: bool) {
        self.tell(if is_unattended {
            EgressNotice::NobodyAnswers(dest)
        } else {
            EgressNotice::HoldEnded(dest)
        });
    }

    fn note_answerers(&mut self) {
        let count = *self.answerers.borrow_and_update();
        if count > 0 {
            self.operator_due = None;
        } else {
            self.operator_due
                .get_or_insert_with(|| deadline(ANSWERER_GRACE));
        }
    }

    /// Asks about a destination, unless connections wait for the answer already.
    fn ask_and_hold(&mut self, asked: &ZonedDest, key: ConnectionKey) -> AskOutcome {
        let may_hold = self.may_hold();
        let known = self.questions.get(&asked.dest);
        if may_hold && known.is_some_and(|known| known.is_waited_for) {
            return AskOutcome::Hold;
        }
        let gave_up_after = known.and_then(|known| known.gave_up_after);
        let Some(request) = self.ask(asked, key) else {
            return AskOutcome::Later;
        };
        if may_hold {
            self.forget_given_up();
            let question = AskedQuestion {
                request,
                is_waited_for: true,
                gave_up_after,
            };
            self.questions.insert(asked.dest.clone(), question);
        } else if self.hold != HoldLimit::Refuse {
            self.tell(EgressNotice::NobodyAnswers(asked.dest.clone()));
        }
        if may_hold {
            AskOutcome::Hold
        } else {
            AskOutcome::Refuse
        }
    }

    /// Asks about a destination; `None` if there are too many questions at the moment.
    fn ask(&mut self, asked: &ZonedDest, key: ConnectionKey) -> Option<RequestId> {
        if !self.question_rate.admit(Instant::now().into_std()) {
            return None;
        }
        Some(self.sink.ask(&EgressQuestion {
            dest: &asked.dest,
            zone: asked.zone,
            looked_up_as: asked.looked_up_as.as_ref(),
            is_held: self.may_hold() && asked.dest.protocol != Protocol::ICMP,
            client: key.client,
            remote: key.remote,
            reason: None,
        }))
    }

    /// Reports how many connections wait for an answer about `dest`.
    fn report_waiting(&mut self, dest: &PacketDest, gave_up_after: Option<Duration>) {
        let (connections, connected_since) = self.held.waiting(dest);
        let (flows, flows_since) = self.flows.waiting(dest);
        let count = connections.saturating_add(flows);
        let since = [connected_since, flows_since].into_iter().flatten().min();
        let Some(question) = self.questions.get_mut(dest) else {
            return;
        };
        question.gave_up_after = gave_up_after.or(question.gave_up_after);
        question.is_waited_for = count > 0;
        let held = HeldCount {
            count,
            since,
            gave_up_after: question.gave_up_after,
        };
        self.sink.set_waiting(&question.request, held);
        if count == 0 && question.gave_up_after.is_none() {
            self.questions.remove(dest);
        }
    }

    /// Reports that nothing waits for an answered question any more, and forgets it.
    fn finish_question(&mut self, dest: &PacketDest) {
        self.report_waiting(dest, None);
        if self
            .questions
            .get(dest)
            .is_some_and(|question| !question.is_waited_for)
        {
            self.questions.remove(dest);
        }
    }

    /// Forgets the questions that nothing waits for any more if there are many of them.
    fn forget_given_up(&mut self) {
        if self.questions.len() >= MAX_GIVEN_UP.saturating_add(MAX_HELD_CONNECTIONS) {
            self.questions.retain(|_, question| question.is_waited_for);
        }
    }

    /// Applies the rules to everything that waits.
    fn apply_rules(&mut self) {
        self.apply_rules_to_connections();
        self.apply_rules_to_flows();
    }

    fn schedule_tick(&mut self) {
        let has_timers =
            !self.held.is_empty() || !self.hand_overs.is_empty() || !self.flows.is_empty();
        if has_timers && self.next_tick.is_none() {
            self.next_tick = Some(deadline(TICK));
        }
    }

    fn tick(&mut self) {
        self.expire_connections();
        self.expire_flows();
    }

    /// Reports a notice, once.
    fn tell(&mut self, notice: EgressNotice) {
        if let Some(notice) = self.told.admit(notice) {
            self.sink.notice(notice);
        }
    }

    /// Reports a destination that nothing opens.
    fn tell_floor(&mut self, dest: PacketDest) {
        self.tell(if self.dialer.is_proxy(&dest) {
            EgressNotice::OperatorProxy(dest)
        } else {
            EgressNotice::Floor(dest)
        });
    }

    /// Reports why a connection was not made, and returns the ICMP error that tells its program;
    /// `None`: it is refused.
    fn tell_refusal(&mut self, dest: &PacketDest, refusal: &DialRefusal) -> Option<IcmpErrorKind> {
        tracing::debug!(%dest, error = %refusal, "a connection could not be made");
        if let Some(notice) = refusal.notice(dest) {
            self.tell(notice);
        }
        refusal.icmp_kind()
    }

    fn tell_name_server_notices(&mut self) {
        if self.names.take_out_of_sockets() {
            self.tell(EgressNotice::LookupsOutOfSockets);
        }
        for notice in self.names.take_notices() {
            match notice {
                ForwarderNotice::StandInsExhausted => self.tell(EgressNotice::TooManyNames),
                ForwarderNotice::RecordTypeRefused { name, record_type } => {
                    let record_type = record_type.to_string();
                    self.tell(EgressNotice::RecordRefused { name, record_type });
                }
                ForwarderNotice::RefusalsOmitted => self.tell(EgressNotice::NoticesOmitted),
                _ => {}
            }
        }
    }
}

impl<P, N, D, S> std::fmt::Debug for EgressEngine<P, N, D, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EgressEngine")
            .field("sockets", &self.sockets)
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

/// The longest datagram.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Returns the time `duration` from now.
fn deadline(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

/// Returns the result of a task; `None` for one that was aborted.
fn check_panic<T>(ended: Result<T, JoinError>) -> Result<Option<T>, EgressError> {
    match ended {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_cancelled() => Ok(None),
        Err(error) => Err(EgressError::Panicked(DisplayText::new(&error.to_string()))),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The shield as an enforcer for the hub and as a sink for looked-up addresses.

mod connections;
mod journaled;
mod names;
mod rules;

use journaled::EnforcerGuard;
use rules::FilteredRules;
pub(crate) use rules::RuleAction;

pub(crate) use names::StandInPacket;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use egress::{EgressNotice, HeldCount, HoldLimit};
use hub::ledger::StoredQuestion;
use hub::{Claim, DecisionEnforcer, ScopeOffer};
use policy::RuleVerdict;
use reader::socket_owner::SocketDiag;
use shield::{NetlinkError, NftShield};
use terok_clearance::wire::clearance2::{
    ExplainParameters, ExplainReply, ListedRule, RevokeReply, RuleCallError,
};
use terok_clearance::{
    Action, BlockedPacket, Dest, DisplayText, DomainName, EnforcementOutcome, PacketDest,
    PacketHost, Protocol, RequestId, RuleLifetime, Target, error_chain,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::boot_clock::BootAlarm;
use crate::hold_table::{HeldQuestion, HoldTable, MIN_REFUSAL, OverdueDest, PacketFate};
use crate::served_names::ServedNames;
use crate::state_journal::{OpenedJournal, SharedJournal};
use crate::{AllowedDest, FilteredPolicy, LongestAnswer, TraceEvent, TraceObserver};

/// One sandbox's shield, shared by the hub (answers) and the reader (looked-up addresses).
#[derive(Debug, Clone)]
pub(crate) struct ShieldEnforcer {
    state: Arc<Mutex<ShieldEnforcerState>>,
    /// Wakes the task that watches the time limits of waiting connections.
    hold_recorded: Arc<Notify>,
    /// Wakes the task that watches the ends of rules.
    ends_changed: Arc<Notify>,
}

struct ShieldEnforcerState {
    /// `None` after the sandbox's end: the socket would keep the network namespace alive.
    shield: Option<NftShield>,
    observer: Option<TraceObserver>,
    holds: HoldTable,
    /// `None` if the sandbox uses resolvers of its own.
    names: Option<ServedNames>,
    rules: FilteredRules,
    /// Ends sockets; `None` if that is not possible.
    sockets: Option<SocketDiag>,
    /// Where the rules of answers are kept for a later supervisor.
    journal: Option<SharedJournal>,
}

impl std::fmt::Debug for ShieldEnforcerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            shield,
            observer,
            holds,
            names,
            rules,
            sockets,
            journal,
        } = self;
        f.debug_struct("ShieldEnforcerState")
            .field("shield", shield)
            .field("observed", &observer.is_some())
            .field("holds", holds)
            .field("names", names)
            .field("rules", rules)
            .field("sockets", sockets)
            .field("journal", journal)
            .finish()
    }
}

impl ShieldEnforcer {
    /// Creates the enforcer of a firewall, whose orders become rules.
    pub(crate) fn new(
        mut shield: NftShield,
        hold: HoldLimit,
        names: Option<ServedNames>,
        sockets: Option<SocketDiag>,
        journal: Option<&OpenedJournal>,
    ) -> Result<Self, NetlinkError> {
        let elements = shield.list_elements()?;

        let mut state = ShieldEnforcerState {
            shield: Some(shield),
            observer: None,
            holds: HoldTable::new(hold),
            names,
            rules: FilteredRules::default(),
            sockets,
            journal: journal.map(|opened| opened.journal.clone()),
        };
        state.restore_rules(elements, journal.map(|opened| &opened.state));
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            hold_recorded: Arc::new(Notify::new()),
            ends_changed: Arc::new(Notify::new()),
        })
    }

    pub(crate) fn set_observer(&self, observer: TraceObserver) {
        let mut inner = self.lock_state();
        inner.observer = Some(observer);
        let rules = inner
            .rules
            .table
            .iter()
            .map(|entry| Arc::clone(&entry.rule));
        for rule in rules.collect::<Vec<_>>() {
            inner.emit_trace(TraceEvent::RuleAdded(&rule));
        }
    }

    /// Allows a destination for the sandbox's lifetime.
    pub(crate) fn allow(&self, allowed: &AllowedDest) -> Result<(), DisplayText> {
        self.lock_state().add_option(allowed)
    }

    /// Adds the rules from the start.
    pub(crate) fn add_policy(&self, policy: FilteredPolicy) -> Result<(), DisplayText> {
        self.lock_state().add_policy(policy)
    }

    /// Makes the orders for a packet that no order covers, if a rule for many names or addresses
    /// does.
    pub(crate) fn order_by_rules(&self, blocked: &BlockedPacket) -> RuleAction {
        self.lock_state().order_by_rules(blocked)
    }

    /// Ends the connections that an earlier supervisor left and that no rule allows, such as those
    /// of rules that ended meanwhile.
    pub(crate) fn end_connections_without_rule(&self) {
        if let Err(error) = self.lock_state().check_connections() {
            tracing::warn!(%error, "connections without a rule cannot be ended");
        }
    }

    /// Ends rules and their connections at their times. Ends with an error only.
    pub(crate) async fn follow_ends(&self, mut alarm: BootAlarm) -> io::Result<()> {
        loop {
            let next = self.lock_state().end_expired();
            tokio::select! {
                rung = alarm.wait_until(next) => rung?,
                () = self.ends_changed.notified() => {}
            }
        }
    }

    /// Closes the sockets of the shield and of lookups, and thereby releases the network namespace.
    /// Waiting connections are refused.
    pub(crate) fn close_shield(&self) {
        let mut inner = self.lock_state();
        inner.hold_connections(false);
        inner.shield = None;
        inner.sockets = None;
        inner.names = None;
    }

    /// Lets new connections wait for answers, or refuses them and those that wait.
    pub(crate) fn hold_connections(&self, held: bool) {
        self.lock_state().hold_connections(held);
    }

    /// Returns `true` if connections wait for answers.
    pub(crate) fn holds_connections(&self) -> bool {
        self.lock_state().holds.is_active()
    }

    /// Records that a packet was logged, and returns what becomes of it.
    pub(crate) fn record_packet(&self, blocked: &BlockedPacket) -> PacketFate {
        let mut inner = self.lock_state();
        let destination = inner.packet_destination(blocked);
        let Some(destination) = destination.filter(|_| blocked.protocol == Protocol::TCP) else {
            return PacketFate::Refused;
        };
        let question = HeldQuestion::of(blocked);
        let fate = inner.holds.record(destination, &question, std_now());
        if fate == PacketFate::Held {
            self.hold_recorded.notify_one();
        }
        fate
    }

    /// Counts the connections that wait, by the remote addresses of all that still connect.
    pub(crate) fn count_connections(&self, connecting: &[SocketAddr]) {
        self.lock_state()
            .holds
            .count_connections(connecting, std_now());
    }

    /// Returns `true` if something waits.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.lock_state().holds.is_empty()
    }

    /// Removes and returns the changes of the connections that wait for questions.
    pub(crate) fn take_hold_updates(&self) -> Vec<(RequestId, HeldCount)> {
        self.lock_state().holds.take_updates()
    }

    /// Waits until a connection begins to wait. Cancel safe.
    pub(crate) async fn hold_recorded(&self) {
        self.hold_recorded.notified().await;
    }

    /// Returns `true` if no rule covers the destination of a question of an earlier supervisor.
    pub(crate) fn still_asks(&self, question: &StoredQuestion) -> bool {
        let Ok(target) = question.dest().parse_target() else {
            return true;
        };
        let dest = PacketDest {
            host: rules::target_host(&target),
            port: question.port(),
            protocol: question.protocol(),
        };
        self.lock_state().decide(&dest) == RuleVerdict::Ask
    }

    /// Returns the next time limit of a waiting connection.
    pub(crate) fn next_hold_due(&self) -> Option<std::time::Instant> {
        self.lock_state().holds.next_due()
    }

    /// Refuses the connections whose time to wait is over.
    pub(crate) fn refuse_overdue(&self) {
        let now = std_now();
        let mut inner = self.lock_state();
        inner.forget_answered_holds();
        let overdue = inner.holds.take_overdue(now);
        for one in &overdue {
            tracing::info!(
                dest = %one.question,
                address = %one.destination,
                "nobody answered in time; the connection is refused"
            );
            let host = match one.question.parse_target() {
                Ok(target) => rules::target_host(&target),
                Err(_) => PacketHost::Address(one.destination.ip()),
            };
            inner.emit_trace(TraceEvent::Notice(&EgressNotice::HoldEnded(PacketDest {
                host,
                port: one.destination.port(),
                protocol: Protocol::TCP,
            })));
        }
        inner.refuse_waiting(&overdue);
    }

    /// Refuses the TCP connections to a destination without a question. Packets of other protocols
    /// do not wait.
    pub(crate) fn refuse_dest(&self, blocked: &BlockedPacket) {
        let mut inner = self.lock_state();
        let destination = inner.packet_destination(blocked);
        if let Some(destination) = destination.filter(|_| blocked.protocol == Protocol::TCP) {
            inner.refuse_waiting(&[OverdueDest {
                destination,
                question: blocked.dest().clone(),
                refuse_for: MIN_REFUSAL,
            }]);
        }
    }

    /// Reports that a packet was refused because no operator is there to answer.
    pub(crate) fn report_unanswered(&self, blocked: &BlockedPacket) {
        if let Ok(target) = blocked.dest().parse_target() {
            self.emit_trace(TraceEvent::Notice(&EgressNotice::NobodyAnswers(
                PacketDest {
                    host: rules::target_host(&target),
                    port: blocked.port,
                    protocol: blocked.protocol,
                },
            )));
        }
    }

    pub(crate) fn emit_trace(&self, event: TraceEvent<'_>) {
        self.lock_state().emit_trace(event);
    }

    /// Applies the order for `name`, if any, to newly looked-up addresses.
    pub(crate) fn learn_addresses(&self, name: &DomainName, addresses: &[IpAddr]) {
        let mut inner = self.lock_state();
        let added = inner.learn_addresses(name, addresses);
        inner.emit_trace(TraceEvent::DnsAnswered {
            name,
            addresses,
            added,
        });
    }

    /// Returns the kernel's current action for packets like `blocked`, if an order determines it.
    ///
    /// The packet may have been sent before the answer took effect, or before the address of an
    /// allowed name was learnt. The kernel is asked for the set element itself: another program may
    /// have removed it, and then the question must not be swallowed.
    pub(crate) fn decided_by_kernel(&self, blocked: &BlockedPacket) -> Option<Action> {
        let mut inner = self.lock_state();
        let destination = inner.packet_destination(blocked)?;
        let address = destination.ip();
        if let Some(Ok(Target::Name(name))) = blocked.domain.as_ref().map(Dest::parse_target) {
            inner.learn_addresses(&name, &[address]);
        }
        let shield = inner.shield.as_mut()?;
        let action = shield.standing_action(address, blocked.protocol, blocked.port, std_now())?;
        let elements = shield.list_elements().unwrap_or_else(|error| {
            tracing::warn!(
                error = %error_chain(&error),
                "the elements of the firewall could not be listed"
            );
            Vec::new()
        });
        let target = blocked.address.parse_target().ok();
        let in_kernel = elements.iter().any(|element| {
            element.action == action
                && element.address == address
                && element
                    .protocol
                    .is_none_or(|protocol| protocol == blocked.protocol)
                && element.port.is_none_or(|port| port == blocked.port)
        });
        let is_wanted = target.is_some_and(|target| inner.want_address(&target));
        if is_wanted && blocked.protocol == Protocol::TCP {
            let question = HeldQuestion::of(blocked);
            inner.holds.record(destination, &question, std_now());
        }
        in_kernel.then_some(action)
    }

    fn enforce_claim(&self, claim: &Claim) -> EnforcementOutcome {
        let mut inner = self.lock_state();
        let start = Instant::now();
        let (request, dest, action) = (claim.request(), claim.dest(), claim.action());
        match inner.add_answer(claim) {
            Ok(()) => {
                self.ends_changed.notify_one();
                inner.forget_answered_holds();
                if let Ok(target) = dest.parse_target() {
                    inner.want_address(&target);
                }
                let duration = start.elapsed();
                inner.emit_trace(TraceEvent::Enforced {
                    request,
                    dest,
                    action,
                    scope: claim.scope(),
                    by: claim.by(),
                    duration,
                });
                EnforcementOutcome::Applied
            }
            Err(reason) => {
                inner.emit_trace(TraceEvent::Refused {
                    request,
                    dest,
                    action,
                    by: claim.by(),
                    reason: &reason,
                });
                EnforcementOutcome::Failed(reason)
            }
        }
    }

    fn lock_state(&self) -> EnforcerGuard<'_> {
        EnforcerGuard::new(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HeldQuestion {
    fn of(blocked: &BlockedPacket) -> Self {
        Self {
            request: blocked.request.clone(),
            dest: blocked.dest().clone(),
        }
    }
}

impl DecisionEnforcer for ShieldEnforcer {
    fn supports_ports(&self) -> bool {
        true
    }

    fn offered_scopes(&self) -> ScopeOffer {
        let inner = self.lock_state();
        ScopeOffer {
            wider_names: inner.names.is_some(),
            lifetimes: match inner.rules.longest_answer {
                LongestAnswer::Once => &[RuleLifetime::Once],
                _ => &[RuleLifetime::Once, RuleLifetime::Sandbox],
            },
        }
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        self.enforce_claim(&claim)
    }

    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        Ok(self.lock_state().list_rules())
    }

    async fn revoke(
        &self,
        rule: &DisplayText,
        by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        let revoked = self.lock_state().revoke_rules(rule, by);
        self.ends_changed.notify_one();
        revoked
    }

    fn explain(&self, dest: &ExplainParameters) -> Result<ExplainReply, RuleCallError> {
        self.lock_state().explain_dest(dest)
    }
}

impl ShieldEnforcerState {
    fn emit_trace(&mut self, event: TraceEvent<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }

    fn hold_connections(&mut self, held: bool) {
        if held == self.holds.is_active() || (held && !self.holds.may_hold()) {
            return;
        }
        let Some(shield) = &mut self.shield else {
            return;
        };
        match shield.hold_connections(held, std_now()) {
            Ok(()) => self.holds.set_active(held),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(%error, held, "cannot change whether connections wait");
            }
        }
    }

    /// Forgets the waiting connections that an order lets pass or refuses from now on. After the
    /// end of the order, they are asked about again.
    fn forget_answered_holds(&mut self) {
        let Some(shield) = &self.shield else {
            return;
        };
        let now = std_now();
        self.holds.remove_answered(|destination| {
            let (address, port) = (destination.ip(), destination.port());
            let action = shield.standing_action(address, Protocol::TCP, port, now);
            // An allowed name without an address still waits for its lookup.
            let is_unmapped = matches!(address, IpAddr::V4(address)
                if shield.address_of_stand_in(address, now) == Some(address));
            action == Some(Action::Deny) || (action.is_some() && !is_unmapped)
        });
    }

    fn learn_addresses(&mut self, name: &DomainName, addresses: &[IpAddr]) -> usize {
        let Some(shield) = &mut self.shield else {
            return 0;
        };
        match shield.learn_addresses(name, addresses, std_now()) {
            Ok(learnt) => {
                if learnt.refused > 0 {
                    let refused = learnt.refused;
                    tracing::warn!(
                        %name,
                        refused,
                        "an allowed name resolved to addresses that are never opened"
                    );
                }
                learnt.added
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(%name, %error, "cannot add the addresses of a name to the firewall");
                0
            }
        }
    }

    /// Returns the destination of a logged packet as the kernel sees it.
    fn packet_destination(&mut self, blocked: &BlockedPacket) -> Option<SocketAddr> {
        let target = blocked.address.parse_target().ok()?;
        Some(SocketAddr::new(self.packet_address(&target)?, blocked.port))
    }
}

/// The current time in the standard library's type, as used by the shield.
pub(crate) fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}

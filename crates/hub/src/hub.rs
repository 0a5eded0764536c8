// SPDX-License-Identifier: Apache-2.0
//! The hub: ledger, fan-out and enforcer behind one lock.

mod options;
mod pending;
mod restored;
mod status;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use terok_clearance::varlink::FrameWriter;
use terok_clearance::wire::clearance2::{
    BypassReply, ExplainParameters, ExplainReply, ListedRule, RevokeReply, RuleCallError,
};
use terok_clearance::{
    Action, BlockedPacket, Decision, DisplayText, EnforcementOutcome, Process, RequestId,
    SandboxEvent, ShieldState, Timestamp, WaitingConnections,
};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::event_frames::{ClearanceInterface, HubEvent};
use crate::fanout::{EventFanout, FlushStatus, SubscriberId};
use crate::ledger::{
    Claim, ClaimError, ClaimReceipt, Ledger, LedgerQuestion, QuestionTriple, RequestedScope,
    RuleSweep, SettledClaim, WithdrawnQuestion,
};
use crate::scope_support::{ScopeOffer, ScopeSupport};

pub use options::HubOptions;
pub use restored::{QuestionJournal, RestoredQuestions};
pub use status::HubDescription;

/// Applies decisions to a firewall.
pub trait DecisionEnforcer: Send + Sync + 'static {
    /// Returns `true` if the firewall can open a single port for the sandbox's life. Otherwise
    /// answers are for whole destinations until the rule is removed, as those of a `terok-shield`
    /// program are.
    fn supports_ports(&self) -> bool;

    /// Returns what an answer may have besides the default scope of its question: by default
    /// nothing that the hub offers.
    fn offered_scopes(&self) -> ScopeOffer {
        ScopeOffer::default()
    }

    /// Applies one claim.
    ///
    /// The hub drops the future after [`HubOptions::enforce_timeout`]; the question is then pending
    /// again. Claims for different questions are enforced concurrently.
    fn enforce(&self, claim: Claim) -> impl Future<Output = EnforcementOutcome> + Send;

    /// Returns the rules of the sandbox. By default an error: the rules are not known here.
    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        Err(unsupported())
    }

    /// Ends a rule, named like `r12`, or the rules of the answers to a request, by its id, for the
    /// operator `by`; and the connections that exist because of them.
    fn revoke(
        &self,
        _rule: &DisplayText,
        _by: &DisplayText,
    ) -> impl Future<Output = Result<RevokeReply, RuleCallError>> + Send {
        std::future::ready(Err(unsupported()))
    }

    /// Returns what the rules do with a destination.
    fn explain(&self, _dest: &ExplainParameters) -> Result<ExplainReply, RuleCallError> {
        Err(unsupported())
    }

    /// Opens the internet for this number of seconds, for the operator `by`; 0 ends it.
    fn bypass(&self, _seconds: u32, _by: &DisplayText) -> Result<BypassReply, RuleCallError> {
        Err(unsupported())
    }
}

fn unsupported() -> RuleCallError {
    RuleCallError::refused("the firewall of this sandbox does not tell or change its rules here")
}

impl<E: DecisionEnforcer> DecisionEnforcer for Arc<E> {
    fn supports_ports(&self) -> bool {
        (**self).supports_ports()
    }

    fn offered_scopes(&self) -> ScopeOffer {
        (**self).offered_scopes()
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        (**self).enforce(claim).await
    }

    fn rules(&self) -> Result<Vec<ListedRule>, RuleCallError> {
        (**self).rules()
    }

    async fn revoke(
        &self,
        rule: &DisplayText,
        by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        (**self).revoke(rule, by).await
    }

    fn explain(&self, dest: &ExplainParameters) -> Result<ExplainReply, RuleCallError> {
        (**self).explain(dest)
    }

    fn bypass(&self, seconds: u32, by: &DisplayText) -> Result<BypassReply, RuleCallError> {
        (**self).bypass(seconds, by)
    }
}

/// A ledger with its subscribers and its enforcer.
#[derive(Debug)]
pub struct Hub<E> {
    enforcer: E,
    options: HubOptions,
    state: Mutex<HubState>,
    /// The claims in progress, independent of the connections that answered.
    enforcements: Mutex<JoinSet<()>>,
    /// Cancelled by a panic of the enforcer.
    panicked: CancellationToken,
    /// The number of connected subscribers that answer.
    answerers: watch::Sender<usize>,
    description: OnceLock<HubDescription>,
    since: Timestamp,
}

#[derive(Debug)]
struct HubState {
    ledger: Ledger,
    fanout: EventFanout<FrameWriter>,
    evicted_count: u64,
    question_ends: watch::Sender<u64>,
    journal: Option<Box<dyn QuestionJournal>>,
    /// The state of the firewall that a reader reported last.
    shield: Option<ShieldState>,
}

/// An error of an answer: no effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubDecideError {
    /// The ledger refused the answer.
    #[error(transparent)]
    Refused(#[from] ClaimError),
    /// The enforcer failed; the question is still pending.
    #[error("the firewall did not apply the answer: {0}")]
    EnforcementFailed(DisplayText),
}

impl<E: DecisionEnforcer> Hub<E> {
    /// Creates a hub with an empty ledger.
    pub fn new(enforcer: E, options: HubOptions) -> Arc<Self> {
        Self::with_questions(enforcer, options, None)
    }

    /// Creates a hub with the questions of an earlier one of the same sandbox, which are pending as
    /// before.
    pub fn with_questions(
        enforcer: E,
        options: HubOptions,
        earlier: Option<RestoredQuestions>,
    ) -> Arc<Self> {
        let support = ScopeSupport {
            ports: enforcer.supports_ports(),
            offer: enforcer.offered_scopes(),
        };
        let mut ledger = Ledger::new(options.max_pending, support);
        let journal = earlier.map(|earlier| earlier.restore(&mut ledger));
        let state = HubState {
            ledger,
            fanout: EventFanout::new(options.dialect, options.max_backlog_bytes),
            evicted_count: 0,
            question_ends: watch::Sender::new(0),
            journal,
            shield: None,
        };
        Arc::new(Self {
            enforcer,
            options,
            state: Mutex::new(state),
            enforcements: Mutex::new(JoinSet::new()),
            panicked: CancellationToken::new(),
            answerers: watch::Sender::new(0),
            description: OnceLock::new(),
            since: Timestamp::now(),
        })
    }

    /// Records one event, and writes it to every subscriber that keeps up.
    ///
    /// Never blocks. Needs a tokio runtime.
    pub fn report(&self, event: SandboxEvent) {
        self.report_all([event]);
    }

    /// Records several events, with one write per subscriber.
    pub fn report_all(&self, events: impl IntoIterator<Item = SandboxEvent>) {
        let now = Timestamp::now();
        let mut state = self.lock_state();
        for event in events {
            state.apply_event(event, now, self.options.single_sandbox);
        }
        state.flush();
    }

    /// Reports to Clearance2 subscribers that the kernel lost `packets` packet reports. There are
    /// no questions for these packets.
    pub fn report_lost_packets(&self, packets: u64) {
        let mut state = self.lock_state();
        state.publish(&HubEvent::LostPackets(packets));
        state.flush();
    }

    /// Sets the connections that are held for the question `request`, and tells Clearance2
    /// subscribers if the value changed.
    ///
    /// The id may be that of the question, or of one of its newest packets. An unknown question is
    /// ignored: it may have been answered in the meantime.
    pub fn set_waiting(&self, request: &RequestId, waiting: WaitingConnections) {
        self.change_details(|ledger| ledger.set_waiting(request, waiting));
    }

    /// Sets the process behind the question `request`, and tells Clearance2 subscribers if the
    /// value changed. An unknown question is ignored.
    pub fn set_process(&self, request: &RequestId, process: Arc<Process>) {
        self.change_details(|ledger| ledger.set_process(request, process));
    }

    /// Applies a change that returns the number of the changed question, and publishes the
    /// question.
    fn change_details(&self, change: impl FnOnce(&mut Ledger) -> Option<u64>) {
        let mut state = self.lock_state();
        let HubState { ledger, fanout, .. } = &mut *state;
        let Some(number) = change(ledger) else {
            return;
        };
        if let Some(question) = ledger.question(number) {
            fanout.publish(ledger, &HubEvent::DetailsChanged(question));
        }
        state.flush();
    }

    /// Returns the number of connected subscribers that answer, and its changes: those of
    /// Clearance2 that said so, and every one of Clearance1.
    pub fn answerers(&self) -> watch::Receiver<usize> {
        self.answerers.subscribe()
    }

    /// Applies `action` of the operator `by` to the question `asked`, and returns the record.
    ///
    /// Dropping the future does not cancel the answer: the claim is enforced, and every subscriber
    /// receives the result.
    pub async fn decide(
        self: &Arc<Self>,
        asked: QuestionTriple<'_>,
        action: Action,
        scope: RequestedScope,
        by: DisplayText,
    ) -> Result<Decision, HubDecideError> {
        let (claim, receipt) =
            self.lock_state()
                .ledger
                .claim(asked, action, scope, by, Timestamp::now())?;
        self.apply_claim(claim, receipt).await
    }

    /// Applies `action` like [`Hub::decide`], also to a question that was answered before: the new
    /// rule replaces that of the earlier answer.
    pub async fn decide_again(
        self: &Arc<Self>,
        asked: QuestionTriple<'_>,
        action: Action,
        scope: RequestedScope,
        by: DisplayText,
    ) -> Result<Decision, HubDecideError> {
        let (claim, receipt) = {
            let ledger = &mut self.lock_state().ledger;
            let now = Timestamp::now();
            match ledger.claim(asked, action, scope.clone(), by.clone(), now) {
                Err(ClaimError::AlreadyDecided(_)) => {
                    ledger.claim_again(asked, action, scope, by, now)?
                }
                claimed => claimed?,
            }
        };
        self.apply_claim(claim, receipt).await
    }

    /// Returns the firewall.
    pub(crate) const fn enforcer(&self) -> &E {
        &self.enforcer
    }

    async fn apply_claim(
        self: &Arc<Self>,
        claim: Claim,
        receipt: ClaimReceipt,
    ) -> Result<Decision, HubDecideError> {
        let (report, outcome) = oneshot::channel();
        {
            let hub = Arc::clone(self);
            let mut enforcements = self
                .enforcements
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // A finished task has reported its result, and a panic has cancelled `panicked`.
            while enforcements.try_join_next().is_some() {}
            enforcements.spawn(async move {
                let (decision, sweep) = hub.enforce_claim(claim, receipt).await;
                // The caller may have dropped the future.
                drop(report.send(decision));
                hub.sweep_rule(sweep).await;
            });
        }
        match outcome.await {
            Ok(decision) if decision.ok => Ok(decision),
            Ok(decision) => Err(HubDecideError::EnforcementFailed(
                decision.reason.unwrap_or_default(),
            )),
            Err(_) => {
                let reason = "the enforcer panicked";
                Err(HubDecideError::EnforcementFailed(DisplayText::new(reason)))
            }
        }
    }

    /// Dismisses the question `asked` without a rule, and returns the record.
    pub fn dismiss(
        &self,
        asked: QuestionTriple<'_>,
        by: DisplayText,
    ) -> Result<Decision, ClaimError> {
        let mut state = self.lock_state();
        let answered = state.ledger.dismiss(asked, by, Timestamp::now())?;
        state.publish(&HubEvent::Decided(&answered));
        state.flush();
        Ok(answered.decision)
    }

    /// Returns the number of pending questions.
    pub fn pending_count(&self) -> usize {
        self.lock_state().ledger.len()
    }

    /// Returns the number of subscribers.
    pub fn subscriber_count(&self) -> usize {
        self.lock_state().fanout.len()
    }

    /// Returns the last `limit` decisions, newest first.
    pub(crate) fn recent_decisions(&self, limit: usize) -> Vec<Arc<Decision>> {
        let state = self.lock_state();
        let newest = state.ledger.decisions().take(limit);
        newest.map(|decision| Arc::new(decision.clone())).collect()
    }

    /// Calls `visit` for the pending questions with a number over `after`, oldest first, until the
    /// result is `false`. Returns the number of the last question, `None` at the end of the ledger.
    pub(crate) fn visit_pending(
        &self,
        after: u64,
        mut visit: impl FnMut(LedgerQuestion<'_>) -> bool,
    ) -> Option<u64> {
        let state = self.lock_state();
        for (number, question) in state.ledger.pending_after(after) {
            if !visit(question) {
                return Some(number);
            }
        }
        None
    }

    pub(crate) const fn options(&self) -> &HubOptions {
        &self.options
    }

    /// Waits for a panic of the enforcer.
    pub(crate) async fn wait_for_panic(&self) {
        self.panicked.cancelled().await;
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        interface: ClearanceInterface,
        answers: bool,
        writer: FrameWriter,
        wake: Arc<Notify>,
    ) -> HubSubscription<E> {
        let mut state = self.lock_state();
        let HubState { ledger, fanout, .. } = &mut *state;
        let id = fanout.subscribe(interface, writer, wake, ledger);
        drop(state);
        if answers {
            self.answerers
                .send_modify(|count| *count = count.saturating_add(1));
        }
        HubSubscription {
            hub: Arc::clone(self),
            id,
            answers,
        }
    }

    /// Returns the decision, and the search for further questions that the new rule answers.
    async fn enforce_claim(
        &self,
        claim: Claim,
        receipt: ClaimReceipt,
    ) -> (Decision, Option<RuleSweep>) {
        let guard = PanicGuard(&self.panicked);
        let limit = self.options.enforce_timeout;
        let outcome = match timeout(limit, self.enforcer.enforce(claim)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                EnforcementOutcome::Failed(DisplayText::new(&format!("timed out after {limit:?}")))
            }
        };
        drop(guard);
        let mut state = self.lock_state();
        let SettledClaim { answered, sweep } =
            state.ledger.settle(receipt, &outcome, Timestamp::now());
        state.publish(&HubEvent::Decided(&answered));
        state.flush();
        drop(state);
        let decision = answered.decision;
        tracing::info!(
            container = %decision.container,
            request = %decision.request,
            dest = %decision.dest,
            action = ?decision.action,
            by = %decision.by,
            ok = decision.ok,
            reason = decision.reason.as_ref().map(tracing::field::display),
            "answered a question"
        );
        (decision, sweep)
    }

    /// Answers the other questions that a rule covers.
    async fn sweep_rule(&self, mut rest: Option<RuleSweep>) {
        while let Some(sweep) = rest {
            {
                let mut state = self.lock_state();
                let (answered, next) = state.ledger.sweep_rule(sweep);
                for other in &answered {
                    state.publish(&HubEvent::Decided(other));
                }
                state.flush();
                rest = next;
            }
            tokio::task::yield_now().await;
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cancels the token when a panic unwinds.
struct PanicGuard<'a>(&'a CancellationToken);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// A subscription, which ends on drop.
#[derive(Debug)]
pub(crate) struct HubSubscription<E: DecisionEnforcer> {
    hub: Arc<Hub<E>>,
    id: SubscriberId,
    answers: bool,
}

impl<E: DecisionEnforcer> HubSubscription<E> {
    /// Writes outstanding frames, up to the space in the socket and the limit of one turn.
    pub(crate) fn flush(&self) -> FlushStatus {
        let mut state = self.hub.lock_state();
        let HubState { ledger, fanout, .. } = &mut *state;
        fanout.flush_to(self.id, ledger)
    }
}

impl<E: DecisionEnforcer> Drop for HubSubscription<E> {
    fn drop(&mut self) {
        self.hub.lock_state().fanout.unsubscribe(self.id);
        if self.answers {
            self.hub
                .answerers
                .send_modify(|count| *count = count.saturating_sub(1));
        }
    }
}

impl HubState {
    fn apply_event(&mut self, event: SandboxEvent, now: Timestamp, single_sandbox: bool) {
        match event {
            SandboxEvent::Blocked(blocked) => self.record_blocked(blocked, now),
            SandboxEvent::ContainerStarted { container, dossier } => {
                self.publish(&HubEvent::Started {
                    container: &container,
                    dossier: &dossier,
                });
            }
            SandboxEvent::ContainerExited {
                container,
                reason,
                dossier,
            } => {
                let withdrawn = self.ledger.withdraw_container(&container);
                self.publish_withdrawn(&withdrawn, "exited");
                self.publish(&HubEvent::Exited {
                    container: &container,
                    dossier: &dossier,
                    reason: &reason,
                });
            }
            SandboxEvent::Shield {
                container,
                state,
                dossier,
            } => {
                self.shield = Some(state);
                if state != ShieldState::Up {
                    let withdrawn = if single_sandbox {
                        self.ledger.withdraw_all()
                    } else {
                        self.ledger.withdraw_container(&container)
                    };
                    self.publish_withdrawn(&withdrawn, "shield");
                }
                self.publish(&HubEvent::Shield {
                    container: &container,
                    dossier: &dossier,
                    state,
                });
            }
        }
    }

    fn record_blocked(&mut self, blocked: BlockedPacket, now: Timestamp) {
        let recorded = self.ledger.record(blocked, now);
        for evicted in &recorded.evicted {
            // Logs one line for each doubling, so that a flood of events does not flood the log.
            self.evicted_count = self.evicted_count.saturating_add(1);
            if self.evicted_count.is_power_of_two() {
                tracing::warn!(
                    evicted = self.evicted_count,
                    container = %evicted.question().container(),
                    "evicted a question: too many are pending"
                );
            }
        }
        self.publish_withdrawn(&recorded.evicted, "evicted");
        let Self { ledger, fanout, .. } = self;
        if let Some(question) = ledger.question(recorded.number) {
            let event = if recorded.is_new {
                HubEvent::Pending(question)
            } else {
                HubEvent::Repeated(question)
            };
            fanout.publish(ledger, &event);
        }
    }

    fn publish_withdrawn(&mut self, withdrawn: &[WithdrawnQuestion], reason: &'static str) {
        for question in withdrawn {
            self.publish(&HubEvent::Withdrawn(question.question(), reason));
        }
    }

    fn publish(&mut self, event: &HubEvent<'_>) {
        if matches!(event, HubEvent::Decided(_) | HubEvent::Withdrawn(..)) {
            self.question_ends
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        self.fanout.publish(&self.ledger, event);
    }

    /// Must be called before the unlock after every [`Self::publish`].
    fn flush(&mut self) {
        self.store_changes();
        self.fanout.flush(&self.ledger);
    }
}

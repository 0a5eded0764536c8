// SPDX-License-Identifier: Apache-2.0
//! One hub: events in, questions out, answers in, orders out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terok_clearance::varlink::FrameWriter;
use terok_clearance::wire::clearance1::Clearance1Dialect;
use terok_clearance::{
    Action, BlockedPacket, Decision, DisplayText, EnforcementOutcome, SandboxEvent, ShieldState,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::event_frames::{ClearanceInterface, HubEvent};
use crate::fanout::{EventFanout, FlushStatus, MAX_BACKLOG_BYTES, SubscriberId};
use crate::ledger::{
    Claim, ClaimError, ClaimReceipt, Ledger, LedgerQuestion, MAX_PENDING, QuestionTriple,
    RequestedScope, RuleSweep, SettledClaim, WithdrawnQuestion,
};

/// The keeper of a firewall, as far as a hub knows it.
pub trait DecisionEnforcer: Send + Sync + 'static {
    /// Says whether it can open a single port; if not, an answer is about a whole destination.
    fn supports_ports(&self) -> bool;

    /// Carries out one answer and says what became of it.
    ///
    /// The hub gives up after [`Options::patience`] and drops the future; the question is then
    /// pending again. Orders for different questions come at the same time.
    fn enforce(&self, claim: Claim) -> impl Future<Output = EnforcementOutcome> + Send;
}

impl<E: DecisionEnforcer> DecisionEnforcer for Arc<E> {
    fn supports_ports(&self) -> bool {
        (**self).supports_ports()
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        (**self).enforce(claim).await
    }
}

/// How a hub is set up.
#[derive(Debug, Clone, Copy)]
pub struct HubOptions {
    /// Which clients of `org.terok.Clearance1` are served.
    pub dialect: Clearance1Dialect,
    /// Whether the hub serves one sandbox only: whatever name a `shield` event gives it (the
    /// Python stack's is not the one of its questions), it is about every question here.
    pub single_sandbox: bool,
    /// The most questions that may be pending.
    pub max_pending: usize,
    /// The bytes that a subscriber may be behind before it is moved on.
    pub max_backlog_bytes: usize,
    /// How long the enforcer may take for one answer.
    pub enforce_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            dialect: Clearance1Dialect::default(),
            single_sandbox: false,
            max_pending: MAX_PENDING,
            max_backlog_bytes: MAX_BACKLOG_BYTES,
            enforce_timeout: Duration::from_secs(15),
        }
    }
}

/// A ledger with its subscribers and its firewall's keeper.
#[derive(Debug)]
pub struct Hub<E> {
    enforcer: E,
    options: HubOptions,
    state: Mutex<HubState>,
    /// The answers that are being carried out, whether or not somebody still waits for them.
    enforcements: Mutex<JoinSet<()>>,
    /// Cancelled by a panic of the enforcer.
    panicked: CancellationToken,
}

#[derive(Debug)]
struct HubState {
    ledger: Ledger,
    fanout: EventFanout<FrameWriter>,
    evicted_count: u64,
}

/// Why an answer took no effect.
#[derive(Debug, thiserror::Error)]
pub enum HubDecideError {
    /// The hub refused it.
    #[error(transparent)]
    Refused(#[from] ClaimError),
    /// The enforcer failed; the question is pending as before.
    #[error("the firewall did not take it: {0}")]
    EnforcementFailed(DisplayText),
}

impl<E: DecisionEnforcer> Hub<E> {
    /// Makes a hub with an empty ledger.
    pub fn new(enforcer: E, options: HubOptions) -> Arc<Self> {
        let books = HubState {
            ledger: Ledger::new(options.max_pending, enforcer.supports_ports()),
            fanout: EventFanout::new(options.dialect, options.max_backlog_bytes),
            evicted_count: 0,
        };
        Arc::new(Self {
            enforcer,
            options,
            state: Mutex::new(books),
            enforcements: Mutex::new(JoinSet::new()),
            panicked: CancellationToken::new(),
        })
    }

    /// Takes one event, and tells it to every subscriber that keeps up before it returns.
    ///
    /// It never waits for anybody. Call it within a tokio runtime.
    pub fn report(&self, event: SandboxEvent) {
        self.report_all([event]);
    }

    /// Takes many events at once: one write to each subscriber instead of one for each event.
    pub fn report_all(&self, events: impl IntoIterator<Item = SandboxEvent>) {
        let now = clock::now_micros();
        let mut books = self.lock_state();
        for event in events {
            books.apply_event(event, now, self.options.single_sandbox);
        }
        books.flush();
    }

    /// Tells subscribers of `org.terok.Clearance2` that the kernel dropped `packets` reports of
    /// blocked packets, for which there will be no question.
    pub fn report_lost_packets(&self, packets: u64) {
        let mut books = self.lock_state();
        books.publish(&HubEvent::LostPackets(packets));
        books.flush();
    }

    /// Carries out `action` on the question that `asked` names, and returns the record of it.
    ///
    /// `by` says who decided. When the returned future is dropped the answer is carried out all
    /// the same, and told to every subscriber.
    pub async fn decide(
        self: &Arc<Self>,
        asked: QuestionTriple<'_>,
        action: Action,
        reach: RequestedScope,
        by: DisplayText,
    ) -> Result<Decision, HubDecideError> {
        let (claim, receipt) =
            self.lock_state()
                .ledger
                .claim(asked, action, reach, by, clock::now_micros())?;
        let (report, outcome) = oneshot::channel();
        {
            let hub = Arc::clone(self);
            let mut orders = self
                .enforcements
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // What has ended has told its own tale; a panic among them cancelled `broken`.
            while orders.try_join_next().is_some() {}
            orders.spawn(async move {
                let (decision, covers) = hub.enforce_claim(claim, receipt).await;
                // Nobody may be waiting any more.
                drop(report.send(decision));
                hub.sweep_rule(covers).await;
            });
        }
        match outcome.await {
            Ok(decision) if decision.ok => Ok(decision),
            Ok(decision) => Err(HubDecideError::EnforcementFailed(
                decision.reason.unwrap_or_default(),
            )),
            Err(_) => {
                let reason = "the firewall's keeper broke down";
                Err(HubDecideError::EnforcementFailed(DisplayText::new(reason)))
            }
        }
    }

    /// Puts the question that `asked` names away without a rule, and returns the record of it.
    pub fn dismiss(
        &self,
        asked: QuestionTriple<'_>,
        by: DisplayText,
    ) -> Result<Decision, ClaimError> {
        let mut books = self.lock_state();
        let answered = books.ledger.dismiss(asked, by, clock::now_micros())?;
        books.publish(&HubEvent::Decided(&answered));
        books.flush();
        Ok(answered.decision)
    }

    /// Returns how many questions are pending.
    pub fn pending_count(&self) -> usize {
        self.lock_state().ledger.len()
    }

    /// Returns how many subscribers there are.
    pub fn subscriber_count(&self) -> usize {
        self.lock_state().fanout.len()
    }

    /// Returns the last decisions, at most `limit`, newest first.
    pub(crate) fn recent_decisions(&self, limit: usize) -> Vec<Arc<Decision>> {
        let books = self.lock_state();
        let newest = books.ledger.decisions().take(limit);
        newest.map(|decision| Arc::new(decision.clone())).collect()
    }

    /// Calls `each` for pending questions, oldest first, starting after the one numbered `after`,
    /// until it returns false. Returns the number of the last one, `None` at the end.
    pub(crate) fn visit_pending(
        &self,
        after: u64,
        mut each: impl FnMut(LedgerQuestion<'_>) -> bool,
    ) -> Option<u64> {
        let books = self.lock_state();
        for (number, question) in books.ledger.pending_after(after) {
            if !each(question) {
                return Some(number);
            }
        }
        None
    }

    pub(crate) const fn options(&self) -> &HubOptions {
        &self.options
    }

    /// Resolves when the enforcer has panicked.
    pub(crate) async fn wait_for_panic(&self) {
        self.panicked.cancelled().await;
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        interface: ClearanceInterface,
        writer: FrameWriter,
        wake: Arc<Notify>,
    ) -> HubSubscription<E> {
        let mut books = self.lock_state();
        let HubState { ledger, fanout, .. } = &mut *books;
        let id = fanout.subscribe(interface, writer, wake, ledger);
        HubSubscription {
            hub: Arc::clone(self),
            id,
        }
    }

    /// Returns the record of it, and the rule that it became.
    async fn enforce_claim(
        &self,
        claim: Claim,
        receipt: ClaimReceipt,
    ) -> (Decision, Option<RuleSweep>) {
        let watch = PanicGuard(&self.panicked);
        let limit = self.options.enforce_timeout;
        let outcome = match timeout(limit, self.enforcer.enforce(claim)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                EnforcementOutcome::Failed(DisplayText::new(&format!("timed out after {limit:?}")))
            }
        };
        drop(watch);
        let mut books = self.lock_state();
        let SettledClaim {
            answered,
            sweep: covers,
        } = books.ledger.settle(receipt, &outcome, clock::now_micros());
        books.publish(&HubEvent::Decided(&answered));
        books.flush();
        drop(books);
        let decision = answered.decision;
        tracing::info!(
            container = %decision.container,
            request = %decision.request,
            dest = %decision.dest,
            action = ?decision.action,
            by = %decision.by,
            ok = decision.ok,
            reason = decision.reason.as_ref().map(tracing::field::display),
            "a question was answered"
        );
        (decision, covers)
    }

    /// Answers what a rule answers besides its own question.
    async fn sweep_rule(&self, mut covers: Option<RuleSweep>) {
        while let Some(cover) = covers {
            {
                let mut books = self.lock_state();
                let (answered, rest) = books.ledger.sweep_rule(cover);
                for other in &answered {
                    books.publish(&HubEvent::Decided(other));
                }
                books.flush();
                covers = rest;
            }
            tokio::task::yield_now().await;
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the hub of a panic that unwinds past it.
struct PanicGuard<'a>(&'a CancellationToken);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// A place among the subscribers, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct HubSubscription<E: DecisionEnforcer> {
    hub: Arc<Hub<E>>,
    id: SubscriberId,
}

impl<E: DecisionEnforcer> HubSubscription<E> {
    /// Writes what the subscriber has not got, as much as its socket takes and its turn allows.
    pub(crate) fn flush(&self) -> FlushStatus {
        let mut books = self.hub.lock_state();
        let HubState { ledger, fanout, .. } = &mut *books;
        fanout.flush_to(self.id, ledger)
    }
}

impl<E: DecisionEnforcer> Drop for HubSubscription<E> {
    fn drop(&mut self) {
        self.hub.lock_state().fanout.unsubscribe(self.id);
    }
}

impl HubState {
    fn apply_event(&mut self, event: SandboxEvent, now: u64, sole: bool) {
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
                let void = self.ledger.withdraw_container(&container);
                self.publish_withdrawn(&void, "exited");
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
                if state != ShieldState::Up {
                    let void = if sole {
                        self.ledger.withdraw_all()
                    } else {
                        self.ledger.withdraw_container(&container)
                    };
                    self.publish_withdrawn(&void, "shield");
                }
                self.publish(&HubEvent::Shield {
                    container: &container,
                    dossier: &dossier,
                    state,
                });
            }
        }
    }

    fn record_blocked(&mut self, blocked: BlockedPacket, now: u64) {
        let recorded = self.ledger.record(blocked, now);
        for evicted in &recorded.evicted {
            // One line for each doubling: a flood must not become a flood of log lines.
            self.evicted_count = self.evicted_count.saturating_add(1);
            if self.evicted_count.is_power_of_two() {
                tracing::warn!(
                    evicted = self.evicted_count,
                    container = %evicted.question().container(),
                    "too many questions are pending, the oldest were withdrawn"
                );
            }
        }
        self.publish_withdrawn(&recorded.evicted, "evicted");
        let Self { ledger, fanout, .. } = self;
        if let Some(question) = ledger.question(recorded.number) {
            let news = if recorded.is_new {
                HubEvent::Pending(question)
            } else {
                HubEvent::Repeated(question)
            };
            fanout.publish(ledger, &news);
        }
    }

    fn publish_withdrawn(&mut self, void: &[WithdrawnQuestion], reason: &'static str) {
        for withdrawn in void {
            self.publish(&HubEvent::Withdrawn(withdrawn.question(), reason));
        }
    }

    fn publish(&mut self, news: &HubEvent<'_>) {
        self.fanout.publish(&self.ledger, news);
    }

    /// To be called before the lock is given back, whenever something was published.
    fn flush(&mut self) {
        self.fanout.flush(&self.ledger);
    }
}

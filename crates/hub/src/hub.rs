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
use crate::fanout::{BACKLOG, Fanout, Id, Pumped};
use crate::frame::{Interface, News};
use crate::ledger::{
    Asked, Claim, Cover, Ledger, PENDING_LIMIT, Question, Reach, Receipt, Refusal, Settled,
    Withdrawn,
};

/// The keeper of a firewall, as far as a hub knows it.
pub trait Enforcer: Send + Sync + 'static {
    /// Says whether it can open a single port; if not, an answer is about a whole destination.
    fn narrow(&self) -> bool;

    /// Carries out one answer and says what became of it.
    ///
    /// The hub gives up after [`Options::patience`] and drops the future; the question is then
    /// pending again. Orders for different questions come at the same time.
    fn enforce(&self, claim: Claim) -> impl Future<Output = EnforcementOutcome> + Send;
}

impl<E: Enforcer> Enforcer for Arc<E> {
    fn narrow(&self) -> bool {
        (**self).narrow()
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        (**self).enforce(claim).await
    }
}

/// How a hub is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which clients of `org.terok.Clearance1` are served.
    pub dialect: Clearance1Dialect,
    /// Whether the hub serves one sandbox only: whatever name a `shield` event gives it (the
    /// Python stack's is not the one of its questions), it is about every question here.
    pub sole: bool,
    /// The most questions that may be pending.
    pub pending: usize,
    /// The bytes that a subscriber may be behind before it is moved on.
    pub backlog: usize,
    /// How long the enforcer may take for one answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dialect: Clearance1Dialect::default(),
            sole: false,
            pending: PENDING_LIMIT,
            backlog: BACKLOG,
            patience: Duration::from_secs(15),
        }
    }
}

/// A ledger with its subscribers and its firewall's keeper.
#[derive(Debug)]
pub struct Hub<E> {
    enforcer: E,
    options: Options,
    books: Mutex<Books>,
    /// The answers that are being carried out, whether or not somebody still waits for them.
    orders: Mutex<JoinSet<()>>,
    /// Cancelled by a panic of the enforcer.
    broken: CancellationToken,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    fanout: Fanout<FrameWriter>,
    evicted: u64,
}

/// Why an answer took no effect.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The hub refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The enforcer failed; the question is pending as before.
    #[error("the firewall did not take it: {0}")]
    Failed(DisplayText),
}

impl<E: Enforcer> Hub<E> {
    /// Makes a hub with an empty ledger.
    pub fn new(enforcer: E, options: Options) -> Arc<Self> {
        let books = Books {
            ledger: Ledger::new(options.pending, enforcer.narrow()),
            fanout: Fanout::new(options.dialect, options.backlog),
            evicted: 0,
        };
        Arc::new(Self {
            enforcer,
            options,
            books: Mutex::new(books),
            orders: Mutex::new(JoinSet::new()),
            broken: CancellationToken::new(),
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
        let now = clock::micros();
        let mut books = self.books();
        for event in events {
            books.take(event, now, self.options.sole);
        }
        books.flush();
    }

    /// Tells subscribers of `org.terok.Clearance2` that the kernel dropped `packets` reports of
    /// blocked packets, for which there will be no question.
    pub fn report_lost(&self, packets: u64) {
        let mut books = self.books();
        books.publish(&News::LostPackets(packets));
        books.flush();
    }

    /// Carries out `action` on the question that `asked` names, and returns the record of it.
    ///
    /// `by` says who decided. When the returned future is dropped the answer is carried out all
    /// the same, and told to every subscriber.
    pub async fn decide(
        self: &Arc<Self>,
        asked: Asked<'_>,
        action: Action,
        reach: Reach,
        by: DisplayText,
    ) -> Result<Decision, DecideError> {
        let (claim, receipt) =
            self.books()
                .ledger
                .claim(asked, action, reach, by, clock::micros())?;
        let (report, outcome) = oneshot::channel();
        {
            let hub = Arc::clone(self);
            let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            // What has ended has told its own tale; a panic among them cancelled `broken`.
            while orders.try_join_next().is_some() {}
            orders.spawn(async move {
                let (decision, covers) = hub.carry_out(claim, receipt).await;
                // Nobody may be waiting any more.
                drop(report.send(decision));
                hub.cover(covers).await;
            });
        }
        match outcome.await {
            Ok(decision) if decision.ok => Ok(decision),
            Ok(decision) => Err(DecideError::Failed(decision.reason.unwrap_or_default())),
            Err(_) => {
                let reason = "the firewall's keeper broke down";
                Err(DecideError::Failed(DisplayText::new(reason)))
            }
        }
    }

    /// Puts the question that `asked` names away without a rule, and returns the record of it.
    pub fn dismiss(&self, asked: Asked<'_>, by: DisplayText) -> Result<Decision, Refusal> {
        let mut books = self.books();
        let answered = books.ledger.dismiss(asked, by, clock::micros())?;
        books.publish(&News::Decided(&answered));
        books.flush();
        Ok(answered.decision)
    }

    /// Returns how many questions are pending.
    pub fn pending(&self) -> usize {
        self.books().ledger.len()
    }

    /// Returns how many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.books().fanout.len()
    }

    /// Returns the last decisions, at most `limit`, newest first.
    pub(crate) fn decisions(&self, limit: usize) -> Vec<Arc<Decision>> {
        let books = self.books();
        let newest = books.ledger.decisions().take(limit);
        newest.map(|decision| Arc::new(decision.clone())).collect()
    }

    /// Calls `each` for pending questions, oldest first, starting after the one numbered `after`,
    /// until it returns false. Returns the number of the last one, `None` at the end.
    pub(crate) fn walk(
        &self,
        after: u64,
        mut each: impl FnMut(Question<'_>) -> bool,
    ) -> Option<u64> {
        let books = self.books();
        for (number, question) in books.ledger.pending_after(after) {
            if !each(question) {
                return Some(number);
            }
        }
        None
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// Resolves when the enforcer has panicked.
    pub(crate) async fn broke_down(&self) {
        self.broken.cancelled().await;
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        interface: Interface,
        writer: FrameWriter,
        wake: Arc<Notify>,
    ) -> Subscription<E> {
        let mut books = self.books();
        let Books { ledger, fanout, .. } = &mut *books;
        let id = fanout.subscribe(interface, writer, wake, ledger);
        Subscription {
            hub: Arc::clone(self),
            id,
        }
    }

    /// Returns the record of it, and the rule that it became.
    async fn carry_out(&self, claim: Claim, receipt: Receipt) -> (Decision, Option<Cover>) {
        let watch = Watch(&self.broken);
        let limit = self.options.patience;
        let outcome = match timeout(limit, self.enforcer.enforce(claim)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                EnforcementOutcome::Failed(DisplayText::new(&format!("timed out after {limit:?}")))
            }
        };
        drop(watch);
        let mut books = self.books();
        let Settled { answered, covers } = books.ledger.settle(receipt, &outcome, clock::micros());
        books.publish(&News::Decided(&answered));
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
    async fn cover(&self, mut covers: Option<Cover>) {
        while let Some(cover) = covers {
            {
                let mut books = self.books();
                let (answered, rest) = books.ledger.cover(cover);
                for other in &answered {
                    books.publish(&News::Decided(other));
                }
                books.flush();
                covers = rest;
            }
            tokio::task::yield_now().await;
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the hub of a panic that unwinds past it.
struct Watch<'a>(&'a CancellationToken);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// A place among the subscribers, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription<E: Enforcer> {
    hub: Arc<Hub<E>>,
    id: Id,
}

impl<E: Enforcer> Subscription<E> {
    /// Writes what the subscriber has not got, as much as its socket takes and its turn allows.
    pub(crate) fn pump(&self) -> Pumped {
        let mut books = self.hub.books();
        let Books { ledger, fanout, .. } = &mut *books;
        fanout.pump(self.id, ledger)
    }
}

impl<E: Enforcer> Drop for Subscription<E> {
    fn drop(&mut self) {
        self.hub.books().fanout.unsubscribe(self.id);
    }
}

impl Books {
    fn take(&mut self, event: SandboxEvent, now: u64, sole: bool) {
        match event {
            SandboxEvent::Blocked(blocked) => self.record(blocked, now),
            SandboxEvent::ContainerStarted { container, dossier } => {
                self.publish(&News::Started {
                    container: &container,
                    dossier: &dossier,
                });
            }
            SandboxEvent::ContainerExited {
                container,
                reason,
                dossier,
            } => {
                let void = self.ledger.clear(&container);
                self.withdraw(&void, "exited");
                self.publish(&News::Exited {
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
                        self.ledger.clear_all()
                    } else {
                        self.ledger.clear(&container)
                    };
                    self.withdraw(&void, "shield");
                }
                self.publish(&News::Shield {
                    container: &container,
                    dossier: &dossier,
                    state,
                });
            }
        }
    }

    fn record(&mut self, blocked: BlockedPacket, now: u64) {
        let recorded = self.ledger.record(blocked, now);
        for evicted in &recorded.evicted {
            // One line for each doubling: a flood must not become a flood of log lines.
            self.evicted = self.evicted.saturating_add(1);
            if self.evicted.is_power_of_two() {
                tracing::warn!(
                    evicted = self.evicted,
                    container = %evicted.question().container(),
                    "too many questions are pending, the oldest were withdrawn"
                );
            }
        }
        self.withdraw(&recorded.evicted, "evicted");
        let Self { ledger, fanout, .. } = self;
        if let Some(question) = ledger.question(recorded.number) {
            let news = if recorded.new {
                News::Pending(question)
            } else {
                News::Repeated(question)
            };
            fanout.publish(ledger, &news);
        }
    }

    fn withdraw(&mut self, void: &[Withdrawn], reason: &'static str) {
        for withdrawn in void {
            self.publish(&News::Withdrawn(withdrawn.question(), reason));
        }
    }

    fn publish(&mut self, news: &News<'_>) {
        self.fanout.publish(&self.ledger, news);
    }

    /// To be called before the lock is given back, whenever something was published.
    fn flush(&mut self) {
        self.fanout.flush(&self.ledger);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The loop: hubs and clicks go into the board; popups and answers come out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, DisplayText, ShieldState};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::category::Categories;
use super::model::{ClickOutcome, PopupCommand, PopupModel, PopupSlot, PopupUpdate};
use crate::identity::{ContainerInspector, IdentityResolver};
use crate::notifier::{
    ActionChoice, ActionKey, ContainerIdentity, NotificationId, Notifier, SandboxLifecycle,
};
use operator::clock::{ClockReading, TimeZone};
use operator::discovery::{AnswerDispatcher, Hubs};
use operator::inbox::{Inbox, InboxChange, RowNumber};
use operator::join_result;

/// How popups look.
#[derive(Debug, Clone, Default)]
pub struct PopupOptions {
    /// Which kinds of them are shown.
    pub categories: Categories,
    /// Where the person is.
    pub zone: TimeZone,
    /// A name of the icon theme, or a `file://` address.
    pub icon: Option<String>,
}

/// How long to wait for what comes with a change, so that a crowd comes as one.
const COALESCE_WINDOW: Duration = Duration::from_millis(20);
/// How long hubs may take at the start to say what is pending.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_secs(1);
/// How long taking the popups away may take in the end.
const CLOSE_POPUPS_TIMEOUT: Duration = Duration::from_secs(2);
/// The containers that are looked up at the same time.
const MAX_CONCURRENT_LOOKUPS: usize = 4;
/// The popups that go by themselves, and are remembered in case that we end before.
const MAX_TRANSIENT_POPUPS: usize = 16;

/// Asks by popups until `stop` resolves, and then takes them away. Nothing of that is an answer.
///
/// Who a sandbox is whose questions do not say it, `resolver` is asked.
pub async fn run_popups<N, I, T>(
    hubs: Hubs,
    notifier: &N,
    resolver: Arc<IdentityResolver<I>>,
    options: PopupOptions,
    stop: impl Future<Output = T>,
) -> T
where
    N: Notifier,
    I: ContainerInspector + 'static,
{
    let mut bridge = PopupEventLoop {
        hubs,
        inbox: Inbox::new(),
        model: PopupModel::new(options.categories, options.zone, options.icon),
        notifier,
        resolver,
        answers: AnswerDispatcher::default(),
        choices: JoinSet::new(),
        lookups: JoinSet::new(),
        containers_in_lookup: BTreeSet::new(),
        popup_ids: HashMap::new(),
        transient_popups: VecDeque::new(),
        start: Instant::now(),
        first_pending_change: None,
    };
    let mut stop = std::pin::pin!(stop);
    let mut work = None;
    loop {
        let wake = bridge.next_wake().filter(|_| work.is_none());
        if wake.is_some_and(|wake| wake <= Instant::now()) {
            work = Some(Box::pin(run_jobs(notifier, bridge.next_jobs())));
        }
        tokio::select! {
            biased;
            stopped = &mut stop => {
                // What is being shown has to have an id before it can be taken away.
                if work.is_some() && let Ok(done) = timeout(CLOSE_POPUPS_TIMEOUT, finish_jobs(&mut work)).await {
                    bridge.apply_results(done);
                }
                drop(timeout(CLOSE_POPUPS_TIMEOUT, bridge.close_all()).await);
                return stopped;
            }
            done = finish_jobs(&mut work) => bridge.apply_results(done),
            () = bridge.handle_next(wake) => {}
        }
    }
}

/// Waits for the end of what is going on, if anything is.
async fn finish_jobs<F: Future>(work: &mut Option<Pin<Box<F>>>) -> F::Output {
    let Some(working) = work else {
        return std::future::pending().await;
    };
    let done = working.await;
    *work = None;
    done
}

/// What to do on the screen, and with which notification.
struct PopupJob {
    command: PopupCommand,
    id: Option<NotificationId>,
}

/// What became of it.
enum PopupJobResult {
    /// With how often everything had been lost before.
    Shown(
        Box<PopupUpdate>,
        NotificationId,
        u64,
        oneshot::Receiver<ActionKey>,
    ),
    NotShown(Box<PopupUpdate>, DisplayText),
    Closed,
}

async fn run_jobs<N: Notifier>(notifier: &N, jobs: Vec<PopupJob>) -> Vec<PopupJobResult> {
    let mut done = Vec::with_capacity(jobs.len());
    for PopupJob { command: order, id } in jobs {
        done.push(match order {
            PopupCommand::Close(_) => {
                if let Some(id) = id
                    && let Err(error) = notifier.close(id).await
                {
                    tracing::debug!(%error, "a popup was not taken away");
                }
                PopupJobResult::Closed
            }
            PopupCommand::Show(post) => {
                let mut notification = post.notification.clone();
                notification.replaces = id;
                let losses = notifier.losses();
                match notifier.notify(notification).await {
                    Ok(id) => {
                        let (tell, choice) = oneshot::channel();
                        if !post.is_final {
                            let on_action = move |choice: ActionChoice| drop(tell.send(choice.key));
                            notifier.on_action(id, Box::new(on_action)).await;
                        }
                        PopupJobResult::Shown(post, id, losses, choice)
                    }
                    Err(error) => PopupJobResult::NotShown(post, operator::error_chain(&error)),
                }
            }
        });
    }
    done
}

struct PopupEventLoop<'a, N, I> {
    hubs: Hubs,
    inbox: Inbox,
    model: PopupModel,
    notifier: &'a N,
    resolver: Arc<IdentityResolver<I>>,
    answers: AnswerDispatcher,
    /// What is chosen on each popup, its version, and how often everything had been lost before it;
    /// nothing if it is closed.
    choices: JoinSet<(PopupSlot, u64, u64, Option<ActionKey>)>,
    lookups: JoinSet<(ContainerId, ContainerIdentity)>,
    /// The containers that are being looked up.
    containers_in_lookup: BTreeSet<ContainerId>,
    popup_ids: HashMap<PopupSlot, NotificationId>,
    /// The popups that go by themselves, the oldest first.
    transient_popups: VecDeque<NotificationId>,
    start: Instant,
    /// When the first of what is not shown yet was heard.
    first_pending_change: Option<Instant>,
}

impl<N: Notifier, I: ContainerInspector + 'static> PopupEventLoop<'_, N, I> {
    fn now(&self) -> ClockReading {
        ClockReading {
            epoch_micros: operator::prompt::now_micros(),
            monotonic: self.start.elapsed(),
        }
    }

    /// Returns when there is something to do on the screen.
    fn next_wake(&self) -> Option<Instant> {
        let due = self.start + self.model.next_due()?;
        let together = self
            .first_pending_change
            .map_or(due, |heard| heard + COALESCE_WINDOW);
        let opening = if self.hubs.is_synced() {
            due
        } else {
            self.start + INITIAL_SYNC_TIMEOUT
        };
        Some(due.max(together).max(opening))
    }

    /// Takes in the next thing that happens; `wake` is one.
    async fn handle_next(&mut self, wake: Option<Instant>) {
        tokio::select! {
            biased;
            Some(chosen) = self.choices.join_next() => {
                match join_result(chosen) {
                    // Nobody closed it.
                    Some((slot, version, losses, None)) if losses != self.notifier.losses() => {
                        self.popup_ids.remove(&slot);
                        self.model.mark_lost(slot, version, self.now());
                    }
                    Some((slot, version, _, key)) => self.handle_choice(slot, version, key.as_ref()),
                    None => {}
                }
            }
            (answer, reply) = self.answers.next_reply() => {
                let changes = self.inbox.apply_reply(&answer, reply);
                self.apply_changes(&changes);
            }
            Some(found) = self.lookups.join_next() => {
                if let Some((container, identity)) = join_result(found) {
                    self.containers_in_lookup.remove(&container);
                    let now = self.now();
                    self.model.set_identity(&container, identity, now);
                }
            }
            () = sleep_until(wake.unwrap_or(self.start)), if wake.is_some() => {}
            (hub, news) = self.hubs.next_event() => {
                self.first_pending_change.get_or_insert_with(Instant::now);
                let changes = self.inbox.apply_event(&hub, news);
                self.apply_changes(&changes);
            }
        }
    }

    fn apply_changes(&mut self, changes: &[InboxChange]) {
        let now = self.now();
        for change in changes {
            self.model.apply_change(change, &self.inbox, now);
            match change {
                InboxChange::Added(number) => self.look_up_row(*number),
                InboxChange::Container {
                    container,
                    state,
                    reason,
                    ..
                } => {
                    self.report_lifecycle(container, *state, reason.as_ref());
                }
                InboxChange::Shield {
                    container, state, ..
                } => {
                    if *state != ShieldState::Up {
                        self.look_up(container);
                    }
                    let container = container.clone();
                    self.notifier.lifecycle(&match state {
                        ShieldState::Up => SandboxLifecycle::ShieldUp(container),
                        ShieldState::Down => SandboxLifecycle::ShieldDown(container),
                        ShieldState::Disengaged => SandboxLifecycle::ShieldDisengaged(container),
                    });
                }
                _ => {}
            }
            log_change(change, &self.inbox);
        }
    }

    fn report_lifecycle(
        &mut self,
        container: &ContainerId,
        state: ContainerState,
        reason: Option<&DisplayText>,
    ) {
        let lifecycle = match state {
            ContainerState::Started => {
                self.look_up(container);
                SandboxLifecycle::ContainerStarted(container.clone())
            }
            ContainerState::Exited => {
                self.resolver.forget(container);
                let reason = reason.cloned().unwrap_or_default();
                SandboxLifecycle::ContainerExited(container.clone(), reason)
            }
        };
        self.notifier.lifecycle(&lifecycle);
    }

    /// Finds out who asks, where the question does not say.
    fn look_up_row(&mut self, number: RowNumber) {
        let row = self.inbox.row(number);
        if let Some(row) = row.filter(|row| row.dossier().is_empty()) {
            let container = row.container().clone();
            self.look_up(&container);
        }
    }

    fn look_up(&mut self, container: &ContainerId) {
        // Where too many are on their way, the next question tries again.
        if self.lookups.len() >= MAX_CONCURRENT_LOOKUPS
            || !self.containers_in_lookup.insert(container.clone())
        {
            return;
        }
        let (resolver, container) = (Arc::clone(&self.resolver), container.clone());
        self.lookups.spawn(async move {
            let identity = resolver.resolve(&container).await;
            (container, identity)
        });
    }

    fn handle_choice(&mut self, slot: PopupSlot, version: u64, key: Option<&ActionKey>) {
        let now = self.now();
        let Some(key) = key else {
            return self.model.handle_closed(slot, version, &self.inbox, now);
        };
        match self
            .model
            .handle_click(slot, key.as_str(), &self.inbox, now)
        {
            ClickOutcome::Answer(row, action) => match self.inbox.answer(row, action) {
                Ok(answers) => {
                    tracing::info!(row = row.get(), %action, "answered on a popup");
                    self.answers.send(&self.hubs, answers);
                }
                Err(refusal) => {
                    tracing::info!(row = row.get(), %action, %refusal, "a click answers nothing");
                }
            },
            ClickOutcome::Rejected(why) => {
                tracing::info!(why, "a click does not count; it is asked again");
            }
            ClickOutcome::Ignored => {}
        }
    }

    /// Returns what to do on the screen.
    fn next_jobs(&mut self) -> Vec<PopupJob> {
        self.first_pending_change = None;
        let orders = self.model.take_commands(&self.inbox, self.now());
        let job = |order| {
            let id = match &order {
                PopupCommand::Close(slot) => self.popup_ids.remove(slot),
                PopupCommand::Show(post) => self.popup_ids.get(&post.slot).copied(),
            };
            PopupJob { command: order, id }
        };
        orders.into_iter().map(job).collect()
    }

    fn apply_results(&mut self, done: Vec<PopupJobResult>) {
        let now = self.now();
        for done in done {
            match done {
                PopupJobResult::Closed => {}
                PopupJobResult::Shown(post, id, losses, choice) => {
                    let (slot, version) = (post.slot, post.version);
                    self.model.mark_shown(slot, version, now);
                    if post.is_final {
                        self.popup_ids.remove(&slot);
                        self.transient_popups.push_back(id);
                        if self.transient_popups.len() > MAX_TRANSIENT_POPUPS {
                            self.transient_popups.pop_front();
                        }
                        continue;
                    }
                    self.popup_ids.insert(slot, id);
                    self.choices
                        .spawn(async move { (slot, version, losses, choice.await.ok()) });
                }
                PopupJobResult::NotShown(post, reason) => {
                    tracing::warn!(%reason, "a popup could not be shown; it is tried again");
                    self.model.mark_not_shown(*post, now);
                }
            }
        }
    }

    /// Takes away what is on the screen.
    async fn close_all(&mut self) {
        let shown = self.popup_ids.drain().map(|(_, id)| id);
        for id in shown.chain(self.transient_popups.drain(..)) {
            if let Err(error) = self.notifier.close(id).await {
                tracing::debug!(%error, "a popup was not taken away");
            }
        }
    }
}

/// Says what happens, for whoever reads the journal.
fn log_change(change: &InboxChange, inbox: &Inbox) {
    let hub = |hub| operator::phrases::describe_hub(hub);
    match change {
        InboxChange::Added(number) => {
            if let Some(row) = inbox.row(*number) {
                let (container, dest) = (row.container(), row.dest());
                tracing::info!(row = number.get(), %container, %dest, "a question");
            }
        }
        InboxChange::Ended(row, end) => {
            let (number, why) = (row.number().get(), operator::phrases::describe_row_end(end));
            tracing::info!(row = number, why, "a question is settled");
        }
        InboxChange::Failed {
            row,
            action,
            reason,
        } => {
            tracing::warn!(row = row.get(), %action, %reason, "an answer took no effect");
        }
        InboxChange::ResultUnknown {
            row,
            action,
            reason,
        } => {
            tracing::warn!(row = row.get(), %action, %reason, "an answer may have taken effect, or not");
        }
        InboxChange::Up(id, _) => tracing::info!(hub = hub(id), "listening"),
        InboxChange::Down(id, reason) => tracing::info!(hub = hub(id), %reason, "the hub is away"),
        InboxChange::Gone(id) => tracing::info!(hub = hub(id), "the hub is gone"),
        InboxChange::Unreachable(id, reason) => {
            tracing::warn!(hub = hub(id), %reason, "the hub cannot be reached");
        }
        InboxChange::Lost {
            hub: id,
            lost,
            reason,
        } => {
            tracing::warn!(hub = hub(id), lost, %reason, "the hub skipped something");
        }
        InboxChange::ForgottenByHub(number) => {
            tracing::info!(
                row = number.get(),
                "a restarted hub has forgotten a question"
            );
        }
        InboxChange::Updated(_)
        | InboxChange::Synced(_)
        | InboxChange::Container { .. }
        | InboxChange::Shield { .. } => {}
    }
}

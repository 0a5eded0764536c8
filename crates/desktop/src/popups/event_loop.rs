// SPDX-License-Identifier: Apache-2.0
//! The event loop: inbox changes and outcomes go into the model, popups and answers come out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{Inbox, InboxChange, RowNumber};
use operator::{AnswerScope, Session, join_result, phrases};
use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{Action, ContainerId, DisplayText, ShieldState, Timestamp, error_chain};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::category::Categories;
use super::model::{ClickOutcome, PopupCommand, PopupModel, PopupSlot, PopupUpdate};
use super::screen_command::ScreenCommand;
use crate::identity::{ContainerInspector, IdentityResolver};
use crate::notifier::{
    ActionChoice, Closed, ContainerIdentity, NotificationId, NotificationOutcome, Notifier,
    SandboxLifecycle, TextLimits,
};

/// Options of [`run_popups`].
#[derive(Debug, Clone, Default)]
pub struct PopupOptions {
    /// The kinds of popups that are shown.
    pub categories: Categories,
    /// The time zone of the operator.
    pub zone: TimeZone,
    /// The icon: a name of the icon theme, or a `file://` address.
    pub icon: Option<String>,
    /// The command of the action that opens the screen; `None` leaves the action out.
    pub open_screen: Option<ScreenCommand>,
}

/// Changes within this time lead to one update of the popups.
const COALESCE_WINDOW: Duration = Duration::from_millis(20);
/// At the start, the first popups wait this long for hubs to send all pending questions.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit for closing the popups at the end.
const CLOSE_POPUPS_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum containers that are looked up at the same time.
const MAX_CONCURRENT_LOOKUPS: usize = 4;
/// Maximum popups with an expiry that are remembered, to be closed at the end.
const MAX_TRANSIENT_POPUPS: usize = 16;
/// Maximum outcomes that wait to be applied. More than any notifier can show popups, and each popup
/// has one outcome.
const MAX_QUEUED_OUTCOMES: usize = 4096;

/// Shows the questions of `session` as popups until `stop` resolves, and then closes all popups.
/// Neither the end nor a closed popup is an answer.
///
/// `resolver` finds the identity of sandboxes whose questions have no dossier.
pub async fn run_popups<N, I, T>(
    session: Session,
    notifier: &N,
    resolver: Arc<IdentityResolver<I>>,
    options: PopupOptions,
    stop: impl Future<Output = T>,
) -> T
where
    N: Notifier,
    I: ContainerInspector + 'static,
{
    let (outcome_sender, mut outcomes) = mpsc::channel(MAX_QUEUED_OUTCOMES);
    let mut popups = PopupEventLoop {
        session,
        model: PopupModel::new(options.categories, options.zone, options.icon),
        open_screen: options.open_screen,
        windows: JoinSet::new(),
        limits: TextLimits::CONSERVATIVE,
        notifier,
        resolver,
        lookups: JoinSet::new(),
        containers_in_lookup: BTreeSet::new(),
        popup_ids: HashMap::new(),
        transient_popups: VecDeque::new(),
        start: Instant::now(),
        first_pending_change: None,
    };
    popups.apply_limits();
    let can_open = popups.open_screen.is_some();
    popups.model.set_can_open_screen(can_open, popups.now());
    let mut stop = std::pin::pin!(stop);
    let mut work = None;
    loop {
        let wake = popups.next_wake().filter(|_| work.is_none());
        if wake.is_some_and(|wake| wake <= Instant::now()) {
            let jobs = popups.next_jobs();
            work = Some(Box::pin(run_jobs(notifier, jobs, outcome_sender.clone())));
        }
        tokio::select! {
            biased;
            stopped = &mut stop => {
                // Only popups with an id can be closed, so wait for running `notify` calls.
                if work.is_some() {
                    let done = timeout(CLOSE_POPUPS_TIMEOUT, finish_jobs(&mut work)).await;
                    popups.apply_results(done.unwrap_or_default());
                }
                drop(timeout(CLOSE_POPUPS_TIMEOUT, popups.close_all()).await);
                return stopped;
            }
            done = finish_jobs(&mut work) => popups.apply_results(done),
            // Outcomes wait while jobs run: a click during a change of the popups is checked after
            // the model has recorded that change.
            Some(ended) = outcomes.recv(), if work.is_none() => popups.apply_outcome(ended),
            () = popups.handle_next(wake) => {}
        }
    }
}

/// Waits for the end of the running jobs. Never returns if no jobs run.
async fn finish_jobs<F: Future>(work: &mut Option<Pin<Box<F>>>) -> F::Output {
    let Some(working) = work else {
        return std::future::pending().await;
    };
    let done = working.await;
    *work = None;
    done
}

/// A command and the present notification in the command's slot.
struct PopupJob {
    command: PopupCommand,
    id: Option<NotificationId>,
}

enum PopupJobResult {
    Shown(Box<PopupUpdate>, NotificationId),
    NotShown(Box<PopupUpdate>, DisplayText),
    Closed,
}

/// The end of one version of a popup.
struct EndedPopup {
    slot: PopupSlot,
    version: u64,
    outcome: NotificationOutcome,
}

async fn run_jobs<N: Notifier>(
    notifier: &N,
    jobs: Vec<PopupJob>,
    outcomes: mpsc::Sender<EndedPopup>,
) -> Vec<PopupJobResult> {
    let mut done = Vec::with_capacity(jobs.len());
    for PopupJob { command, id } in jobs {
        done.push(match command {
            PopupCommand::Close(_) => {
                if let Some(id) = id
                    && let Err(error) = notifier.close(id).await
                {
                    tracing::debug!(%error, "closing a popup failed");
                }
                PopupJobResult::Closed
            }
            PopupCommand::Show(update) => {
                let mut notification = update.notification.clone();
                notification.replaces = id;
                match notifier.notify(notification).await {
                    Ok(id) => {
                        if !update.is_final {
                            let (outcomes, slot) = (outcomes.clone(), update.slot);
                            let version = update.version;
                            let callback = move |outcome| {
                                let ended = EndedPopup {
                                    slot,
                                    version,
                                    outcome,
                                };
                                drop(outcomes.try_send(ended));
                            };
                            notifier.on_closed(id, Box::new(callback)).await;
                        }
                        PopupJobResult::Shown(update, id)
                    }
                    Err(error) => PopupJobResult::NotShown(update, error_chain(&error)),
                }
            }
        });
    }
    done
}

struct PopupEventLoop<'a, N, I> {
    session: Session,
    model: PopupModel,
    open_screen: Option<ScreenCommand>,
    /// The windows opened by a click. Each ends with `true` if the command succeeded.
    windows: JoinSet<bool>,
    /// The limits that the model knows.
    limits: TextLimits,
    notifier: &'a N,
    resolver: Arc<IdentityResolver<I>>,
    lookups: JoinSet<(ContainerId, ContainerIdentity)>,
    containers_in_lookup: BTreeSet<ContainerId>,
    /// The present popup of each slot: version and notification.
    popup_ids: HashMap<PopupSlot, (u64, NotificationId)>,
    /// The popups with an expiry, the oldest first.
    transient_popups: VecDeque<NotificationId>,
    start: Instant,
    /// When the first change arrived that is not on the screen yet.
    first_pending_change: Option<Instant>,
}

impl<N: Notifier, I: ContainerInspector + 'static> PopupEventLoop<'_, N, I> {
    fn now(&self) -> ClockReading {
        self.reading_at(Instant::now())
    }

    fn reading_at(&self, at: Instant) -> ClockReading {
        ClockReading {
            wall_time: Timestamp::now(),
            monotonic: at.saturating_duration_since(self.start),
        }
    }

    /// Returns when to carry out the next commands.
    fn next_wake(&self) -> Option<Instant> {
        let due = self.start + self.model.next_due()?;
        let coalesced = self
            .first_pending_change
            .map_or(due, |first| first + COALESCE_WINDOW);
        let synced = if self.session.is_synced() {
            due
        } else {
            self.start + INITIAL_SYNC_TIMEOUT
        };
        Some(due.max(coalesced).max(synced))
    }

    /// Waits for the next event and applies it; reaching the time `wake` counts as an event.
    async fn handle_next(&mut self, wake: Option<Instant>) {
        tokio::select! {
            biased;
            Some(found) = self.lookups.join_next() => {
                if let Some((container, identity)) = join_result(found) {
                    self.containers_in_lookup.remove(&container);
                    let now = self.now();
                    self.model.set_identity(&container, identity, now);
                }
            }
            Some(ended) = self.windows.join_next() => {
                if join_result(ended) == Some(false) {
                    tracing::warn!("the terminal with the questions ended with a failure");
                    self.forget_screen();
                }
            }
            () = self.notifier.limits_changed(self.limits) => self.apply_limits(),
            () = sleep_until(wake.unwrap_or(self.start)), if wake.is_some() => {}
            changes = self.session.next() => {
                self.first_pending_change.get_or_insert_with(Instant::now);
                self.apply_changes(&changes);
            }
        }
    }

    fn apply_changes(&mut self, changes: &[InboxChange]) {
        let now = self.now();
        for change in changes {
            self.model.apply_change(change, self.session.inbox(), now);
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
            log_change(change, self.session.inbox());
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

    /// Looks up the sandbox of a question without a dossier.
    fn look_up_row(&mut self, number: RowNumber) {
        let row = self.session.inbox().row(number);
        if let Some(row) = row.filter(|row| row.dossier().is_empty()) {
            let container = row.container().clone();
            self.look_up(&container);
        }
    }

    fn look_up(&mut self, container: &ContainerId) {
        // Beyond the limit, the next question of the sandbox tries again.
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

    fn apply_outcome(&mut self, ended: EndedPopup) {
        let EndedPopup {
            slot,
            version,
            outcome,
        } = ended;
        if let Some(changed) = outcome.layout_changed_at {
            let changed = self.reading_at(changed).monotonic;
            self.model.record_layout_change(changed);
        }
        let at = self.reading_at(outcome.at);
        // The end of a former version does not end the present version.
        let is_present = |(present, _): &(u64, NotificationId)| *present == version;
        let is_present = self.popup_ids.get(&slot).is_some_and(is_present);
        match outcome.closed {
            Closed::Chosen(choice) => self.handle_click(slot, &choice, at),
            Closed::Dismissed | Closed::Expired => {
                if is_present {
                    self.popup_ids.remove(&slot);
                }
                self.model
                    .handle_closed(slot, version, self.session.inbox(), at);
            }
            Closed::ConnectionLost => {
                if is_present {
                    self.popup_ids.remove(&slot);
                }
                self.model.mark_lost(slot, version, at);
            }
        }
    }

    fn handle_click(&mut self, slot: PopupSlot, choice: &ActionChoice, at: ClockReading) {
        let key = choice.key.as_str();
        match self.model.handle_click(slot, key, self.session.inbox(), at) {
            ClickOutcome::Answer(row, action, scope) => self.answer(row, action, Some(&scope)),
            ClickOutcome::Deny(rows) => {
                for row in rows {
                    self.answer(row, Action::Deny, None);
                }
            }
            ClickOutcome::OpenScreen => self.show_screen(slot, choice.activation_token.as_deref()),
            ClickOutcome::Rejected(reason) => {
                tracing::info!(reason, "ignored a click; showing the popup again");
            }
            ClickOutcome::Ignored => {}
        }
    }

    fn answer(&mut self, row: RowNumber, action: Action, scope: Option<&AnswerScope>) {
        let sent = match scope {
            Some(scope) => self.session.answer_with(row, action, scope),
            None => self.session.answer(row, action),
        };
        match sent {
            Ok(()) => tracing::info!(row = row.get(), %action, "answered by a click"),
            Err(refusal) => {
                tracing::info!(row = row.get(), %action, %refusal, "ignored a click");
            }
        }
    }

    fn show_screen(&mut self, slot: PopupSlot, token: Option<&str>) {
        let started = self
            .open_screen
            .as_ref()
            .map(|command| command.spawn(token));
        match started {
            Some(Ok(mut window)) => {
                let ended = async move { window.wait().await.is_ok_and(|status| status.success()) };
                self.windows.spawn(ended);
                self.model.mark_screen_opened(slot, self.now());
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot start the terminal with the questions");
                self.forget_screen();
            }
            None => {}
        }
    }

    /// Stops offering to open the screen.
    fn forget_screen(&mut self) {
        self.open_screen = None;
        self.model.mark_screen_failed(self.now());
    }

    fn apply_limits(&mut self) {
        self.limits = self.notifier.text_limits();
        self.model.set_limits(self.limits, self.now());
    }

    /// Returns the commands that are due, each with the affected notification.
    fn next_jobs(&mut self) -> Vec<PopupJob> {
        self.first_pending_change = None;
        let now = self.now();
        let commands = self.model.take_commands(self.session.inbox(), now);
        let job = |command| {
            let id = match &command {
                PopupCommand::Close(slot) => self.popup_ids.remove(slot),
                PopupCommand::Show(update) => self.popup_ids.get(&update.slot).copied(),
            };
            let id = id.map(|(_, id)| id);
            PopupJob { command, id }
        };
        commands.into_iter().map(job).collect()
    }

    fn apply_results(&mut self, done: Vec<PopupJobResult>) {
        let now = self.now();
        for done in done {
            match done {
                PopupJobResult::Closed => self.model.mark_closed(now),
                PopupJobResult::Shown(update, id) => {
                    self.model.mark_shown(update.slot, update.version, now);
                    if update.is_final {
                        self.popup_ids.remove(&update.slot);
                        self.transient_popups.push_back(id);
                        if self.transient_popups.len() > MAX_TRANSIENT_POPUPS {
                            self.transient_popups.pop_front();
                        }
                    } else {
                        self.popup_ids.insert(update.slot, (update.version, id));
                    }
                }
                PopupJobResult::NotShown(update, reason) => {
                    tracing::warn!(%reason, "a popup was not shown; trying again later");
                    self.model.mark_not_shown(*update, now);
                }
            }
        }
    }

    /// Closes every popup.
    async fn close_all(&mut self) {
        let shown = self.popup_ids.drain().map(|(_, (_, id))| id);
        for id in shown.chain(self.transient_popups.drain(..)) {
            if let Err(error) = self.notifier.close(id).await {
                tracing::debug!(%error, "closing a popup failed");
            }
        }
    }
}

fn log_change(change: &InboxChange, inbox: &Inbox) {
    let hub = |hub| phrases::describe_hub(hub);
    match change {
        InboxChange::Added(number) => {
            if let Some(row) = inbox.row(*number) {
                let (container, dest) = (row.container(), row.dest());
                tracing::info!(row = number.get(), %container, %dest, "a new question");
            }
        }
        InboxChange::Ended(row, end) => {
            let (number, why) = (row.number().get(), phrases::describe_row_end(end));
            tracing::info!(row = number, reason = why, "a question ended");
        }
        InboxChange::Failed {
            row,
            action,
            reason,
        } => {
            tracing::warn!(row = row.get(), %action, %reason, "an answer had no effect");
        }
        InboxChange::ResultUnknown {
            row,
            action,
            reason,
        } => {
            let row = row.get();
            tracing::warn!(row, %action, %reason, "an answer may or may not have taken effect");
        }
        InboxChange::Up(id, _) => tracing::info!(hub = hub(id), "connected to the hub"),
        InboxChange::Down(id, reason) => {
            tracing::info!(hub = hub(id), %reason, "the hub is disconnected");
        }
        InboxChange::Gone(id) => tracing::info!(hub = hub(id), "the hub ended"),
        InboxChange::Unreachable(id, reason) => {
            tracing::warn!(hub = hub(id), %reason, "connecting to the hub failed");
        }
        InboxChange::Lost {
            hub: id,
            lost,
            reason,
        } => {
            tracing::warn!(hub = hub(id), lost, %reason, "the hub skipped events");
        }
        InboxChange::UnknownEvent(id, event) => {
            let kind = event.kind();
            tracing::info!(hub = hub(id), %kind, "ignored an event of an unknown type");
        }
        InboxChange::ForgottenByHub(number) => {
            tracing::info!(
                row = number.get(),
                "the hub was restarted and forgot a question"
            );
        }
        // The rest is on the screen.
        _ => {}
    }
}

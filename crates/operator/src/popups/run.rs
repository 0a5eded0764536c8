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

use super::board::{Board, Click, Order, Post, Slot};
use super::category::Categories;
use crate::clock::{Now, Zone};
use crate::hubs::{Answers, Hubs};
use crate::identity::{ContainerInspector, IdentityResolver};
use crate::inbox::{Change, Inbox, RowNumber};
use crate::notifier::{ActionKey, Choice, Identity, Lifecycle, NotificationId, Notifier};
use crate::unless_panicked;

/// How popups look.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which kinds of them are shown.
    pub categories: Categories,
    /// Where the person is.
    pub zone: Zone,
    /// A name of the icon theme, or a `file://` address.
    pub icon: Option<String>,
}

/// How long to wait for what comes with a change, so that a crowd comes as one.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long hubs may take at the start to say what is pending.
const OPENING: Duration = Duration::from_secs(1);
/// How long taking the popups away may take in the end.
const ENDING: Duration = Duration::from_secs(2);
/// The containers that are looked up at the same time.
const LOOKUPS: usize = 4;
/// The popups that go by themselves, and are remembered in case that we end before.
const PASSING: usize = 16;

/// Asks by popups until `stop` resolves, and then takes them away. Nothing of that is an answer.
///
/// Who a sandbox is whose questions do not say it, `resolver` is asked.
pub async fn converse<N, I, T>(
    hubs: Hubs,
    notifier: &N,
    resolver: Arc<IdentityResolver<I>>,
    options: Options,
    stop: impl Future<Output = T>,
) -> T
where
    N: Notifier,
    I: ContainerInspector + 'static,
{
    let mut bridge = Bridge {
        hubs,
        inbox: Inbox::new(),
        board: Board::new(options.categories, options.zone, options.icon),
        notifier,
        resolver,
        answers: Answers::default(),
        choices: JoinSet::new(),
        lookups: JoinSet::new(),
        sought: BTreeSet::new(),
        ids: HashMap::new(),
        passing: VecDeque::new(),
        start: Instant::now(),
        heard: None,
    };
    let mut stop = std::pin::pin!(stop);
    let mut work = None;
    loop {
        let wake = bridge.wake().filter(|_| work.is_none());
        if wake.is_some_and(|wake| wake <= Instant::now()) {
            work = Some(Box::pin(carry_out(notifier, bridge.flush())));
        }
        tokio::select! {
            biased;
            stopped = &mut stop => {
                // What is being shown has to have an id before it can be taken away.
                if work.is_some() && let Ok(done) = timeout(ENDING, finish(&mut work)).await {
                    bridge.carried_out(done);
                }
                drop(timeout(ENDING, bridge.end()).await);
                return stopped;
            }
            done = finish(&mut work) => bridge.carried_out(done),
            () = bridge.turn(wake) => {}
        }
    }
}

/// Waits for the end of what is going on, if anything is.
async fn finish<F: Future>(work: &mut Option<Pin<Box<F>>>) -> F::Output {
    let Some(working) = work else {
        return std::future::pending().await;
    };
    let done = working.await;
    *work = None;
    done
}

/// What to do on the screen, and with which notification.
struct Job {
    order: Order,
    id: Option<NotificationId>,
}

/// What became of it.
enum Done {
    /// With how often everything had been lost before.
    Posted(Box<Post>, NotificationId, u64, oneshot::Receiver<ActionKey>),
    NotPosted(Box<Post>, DisplayText),
    Closed,
}

async fn carry_out<N: Notifier>(notifier: &N, jobs: Vec<Job>) -> Vec<Done> {
    let mut done = Vec::with_capacity(jobs.len());
    for Job { order, id } in jobs {
        done.push(match order {
            Order::Close(_) => {
                if let Some(id) = id
                    && let Err(error) = notifier.close(id).await
                {
                    tracing::debug!(%error, "a popup was not taken away");
                }
                Done::Closed
            }
            Order::Post(post) => {
                let mut notification = post.notification.clone();
                notification.replaces = id;
                let losses = notifier.losses();
                match notifier.notify(notification).await {
                    Ok(id) => {
                        let (tell, choice) = oneshot::channel();
                        if !post.last {
                            let on_action = move |choice: Choice| drop(tell.send(choice.key));
                            notifier.on_action(id, Box::new(on_action)).await;
                        }
                        Done::Posted(post, id, losses, choice)
                    }
                    Err(error) => Done::NotPosted(post, crate::whole_story(&error)),
                }
            }
        });
    }
    done
}

struct Bridge<'a, N, I> {
    hubs: Hubs,
    inbox: Inbox,
    board: Board,
    notifier: &'a N,
    resolver: Arc<IdentityResolver<I>>,
    answers: Answers,
    /// What is chosen on each popup, its version, and how often everything had been lost before it;
    /// nothing if it is closed.
    choices: JoinSet<(Slot, u64, u64, Option<ActionKey>)>,
    lookups: JoinSet<(ContainerId, Identity)>,
    /// The containers that are being looked up.
    sought: BTreeSet<ContainerId>,
    ids: HashMap<Slot, NotificationId>,
    /// The popups that go by themselves, the oldest first.
    passing: VecDeque<NotificationId>,
    start: Instant,
    /// When the first of what is not shown yet was heard.
    heard: Option<Instant>,
}

impl<N: Notifier, I: ContainerInspector + 'static> Bridge<'_, N, I> {
    fn now(&self) -> Now {
        Now {
            epoch: crate::prompt::now(),
            steady: self.start.elapsed(),
        }
    }

    /// Returns when there is something to do on the screen.
    fn wake(&self) -> Option<Instant> {
        let due = self.start + self.board.due()?;
        let together = self.heard.map_or(due, |heard| heard + TOGETHER);
        let opening = if self.hubs.is_settled() {
            due
        } else {
            self.start + OPENING
        };
        Some(due.max(together).max(opening))
    }

    /// Takes in the next thing that happens; `wake` is one.
    async fn turn(&mut self, wake: Option<Instant>) {
        tokio::select! {
            biased;
            Some(chosen) = self.choices.join_next() => {
                match unless_panicked(chosen) {
                    // Nobody closed it.
                    Some((slot, version, losses, None)) if losses != self.notifier.losses() => {
                        self.ids.remove(&slot);
                        self.board.lost(slot, version, self.now());
                    }
                    Some((slot, version, _, key)) => self.chosen(slot, version, key.as_ref()),
                    None => {}
                }
            }
            (answer, reply) = self.answers.next() => {
                let changes = self.inbox.settle(&answer, reply);
                self.changed(&changes);
            }
            Some(found) = self.lookups.join_next() => {
                if let Some((container, identity)) = unless_panicked(found) {
                    self.sought.remove(&container);
                    let now = self.now();
                    self.board.identify(&container, identity, now);
                }
            }
            () = sleep_until(wake.unwrap_or(self.start)), if wake.is_some() => {}
            (hub, news) = self.hubs.next() => {
                self.heard.get_or_insert_with(Instant::now);
                let changes = self.inbox.hear(&hub, news);
                self.changed(&changes);
            }
        }
    }

    fn changed(&mut self, changes: &[Change]) {
        let now = self.now();
        for change in changes {
            self.board.change(change, &self.inbox, now);
            match change {
                Change::Asked(number) => self.look_up_row(*number),
                Change::Container {
                    container,
                    state,
                    reason,
                    ..
                } => {
                    self.lifecycle(container, *state, reason.as_ref());
                }
                Change::Shield {
                    container, state, ..
                } => {
                    if *state != ShieldState::Up {
                        self.look_up(container);
                    }
                    let container = container.clone();
                    self.notifier.lifecycle(&match state {
                        ShieldState::Up => Lifecycle::ShieldUp(container),
                        ShieldState::Down => Lifecycle::ShieldDown(container),
                        ShieldState::Disengaged => Lifecycle::ShieldDisengaged(container),
                    });
                }
                _ => {}
            }
            log(change, &self.inbox);
        }
    }

    fn lifecycle(
        &mut self,
        container: &ContainerId,
        state: ContainerState,
        reason: Option<&DisplayText>,
    ) {
        let lifecycle = match state {
            ContainerState::Started => {
                self.look_up(container);
                Lifecycle::ContainerStarted(container.clone())
            }
            ContainerState::Exited => {
                self.resolver.forget(container);
                let reason = reason.cloned().unwrap_or_default();
                Lifecycle::ContainerExited(container.clone(), reason)
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
        if self.lookups.len() >= LOOKUPS || !self.sought.insert(container.clone()) {
            return;
        }
        let (resolver, container) = (Arc::clone(&self.resolver), container.clone());
        self.lookups.spawn(async move {
            let identity = resolver.resolve(&container).await;
            (container, identity)
        });
    }

    fn chosen(&mut self, slot: Slot, version: u64, key: Option<&ActionKey>) {
        let now = self.now();
        let Some(key) = key else {
            return self.board.closed(slot, version, &self.inbox, now);
        };
        match self.board.click(slot, key.as_str(), &self.inbox, now) {
            Click::Answer(row, action) => match self.inbox.answer(row, action) {
                Ok(answers) => {
                    tracing::info!(row = row.get(), %action, "answered on a popup");
                    self.answers.send(&self.hubs, answers);
                }
                Err(refusal) => {
                    tracing::info!(row = row.get(), %action, %refusal, "a click answers nothing");
                }
            },
            Click::Again(why) => tracing::info!(why, "a click does not count; it is asked again"),
            Click::Nothing => {}
        }
    }

    /// Returns what to do on the screen.
    fn flush(&mut self) -> Vec<Job> {
        self.heard = None;
        let orders = self.board.flush(&self.inbox, self.now());
        let job = |order| {
            let id = match &order {
                Order::Close(slot) => self.ids.remove(slot),
                Order::Post(post) => self.ids.get(&post.slot).copied(),
            };
            Job { order, id }
        };
        orders.into_iter().map(job).collect()
    }

    fn carried_out(&mut self, done: Vec<Done>) {
        let now = self.now();
        for done in done {
            match done {
                Done::Closed => {}
                Done::Posted(post, id, losses, choice) => {
                    let (slot, version) = (post.slot, post.version);
                    self.board.posted(slot, version, now);
                    if post.last {
                        self.ids.remove(&slot);
                        self.passing.push_back(id);
                        if self.passing.len() > PASSING {
                            self.passing.pop_front();
                        }
                        continue;
                    }
                    self.ids.insert(slot, id);
                    self.choices
                        .spawn(async move { (slot, version, losses, choice.await.ok()) });
                }
                Done::NotPosted(post, reason) => {
                    tracing::warn!(%reason, "a popup could not be shown; it is tried again");
                    self.board.not_posted(*post, now);
                }
            }
        }
    }

    /// Takes away what is on the screen.
    async fn end(&mut self) {
        let shown = self.ids.drain().map(|(_, id)| id);
        for id in shown.chain(self.passing.drain(..)) {
            if let Err(error) = self.notifier.close(id).await {
                tracing::debug!(%error, "a popup was not taken away");
            }
        }
    }
}

/// Says what happens, for whoever reads the journal.
fn log(change: &Change, inbox: &Inbox) {
    let hub = |hub| crate::words::hub(hub);
    match change {
        Change::Asked(number) => {
            if let Some(row) = inbox.row(*number) {
                let (container, dest) = (row.container(), row.dest());
                tracing::info!(row = number.get(), %container, %dest, "a question");
            }
        }
        Change::Ended(row, end) => {
            let (number, why) = (row.number().get(), crate::words::why(end));
            tracing::info!(row = number, why, "a question is settled");
        }
        Change::Failed {
            row,
            action,
            reason,
        } => {
            tracing::warn!(row = row.get(), %action, %reason, "an answer took no effect");
        }
        Change::Unsure {
            row,
            action,
            reason,
        } => {
            tracing::warn!(row = row.get(), %action, %reason, "an answer may have taken effect, or not");
        }
        Change::Up(id, _) => tracing::info!(hub = hub(id), "listening"),
        Change::Down(id, reason) => tracing::info!(hub = hub(id), %reason, "the hub is away"),
        Change::Gone(id) => tracing::info!(hub = hub(id), "the hub is gone"),
        Change::Unreachable(id, reason) => {
            tracing::warn!(hub = hub(id), %reason, "the hub cannot be reached");
        }
        Change::Lost {
            hub: id,
            lost,
            reason,
        } => {
            tracing::warn!(hub = hub(id), lost, %reason, "the hub skipped something");
        }
        Change::Lapsed(number) => {
            tracing::info!(
                row = number.get(),
                "a restarted hub has forgotten a question"
            );
        }
        Change::Again(_) | Change::Synced(_) | Change::Container { .. } | Change::Shield { .. } => {
        }
    }
}

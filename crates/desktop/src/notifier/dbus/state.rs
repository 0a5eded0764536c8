// SPDX-License-Identifier: Apache-2.0
//! What is on the desktop and who waits for it: orders to the service out, news of it in.
//!
//! It does no I/O and reads no clock. News come in the order in which the bus passed them on, the
//! replies among them, so that a signal is always judged by who owned the service's name when it
//! was sent, and by what was shown then.

mod entry;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::DesktopError;
use super::render::{NotificationCapabilities, RenderedTexts, render_texts};
use crate::notifier::click_guard::ClickGuard;
use crate::notifier::{ActionCallback, ActionChoice, Notification, NotificationId};
use entry::{DisplayState, NotificationEntry};

/// The most notifications at once, and the most choices that nobody asked for yet.
const MAX_NOTIFICATIONS: usize = 1024;
const MAX_UNCLAIMED_CHOICES: usize = 64;

/// A service that lives this long did not die of what it was shown.
const HEALTHY_UPTIME: Duration = Duration::from_secs(60);
/// The first and the longest pause before a service that died is asked again.
const QUERY_MIN_DELAY: Duration = Duration::from_millis(100);
const QUERY_MAX_DELAY: Duration = Duration::from_secs(30);

/// A connection's own name on the bus, given by the bus alone and never given twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UniqueBusName(pub(super) String);

/// What the bus passed on.
#[derive(Debug)]
pub(super) enum DbusEvent {
    /// The service's name has another owner, or none.
    OwnerChanged(Option<UniqueBusName>),
    /// The answer to an order.
    Reply {
        call_id: DbusCallId,
        from: Option<UniqueBusName>,
        reply: DbusReply,
    },
    /// Somebody says that an action was chosen.
    ActionInvoked {
        from: UniqueBusName,
        id: u32,
        key: String,
    },
    /// Somebody says that a notification is closed.
    NotificationClosed { from: UniqueBusName, id: u32 },
    /// Somebody gives a token along with the choice that follows.
    ActivationToken {
        from: UniqueBusName,
        id: u32,
        token: String,
    },
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum DbusReply {
    Shown(u32),
    Capabilities(Vec<String>),
    Empty,
    /// The service refused, in its words.
    Refused(String),
    /// There is no service, or it ended meanwhile.
    ServiceGone,
    /// There was no answer in time. One may still come.
    TimedOut,
}

/// Names an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DbusCallId(u64);

/// A call to the service.
#[derive(Debug)]
pub(super) struct QueuedCall {
    pub(super) call_id: DbusCallId,
    pub(super) call: DbusCall,
}

#[derive(Debug)]
pub(super) enum DbusCall {
    Capabilities,
    Notify {
        notification: Box<Notification>,
        texts: RenderedTexts,
        replaces: u32,
    },
    /// For the connection that gave the id, so that a later one does not close something else.
    Close {
        owner: UniqueBusName,
        id: u32,
    },
}

pub(super) type DesktopReplySender<T> = oneshot::Sender<Result<T, DesktopError>>;

/// Why an order was given.
#[derive(Debug)]
enum DbusCallKind {
    Capabilities,
    Notify(u64),
    /// Nobody wants it any more: what it shows is to be closed.
    Abandoned(Option<DesktopReplySender<()>>),
    Close(DesktopReplySender<()>),
    Cleanup,
}

#[derive(Debug, Default)]
enum NotificationServiceState {
    #[default]
    Unknown,
    Querying,
    Known {
        capabilities: NotificationCapabilities,
        since: Instant,
    },
}

#[derive(Debug, Default)]
pub(super) struct NotificationState {
    owner: Option<UniqueBusName>,
    /// The bus starts the service when it is called.
    activatable: bool,
    service: NotificationServiceState,
    /// When to ask the service next, and how often it was in vain.
    query_at: Option<Instant>,
    query_attempts: u32,
    /// How often the bus could not start it: nothing that one is to blame for that comes by itself.
    failed_starts: u32,
    entries: HashMap<u64, NotificationEntry>,
    /// What was chosen before anybody asked, of notifications that are no more.
    unclaimed_choices: VecDeque<(NotificationId, ActionChoice)>,
    pending_calls: HashMap<DbusCallId, DbusCallKind>,
    queued_calls: Vec<QueuedCall>,
    click_guard: ClickGuard,
    last_key: u64,
    last_id: u32,
    /// A stranger's signal was said in the log.
    logged_foreign_signal: bool,
    /// That nobody shows anything was said in the log.
    logged_no_service: bool,
}

impl NotificationState {
    /// Starts with what a new connection to the bus finds.
    pub(super) fn start_connection(
        &mut self,
        owner: Option<UniqueBusName>,
        activatable: bool,
        now: Instant,
    ) {
        self.owner = owner;
        self.activatable = activatable;
        self.service = NotificationServiceState::Unknown;
        self.log_service_presence();
        self.schedule_query(now);
    }

    /// Returns what is to be sent, in this order.
    pub(super) fn take_calls(&mut self) -> Vec<QueuedCall> {
        std::mem::take(&mut self.queued_calls)
    }

    /// Returns when [`Desk::tick`] is to be called at the latest.
    pub(super) const fn next_tick(&self) -> Option<Instant> {
        self.query_at
    }

    /// Returns whether what is chosen comes back; `None` before it is known.
    pub(super) const fn supports_actions(&self) -> Option<bool> {
        match &self.service {
            NotificationServiceState::Known {
                capabilities: able, ..
            } => Some(able.actions),
            _ => None,
        }
    }

    /// Says whether it is known what the service can do, or that there is none to ask.
    pub(super) const fn is_probed(&self) -> bool {
        match self.service {
            NotificationServiceState::Known { .. } => true,
            NotificationServiceState::Querying => false,
            NotificationServiceState::Unknown => self.owner.is_none(),
        }
    }

    /// Shows `notification`. Where there is no service at present, it is shown as soon as there
    /// is one.
    pub(super) fn notify(
        &mut self,
        notification: Notification,
        told: DesktopReplySender<NotificationId>,
        now: Instant,
    ) {
        let known = notification
            .replaces
            .filter(|id| *id != NotificationId::NONE)
            .and_then(|id| self.find_by_handle(id));
        let key = if let Some(key) = known {
            if let Some(post) = self.entries.get_mut(&key) {
                post.replace(notification, told);
            }
            key
        } else {
            if self.entries.len() >= MAX_NOTIFICATIONS {
                drop(told.send(Err(DesktopError::TooMany)));
                return;
            }
            let key = self.next_key();
            self.entries
                .insert(key, NotificationEntry::new(notification, told));
            key
        };
        if matches!(self.service, NotificationServiceState::Known { .. }) {
            self.send_notify(key);
            return;
        }
        self.schedule_query(now);
        if self.owner.is_none() && !self.activatable {
            let id = self.assign_id(key, 0);
            if let Some(post) = self.entries.get_mut(&key) {
                post.notify_waiters(id);
            }
        }
    }

    /// Notes what to do with the choice of `id`.
    pub(super) fn on_action(&mut self, id: NotificationId, on_action: ActionCallback) {
        if let Some(at) = self
            .unclaimed_choices
            .iter()
            .position(|(kept, _)| *kept == id)
        {
            if let Some((_, choice)) = self.unclaimed_choices.remove(at) {
                on_action(choice);
            }
            return;
        }
        let post = self
            .find_by_handle(id)
            .and_then(|key| self.entries.get_mut(&key));
        if let Some(post) = post {
            post.on_action(on_action);
        }
    }

    /// Takes `id` away.
    pub(super) fn close(&mut self, id: NotificationId, told: DesktopReplySender<()>, now: Instant) {
        self.unclaimed_choices.retain(|(kept, _)| *kept != id);
        let Some(post) = self
            .find_by_handle(id)
            .and_then(|key| self.entries.remove(&key))
        else {
            drop(told.send(Ok(())));
            return;
        };
        match (post.display, self.owner.clone()) {
            (DisplayState::Shown { id }, Some(at)) => {
                self.click_guard.record_change(now);
                self.queue_call(DbusCall::Close { owner: at, id }, DbusCallKind::Close(told));
            }
            (DisplayState::Sending { ticket, .. }, _) => {
                self.pending_calls
                    .insert(ticket, DbusCallKind::Abandoned(Some(told)));
            }
            _ => drop(told.send(Ok(()))),
        }
    }

    /// Does what the time asks for.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.query_at.is_some_and(|at| at <= now) {
            self.query_at = None;
            self.query_capabilities();
        }
    }

    /// The connection to the bus is lost: nobody will be told of a choice.
    pub(super) fn connection_lost(&mut self) {
        for (_, mut post) in self.entries.drain() {
            post.fail_waiters(&DesktopError::BusLost);
        }
        for (_, purpose) in self.pending_calls.drain() {
            if let DbusCallKind::Close(told) | DbusCallKind::Abandoned(Some(told)) = purpose {
                drop(told.send(Err(DesktopError::BusLost)));
            }
        }
        self.unclaimed_choices.clear();
        self.queued_calls.clear();
        self.owner = None;
        self.service = NotificationServiceState::Unknown;
        self.query_at = None;
    }

    /// Takes what the bus passed on.
    pub(super) fn apply_event(&mut self, news: DbusEvent, now: Instant) {
        match news {
            DbusEvent::OwnerChanged(owner) => {
                self.change_owner(owner, now);
            }
            DbusEvent::Reply {
                call_id: to,
                from,
                reply: answer,
            } => self.handle_reply(to, from, answer, now),
            DbusEvent::ActionInvoked { from, id, key } => {
                if self.is_from_owner(&from) {
                    self.handle_action(id, &key, now);
                }
            }
            DbusEvent::NotificationClosed { from, id } => {
                if self.is_from_owner(&from) {
                    self.handle_closed(id, now);
                }
            }
            DbusEvent::ActivationToken { from, id, token } => {
                let key = self
                    .is_from_owner(&from)
                    .then(|| self.find_by_service_id(id))
                    .flatten();
                if let Some(post) = key.and_then(|key| self.entries.get_mut(&key)) {
                    post.activation_token = Some(token);
                }
            }
        }
    }

    /// The name has another owner: all that the former one showed is to be shown by it.
    fn change_owner(&mut self, owner: Option<UniqueBusName>, now: Instant) {
        if self.owner == owner {
            return;
        }
        let former = std::mem::replace(&mut self.owner, owner);
        self.log_service_presence();
        let Some(former) = former else {
            self.failed_starts = 0;
            self.query_at = None;
            // The one that the question which started it is for will answer it.
            if !matches!(self.service, NotificationServiceState::Querying) {
                self.reset_service(now);
            }
            return;
        };
        let shown = self.entries.values().filter_map(|post| match post.display {
            DisplayState::Shown { id } => Some(id),
            _ => None,
        });
        let shown: Vec<_> = shown.collect();
        self.reset_service(now);
        // It may live on under its own name, and its popups with it.
        for id in shown {
            let at = former.clone();
            self.queue_call(DbusCall::Close { owner: at, id }, DbusCallKind::Cleanup);
        }
    }

    /// Says in the log when nobody is there to show anything, and when somebody is again.
    fn log_service_presence(&mut self) {
        let nobody = self.owner.is_none() && !self.activatable;
        if nobody && !self.logged_no_service {
            tracing::warn!(
                "no notification service is on the session bus: popups are shown when one comes"
            );
        } else if self.logged_no_service && !nobody {
            tracing::info!("there is a notification service");
        }
        self.logged_no_service = nobody;
    }

    /// Says whether a signal comes from the one connection whose signals count, now that it is
    /// heard: all that the bus passed on before is known.
    fn is_from_owner(&mut self, from: &UniqueBusName) -> bool {
        let believed = self.owner.as_ref() == Some(from);
        if !believed && !self.logged_foreign_signal {
            self.logged_foreign_signal = true;
            let owner = self.owner.as_ref().map_or("nobody", |owner| &owner.0);
            tracing::warn!(
                from = from.0,
                owner,
                "a signal about notifications came from another connection than their service's: \
                 not believed, and not said again"
            );
        }
        believed
    }

    fn handle_action(&mut self, id: u32, key: &str, now: Instant) {
        let Some(at) = self.find_by_service_id(id) else {
            return;
        };
        let Some(post) = self.entries.get_mut(&at) else {
            return;
        };
        let Some(action) = post.find_action(key) else {
            return;
        };
        let least = post.notification.click_guard;
        if let Some(least) = least {
            // While it is posted anew nobody can tell what was clicked on.
            if matches!(post.display, DisplayState::Sending { .. }) {
                return;
            }
            if self.click_guard.is_too_soon(least, now) {
                tracing::info!("a click came too soon to be an answer: it is asked again");
                post.too_soon = true;
                post.layout_changes = true;
                self.send_notify(at);
                return;
            }
        }
        post.record_choice(action);
    }

    fn handle_closed(&mut self, id: u32, now: Instant) {
        let Some(key) = self.find_by_service_id(id) else {
            return;
        };
        // It is being shown anew: the answer to that says under which number.
        let posting =
            |post: &NotificationEntry| matches!(post.display, DisplayState::Sending { .. });
        if self.entries.get(&key).is_none_or(posting) {
            return;
        }
        self.click_guard.record_change(now);
        let Some(mut post) = self.entries.remove(&key) else {
            return;
        };
        if let (Some(handle), Some(choice)) = (post.handle, post.chosen.take()) {
            if self.unclaimed_choices.len() == MAX_UNCLAIMED_CHOICES {
                self.unclaimed_choices.pop_front();
            }
            self.unclaimed_choices.push_back((handle, choice));
        }
    }

    /// Sends a notification to the service, in place of what it was.
    fn send_notify(&mut self, key: u64) {
        let NotificationServiceState::Known {
            capabilities: able, ..
        } = self.service
        else {
            return;
        };
        let ticket = self.next_call_id();
        let Some(post) = self.entries.get_mut(&key) else {
            return;
        };
        let replaces = match post.display {
            DisplayState::NotShown => None,
            DisplayState::Shown { id } => Some(id),
            DisplayState::Sending { .. } => {
                post.resend = true;
                return;
            }
        };
        post.display = DisplayState::Sending {
            ticket,
            was: replaces,
        };
        let notification = Box::new(post.notification.clone());
        let texts = render_texts(&notification, able, post.too_soon);
        let call = DbusCall::Notify {
            notification,
            texts,
            replaces: replaces.unwrap_or(0),
        };
        self.pending_calls.insert(ticket, DbusCallKind::Notify(key));
        self.queued_calls.push(QueuedCall {
            call_id: ticket,
            call,
        });
    }

    /// The service is not what it was: all that it showed is to be shown anew.
    fn reset_service(&mut self, now: Instant) {
        if let NotificationServiceState::Known { since, .. } = self.service
            && now.saturating_duration_since(since) >= HEALTHY_UPTIME
        {
            self.query_attempts = 0;
        }
        self.service = NotificationServiceState::Unknown;
        for (_, purpose) in self.pending_calls.drain() {
            // What it showed is gone with it.
            if let DbusCallKind::Close(told) | DbusCallKind::Abandoned(Some(told)) = purpose {
                drop(told.send(Ok(())));
            }
        }
        for post in self.entries.values_mut() {
            post.display = DisplayState::NotShown;
            post.resend = false;
            post.layout_changes = true;
        }
        self.schedule_query(now);
    }

    /// Arranges that the service is asked what it can do, as soon as that makes sense.
    fn schedule_query(&mut self, now: Instant) {
        let useful = self.owner.is_some() || (self.activatable && !self.entries.is_empty());
        if !matches!(self.service, NotificationServiceState::Unknown) || !useful {
            self.query_at = self.query_at.filter(|_| useful);
            return;
        }
        let pause = match self.query_attempts.max(self.failed_starts) {
            0 => Duration::ZERO,
            tries => QUERY_MIN_DELAY.saturating_mul(2_u32.saturating_pow(tries - 1)),
        };
        let at = now + pause.min(QUERY_MAX_DELAY);
        self.query_at = self.query_at.or(Some(at));
        self.tick(now);
    }

    fn query_capabilities(&mut self) {
        self.query_attempts = self.query_attempts.saturating_add(1);
        self.service = NotificationServiceState::Querying;
        self.queue_call(DbusCall::Capabilities, DbusCallKind::Capabilities);
    }

    /// Tells those who wait for something to be shown that it is not; what was shown once waits on.
    fn fail_waiting(&mut self, error: &DesktopError) {
        let waiting = self.entries.iter().filter(|(_, post)| post.has_waiters());
        let keys: Vec<_> = waiting.map(|(key, _)| *key).collect();
        for key in keys {
            self.fail_entry(key, error);
        }
    }

    fn fail_entry(&mut self, key: u64, error: &DesktopError) {
        if let Some(mut post) = self.entries.remove(&key) {
            post.fail_waiters(error);
        }
    }

    fn queue_call(&mut self, call: DbusCall, purpose: DbusCallKind) {
        let ticket = self.next_call_id();
        self.pending_calls.insert(ticket, purpose);
        self.queued_calls.push(QueuedCall {
            call_id: ticket,
            call,
        });
    }

    const fn next_call_id(&mut self) -> DbusCallId {
        DbusCallId(self.next_key())
    }

    const fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    /// Returns the number by which the caller knows a notification: the service's, unless it was
    /// given before; an old number never means a new question.
    fn assign_id(&mut self, key: u64, id: u32) -> NotificationId {
        let known = self.entries.get(&key).and_then(|post| post.handle);
        let handle = known.unwrap_or_else(|| {
            let next = self.last_id.saturating_add(1).max(id);
            self.last_id = next;
            NotificationId::from_number(next)
        });
        if let Some(post) = self.entries.get_mut(&key) {
            post.handle = Some(handle);
        }
        handle
    }

    fn find_by_handle(&self, id: NotificationId) -> Option<u64> {
        let found = self
            .entries
            .iter()
            .find(|(_, post)| post.handle == Some(id));
        found.map(|(key, _)| *key)
    }

    /// Returns what the present owner knows as `id`, or knew until it is shown anew.
    fn find_by_service_id(&self, id: u32) -> Option<u64> {
        let found = self
            .entries
            .iter()
            .find(|(_, post)| post.has_service_id(id));
        found.map(|(key, _)| *key)
    }
}

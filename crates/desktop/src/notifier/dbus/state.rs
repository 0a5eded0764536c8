// SPDX-License-Identifier: Apache-2.0
//! The state of all notifications on the desktop: events go in, calls to the service come out.
//!
//! The state does no I/O and reads no clock. Signals and replies are applied in the order of the
//! bus. A signal is therefore checked against the owner of the service's name, and against the
//! notifications shown, at the time of sending.

mod entry;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::DesktopError;
use super::event::{
    DbusCall, DbusCallId, DbusEvent, DesktopReplySender, NotificationSignal, QueuedCall,
    StateEvent, UniqueBusName,
};
use super::render::{NotificationCapabilities, render_texts};
use crate::notifier::{
    Closed, ClosedCallback, Notification, NotificationId, NotificationOutcome, TextLimits,
};
use entry::{DisplayState, NotificationEntry};

/// Maximum notifications at once.
const MAX_NOTIFICATIONS: usize = 1024;
/// Maximum outcomes kept for callbacks that are not registered yet.
const MAX_UNCLAIMED_OUTCOMES: usize = 64;

/// A service that ran for this time and then ended is queried again without delay.
const HEALTHY_UPTIME: Duration = Duration::from_secs(60);
/// The first and the longest delay before another query to a service that ended.
const QUERY_MIN_DELAY: Duration = Duration::from_millis(100);
const QUERY_MAX_DELAY: Duration = Duration::from_secs(30);

/// The state of the service. Only signals of the owner count.
#[derive(Debug)]
enum ServiceState {
    /// The capabilities are unknown. Without an owner, no service runs.
    Unknown { owner: Option<UniqueBusName> },
    /// The query of the capabilities was sent. Without an owner, the query starts the service.
    Querying {
        owner: Option<UniqueBusName>,
        /// The service in its reply, which comes first: name and vendor, empty until then.
        server: (String, String),
    },
    /// Notifications are sent without delay.
    Ready {
        owner: UniqueBusName,
        capabilities: NotificationCapabilities,
        since: Instant,
    },
}

impl ServiceState {
    const fn owner(&self) -> Option<&UniqueBusName> {
        match self {
            Self::Unknown { owner } | Self::Querying { owner, .. } => owner.as_ref(),
            Self::Ready { owner, .. } => Some(owner),
        }
    }
}

/// The reason for a call.
#[derive(Debug)]
enum DbusCallKind {
    Capabilities,
    ServerInformation,
    Notify(u64),
    /// The caller closed the notification before the reply to `Notify`. The notification is closed
    /// as soon as the reply brings an id.
    Abandoned(Option<DesktopReplySender<()>>),
    Close(DesktopReplySender<()>),
    Cleanup,
}

#[derive(Debug)]
pub(super) struct NotificationState {
    service: ServiceState,
    /// The bus can start the service on demand.
    activatable: bool,
    /// When to query the capabilities next.
    query_at: Option<Instant>,
    /// The number of queries that failed.
    query_attempts: u32,
    /// How often the bus failed to start the service; 0 again when a service appears.
    failed_starts: u32,
    entries: HashMap<u64, NotificationEntry>,
    /// Outcomes of closed notifications that had no callback.
    unclaimed_outcomes: VecDeque<(NotificationId, NotificationOutcome)>,
    pending_calls: HashMap<DbusCallId, DbusCallKind>,
    queued_calls: Vec<QueuedCall>,
    /// When a notification last appeared, changed in size or disappeared.
    layout_changed_at: Option<Instant>,
    last_key: u64,
    last_id: u32,
    /// Whether a signal from a connection other than the owner was logged.
    logged_foreign_signal: bool,
    /// Whether the absence of a service was logged.
    logged_no_service: bool,
}

impl Default for NotificationState {
    fn default() -> Self {
        Self {
            service: ServiceState::Unknown { owner: None },
            activatable: false,
            query_at: None,
            query_attempts: 0,
            failed_starts: 0,
            entries: HashMap::new(),
            unclaimed_outcomes: VecDeque::new(),
            pending_calls: HashMap::new(),
            queued_calls: Vec::new(),
            layout_changed_at: None,
            last_key: 0,
            last_id: 0,
            logged_foreign_signal: false,
            logged_no_service: false,
        }
    }
}

impl NotificationState {
    pub(super) fn apply(&mut self, event: StateEvent, now: Instant) {
        use {DbusEvent as Dbus, ServiceState as Service, StateEvent as Event};

        match (&self.service, event) {
            (_, Event::Connected { owner, activatable }) => {
                self.activatable = activatable;
                self.service = Service::Unknown { owner };
                self.log_service_presence();
                self.schedule_query(now);
            }
            (_, Event::ConnectionLost) => self.lose_connection(now),

            (Service::Unknown { .. }, Event::Tick) => {
                if self.query_at.is_some_and(|at| at <= now) {
                    self.query_capabilities();
                }
            }
            (Service::Querying { .. } | Service::Ready { .. }, Event::Tick) => {}

            (Service::Ready { .. }, Event::Notify(notification, reply)) => {
                if let Some(key) = self.add_entry(*notification, reply) {
                    self.send_notify(key);
                }
            }
            (Service::Unknown { owner: None }, Event::Notify(notification, reply))
                if !self.activatable =>
            {
                if let Some(key) = self.add_entry(*notification, reply) {
                    self.accept_unshown(key);
                }
            }
            (Service::Unknown { .. }, Event::Notify(notification, reply)) => {
                if self.add_entry(*notification, reply).is_some() {
                    self.schedule_query(now);
                }
            }
            (Service::Querying { .. }, Event::Notify(notification, reply)) => {
                self.add_entry(*notification, reply);
            }
            (_, Event::OnClosed(id, callback)) => self.register_callback(id, callback, now),
            (_, Event::Close(id, reply)) => self.close(id, reply, now),

            (service, Event::Dbus(Dbus::OwnerChanged(owner)))
                if service.owner() == owner.as_ref() => {}
            (
                Service::Querying {
                    owner: None,
                    server,
                },
                Event::Dbus(Dbus::OwnerChanged(owner)),
            ) => {
                // The query started this service, which will reply.
                let server = server.clone();
                self.service = Service::Querying { owner, server };
                self.failed_starts = 0;
                self.query_at = None;
                self.log_service_presence();
            }
            (Service::Unknown { owner: None }, Event::Dbus(Dbus::OwnerChanged(owner))) => {
                self.failed_starts = 0;
                self.query_at = None;
                self.reset_service(owner, now);
            }
            (
                Service::Unknown { owner: Some(_) }
                | Service::Querying { owner: Some(_), .. }
                | Service::Ready { .. },
                Event::Dbus(Dbus::OwnerChanged(owner)),
            ) => self.change_owner(owner, now),

            (
                _,
                Event::Dbus(Dbus::Reply {
                    call_id,
                    from,
                    reply,
                }),
            ) => {
                self.handle_reply(call_id, from, reply, now);
            }
            (service, Event::Dbus(Dbus::Signal { from, id, signal }))
                if service.owner() == Some(&from) =>
            {
                self.handle_signal(id, signal, now);
            }
            (_, Event::Dbus(Dbus::Signal { from, .. })) => self.log_foreign_signal(&from),
        }
    }

    /// Returns the calls to send, in order.
    pub(super) fn take_calls(&mut self) -> Vec<QueuedCall> {
        std::mem::take(&mut self.queued_calls)
    }

    /// Returns the time of the next [`StateEvent::Tick`].
    pub(super) const fn next_tick(&self) -> Option<Instant> {
        self.query_at
    }

    /// Returns whether the service has buttons, and the text that it shows; `None` while unknown.
    pub(super) fn service_limits(&self) -> Option<(bool, TextLimits)> {
        match &self.service {
            ServiceState::Ready { capabilities, .. } => {
                Some((capabilities.has_buttons(), capabilities.limits))
            }
            _ => None,
        }
    }

    /// Returns `true` if the capabilities are known or no service runs.
    pub(super) const fn is_probed(&self) -> bool {
        match &self.service {
            ServiceState::Ready { .. } => true,
            ServiceState::Querying { .. } => false,
            ServiceState::Unknown { owner } => owner.is_none(),
        }
    }

    /// Adds a notification or replaces the content of the replaced one. Returns the key, or `None`
    /// if too many notifications are shown.
    fn add_entry(
        &mut self,
        notification: Notification,
        reply: DesktopReplySender<NotificationId>,
    ) -> Option<u64> {
        let known = notification
            .replaces
            .filter(|id| *id != NotificationId::NONE)
            .and_then(|id| self.find_by_handle(id));
        if let Some(key) = known {
            self.entries.get_mut(&key)?.replace(notification, reply);
            return Some(key);
        }
        if self.entries.len() >= MAX_NOTIFICATIONS {
            drop(reply.send(Err(DesktopError::TooMany)));
            return None;
        }
        let key = self.next_key();
        self.entries
            .insert(key, NotificationEntry::new(notification, reply));
        Some(key)
    }

    /// Assigns an id to a notification before a service shows it.
    fn accept_unshown(&mut self, key: u64) {
        let id = self.assign_id(key, 0);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.notify_waiters(id);
        }
    }

    fn register_callback(&mut self, id: NotificationId, callback: ClosedCallback, now: Instant) {
        let unclaimed = &mut self.unclaimed_outcomes;
        let kept = unclaimed.iter().position(|(kept, _)| *kept == id);
        if let Some((_, outcome)) = kept.and_then(|at| unclaimed.remove(at)) {
            return callback(outcome);
        }
        let entry = self
            .find_by_handle(id)
            .and_then(|key| self.entries.get_mut(&key));
        match entry {
            Some(entry) => entry.register_callback(callback),
            None => callback(self.outcome(Closed::ConnectionLost, now)),
        }
    }

    /// Closes the notification `id`.
    fn close(&mut self, id: NotificationId, reply: DesktopReplySender<()>, now: Instant) {
        self.unclaimed_outcomes.retain(|(kept, _)| *kept != id);
        let Some(entry) = self
            .find_by_handle(id)
            .and_then(|key| self.entries.remove(&key))
        else {
            drop(reply.send(Ok(())));
            return;
        };
        match (entry.display, self.service.owner().cloned()) {
            (DisplayState::Shown { id }, Some(owner)) => {
                self.layout_changed_at = Some(now);
                self.queue_call(DbusCall::Close { owner, id }, DbusCallKind::Close(reply));
            }
            (DisplayState::Sending { call_id, .. }, _) => {
                let kind = DbusCallKind::Abandoned(Some(reply));
                self.pending_calls.insert(call_id, kind);
            }
            _ => drop(reply.send(Ok(()))),
        }
    }

    /// Ends every notification; a lost connection brings no more signals.
    fn lose_connection(&mut self, now: Instant) {
        let lost = self.outcome(Closed::ConnectionLost, now);
        for (_, mut entry) in self.entries.drain() {
            entry.fail_waiters(&DesktopError::BusLost);
            entry.end(lost.clone());
        }
        for (_, kind) in self.pending_calls.drain() {
            if let DbusCallKind::Close(reply) | DbusCallKind::Abandoned(Some(reply)) = kind {
                drop(reply.send(Err(DesktopError::BusLost)));
            }
        }
        self.unclaimed_outcomes.clear();
        self.queued_calls.clear();
        self.service = ServiceState::Unknown { owner: None };
        self.query_at = None;
    }

    /// Shows every notification again at the new owner of the name.
    fn change_owner(&mut self, owner: Option<UniqueBusName>, now: Instant) {
        let former = self.service.owner().cloned();
        let shown = self
            .entries
            .values()
            .filter_map(|entry| match entry.display {
                DisplayState::Shown { id } => Some(id),
                _ => None,
            });
        let shown: Vec<_> = shown.collect();
        self.reset_service(owner, now);
        // The former owner may still run under its unique name and show its popups.
        for (owner, id) in former.into_iter().cycle().zip(shown) {
            self.queue_call(DbusCall::Close { owner, id }, DbusCallKind::Cleanup);
        }
    }

    fn log_service_presence(&mut self) {
        let absent = self.service.owner().is_none() && !self.activatable;
        if absent && !self.logged_no_service {
            tracing::warn!(
                "no notification service runs on the session bus; popups are shown when one starts"
            );
        } else if self.logged_no_service && !absent {
            tracing::info!("a notification service runs on the session bus");
        }
        self.logged_no_service = absent;
    }

    fn log_foreign_signal(&mut self, from: &UniqueBusName) {
        if !self.logged_foreign_signal {
            self.logged_foreign_signal = true;
            let owner = self.service.owner().map_or("none", |owner| &owner.0);
            tracing::warn!(
                from = from.0,
                owner,
                "ignored a notification signal: its sender does not own \
                 org.freedesktop.Notifications; further such signals are not logged"
            );
        }
    }

    /// Applies a signal from the owner.
    fn handle_signal(&mut self, id: u32, signal: NotificationSignal, now: Instant) {
        let Some(key) = self.find_by_service_id(id) else {
            return;
        };
        let layout_changed_at = self.layout_changed_at;
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match (entry.display, signal) {
            (_, NotificationSignal::ActivationToken(token)) => {
                entry.activation_token = Some(token);
            }
            // During a replacement the operator may see the old or the new content, so a click is
            // ambiguous. The reply brings the id of the new content.
            (DisplayState::Sending { .. } | DisplayState::NotShown, _) => {}
            (DisplayState::Shown { .. }, NotificationSignal::ActionInvoked { key: action }) => {
                entry.choose(&action, now, layout_changed_at);
            }
            (DisplayState::Shown { .. }, NotificationSignal::NotificationClosed(closed)) => {
                // The outcome tells how long the popups had not changed until the close.
                self.end_entry(key, closed, now);
                self.layout_changed_at = Some(now);
            }
        }
    }

    /// Forgets a notification that is no longer shown, and reports the outcome.
    fn end_entry(&mut self, key: u64, closed: Closed, now: Instant) {
        let outcome = self.outcome(closed, now);
        let ended = self.entries.remove(&key);
        if let Some(unclaimed) = ended.and_then(|entry| entry.end(outcome)) {
            if self.unclaimed_outcomes.len() == MAX_UNCLAIMED_OUTCOMES {
                self.unclaimed_outcomes.pop_front();
            }
            self.unclaimed_outcomes.push_back(unclaimed);
        }
    }

    const fn outcome(&self, closed: Closed, at: Instant) -> NotificationOutcome {
        NotificationOutcome {
            closed,
            at,
            layout_changed_at: self.layout_changed_at,
        }
    }

    /// Sends a notification to the service; replaces a former version.
    fn send_notify(&mut self, key: u64) {
        let ServiceState::Ready { capabilities, .. } = self.service else {
            return;
        };
        let call_id = self.next_call_id();
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let replaces = match entry.display {
            DisplayState::NotShown => None,
            DisplayState::Shown { id } => Some(id),
            DisplayState::Sending { .. } => {
                entry.resend = true;
                return;
            }
        };
        entry.display = DisplayState::Sending {
            call_id,
            was: replaces,
        };
        let notification = Box::new(entry.notification.clone());
        let texts = render_texts(&notification, capabilities);
        entry.offer(&texts.actions);
        let call = DbusCall::Notify {
            notification,
            texts,
            replaces: replaces.unwrap_or(0),
        };
        self.pending_calls
            .insert(call_id, DbusCallKind::Notify(key));
        self.queued_calls.push(QueuedCall { call_id, call });
    }

    /// Forgets the service. The next service shows all notifications again.
    fn reset_service(&mut self, owner: Option<UniqueBusName>, now: Instant) {
        if let ServiceState::Ready { since, .. } = self.service
            && now.saturating_duration_since(since) >= HEALTHY_UPTIME
        {
            self.query_attempts = 0;
        }
        self.service = ServiceState::Unknown { owner };
        self.log_service_presence();
        for (_, kind) in self.pending_calls.drain() {
            // The service ended, and the popups with it.
            if let DbusCallKind::Close(reply) | DbusCallKind::Abandoned(Some(reply)) = kind {
                drop(reply.send(Ok(())));
            }
        }
        for entry in self.entries.values_mut() {
            entry.display = DisplayState::NotShown;
            entry.resend = false;
            entry.layout_changes = true;
        }
        self.schedule_query(now);
    }

    /// Schedules the query of the capabilities if a service runs or can be started.
    fn schedule_query(&mut self, now: Instant) {
        let has_owner = self.service.owner().is_some();
        let useful = has_owner || (self.activatable && !self.entries.is_empty());
        if !matches!(self.service, ServiceState::Unknown { .. }) || !useful {
            self.query_at = self.query_at.filter(|_| useful);
            return;
        }
        let delay = match self.query_attempts.max(self.failed_starts) {
            0 => Duration::ZERO,
            tries => QUERY_MIN_DELAY.saturating_mul(2_u32.saturating_pow(tries - 1)),
        };
        let at = *self
            .query_at
            .get_or_insert_with(|| now + delay.min(QUERY_MAX_DELAY));
        if at <= now {
            self.query_capabilities();
        }
    }

    fn query_capabilities(&mut self) {
        self.query_at = None;
        self.query_attempts = self.query_attempts.saturating_add(1);
        let owner = self.service.owner().cloned();
        self.service = ServiceState::Querying {
            owner,
            server: Default::default(),
        };
        // Services reply in order, so that the name is known when the capabilities arrive. A
        // service that does not reply is an unknown one.
        let information = (DbusCall::ServerInformation, DbusCallKind::ServerInformation);
        self.queue_call(information.0, information.1);
        self.queue_call(DbusCall::Capabilities, DbusCallKind::Capabilities);
    }

    /// Fails the notifications that were never shown. Notifications of an earlier service keep
    /// waiting.
    fn fail_waiting(&mut self, error: &DesktopError, now: Instant) {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.has_waiters());
        let keys: Vec<_> = waiting.map(|(key, _)| *key).collect();
        for key in keys {
            self.fail_entry(key, error, now);
        }
    }

    fn fail_entry(&mut self, key: u64, error: &DesktopError, now: Instant) {
        let lost = self.outcome(Closed::ConnectionLost, now);
        if let Some(mut entry) = self.entries.remove(&key) {
            entry.fail_waiters(error);
            entry.end(lost);
        }
    }

    fn queue_call(&mut self, call: DbusCall, kind: DbusCallKind) {
        let call_id = self.next_call_id();
        self.pending_calls.insert(call_id, kind);
        self.queued_calls.push(QueuedCall { call_id, call });
    }

    const fn next_call_id(&mut self) -> DbusCallId {
        DbusCallId(self.next_key())
    }

    const fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    /// Returns the id for the caller: the id given before, else the service's id if larger than
    /// all ids so far, else a new number. An id never refers to two notifications.
    fn assign_id(&mut self, key: u64, id: u32) -> NotificationId {
        let known = self.entries.get(&key).and_then(|entry| entry.handle);
        let handle = known.unwrap_or_else(|| {
            let next = self.last_id.saturating_add(1).max(id);
            self.last_id = next;
            NotificationId::from_number(next)
        });
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.handle = Some(handle);
        }
        handle
    }

    fn find_by_handle(&self, id: NotificationId) -> Option<u64> {
        let found = self
            .entries
            .iter()
            .find(|(_, entry)| entry.handle == Some(id));
        found.map(|(key, _)| *key)
    }

    /// Returns the key of the notification that the present owner knows as `id`, including a
    /// notification whose replacement is being sent.
    fn find_by_service_id(&self, id: u32) -> Option<u64> {
        let found = self
            .entries
            .iter()
            .find(|(_, entry)| entry.has_service_id(id));
        found.map(|(key, _)| *key)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Replies of the service to the calls of the notification state.

use tokio::time::Instant;

use super::entry::DisplayState;
use super::{DbusCallKind, NotificationState, ServiceState};
use crate::notifier::Closed;
use crate::notifier::dbus::DesktopError;
use crate::notifier::dbus::event::{DbusCall, DbusCallId, DbusReply, UniqueBusName};
use crate::notifier::dbus::render::NotificationCapabilities;
use crate::notifier::text_limits::service_limits;

impl NotificationState {
    pub(super) fn handle_reply(
        &mut self,
        call_id: DbusCallId,
        from: Option<UniqueBusName>,
        reply: DbusReply,
        now: Instant,
    ) {
        let Some(kind) = self.pending_calls.remove(&call_id) else {
            return;
        };
        // The call was addressed to the well-known name: only the present owner's reply counts.
        let own = from.filter(|from| self.service.owner() == Some(from));
        match (kind, reply, own) {
            (DbusCallKind::Capabilities, reply, own) => {
                self.handle_capabilities(own, reply, now);
            }
            (DbusCallKind::ServerInformation, reply, own) => {
                if let DbusReply::ServerInformation { name, vendor } = reply
                    && own.is_some()
                    && let ServiceState::Querying { server, .. } = &mut self.service
                {
                    *server = (name, vendor);
                }
            }
            (DbusCallKind::Notify(key), reply, own) => {
                self.handle_notify_reply(call_id, key, own, reply, now);
            }
            (DbusCallKind::Abandoned(waiter), DbusReply::Shown(id), Some(owner)) => {
                let kind = waiter.map_or(DbusCallKind::Cleanup, DbusCallKind::Close);
                self.queue_call(DbusCall::Close { owner, id }, kind);
            }
            (DbusCallKind::Abandoned(waiter), DbusReply::TimedOut, _) => {
                if let Some(waiter) = waiter {
                    drop(waiter.send(Err(DesktopError::TimedOut)));
                }
                let kind = DbusCallKind::Abandoned(None);
                self.pending_calls.insert(call_id, kind);
            }
            (DbusCallKind::Abandoned(waiter), ..) => {
                if let Some(waiter) = waiter {
                    drop(waiter.send(Ok(())));
                }
            }
            (DbusCallKind::Close(waiter), DbusReply::TimedOut, _) => {
                drop(waiter.send(Err(DesktopError::TimedOut)));
            }
            // An error means that the notification was already closed.
            (DbusCallKind::Close(waiter), ..) => drop(waiter.send(Ok(()))),
            (DbusCallKind::Cleanup, ..) => {}
        }
    }

    fn handle_capabilities(&mut self, own: Option<UniqueBusName>, reply: DbusReply, now: Instant) {
        let (owner, capabilities) = match (own, reply) {
            (Some(owner), DbusReply::Capabilities(names)) => {
                let server = match &self.service {
                    ServiceState::Querying { server, .. } => server.clone(),
                    _ => Default::default(),
                };
                let known = service_limits(&server.0, &server.1);
                (owner, NotificationCapabilities::new(&names, known))
            }
            (Some(owner), DbusReply::Refused(error)) => {
                tracing::info!(
                    %error,
                    "the notification service refused to list its capabilities; assuming no buttons"
                );
                (owner, NotificationCapabilities::LEAST)
            }
            (_, reply) => {
                let owner = self.service.owner().cloned();
                let absent = owner.is_none();
                self.service = ServiceState::Unknown { owner };
                if matches!(reply, DbusReply::TimedOut) {
                    self.fail_waiting(&DesktopError::TimedOut, now);
                } else if absent {
                    self.failed_starts = self.failed_starts.saturating_add(1);
                    self.query_attempts = self.query_attempts.saturating_sub(1);
                    if self.failed_starts > 1 {
                        self.fail_waiting(&DesktopError::NoService, now);
                    }
                }
                self.schedule_query(now);
                return;
            }
        };
        self.service = ServiceState::Ready {
            owner,
            capabilities,
            since: now,
        };
        let mut keys: Vec<_> = self.entries.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.send_notify(key);
        }
    }

    fn handle_notify_reply(
        &mut self,
        call_id: DbusCallId,
        key: u64,
        own: Option<UniqueBusName>,
        reply: DbusReply,
        now: Instant,
    ) {
        match (own, reply) {
            (Some(owner), DbusReply::Shown(id)) if id != 0 => {
                self.mark_shown(key, owner, id, now);
            }
            // The reply violates the specification; a second attempt would not help.
            (
                Some(_),
                DbusReply::Shown(_)
                | DbusReply::Capabilities(_)
                | DbusReply::ServerInformation { .. }
                | DbusReply::Empty,
            ) => {
                let error = "the reply to Notify has no notification id".to_owned();
                self.fail_entry(key, &DesktopError::Refused(error), now);
            }
            (_, DbusReply::Refused(error)) => {
                self.fail_entry(key, &DesktopError::Refused(error), now);
            }
            (_, DbusReply::TimedOut) => {
                self.fail_entry(key, &DesktopError::TimedOut, now);
                let kind = DbusCallKind::Abandoned(None);
                self.pending_calls.insert(call_id, kind);
            }
            _ => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.display = DisplayState::NotShown;
                }
                let owner = self.service.owner().cloned();
                self.reset_service(owner, now);
            }
        }
    }

    /// Records that the service shows a notification as `id`.
    fn mark_shown(&mut self, key: u64, owner: UniqueBusName, id: u32, now: Instant) {
        // A service that assigned the same id twice shows the newer notification.
        if let Some(older) = self.find_by_service_id(id).filter(|older| *older != key) {
            self.end_entry(older, Closed::Dismissed, now);
        }
        let handle = self.assign_id(key, id);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.display = DisplayState::Shown { id };
        if std::mem::take(&mut entry.layout_changes) {
            self.layout_changed_at = Some(now);
        }
        if entry.resend {
            entry.resend = false;
            self.send_notify(key);
        } else if !entry.notify_waiters(handle) {
            // The caller stopped waiting and does not know the id.
            self.entries.remove(&key);
            self.queue_call(DbusCall::Close { owner, id }, DbusCallKind::Cleanup);
        }
    }
}

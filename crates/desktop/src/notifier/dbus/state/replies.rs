// SPDX-License-Identifier: Apache-2.0
//! What becomes of what was ordered.

use tokio::time::Instant;

use super::entry::DisplayState;
use super::{
    DbusCall, DbusCallId, DbusCallKind, DbusReply, NotificationServiceState, NotificationState,
    UniqueBusName,
};
use crate::notifier::dbus::DesktopError;
use crate::notifier::dbus::render::NotificationCapabilities;

impl NotificationState {
    pub(super) fn handle_reply(
        &mut self,
        to: DbusCallId,
        from: Option<UniqueBusName>,
        answer: DbusReply,
        now: Instant,
    ) {
        let Some(purpose) = self.pending_calls.remove(&to) else {
            return;
        };
        // It was sent to the name: whoever answers must still have it, else the id is nobody's.
        let own = from.is_some() && from == self.owner;
        match purpose {
            DbusCallKind::Capabilities => self.handle_capabilities(own, answer, now),
            DbusCallKind::Notify(key) => self.handle_notify_reply(to, key, from, answer, now),
            DbusCallKind::Abandoned(told) => match (answer, from) {
                (DbusReply::Shown(id), Some(at)) => {
                    let purpose = told.map_or(DbusCallKind::Cleanup, DbusCallKind::Close);
                    self.queue_call(DbusCall::Close { owner: at, id }, purpose);
                }
                (DbusReply::TimedOut, _) => {
                    if let Some(told) = told {
                        drop(told.send(Err(DesktopError::TimedOut)));
                    }
                    self.pending_calls.insert(to, DbusCallKind::Abandoned(None));
                }
                (..) => {
                    if let Some(told) = told {
                        drop(told.send(Ok(())));
                    }
                }
            },
            // One that is refused was closed already.
            DbusCallKind::Close(told) => drop(told.send(match answer {
                DbusReply::TimedOut => Err(DesktopError::TimedOut),
                _ => Ok(()),
            })),
            DbusCallKind::Cleanup => {}
        }
    }

    /// The service said what it can do, or did not.
    fn handle_capabilities(&mut self, own: bool, answer: DbusReply, now: Instant) {
        let able = match answer {
            DbusReply::Capabilities(names) if own => NotificationCapabilities::from_names(&names),
            // It answers, but not this: it is shown what every service can show.
            DbusReply::Refused(error) if own => {
                tracing::info!(%error, "the notification service does not say what it can do");
                NotificationCapabilities {
                    body: true,
                    ..NotificationCapabilities::default()
                }
            }
            DbusReply::TimedOut => {
                self.service = NotificationServiceState::Unknown;
                self.fail_waiting(&DesktopError::TimedOut);
                self.schedule_query(now);
                return;
            }
            _ => {
                self.service = NotificationServiceState::Unknown;
                if self.owner.is_none() {
                    self.failed_starts = self.failed_starts.saturating_add(1);
                    self.query_attempts = self.query_attempts.saturating_sub(1);
                    if self.failed_starts > 1 {
                        self.fail_waiting(&DesktopError::NoService);
                    }
                }
                self.schedule_query(now);
                return;
            }
        };
        self.service = NotificationServiceState::Known {
            capabilities: able,
            since: now,
        };
        let mut keys: Vec<_> = self.entries.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.send_notify(key);
        }
    }

    /// A notification was shown, or not.
    fn handle_notify_reply(
        &mut self,
        to: DbusCallId,
        key: u64,
        from: Option<UniqueBusName>,
        answer: DbusReply,
        now: Instant,
    ) {
        let own = from.is_some() && from == self.owner;
        match answer {
            DbusReply::Shown(id) if own && id != 0 => {
                // A service that gave the same id twice shows the newer one.
                let older = self.find_by_service_id(id).filter(|older| *older != key);
                if let Some(older) = older {
                    self.entries.remove(&older);
                }
                let handle = self.assign_id(key, id);
                let Some(post) = self.entries.get_mut(&key) else {
                    return;
                };
                post.display = DisplayState::Shown { id };
                if std::mem::take(&mut post.layout_changes) {
                    self.click_guard.record_change(now);
                }
                if post.resend {
                    post.resend = false;
                    self.send_notify(key);
                } else if !post.notify_waiters(handle) {
                    // Whoever wanted it has gone and cannot know its number.
                    self.entries.remove(&key);
                    if let Some(at) = from {
                        self.queue_call(DbusCall::Close { owner: at, id }, DbusCallKind::Cleanup);
                    }
                }
            }
            // It answers against its own specification, and would do so again at once.
            DbusReply::Shown(_) | DbusReply::Capabilities(_) | DbusReply::Empty if own => {
                let error = "it gave no number for it".to_owned();
                self.fail_entry(key, &DesktopError::Refused(error));
            }
            DbusReply::Refused(error) => self.fail_entry(key, &DesktopError::Refused(error)),
            DbusReply::TimedOut => {
                self.fail_entry(key, &DesktopError::TimedOut);
                self.pending_calls.insert(to, DbusCallKind::Abandoned(None));
            }
            _ => {
                if let Some(post) = self.entries.get_mut(&key) {
                    post.display = DisplayState::NotShown;
                }
                self.reset_service(now);
            }
        }
    }
}

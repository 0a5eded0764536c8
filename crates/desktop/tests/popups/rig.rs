// SPDX-License-Identifier: Apache-2.0
//! A desktop that shows what it is told, and a clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{HubId, Inbox, InboxChange, InboxEvent, OperatorAnswer, OperatorReply};
use serde_json::{Value, json};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, Decision};
use terok_clearance_desktop::notifier::Notification;
use terok_clearance_desktop::popups::{
    Categories, ClickOutcome, PopupCommand, PopupModel, PopupSlot,
};

/// 2026-11-22 12:42:07 UTC, in microseconds.
pub(crate) const NOON: u64 = 1_795_351_327_000_000;

pub(crate) struct Rig {
    pub(crate) inbox: Inbox,
    pub(crate) board: PopupModel,
    pub(crate) clock: Duration,
    /// What is on the screen.
    pub(crate) screen: BTreeMap<PopupSlot, (u64, Notification)>,
    /// How often something was posted.
    pub(crate) posts: usize,
}

pub(crate) fn hub(name: &str) -> HubId {
    HubId::new(Path::new(&format!(
        "/run/user/1000/terok/clearance/{name}/hub.sock"
    )))
}

pub(crate) fn web() -> HubId {
    hub("web")
}

/// A question of sandbox `web`, the `n`th one; `more` changes it.
pub(crate) fn asks(n: u64, name: &str, more: Value) -> Arc<Request> {
    asks_of("web", n, name, more)
}

pub(crate) fn asks_of(container: &str, n: u64, name: &str, more: Value) -> Arc<Request> {
    let at = NOON + n * 1_000_000;
    let mut request = json!({
        "id": format!("{container}:{n}"), "container": container, "dest": name,
        "address": "203.0.113.7", "port": 443, "protocol": "tcp", "domain": name,
        "scope": {"dest": name, "port": 443, "protocol": "tcp", "keep": "sandbox"},
        "dossier": {"project": "warp", "task": "build-42", "name": container},
        "first_seen": at, "last_seen": at, "count": 1
    });
    let Value::Object(more) = more else {
        return Arc::new(serde_json::from_value(request).unwrap());
    };
    request.as_object_mut().unwrap().extend(more);
    Arc::new(serde_json::from_value(request).unwrap())
}

impl Rig {
    /// A hub that has said all that is pending: nothing.
    pub(crate) fn up() -> Self {
        Self::with("all", ProtocolVersion::Clearance2)
    }

    pub(crate) fn with(categories: &str, speaks: ProtocolVersion) -> Self {
        let (categories, unknown) = Categories::parse(categories);
        assert!(unknown.is_empty(), "{unknown:?}");
        let mut rig = Self {
            inbox: Inbox::new(),
            board: PopupModel::new(categories, TimeZone::default(), None),
            clock: Duration::from_secs(100),
            screen: BTreeMap::new(),
            posts: 0,
        };
        rig.news(&web(), InboxEvent::Up(speaks));
        rig.says(Event::Synced);
        rig
    }

    pub(crate) fn now(&self) -> ClockReading {
        ClockReading {
            epoch_micros: NOON,
            monotonic: self.clock,
        }
    }

    /// Tells the news, and lets the desktop do what comes of it.
    pub(crate) fn news(&mut self, hub: &HubId, news: InboxEvent) {
        self.hear(hub, news);
        self.flush();
    }

    pub(crate) fn hear(&mut self, hub: &HubId, news: InboxEvent) {
        let changes = self.inbox.apply_event(hub, news);
        self.changed(&changes);
    }

    pub(crate) fn changed(&mut self, changes: &[InboxChange]) {
        for change in changes {
            self.board.apply_change(change, &self.inbox, self.now());
        }
    }

    pub(crate) fn says(&mut self, event: Event) {
        self.news(&web(), InboxEvent::Received(event));
    }

    pub(crate) fn asks(&mut self, n: u64, name: &str) {
        self.says(Event::Pending(asks(n, name, json!({}))));
    }

    pub(crate) fn flush(&mut self) {
        let now = self.now();
        if self.board.next_due().is_none_or(|due| due > now.monotonic) {
            return;
        }
        for order in self.board.take_commands(&self.inbox, now) {
            match order {
                PopupCommand::Close(slot) => {
                    self.screen.remove(&slot);
                    self.board.mark_closed(now);
                }
                PopupCommand::Show(post) => {
                    self.posts += 1;
                    self.board.mark_shown(post.slot, post.version, now);
                    self.screen
                        .insert(post.slot, (post.version, post.notification));
                }
            }
        }
        let due = self.board.next_due();
        assert!(
            due.is_none_or(|due| due > now.monotonic),
            "nothing is left undone"
        );
    }

    /// Lets time pass, and the desktop do what is due meanwhile.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.clock + Duration::from_millis(ms);
        while let Some(due) = self.board.next_due().filter(|due| *due <= end) {
            self.clock = self.clock.max(due);
            self.flush();
        }
        self.clock = end;
    }

    /// Returns the titles on the screen, the oldest first.
    pub(crate) fn titles(&self) -> Vec<&str> {
        self.screen
            .values()
            .map(|(_, shown)| shown.summary.as_str())
            .collect()
    }

    /// Returns the popup whose title begins so.
    pub(crate) fn popup(&self, title: &str) -> (PopupSlot, u64, Notification) {
        let found = self
            .screen
            .iter()
            .find(|(_, (_, shown))| shown.summary.starts_with(title));
        let (slot, (version, shown)) = found.unwrap_or_else(|| panic_no(title, &self.titles()));
        (*slot, *version, shown.clone())
    }

    pub(crate) fn body(&self, title: &str) -> String {
        self.popup(title).2.body
    }

    /// Clicks on a popup as daemons do that take it away then.
    pub(crate) fn click(&mut self, title: &str, key: &str) -> ClickOutcome {
        let (slot, version, shown) = self.popup(title);
        let offered = shown
            .actions
            .iter()
            .any(|action| action.key().as_str() == key);
        assert!(offered, "{title} has no {key}");
        self.screen.remove(&slot);
        let now = self.now();
        let click = self.board.handle_click(slot, key, &self.inbox, now);
        self.board.handle_closed(slot, version, &self.inbox, now);
        click
    }

    /// Clicks, and returns what the hub is told.
    pub(crate) fn answer(&mut self, title: &str, key: &str) -> Vec<OperatorAnswer> {
        let ClickOutcome::Answer(row, action) = self.click(title, key) else {
            panic_no(title, &["an answer"])
        };
        let answers = self.inbox.answer(row, action).unwrap();
        self.flush();
        answers
    }

    pub(crate) fn settle(&mut self, answer: &OperatorAnswer, reply: OperatorReply) {
        let changes = self.inbox.apply_reply(answer, reply);
        self.changed(&changes);
        self.flush();
    }

    /// Closes a popup as a person does who does not answer.
    pub(crate) fn close(&mut self, title: &str) {
        let (slot, version, _) = self.popup(title);
        self.screen.remove(&slot);
        let now = self.now();
        self.board.handle_closed(slot, version, &self.inbox, now);
        self.flush();
    }
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn panic_no(wanted: &str, found: &[&str]) -> ! {
    panic!("no popup {wanted:?} among {found:?}")
}

/// The record of an answer to `request`.
pub(crate) fn decided(request: &Request, action: Action, by: &str) -> Decision {
    Decision {
        request: request.id.clone(),
        container: request.container.clone(),
        dest: request.dest.clone(),
        action: action.into(),
        scope: Some(request.scope.clone()),
        by: by.into(),
        at: terok_clearance::Timestamp::from_micros(NOON),
        ok: true,
        reason: None,
    }
}

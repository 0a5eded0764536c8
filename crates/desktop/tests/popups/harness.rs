// SPDX-License-Identifier: Apache-2.0
//! The popup model with an inbox, a screen and a clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{HubId, Inbox, InboxChange, InboxEvent, OperatorAnswer, OperatorReply};
use serde_json::{Value, json};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, Decision, Timestamp};
use terok_clearance_desktop::notifier::Notification;
use terok_clearance_desktop::popups::{
    Categories, ClickOutcome, PopupCommand, PopupModel, PopupSlot,
};
use test_support::questions::{NOON_MICROS, question};

pub(crate) struct PopupHarness {
    pub(crate) inbox: Inbox,
    pub(crate) model: PopupModel,
    pub(crate) clock: Duration,
    /// The popups on the screen.
    pub(crate) screen: BTreeMap<PopupSlot, (u64, Notification)>,
    /// The number of popups shown or updated so far.
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

/// Returns question `n` of sandbox `web`, with these changes.
pub(crate) fn web_question(n: u64, name: &str, changes: Value) -> Arc<Request> {
    question("web", n, name, changes)
}

impl PopupHarness {
    /// Returns a harness with a synced hub without questions.
    pub(crate) fn connected() -> Self {
        Self::with("all", ProtocolVersion::Clearance2)
    }

    pub(crate) fn with(categories: &str, version: ProtocolVersion) -> Self {
        let (categories, unknown) = Categories::parse(categories);
        assert!(unknown.is_empty(), "{unknown:?}");
        let mut harness = Self {
            inbox: Inbox::new(),
            model: PopupModel::new(categories, TimeZone::default(), None),
            clock: Duration::from_secs(100),
            screen: BTreeMap::new(),
            posts: 0,
        };
        harness.apply(&web(), InboxEvent::Up(version));
        harness.receive(Event::Synced);
        harness
    }

    pub(crate) fn now(&self) -> ClockReading {
        ClockReading {
            wall_time: Timestamp::from_micros(NOON_MICROS),
            monotonic: self.clock,
        }
    }

    /// Applies an event and the popup commands that follow.
    pub(crate) fn apply(&mut self, hub: &HubId, event: InboxEvent) {
        self.apply_without_flush(hub, event);
        self.flush();
    }

    pub(crate) fn apply_without_flush(&mut self, hub: &HubId, event: InboxEvent) {
        let changes = self.inbox.apply_event(hub, event);
        self.apply_changes(&changes);
    }

    pub(crate) fn apply_changes(&mut self, changes: &[InboxChange]) {
        for change in changes {
            self.model.apply_change(change, &self.inbox, self.now());
        }
    }

    pub(crate) fn receive(&mut self, event: Event) {
        self.apply(&web(), InboxEvent::Received(event));
    }

    pub(crate) fn receive_question(&mut self, n: u64, name: &str) {
        self.receive(Event::Pending(web_question(n, name, json!({}))));
    }

    pub(crate) fn flush(&mut self) {
        let now = self.now();
        if self.model.next_due().is_none_or(|due| due > now.monotonic) {
            return;
        }
        for order in self.model.take_commands(&self.inbox, now) {
            match order {
                PopupCommand::Close(slot) => {
                    self.screen.remove(&slot);
                    self.model.mark_closed(now);
                }
                PopupCommand::Show(post) => {
                    self.posts += 1;
                    self.model.mark_shown(post.slot, post.version, now);
                    self.screen
                        .insert(post.slot, (post.version, post.notification));
                }
            }
        }
        let due = self.model.next_due();
        assert!(
            due.is_none_or(|due| due > now.monotonic),
            "every due command was taken"
        );
    }

    /// Advances the clock, and applies the popup commands that become due.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.clock + Duration::from_millis(ms);
        while let Some(due) = self.model.next_due().filter(|due| *due <= end) {
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

    /// Returns the popup with this prefix of its title.
    pub(crate) fn popup(&self, title: &str) -> (PopupSlot, u64, Notification) {
        let found = self
            .screen
            .iter()
            .find(|(_, (_, shown))| shown.summary.starts_with(title));
        let (slot, (version, shown)) = found.unwrap_or_else(|| fail_without(title, &self.titles()));
        (*slot, *version, shown.clone())
    }

    pub(crate) fn body(&self, title: &str) -> String {
        self.popup(title).2.body
    }

    /// Clicks on a popup. Like most notification services, the click closes it.
    pub(crate) fn click(&mut self, title: &str, key: &str) -> ClickOutcome {
        let (slot, version, shown) = self.popup(title);
        let offered = shown
            .actions
            .iter()
            .any(|action| action.key().as_str() == key);
        assert!(offered, "{title} has no {key}");
        self.screen.remove(&slot);
        let now = self.now();
        let click = self.click_key(slot, key);
        self.model.handle_closed(slot, version, &self.inbox, now);
        click
    }

    /// Reports a click on an action that the popup may not have.
    pub(crate) fn click_key(&mut self, slot: PopupSlot, key: &str) -> ClickOutcome {
        let now = self.now();
        self.model.handle_click(slot, key, &self.inbox, now)
    }

    /// Clicks, and returns the answers for the hub.
    pub(crate) fn answer(&mut self, title: &str, key: &str) -> Vec<OperatorAnswer> {
        let ClickOutcome::Answer(row, action, scope) = self.click(title, key) else {
            fail_without(title, &["an answer"])
        };
        let answers = self.inbox.answer_with(row, action, &scope).unwrap();
        self.flush();
        answers
    }

    pub(crate) fn apply_reply(&mut self, answer: &OperatorAnswer, reply: OperatorReply) {
        let changes = self.inbox.apply_reply(answer, reply);
        self.apply_changes(&changes);
        self.flush();
    }

    /// Closes a popup without an answer.
    pub(crate) fn close(&mut self, title: &str) {
        let (slot, version, _) = self.popup(title);
        self.screen.remove(&slot);
        let now = self.now();
        self.model.handle_closed(slot, version, &self.inbox, now);
        self.flush();
    }
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn fail_without(wanted: &str, found: &[&str]) -> ! {
    panic!("no popup {wanted:?} among {found:?}")
}

/// Returns the record of an answer to `request`.
pub(crate) fn decided(request: &Request, action: Action, by: &str) -> Decision {
    Decision {
        request: request.id.clone(),
        container: request.container.clone(),
        dest: request.dest.clone(),
        action: action.into(),
        scope: Some(request.scope.clone()),
        by: by.into(),
        at: Timestamp::from_micros(NOON_MICROS),
        ok: true,
        reason: None,
    }
}

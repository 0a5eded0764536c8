// SPDX-License-Identifier: Apache-2.0
//! Records the popups on a screen, and checks them against the rules for popups.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use desktop::popups::MAX_SINGLE_POPUPS;
use test_support::notification_service::NotificationCall;

/// Longer than any step of these tests.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum popups at once after a quiet time.
const AT_ONCE: f64 = 6.0;
/// Maximum popups per second after that.
const A_SECOND: f64 = 2.0;

/// A screen with popups.
pub(crate) struct Desk {
    start: Instant,
    shows: Mutex<Shows>,
    changed: Condvar,
}

/// The popups on the screen, and the violations found so far.
#[derive(Default)]
pub(crate) struct Shows {
    /// The popups by id.
    pub(crate) popups: BTreeMap<u32, Popup>,
    /// The number of calls to show a popup.
    calls: u32,
    wrong: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Popup {
    pub(crate) summary: String,
    /// Whether the popup is a question or the popup for many questions.
    pub(crate) asks: bool,
}

impl Desk {
    #[expect(
        clippy::disallowed_methods,
        reason = "how fast popups may come is said in seconds"
    )]
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            shows: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Applies a call to the notification service.
    pub(crate) fn apply(&self, call: NotificationCall) {
        match call {
            NotificationCall::Notify { id, summary, .. } => self.notify(id, &summary),
            NotificationCall::Close { id } => self.close(id),
        }
    }

    /// Shows a popup, in place of the popup with this id if there is one.
    pub(crate) fn notify(&self, id: u32, summary: &str) {
        let mut shows = self.shows.lock().unwrap();
        shows.calls += 1;
        let calls = f64::from(shows.calls);
        // A delay of this test only increases the allowance.
        let may = AT_ONCE + A_SECOND * self.start.elapsed().as_secs_f64();
        if calls > may {
            shows.wrong(&format!("{calls} calls by now, of {may:.1}"));
        }
        let asks = summary.starts_with("Blocked: ") || summary.contains(" questions from ");
        let summary = summary.to_owned();
        let doubled = shows
            .popups
            .iter()
            .find(|(other, popup)| **other != id && popup.summary == summary);
        if let Some(doubled) = doubled.map(|(id, _)| *id) {
            shows.wrong(&format!("{id} says {summary:?} as {doubled} does"));
        }
        shows.popups.insert(id, Popup { summary, asks });
        // While the group popup replaces single popups, or the other way round, both are visible.
        let asking = shows.popups.values().filter(|popup| popup.asks).count();
        if asking > MAX_SINGLE_POPUPS + 1 {
            shows.wrong(&format!("{asking} popups ask"));
        }
        self.changed.notify_all();
    }

    /// Closes a popup.
    pub(crate) fn close(&self, id: u32) {
        let mut shows = self.shows.lock().unwrap();
        if shows.popups.remove(&id).is_none() {
            shows.wrong(&format!("{id} was closed and is not there"));
        }
        self.changed.notify_all();
    }

    /// Waits until the screen satisfies `holds`. Fails if a rule was violated.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Shows) -> bool) -> Vec<(u32, Popup)> {
        let shows = self.shows.lock().unwrap();
        let waits = self
            .changed
            .wait_timeout_while(shows, PATIENCE, |shows| !holds(shows));
        let (shows, _) = waits.unwrap();
        let popups = &shows.popups;
        assert!(holds(&shows), "waited in vain for {what}: {popups:?}");
        assert_eq!(shows.wrong, [""; 0], "{popups:?}");
        popups
            .iter()
            .map(|(id, popup)| (*id, popup.clone()))
            .collect()
    }
}

impl Shows {
    fn wrong(&mut self, what: &str) {
        self.wrong.push(what.to_owned());
    }

    /// Returns `true` if exactly these questions are shown, in any order.
    pub(crate) fn asks(&self, summaries: &[String]) -> bool {
        let asking = self.popups.values().filter(|popup| popup.asks);
        let mut asking: Vec<_> = asking.map(|popup| &popup.summary).collect();
        asking.sort();
        asking.iter().copied().eq(summaries)
    }
}

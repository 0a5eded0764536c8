// SPDX-License-Identifier: Apache-2.0
//! The popups on a screen, with checks of their rate and number.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use desktop::popups::MAX_SINGLE_POPUPS;
use test_support::notification_service::NotificationCall;

/// The maximum time for an expected change.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum number of notifications at once.
const BURST: f64 = 6.0;
/// The maximum rate of notifications after that.
const PER_SECOND: f64 = 2.0;

/// A screen with popups.
pub(crate) struct PopupScreen {
    start: Instant,
    state: Mutex<ScreenState>,
    changed: Condvar,
}

/// The popups, and the violations so far.
#[derive(Default)]
pub(crate) struct ScreenState {
    /// The popups, by their ids.
    pub(crate) popups: BTreeMap<u32, Popup>,
    /// The number of calls of `Notify`.
    calls: u32,
    violations: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Popup {
    pub(crate) summary: String,
    /// `true` for a popup with one question or with a group of them.
    pub(crate) asks: bool,
}

impl PopupScreen {
    #[expect(
        clippy::disallowed_methods,
        reason = "the maximum rate is per second of real time"
    )]
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::default(),
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

    /// Shows a popup, in place of the one with this id if there is one.
    pub(crate) fn notify(&self, id: u32, summary: &str) {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let calls = f64::from(state.calls);
        // A delay of this process only raises the limit.
        let may = BURST + PER_SECOND * self.start.elapsed().as_secs_f64();
        if calls > may {
            state.report_violation(&format!("{calls} calls, {may:.1} allowed"));
        }
        let asks = summary.starts_with("Blocked: ") || summary.contains(" questions from ");
        let summary = summary.to_owned();
        let doubled = state
            .popups
            .iter()
            .find(|(other, popup)| **other != id && popup.summary == summary);
        if let Some(doubled) = doubled.map(|(id, _)| *id) {
            state.report_violation(&format!("{id} repeats {summary:?} of {doubled}"));
        }
        state.popups.insert(id, Popup { summary, asks });
        // A group and a single popup are both on the screen while one replaces the other.
        let asking = state.popups.values().filter(|popup| popup.asks).count();
        if asking > MAX_SINGLE_POPUPS + 1 {
            state.report_violation(&format!("{asking} popups with questions"));
        }
        self.changed.notify_all();
    }

    /// Closes a popup.
    pub(crate) fn close(&self, id: u32) {
        let mut state = self.state.lock().unwrap();
        if state.popups.remove(&id).is_none() {
            state.report_violation(&format!("{id} was closed twice"));
        }
        self.changed.notify_all();
    }

    /// Waits for a state of the screen. Fails if there was a violation.
    pub(crate) fn until(
        &self,
        what: &str,
        holds: impl Fn(&ScreenState) -> bool,
    ) -> Vec<(u32, Popup)> {
        let state = self.state.lock().unwrap();
        let waits = self
            .changed
            .wait_timeout_while(state, WAIT_TIMEOUT, |state| !holds(state));
        let (state, _) = waits.unwrap();
        let popups = &state.popups;
        assert!(holds(&state), "timed out waiting for {what}: {popups:?}");
        assert_eq!(state.violations, [""; 0], "{popups:?}");
        popups
            .iter()
            .map(|(id, popup)| (*id, popup.clone()))
            .collect()
    }
}

impl ScreenState {
    fn report_violation(&mut self, what: &str) {
        self.violations.push(what.to_owned());
    }

    /// Returns `true` if exactly these popups have questions, in any order.
    pub(crate) fn has_questions(&self, summaries: &[String]) -> bool {
        let asking = self.popups.values().filter(|popup| popup.asks);
        let mut asking: Vec<_> = asking.map(|popup| &popup.summary).collect();
        asking.sort();
        asking.iter().copied().eq(summaries)
    }
}

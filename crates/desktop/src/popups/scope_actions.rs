// SPDX-License-Identifier: Apache-2.0
//! The actions beside Allow and Deny, each with a lifetime of its own.
//!
//! An action is offered only if the service certainly shows its button and the line that says what
//! it opens.

use operator::inbox::Row;
use operator::{AnswerScope, ScopeChoice, phrases};
use terok_clearance::Action;

use crate::notifier::{NotificationAction, TextLimits};

/// Number of actions that every question has: Allow and Deny.
const USUAL_ACTIONS: usize = 2;

/// The actions, the most useful first: a question has those that there is room for.
const SCOPE_ACTIONS: [ScopeAction; 4] = [
    ScopeAction {
        choice: ScopeChoice::FiveMinutes,
        key: "allow-5min",
        label: "Allow 5 min",
    },
    ScopeAction {
        choice: ScopeChoice::Once,
        key: "allow-once",
        label: "Allow once",
    },
    ScopeAction {
        choice: ScopeChoice::OneHour,
        key: "allow-1h",
        label: "Allow 1 h",
    },
    ScopeAction {
        choice: ScopeChoice::Always,
        key: "allow-always",
        label: "Always allow",
    },
];

/// An action that allows with a lifetime other than the question's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScopeAction {
    choice: ScopeChoice,
    key: &'static str,
    label: &'static str,
}

impl ScopeAction {
    /// Returns the action in the form of a notification.
    pub(super) fn notification_action(self) -> Option<NotificationAction> {
        format!("{}:{}", self.key, self.label).parse().ok()
    }

    /// Returns the line that says what the action opens, given what Allow opens:
    /// `Allow 5 min: same for 5 minutes`.
    pub(super) fn effect_line(self, row: &Row) -> String {
        let Self { choice, label, .. } = self;
        let effect = phrases::describe_effect(row, Action::Allow, &choice.scope());
        let reach = phrases::describe_reach(row.scope());
        let lifetime = effect
            .strip_prefix(&reach)
            .and_then(|rest| rest.split_once(", "))
            .map_or(effect.as_str(), |(_, lifetime)| lifetime);
        match lifetime.strip_prefix("once: ") {
            Some(which) => format!("{label}: only {which}"),
            None => format!("{label}: same {lifetime}"),
        }
    }
}

/// Returns the actions that the row offers and that a service with these limits shows, with the
/// line `allows` that says what Allow opens.
pub(super) fn shown_actions(row: &Row, allows: &str, limits: &TextLimits) -> Vec<ScopeAction> {
    let own = AnswerScope::default_of(row);
    let mut body = allows.to_owned();
    let mut shown = Vec::new();
    for action in SCOPE_ACTIONS {
        let is_other = action.choice.scope() != own && action.choice.is_offered(row);
        if !is_other || shown.len().saturating_add(USUAL_ACTIONS) >= limits.actions {
            continue;
        }
        let longer = format!("{body}\n{}", action.effect_line(row));
        // Of the line about Allow, the lines so far, and this one.
        if limits.shows(&longer, shown.len().saturating_add(2)) {
            body = longer;
            shown.push(action);
        }
    }
    shown
}

/// Returns the lifetime of the action with this key.
pub(super) fn choice_of_key(key: &str) -> Option<ScopeChoice> {
    let action = SCOPE_ACTIONS.iter().find(|action| action.key == key)?;
    Some(action.choice)
}

/// Returns everything that the actions of a popup open: a click counts only if this text is the
/// same as when the popup was shown.
pub(super) fn guarded_text(row: &Row, actions: &[NotificationAction]) -> String {
    let mut text = allow_line(row);
    for action in SCOPE_ACTIONS {
        if actions
            .iter()
            .any(|shown| shown.key().as_str() == action.key)
        {
            text.push('\n');
            text.push_str(&action.effect_line(row));
        }
    }
    text
}

/// Returns the line that says what Allow opens.
pub(super) fn allow_line(row: &Row) -> String {
    let own = AnswerScope::default_of(row);
    let effect = phrases::describe_effect(row, Action::Allow, &own);
    let addresses = phrases::describe_present_addresses(row);
    let addresses = addresses.map_or_else(String::new, |now| format!(" ({now})"));
    format!("Allow opens {effect}{addresses}")
}

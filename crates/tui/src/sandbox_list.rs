// SPDX-License-Identifier: Apache-2.0
//! The known sandboxes: the number of questions and the state of the firewall of each.

use std::collections::BTreeMap;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, DisplayText, ShieldState};

use operator::inbox::{HubId, Inbox, InboxChange, Row};
use operator::phrases;

/// Maximum number of sandboxes; further ones are not listed.
const MAX_LISTED_SANDBOXES: usize = 10_000;
/// Characters of a container id in the name of a rule, as container engines print it.
const SHORT_ID_CHARS: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct SandboxList {
    entries: BTreeMap<(HubId, ContainerId), SandboxStatus>,
}

/// What is known about a sandbox.
#[derive(Debug, Default)]
pub(crate) struct SandboxStatus {
    pub(crate) name: Option<String>,
    pub(crate) shield_state: Option<ShieldState>,
    /// Number of pending questions.
    pub(crate) questions: usize,
}

impl SandboxStatus {
    /// Returns `true` if the firewall is known to be down.
    fn is_unguarded(&self) -> bool {
        self.shield_state
            .is_some_and(|state| state != ShieldState::Up)
    }
}

impl SandboxList {
    /// Applies a change of the inbox; `inbox` already contains the change.
    pub(crate) fn apply_change(&mut self, change: &InboxChange, inbox: &Inbox) {
        match change {
            InboxChange::Added(number) => {
                if let Some(row) = inbox.row(*number) {
                    self.record_question(row);
                }
            }
            InboxChange::Ended(row, _) => {
                let key = (row.hub().clone(), row.container().clone());
                if let Some(sandbox) = self.entries.get_mut(&key) {
                    sandbox.questions = sandbox.questions.saturating_sub(1);
                }
            }
            InboxChange::Shield {
                hub,
                container,
                state,
            } => {
                if let Some(sandbox) = self.entry(hub, container) {
                    sandbox.shield_state = Some(*state);
                }
            }
            InboxChange::Container {
                hub,
                container,
                state,
                ..
            } => match state {
                ContainerState::Started => {
                    self.entry(hub, container);
                }
                ContainerState::Exited => {
                    self.entries.remove(&(hub.clone(), container.clone()));
                }
            },
            InboxChange::Gone(hub) => self.entries.retain(|(of, _), _| of != hub),
            _ => {}
        }
    }

    fn record_question(&mut self, row: &Row) {
        if let Some(sandbox) = self.entry(row.hub(), row.container()) {
            sandbox.questions = sandbox.questions.saturating_add(1);
            // Only an active firewall refuses a packet.
            sandbox.shield_state = Some(ShieldState::Up);
            if sandbox.name.is_none() {
                sandbox.name = Some(phrases::describe_sandbox(row));
            }
        }
    }

    fn entry(&mut self, hub: &HubId, container: &ContainerId) -> Option<&mut SandboxStatus> {
        let key = (hub.clone(), container.clone());
        let room = self.entries.len() < MAX_LISTED_SANDBOXES || self.entries.contains_key(&key);
        room.then(|| self.entries.entry(key).or_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of sandboxes whose firewall is known to be down.
    pub(crate) fn unguarded_count(&self) -> usize {
        let entries = self.entries.values();
        entries.filter(|status| status.is_unguarded()).count()
    }

    /// Returns the firewall state of the sandbox of a row, if known.
    pub(crate) fn shield_state(&self, row: &Row) -> Option<ShieldState> {
        let key = (row.hub().clone(), row.container().clone());
        self.entries.get(&key)?.shield_state
    }

    /// Returns the name of the sandbox of a hub, with its id if both are known.
    pub(crate) fn long_name(&self, hub: &HubId) -> String {
        let entries = self.entries.iter();
        let known = entries
            .filter(|((of, _), _)| of == hub)
            .find_map(|(_, status)| status.name.as_ref());
        match (known, hub.sandbox()) {
            (Some(name), Some(id)) if name != id => {
                format!("{name}, sandbox {}", DisplayText::new(id))
            }
            _ => short_name(hub),
        }
    }

    /// Returns the sandboxes, first those whose firewall is down.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ContainerId, &SandboxStatus)> {
        let entries = || self.entries.iter().map(|((_, id), status)| (id, status));
        let unguarded = entries().filter(|(_, status)| status.is_unguarded());
        unguarded.chain(entries().filter(|(_, status)| !status.is_unguarded()))
    }
}

/// Returns the name of a hub in the names of its rules: the sandbox, or the path of the socket.
pub(crate) fn short_name(hub: &HubId) -> String {
    let Some(sandbox) = hub.sandbox() else {
        return hub.to_string();
    };
    let is_id = sandbox.len() > SHORT_ID_CHARS && sandbox.bytes().all(|b| b.is_ascii_hexdigit());
    let shown = sandbox.get(..SHORT_ID_CHARS).filter(|_| is_id);
    DisplayText::new(shown.unwrap_or(sandbox)).to_string()
}

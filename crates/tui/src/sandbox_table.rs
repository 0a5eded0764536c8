// SPDX-License-Identifier: Apache-2.0
//! The sandboxes: how many questions each has, and what its firewall is.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};
use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, ShieldState};

use crate::theme::Theme;
use crate::wrap::truncate;
use operator::inbox::{HubId, Inbox, InboxChange, Row};
use operator::phrases;

/// How many are remembered.
const MAX_LISTED_SANDBOXES: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct SandboxTable {
    entries: BTreeMap<(HubId, ContainerId), SandboxStatus>,
}

#[derive(Debug, Default)]
struct SandboxStatus {
    name: Option<String>,
    shield_state: Option<ShieldState>,
    questions: usize,
}

impl SandboxTable {
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
            // Only a firewall that is up refuses a packet.
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

    /// Returns how many firewalls are known not to be up.
    pub(crate) fn unguarded_count(&self) -> usize {
        let is_open =
            |s: &&SandboxStatus| s.shield_state.is_some_and(|state| state != ShieldState::Up);
        self.entries.values().filter(is_open).count()
    }

    pub(crate) fn shield_state(&self, row: &Row) -> Option<ShieldState> {
        let key = (row.hub().clone(), row.container().clone());
        self.entries.get(&key)?.shield_state
    }

    /// Returns a line for each, those first whose firewall is not up.
    pub(crate) fn lines(&self, theme: Theme, width: usize, most: usize) -> Vec<Line<'static>> {
        let is_open =
            |s: &SandboxStatus| s.shield_state.is_some_and(|state| state != ShieldState::Up);
        let open = self.entries.iter().filter(|(_, s)| is_open(s));
        let rest = self.entries.iter().filter(|(_, s)| !is_open(s));
        let lines = open.chain(rest).take(most).map(|((_, id), sandbox)| {
            let (state, style) = match sandbox.shield_state {
                Some(ShieldState::Up) => ("up", theme.good()),
                Some(ShieldState::Down) => ("DOWN", theme.bad()),
                Some(ShieldState::Disengaged) => ("OFF", theme.bad()),
                None => ("?", Theme::dim()),
            };
            let questions = match sandbox.questions {
                0 => "-".to_owned(),
                many => many.to_string(),
            };
            let name = match &sandbox.name {
                Some(name) if name != id.as_str() => format!("{name}  {id}"),
                _ => id.to_string(),
            };
            let room = width.saturating_sub(19);
            Line::from(vec![
                Span::raw(format!(" {questions:>7}  ")),
                Span::styled(format!("{state:<8} "), style),
                Span::raw(truncate(&name, room)),
            ])
        });
        if self.entries.is_empty() {
            return vec![Line::styled(" none has been heard of", Theme::dim())];
        }
        let head = " waiting  firewall sandbox";
        std::iter::once(Line::styled(truncate(head, width), Theme::dim()))
            .chain(lines)
            .collect()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The sandboxes: how many questions each has, and what its firewall is.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};
use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, ShieldState};

use super::theme::Theme;
use super::wrap::fit;
use crate::inbox::{Change, HubId, Inbox, Row};
use crate::words;

/// How many are remembered.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    known: BTreeMap<(HubId, ContainerId), Sandbox>,
}

#[derive(Debug, Default)]
struct Sandbox {
    name: Option<String>,
    firewall: Option<ShieldState>,
    questions: usize,
}

impl Sandboxes {
    pub(super) fn take_in(&mut self, change: &Change, inbox: &Inbox) {
        match change {
            Change::Asked(number) => {
                if let Some(row) = inbox.row(*number) {
                    self.asked(row);
                }
            }
            Change::Ended(row, _) => {
                let key = (row.hub().clone(), row.container().clone());
                if let Some(sandbox) = self.known.get_mut(&key) {
                    sandbox.questions = sandbox.questions.saturating_sub(1);
                }
            }
            Change::Shield {
                hub,
                container,
                state,
            } => {
                if let Some(sandbox) = self.entry(hub, container) {
                    sandbox.firewall = Some(*state);
                }
            }
            Change::Container {
                hub,
                container,
                state,
                ..
            } => match state {
                ContainerState::Started => {
                    self.entry(hub, container);
                }
                ContainerState::Exited => {
                    self.known.remove(&(hub.clone(), container.clone()));
                }
            },
            Change::Gone(hub) => self.known.retain(|(of, _), _| of != hub),
            _ => {}
        }
    }

    fn asked(&mut self, row: &Row) {
        if let Some(sandbox) = self.entry(row.hub(), row.container()) {
            sandbox.questions = sandbox.questions.saturating_add(1);
            // Only a firewall that is up refuses a packet.
            sandbox.firewall = Some(ShieldState::Up);
            if sandbox.name.is_none() {
                sandbox.name = Some(words::who(row));
            }
        }
    }

    fn entry(&mut self, hub: &HubId, container: &ContainerId) -> Option<&mut Sandbox> {
        let key = (hub.clone(), container.clone());
        let room = self.known.len() < MOST || self.known.contains_key(&key);
        room.then(|| self.known.entry(key).or_default())
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns how many firewalls are known not to be up.
    pub(super) fn open(&self) -> usize {
        let is_open = |s: &&Sandbox| s.firewall.is_some_and(|state| state != ShieldState::Up);
        self.known.values().filter(is_open).count()
    }

    pub(super) fn firewall(&self, row: &Row) -> Option<ShieldState> {
        let key = (row.hub().clone(), row.container().clone());
        self.known.get(&key)?.firewall
    }

    /// Returns a line for each, those first whose firewall is not up.
    pub(super) fn lines(&self, theme: Theme, width: usize, most: usize) -> Vec<Line<'static>> {
        let is_open = |s: &Sandbox| s.firewall.is_some_and(|state| state != ShieldState::Up);
        let open = self.known.iter().filter(|(_, s)| is_open(s));
        let rest = self.known.iter().filter(|(_, s)| !is_open(s));
        let lines = open.chain(rest).take(most).map(|((_, id), sandbox)| {
            let (state, style) = match sandbox.firewall {
                Some(ShieldState::Up) => ("up", theme.good()),
                Some(ShieldState::Down) => ("DOWN", theme.bad()),
                Some(ShieldState::Disengaged) => ("OFF", theme.bad()),
                None => ("?", Theme::quiet()),
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
                Span::raw(fit(&name, room)),
            ])
        });
        if self.known.is_empty() {
            return vec![Line::styled(" none has been heard of", Theme::quiet())];
        }
        let head = " waiting  firewall sandbox";
        std::iter::once(Line::styled(fit(head, width), Theme::quiet()))
            .chain(lines)
            .collect()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Prints every change as it happens, one line each.
//!
//! No change is lost silently. While the output is read slowly, events stay at the hubs, and a hub
//! that skips events reports the number of skipped events.

use std::collections::BTreeSet;
use std::io;

use terok_clearance::{ContainerId, Timestamp};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::SandboxSelector;
use super::selector::HubMatch;
use crate::Session;
use crate::inbox::{HubId, Inbox, InboxChange, Row};
use crate::json::{ScriptEvent, change_event, to_json_line};
use crate::prompt::view::text::{MessageStyle, format_change, format_ready, unlisted_note};

/// Approximate maximum of bytes per write; the last line may exceed the limit.
const WRITE_CHUNK_BYTES: usize = 32 << 10;

/// Options of [`watch_hubs`].
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// One JSON object per line instead of text.
    pub json: bool,
    /// Whether text output has colours.
    pub color: bool,
    /// Restricts the output to one sandbox; hub events are always printed.
    pub container: Option<SandboxSelector>,
}

/// Writes the changes of `session` to `output` until `stop` resolves, and returns that value.
///
/// Pending questions come first, then `ready`. Fails if `output` fails.
pub async fn watch_hubs<T>(
    mut session: Session,
    watching: &WatchOptions,
    mut output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = T>,
) -> io::Result<T> {
    let mut watching = SandboxWatch::new(watching);
    let watched = async {
        let mut ready = false;
        loop {
            let mut lines;
            if !ready && session.is_synced() {
                ready = true;
                lines = watching.format_ready(session.inbox());
            } else {
                let changes = session.next().await;
                lines = watching.format_changes(&changes, session.inbox());
                // Changes that are already available go into the same write, because a write costs
                // much more than formatting a line.
                while lines.len() < WRITE_CHUNK_BYTES
                    && (ready || !session.is_synced())
                    && let Some(changes) = session.try_next()
                {
                    lines.push_str(&watching.format_changes(&changes, session.inbox()));
                }
            }
            output.write_all(lines.as_bytes()).await?;
            output.flush().await?;
        }
    };
    tokio::select! {
        biased;
        stopped = stop => Ok(stopped),
        failed = watched => {
            let failed: io::Result<std::convert::Infallible> = failed;
            match failed {
                Err(error) => Err(error),
                Ok(never) => match never {},
            }
        }
    }
}

/// Selects and formats the events of a watch.
struct SandboxWatch<'a> {
    options: &'a WatchOptions,
    /// The hubs of the selected sandbox, and its containers: their events have no name.
    hubs: BTreeSet<HubId>,
    containers: BTreeSet<(HubId, ContainerId)>,
}

impl<'a> SandboxWatch<'a> {
    const fn new(options: &'a WatchOptions) -> Self {
        Self {
            options,
            hubs: BTreeSet::new(),
            containers: BTreeSet::new(),
        }
    }

    const fn style(&self) -> MessageStyle {
        MessageStyle {
            color: self.options.color,
            show_ids: true,
        }
    }

    fn format_ready(&self, inbox: &Inbox) -> String {
        let rows = inbox.rows().filter(|row| self.includes_row(row));
        let (hubs, rows) = (inbox.hubs().len(), rows.count());
        let selected = self.options.container.as_ref();
        let is_unmatched = rows == 0 && self.hubs.is_empty() && self.containers.is_empty();
        let unmatched = selected.filter(|_| is_unmatched).map(ToString::to_string);
        if self.options.json {
            return to_json_line(&ScriptEvent::Ready {
                hubs,
                rows,
                unmatched,
            });
        }
        let ready = format_ready(hubs, rows, self.style());
        let unlisted = unlisted_note(inbox);
        match unmatched {
            Some(name) => {
                format!("{ready}{unlisted}no sandbox is called {name}; waiting for one\n")
            }
            None => format!("{ready}{unlisted}"),
        }
    }

    fn format_changes(&mut self, changes: &[InboxChange], inbox: &Inbox) -> String {
        let lines = changes
            .iter()
            .map(|change| self.format_change(change, inbox));
        lines.collect()
    }

    fn format_change(&mut self, change: &InboxChange, inbox: &Inbox) -> String {
        self.learn_names(change, inbox);
        if !self.includes_change(change, inbox) {
            return String::new();
        }
        if self.options.json {
            change_event(change, inbox).map_or_else(String::new, |line| to_json_line(&line))
        } else {
            format_change(change, inbox, self.style(), Timestamp::now())
        }
    }

    /// Notes which hubs and containers are of the selected sandbox.
    fn learn_names(&mut self, change: &InboxChange, inbox: &Inbox) {
        let Some(selected) = &self.options.container else {
            return;
        };
        match change {
            InboxChange::Up(hub, _) if selected.match_hub(hub) == HubMatch::Serves => {
                self.hubs.insert(hub.clone());
            }
            InboxChange::Added(row) => {
                if let Some(row) = inbox.row(*row)
                    && selected.matches_row(row)
                {
                    let container = row.container().clone();
                    self.containers.insert((row.hub().clone(), container));
                }
            }
            _ => {}
        }
    }

    fn includes_row(&self, row: &Row) -> bool {
        let selected = self.options.container.as_ref();
        selected.is_none_or(|selected| self.hubs.contains(row.hub()) || selected.matches_row(row))
    }

    fn includes_sandbox(&self, hub: &HubId, container: &ContainerId) -> bool {
        let selected = self.options.container.as_ref();
        selected.is_none_or(|selected| {
            selected.matches_id(container.as_str())
                || self.hubs.contains(hub)
                || self.containers.contains(&(hub.clone(), container.clone()))
        })
    }

    fn includes_change(&self, change: &InboxChange, inbox: &Inbox) -> bool {
        match change {
            InboxChange::Added(row)
            | InboxChange::Updated(row)
            | InboxChange::ProcessFound(row)
            | InboxChange::WaitingGrew(row)
            | InboxChange::ForgottenByHub(row)
            | InboxChange::Failed { row, .. }
            | InboxChange::ResultUnknown { row, .. } => {
                inbox.row(*row).is_none_or(|row| self.includes_row(row))
            }
            InboxChange::Ended(row, _) => self.includes_row(row),
            InboxChange::Container { hub, container, .. }
            | InboxChange::Shield { hub, container, .. } => self.includes_sandbox(hub, container),
            InboxChange::Up(..)
            | InboxChange::Down(..)
            | InboxChange::Gone(_)
            | InboxChange::Unreachable(..)
            | InboxChange::Synced(_)
            | InboxChange::UnknownEvent(..)
            | InboxChange::Lost { .. } => true,
        }
    }
}

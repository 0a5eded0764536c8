// SPDX-License-Identifier: Apache-2.0
//! Prints every change as it happens, one line each.
//!
//! No change is lost silently. While the output is read slowly, events stay at the hubs, and a hub
//! that skips events reports the number of skipped events.

use std::io;

use terok_clearance::ContainerId;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::is_same_container;
use crate::Session;
use crate::inbox::{Inbox, InboxChange};
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
    pub container: Option<ContainerId>,
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

impl WatchOptions {
    const fn style(&self) -> MessageStyle {
        MessageStyle {
            color: self.color,
            show_ids: true,
        }
    }

    fn format_ready(&self, inbox: &Inbox) -> String {
        let rows = inbox
            .rows()
            .filter(|row| self.includes_sandbox(row.container()));
        let (hubs, rows) = (inbox.hubs().len(), rows.count());
        if self.json {
            to_json_line(&ScriptEvent::Ready { hubs, rows })
        } else {
            let ready = format_ready(hubs, rows, self.style());
            format!("{ready}{}", unlisted_note(inbox))
        }
    }

    fn format_changes(&self, changes: &[InboxChange], inbox: &Inbox) -> String {
        let lines = changes
            .iter()
            .map(|change| self.format_change(change, inbox));
        lines.collect()
    }

    fn format_change(&self, change: &InboxChange, inbox: &Inbox) -> String {
        if !self.includes_change(change, inbox) {
            return String::new();
        }
        if self.json {
            change_event(change, inbox).map_or_else(String::new, |line| to_json_line(&line))
        } else {
            format_change(change, inbox, self.style())
        }
    }

    fn includes_sandbox(&self, container: &ContainerId) -> bool {
        let wanted = self.container.as_ref();
        wanted.is_none_or(|id| is_same_container(id, container))
    }

    fn includes_change(&self, change: &InboxChange, inbox: &Inbox) -> bool {
        match change {
            InboxChange::Added(row)
            | InboxChange::Updated(row)
            | InboxChange::ProcessFound(row)
            | InboxChange::WaitingGrew(row)
            | InboxChange::ForgottenByHub(row)
            | InboxChange::Failed { row, .. }
            | InboxChange::ResultUnknown { row, .. } => inbox
                .row(*row)
                .is_none_or(|row| self.includes_sandbox(row.container())),
            InboxChange::Ended(row, _) => self.includes_sandbox(row.container()),
            InboxChange::Container { container, .. } | InboxChange::Shield { container, .. } => {
                self.includes_sandbox(container)
            }
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

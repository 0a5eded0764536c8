// SPDX-License-Identifier: Apache-2.0
//! What happens, as it happens: one line each, for as long as somebody reads.
//!
//! Nothing is lost on the way without a word: what the reader is too slow to take stays with the
//! hubs, and one that has to skip something says how much.

use std::io;

use terok_clearance::ContainerId;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::is_same_container;
use crate::discovery::Hubs;
use crate::inbox::{HubId, Inbox, InboxChange, InboxEvent};
use crate::json::{ScriptEvent, change_event, to_json_line};
use crate::prompt::view::text::{MessageStyle, format_change, format_ready};

/// How many bytes are written at once, and a line more.
const WRITE_CHUNK_BYTES: usize = 32 << 10;

/// What to tell, and how.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// One JSON object per line, instead of words.
    pub json: bool,
    /// Colours, in words.
    pub color: bool,
    /// Only what this sandbox does; of hubs, still everything.
    pub container: Option<ContainerId>,
}

/// Writes what `hubs` say to `output` until `stop` resolves, and returns what it resolved to.
///
/// First comes what is pending, then one line that says so (`ready`). Fails when `output` does.
pub async fn watch_hubs<T>(
    mut hubs: Hubs,
    watching: &WatchOptions,
    mut output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = T>,
) -> io::Result<T> {
    let told = async {
        let mut inbox = Inbox::new();
        let mut settled = false;
        loop {
            let mut said = String::new();
            if !settled && hubs.is_synced() {
                settled = true;
                said = watching.format_ready(&inbox);
            }
            if said.is_empty() {
                let (hub, news) = hubs.next_event().await;
                watching.apply_event(&mut inbox, &hub, news, &mut said);
                // What is there already goes with it: a write costs more than a line.
                while said.len() < WRITE_CHUNK_BYTES && (settled || !hubs.is_synced()) {
                    tokio::select! {
                        biased;
                        (hub, news) = hubs.next_event() => {
                            watching.apply_event(&mut inbox, &hub, news, &mut said);
                        }
                        () = std::future::ready(()) => break,
                    }
                }
            }
            output.write_all(said.as_bytes()).await?;
            output.flush().await?;
        }
    };
    tokio::select! {
        biased;
        stopped = stop => Ok(stopped),
        failed = told => {
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
            format_ready(hubs, rows, self.style())
        }
    }

    fn apply_event(&self, inbox: &mut Inbox, hub: &HubId, news: InboxEvent, said: &mut String) {
        for change in inbox.apply_event(hub, news) {
            said.push_str(&self.format_change(&change, inbox));
        }
    }

    fn format_change(&self, said: &InboxChange, inbox: &Inbox) -> String {
        if !self.includes_change(said, inbox) {
            return String::new();
        }
        if self.json {
            change_event(said, inbox).map_or_else(String::new, |line| to_json_line(&line))
        } else {
            format_change(said, inbox, self.style())
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
            | InboxChange::Lost { .. } => true,
        }
    }
}

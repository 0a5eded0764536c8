// SPDX-License-Identifier: Apache-2.0
//! What happens, as it happens: one line each, for as long as somebody reads.
//!
//! Nothing is lost on the way without a word: what the reader is too slow to take stays with the
//! hubs, and one that has to skip something says how much.

use std::io;

use terok_clearance::ContainerId;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::is_same_container;
use crate::hubs::Hubs;
use crate::inbox::{Change, HubId, Inbox, News};
use crate::lines::{Line, changed, text};
use crate::prompt::view::person::{Style, change, ready};

/// How many bytes are written at once, and a line more.
const AT_ONCE: usize = 32 << 10;

/// What to tell, and how.
#[derive(Debug, Clone, Default)]
pub struct Watching {
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
pub async fn watch<T>(
    mut hubs: Hubs,
    watching: &Watching,
    mut output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = T>,
) -> io::Result<T> {
    let told = async {
        let mut inbox = Inbox::new();
        let mut settled = false;
        loop {
            let mut said = String::new();
            if !settled && hubs.is_settled() {
                settled = true;
                said = watching.ready(&inbox);
            }
            if said.is_empty() {
                let (hub, news) = hubs.next().await;
                watching.hear(&mut inbox, &hub, news, &mut said);
                // What is there already goes with it: a write costs more than a line.
                while said.len() < AT_ONCE && (settled || !hubs.is_settled()) {
                    tokio::select! {
                        biased;
                        (hub, news) = hubs.next() => {
                            watching.hear(&mut inbox, &hub, news, &mut said);
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

impl Watching {
    const fn style(&self) -> Style {
        Style {
            color: self.color,
            ids: true,
        }
    }

    fn ready(&self, inbox: &Inbox) -> String {
        let rows = inbox.rows().filter(|row| self.wants(row.container()));
        let (hubs, rows) = (inbox.hubs().len(), rows.count());
        if self.json {
            text(&Line::Ready { hubs, rows })
        } else {
            ready(hubs, rows, self.style())
        }
    }

    fn hear(&self, inbox: &mut Inbox, hub: &HubId, news: News, said: &mut String) {
        for change in inbox.hear(hub, news) {
            said.push_str(&self.tell(&change, inbox));
        }
    }

    fn tell(&self, said: &Change, inbox: &Inbox) -> String {
        if !self.concerns(said, inbox) {
            return String::new();
        }
        if self.json {
            changed(said, inbox).map_or_else(String::new, |line| text(&line))
        } else {
            change(said, inbox, self.style())
        }
    }

    fn wants(&self, container: &ContainerId) -> bool {
        let wanted = self.container.as_ref();
        wanted.is_none_or(|id| is_same_container(id, container))
    }

    fn concerns(&self, change: &Change, inbox: &Inbox) -> bool {
        match change {
            Change::Asked(row)
            | Change::Again(row)
            | Change::Lapsed(row)
            | Change::Failed { row, .. }
            | Change::Unsure { row, .. } => inbox
                .row(*row)
                .is_none_or(|row| self.wants(row.container())),
            Change::Ended(row, _) => self.wants(row.container()),
            Change::Container { container, .. } | Change::Shield { container, .. } => {
                self.wants(container)
            }
            Change::Up(..)
            | Change::Down(..)
            | Change::Gone(_)
            | Change::Unreachable(..)
            | Change::Synced(_)
            | Change::Lost { .. } => true,
        }
    }
}

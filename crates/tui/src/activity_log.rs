// SPDX-License-Identifier: Apache-2.0
//! The activity log, newest entry last; a burst of similar changes is one entry with a count.

use std::collections::VecDeque;

use operator::inbox::{Inbox, InboxChange, RowEnd};
use operator::phrases::{self, MessageTone};
use terok_clearance::Timestamp;

/// Maximum number of entries; older ones are dropped.
const MAX_ACTIVITY_ENTRIES: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct ActivityLog {
    entries: VecDeque<ActivityEntry>,
}

#[derive(Debug)]
pub(crate) struct ActivityEntry {
    pub(crate) time: Timestamp,
    pub(crate) tone: MessageTone,
    pub(crate) label: Option<String>,
    text: String,
    /// Number of further changes of the kind.
    merged_count: u64,
    kind: ActivityKind,
}

/// The kind of an entry; consecutive entries of a kind other than `Single` are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ActivityKind {
    Asked,
    Ended(RowEnd),
    Single,
}

impl ActivityEntry {
    pub(crate) fn text(&self) -> String {
        match self.merged_count {
            0 => self.text.clone(),
            more => format!("(+{more} more)  {}", self.text),
        }
    }
}

impl ActivityLog {
    pub(crate) fn entries(
        &self,
    ) -> impl DoubleEndedIterator<Item = &ActivityEntry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// Adds the entry for a change of the inbox, if the change has one.
    pub(crate) fn record(&mut self, change: &InboxChange, inbox: &Inbox, at: Timestamp) {
        let kind = match change {
            InboxChange::Added(_) => ActivityKind::Asked,
            InboxChange::Ended(_, RowEnd::Decided(_)) => ActivityKind::Single,
            InboxChange::Ended(_, end) => ActivityKind::Ended(end.clone()),
            _ => ActivityKind::Single,
        };
        if kind != ActivityKind::Single
            && let Some(last) = self.entries.back_mut()
            && last.kind == kind
        {
            last.merged_count = last.merged_count.saturating_add(1);
            last.time = at;
            return;
        }
        let (tone, label, text) = if let InboxChange::Added(number) = change {
            let Some(row) = inbox.row(*number) else {
                return;
            };
            let label = format!("[{number}] BLOCKED");
            let text = format!(
                "{}  from {}",
                phrases::describe_dest(row),
                phrases::describe_sandbox(row)
            );
            (MessageTone::Quiet, Some(label), text)
        } else {
            let Some(message) = phrases::describe_change(change) else {
                return;
            };
            let by = message.decided_by.map(|by| format!("  by {by}"));
            (
                message.tone,
                message.label,
                message.text + &by.unwrap_or_default(),
            )
        };
        self.push(ActivityEntry {
            time: at,
            tone,
            label,
            text,
            merged_count: 0,
            kind,
        });
    }

    /// Adds an entry that is no change of the inbox.
    pub(crate) fn record_text(
        &mut self,
        tone: MessageTone,
        label: &str,
        text: String,
        at: Timestamp,
    ) {
        self.push(ActivityEntry {
            time: at,
            tone,
            label: Some(label.to_owned()),
            text,
            merged_count: 0,
            kind: ActivityKind::Single,
        });
    }

    fn push(&mut self, entry: ActivityEntry) {
        if self.entries.len() >= MAX_ACTIVITY_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What happened, newest last; a burst of the same kind is one line that counts.

use std::collections::VecDeque;

use operator::inbox::{Inbox, InboxChange, RowEnd};
use operator::phrases::{self, MessageTone};

/// How many lines are remembered.
const MAX_ACTIVITY_ENTRIES: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct ActivityLog {
    entries: VecDeque<ActivityEntry>,
}

#[derive(Debug)]
pub(crate) struct ActivityEntry {
    /// When, in microseconds since the epoch.
    pub(crate) time_us: u64,
    pub(crate) tone: MessageTone,
    pub(crate) label: Option<String>,
    text: String,
    /// How many more of the kind it stands for.
    merged_count: u64,
    kind: ActivityKind,
}

/// What may be counted in one line.
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

    pub(crate) fn record(&mut self, change: &InboxChange, inbox: &Inbox, at: u64) {
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
            last.time_us = at;
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
            let Some(told) = phrases::describe_change(change) else {
                return;
            };
            let by = told.decided_by.map(|by| format!("  by {by}"));
            (told.tone, told.label, told.text + &by.unwrap_or_default())
        };
        if self.entries.len() >= MAX_ACTIVITY_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(ActivityEntry {
            time_us: at,
            tone,
            label,
            text,
            merged_count: 0,
            kind,
        });
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What happened, newest last; a burst of the same kind is one line that counts.

use std::collections::VecDeque;

use crate::inbox::{Change, End, Inbox};
use crate::words::{self, Tone};

/// How many lines are remembered.
const LINES: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<Line>,
}

#[derive(Debug)]
pub(super) struct Line {
    /// When, in microseconds since the epoch.
    pub(super) at: u64,
    pub(super) tone: Tone,
    pub(super) head: Option<String>,
    text: String,
    /// How many more of the kind it stands for.
    more: u64,
    kind: Kind,
}

/// What may be counted in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Asked,
    Gone(End),
    Single,
}

impl Line {
    pub(super) fn text(&self) -> String {
        match self.more {
            0 => self.text.clone(),
            more => format!("(+{more} more)  {}", self.text),
        }
    }
}

impl Log {
    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> + ExactSizeIterator {
        self.lines.iter()
    }

    pub(super) fn add(&mut self, change: &Change, inbox: &Inbox, at: u64) {
        let kind = match change {
            Change::Asked(_) => Kind::Asked,
            Change::Ended(_, End::Decided(_)) => Kind::Single,
            Change::Ended(_, end) => Kind::Gone(end.clone()),
            _ => Kind::Single,
        };
        if kind != Kind::Single
            && let Some(last) = self.lines.back_mut()
            && last.kind == kind
        {
            last.more = last.more.saturating_add(1);
            last.at = at;
            return;
        }
        let (tone, head, text) = if let Change::Asked(number) = change {
            let Some(row) = inbox.row(*number) else {
                return;
            };
            let head = format!("[{number}] BLOCKED");
            let text = format!("{}  from {}", words::what(row), words::who(row));
            (Tone::Quiet, Some(head), text)
        } else {
            let Some(told) = words::told(change) else {
                return;
            };
            let by = told.by.map(|by| format!("  by {by}"));
            (told.tone, told.head, told.text + &by.unwrap_or_default())
        };
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(Line {
            at,
            tone,
            head,
            text,
            more: 0,
            kind,
        });
    }
}

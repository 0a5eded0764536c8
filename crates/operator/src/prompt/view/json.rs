// SPDX-License-Identifier: Apache-2.0
//! What a prompt says to a script: one JSON object per line.

use terok_clearance::DisplayText;

use super::Say;
use crate::inbox::Inbox;
use crate::lines::{Line, Question, changed, text};

pub(super) fn show(say: &Say<'_>, inbox: &Inbox) -> String {
    let line = match say {
        Say::Hello(_) | Say::Help | Say::Hushed(_) | Say::Ending(_) => None,
        Say::Settled => Some(Line::Ready {
            hubs: inbox.hubs().len(),
            rows: inbox.rows().len(),
        }),
        Say::List => {
            let rows = inbox.rows().len();
            let listed = inbox.rows().map(|row| Line::Listed(Question::of(row)));
            let lines = listed.chain([Line::List { rows }]);
            return lines.map(|line| text(&line)).collect();
        }
        Say::Sent(row, action) => Some(Line::Sent {
            row: row.get(),
            action: *action,
        }),
        Say::Refused(row, reason) => Some(Line::Refused {
            row: Some(row.get()),
            request: None,
            reason: reason.clone(),
        }),
        Say::NotSent(row, refusal) => Some(Line::Refused {
            row: Some(row.get()),
            request: None,
            reason: DisplayText::new(&refusal.to_string()),
        }),
        Say::Misunderstood(_, error) => Some(Line::Refused {
            row: None,
            request: None,
            reason: DisplayText::new(&error.to_string()),
        }),
        Say::Change(change) => changed(change, inbox),
    };
    line.map_or_else(String::new, |line| text(&line))
}

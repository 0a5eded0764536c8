// SPDX-License-Identifier: Apache-2.0
//! Formats prompt messages for scripts: one JSON object per line.

use terok_clearance::DisplayText;

use super::PromptMessage;
use crate::inbox::Inbox;
use crate::json::{ScriptEvent, ScriptQuestion, change_event, to_json_line};

pub(super) fn render(message: &PromptMessage<'_>, inbox: &Inbox) -> String {
    let line = match message {
        PromptMessage::Greeting(_)
        | PromptMessage::Help
        | PromptMessage::Suppressed(_)
        | PromptMessage::WaitingForReplies(_) => None,
        PromptMessage::Ready => Some(ScriptEvent::Ready {
            hubs: inbox.hubs().len(),
            rows: inbox.rows().len(),
            unmatched: None,
        }),
        PromptMessage::List => {
            let rows = inbox.rows().len();
            let listed = inbox
                .rows()
                .map(|row| ScriptEvent::Listed(ScriptQuestion::from_row(row)));
            let lines = listed.chain([ScriptEvent::List {
                rows,
                unmatched: None,
            }]);
            return lines.map(|line| to_json_line(&line)).collect();
        }
        PromptMessage::Sent(row, action) => Some(ScriptEvent::Sent {
            row: row.get(),
            action: *action,
        }),
        PromptMessage::Refused(row, reason) => Some(ScriptEvent::Refused {
            row: Some(row.get()),
            request: None,
            reason: reason.clone(),
        }),
        PromptMessage::NotSent(row, refusal) => Some(ScriptEvent::Refused {
            row: Some(row.get()),
            request: None,
            reason: DisplayText::new(&refusal.to_string()),
        }),
        PromptMessage::InvalidCommand(_, error) => Some(ScriptEvent::Refused {
            row: None,
            request: None,
            reason: DisplayText::new(&error.to_string()),
        }),
        PromptMessage::Change(change) => change_event(change, inbox),
    };
    line.map_or_else(String::new, |line| to_json_line(&line))
}

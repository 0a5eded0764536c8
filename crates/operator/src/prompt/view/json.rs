// SPDX-License-Identifier: Apache-2.0
//! Formats prompt messages for scripts: one JSON object per line.

use terok_clearance::DisplayText;

use super::PromptMessage;
use crate::inbox::Inbox;
use crate::json::{ScriptEvent, ScriptQuestion, change_event, to_json_line};
use crate::phrases;
use crate::prompt::rule_calls::RuleCallReply;

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
        PromptMessage::Sent(number, action, asked) => inbox.row(*number).and_then(|row| {
            Some(ScriptEvent::Sent {
                row: number.get(),
                action: *action,
                scope: row.scope_with(asked).ok()?,
                reach: phrases::describe_effect(row, *action, asked),
            })
        }),
        PromptMessage::Rules(RuleCallReply::Listed(survey)) => return survey.to_json(),
        PromptMessage::Rules(RuleCallReply::Revoked(name, outcome)) => {
            return outcome.to_json(name.as_str());
        }
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

// SPDX-License-Identifier: Apache-2.0
//! Formats prompt messages: as text, as the Python tool's text, or as one JSON object per line.

mod compat;
mod json;
pub(crate) mod text;

use terok_clearance::{Action, DisplayText, Timestamp};

use super::command::PromptCommandError;
use super::rule_calls::RuleCallReply;
use super::{OutputFormat, PromptOptions};
use crate::answer_scope::AnswerScope;
use crate::inbox::{Inbox, InboxChange, RowNumber, RowRefusal};

/// A message of a prompt.
#[derive(Debug)]
pub(super) enum PromptMessage<'a> {
    /// The first message; contains the source of the questions.
    Greeting(&'a str),
    /// The session is synced.
    Ready,
    /// A change of the inbox.
    Change(&'a InboxChange),
    /// The number of new rows that were not shown, because too many came at once.
    Suppressed(u64),
    /// The list of questions.
    List,
    /// The help text.
    Help,
    /// An answer with this scope was sent.
    Sent(RowNumber, Action, &'a AnswerScope),
    /// The reply to a call about rules.
    Rules(&'a RuleCallReply),
    /// An answer was refused for this reason.
    Refused(RowNumber, DisplayText),
    /// An answer was not sent for this reason.
    NotSent(RowNumber, &'a RowRefusal),
    /// A line was not a command.
    InvalidCommand(&'a str, &'a PromptCommandError),
    /// The prompt ends after this number of replies.
    WaitingForReplies(usize),
}

/// Formats a message as whole lines. Returns an empty text if the format omits the message.
pub(super) fn render(
    message: &PromptMessage<'_>,
    inbox: &Inbox,
    options: PromptOptions,
    now: Timestamp,
) -> String {
    match options.format {
        OutputFormat::Json => json::render(message, inbox),
        OutputFormat::Text => text::render(
            message,
            inbox,
            text::MessageStyle::for_prompt(options.color),
            now,
        ),
        OutputFormat::Compat => compat::render(message, inbox, options.color, now),
    }
}

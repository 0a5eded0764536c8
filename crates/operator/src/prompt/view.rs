// SPDX-License-Identifier: Apache-2.0
//! What a prompt shows: words for a person, the classic words, or one JSON object per line.

mod compat;
mod json;
pub(crate) mod text;

use terok_clearance::{Action, DisplayText};

use super::command::PromptCommandError;
use super::{OutputFormat, PromptOptions};
use crate::inbox::{Inbox, InboxChange, RowNumber, RowRefusal};

/// What a prompt has to say.
#[derive(Debug)]
pub(super) enum PromptMessage<'a> {
    /// The prompt starts, and listens there.
    Greeting(&'a str),
    /// Every hub that was there has been heard.
    Ready,
    /// Something changed.
    Change(&'a InboxChange),
    /// So many new rows were not shown one by one.
    Suppressed(u64),
    /// The list was asked for.
    List,
    /// Help was asked for.
    Help,
    /// An answer is on its way.
    Sent(RowNumber, Action),
    /// An answer was refused.
    Refused(RowNumber, DisplayText),
    /// An answer was not sent.
    NotSent(RowNumber, &'a RowRefusal),
    /// A line was not understood.
    InvalidCommand(&'a str, &'a PromptCommandError),
    /// The prompt ends when so many answers are settled.
    WaitingForReplies(usize),
}

/// Puts what there is to say as `options` want it: whole lines, or nothing.
pub(super) fn render(
    say: &PromptMessage<'_>,
    inbox: &Inbox,
    options: PromptOptions,
    now: u64,
) -> String {
    match options.format {
        OutputFormat::Json => json::render(say, inbox),
        OutputFormat::Text => text::render(
            say,
            inbox,
            text::MessageStyle::for_prompt(options.color),
            now,
        ),
        OutputFormat::Compat => compat::render(say, inbox, options.color, now),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a prompt shows: words for a person, the classic words, or one JSON object per line.

mod classic;
mod json;
pub(crate) mod person;

use terok_clearance::{Action, DisplayText};

use super::command::CommandError;
use super::{Manner, Options};
use crate::inbox::{Change, Inbox, Refusal, RowNumber};

/// What a prompt has to say.
#[derive(Debug)]
pub(super) enum Say<'a> {
    /// The prompt starts, and listens there.
    Hello(&'a str),
    /// Every hub that was there has been heard.
    Settled,
    /// Something changed.
    Change(&'a Change),
    /// So many new rows were not shown one by one.
    Hushed(u64),
    /// The list was asked for.
    List,
    /// Help was asked for.
    Help,
    /// An answer is on its way.
    Sent(RowNumber, Action),
    /// An answer was refused.
    Refused(RowNumber, DisplayText),
    /// An answer was not sent.
    NotSent(RowNumber, &'a Refusal),
    /// A line was not understood.
    Misunderstood(&'a str, &'a CommandError),
    /// The prompt ends when so many answers are settled.
    Ending(usize),
}

/// Puts what there is to say as `options` want it: whole lines, or nothing.
pub(super) fn show(say: &Say<'_>, inbox: &Inbox, options: Options, now: u64) -> String {
    match options.manner {
        Manner::Json => json::show(say, inbox),
        Manner::Words => person::show(say, inbox, person::Style::prompt(options.color), now),
        Manner::Classic => classic::show(say, inbox, options.color, now),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a prompt shows: words for a person, or one JSON object per line for a script.

mod json;
mod person;

use terok_clearance::{Action, DisplayText};

use super::Options;
use crate::inbox::{Change, Inbox, RowNumber};

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
    /// An answer, or a line, was refused.
    Refused(Option<RowNumber>, DisplayText),
    /// The prompt ends when so many answers are settled.
    Ending(usize),
}

/// Puts what there is to say as `options` want it: whole lines, or nothing.
pub(super) fn show(say: &Say<'_>, inbox: &Inbox, options: Options, now: u64) -> String {
    if options.json {
        json::show(say, inbox)
    } else {
        person::show(say, inbox, person::Paint(options.color), now)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the terminal fallback shows: the Python tool's own words, or one JSON object per line.
//!
//! The words are a contract: people and scripts know them. There are no colours in them.

use serde::Serialize;
use terok_clearance::{Action, DisplayText};

use super::{Question, Say};

/// Puts what there is to say in words, or with `json` as a line; empty where there is nothing.
pub fn show(say: &Say, json: bool) -> String {
    if json {
        // Texts and numbers only: nothing that JSON cannot hold.
        let line = line(say).and_then(|line| serde_json::to_string(&line).ok());
        line.map_or_else(String::new, |line| line + "\n")
    } else {
        words(say)
    }
}

fn words(say: &Say) -> String {
    match say {
        Say::Watching => "Watching for blocked connections... (Ctrl-C to stop)\n\n".to_owned(),
        Say::Queued(question, _) => {
            let (label, port) = (label(question), question.port);
            format!("\n[BLOCKED] {label} :{port} (queued)\n")
        }
        Say::Ask { question, .. } => {
            let (label, port) = (label(question), question.port);
            format!("[BLOCKED] {label} :{port} \u{2014} allow/deny? ")
        }
        Say::Unknown => "  Unknown input. Type 'a' to allow or 'd' to deny.\n".to_owned(),
        Say::NotAsked(request) => format!("  {request} is not what is asked now.\n"),
        Say::Settled(question, action) => {
            let (mark, verb) = match action {
                Action::Allow => ('\u{2713}', "allowed"),
                Action::Deny => ('\u{2717}', "denied"),
            };
            format!("  {mark} {verb} {}\n", label(question))
        }
        Say::Failed(question, ..) => {
            let dest = &question.dest;
            format!("  ! verdict failed for {dest} (retry with a/d)\n")
        }
        Say::Full => {
            "\n  Too many questions wait; the next packet of each new one asks again.\n".to_owned()
        }
    }
}

/// Returns the address, and the name that led there if there was one.
fn label(question: &Question) -> String {
    let Question { dest, domain, .. } = question;
    if domain.is_empty() {
        dest.to_string()
    } else {
        format!("{dest} ({domain})")
    }
}

fn line(say: &Say) -> Option<Line<'_>> {
    Some(match say {
        Say::Watching => Line::Ready {},
        Say::Queued(question, before) => Line::Queued {
            question,
            before: *before,
        },
        // It was said when it came, and is asked as long as nothing else is.
        Say::Ask { again: true, .. } => return None,
        Say::Ask { question, .. } => Line::Pending(question),
        Say::Unknown => Line::Refused {
            request: None,
            reason: "no answer: it takes a, d, or an object",
        },
        Say::NotAsked(request) => Line::Refused {
            request: Some(request),
            reason: "it is not what is asked now",
        },
        Say::Settled(question, action) => Line::Decided {
            question,
            action: *action,
        },
        Say::Failed(question, action, reason) => Line::Failed {
            question,
            action: *action,
            reason,
        },
        Say::Full => Line::Full {},
    })
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    /// From now on lines are read.
    Ready {},
    /// The question that an answer is about.
    Pending(&'a Question),
    /// A question that waits for so many others.
    Queued {
        #[serde(flatten)]
        question: &'a Question,
        before: usize,
    },
    /// A line was no answer to what is asked.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a DisplayText>,
        reason: &'a str,
    },
    /// An answer took effect.
    Decided {
        #[serde(flatten)]
        question: &'a Question,
        action: Action,
    },
    /// An answer took no effect; the question stays.
    Failed {
        #[serde(flatten)]
        question: &'a Question,
        action: Action,
        reason: &'a DisplayText,
    },
    /// No more questions can wait.
    Full {},
}

// SPDX-License-Identifier: Apache-2.0
//! What the terminal fallback shows: the Python tool's own words, or one JSON object per line.
//!
//! The words are a contract: people and scripts know them. There are no colours in them.

use serde::Serialize;
use terok_clearance::{Action, DisplayText};

use super::{QueueMessage, QueuedQuestion};

/// Puts what there is to say in words, or with `json` as a line; empty where there is nothing.
pub fn render_message(say: &QueueMessage, json: bool) -> String {
    if json {
        // Texts and numbers only: nothing that JSON cannot hold.
        let line = to_queue_event(say).and_then(|line| serde_json::to_string(&line).ok());
        line.map_or_else(String::new, |line| line + "\n")
    } else {
        render_text(say)
    }
}

fn render_text(say: &QueueMessage) -> String {
    match say {
        QueueMessage::Watching => {
            "Watching for blocked connections... (Ctrl-C to stop)\n\n".to_owned()
        }
        QueueMessage::Queued(question, _) => {
            let (label, port) = (format_dest(question), question.port);
            format!("\n[BLOCKED] {label} :{port} (queued)\n")
        }
        QueueMessage::Ask { question, .. } => {
            let (label, port) = (format_dest(question), question.port);
            format!("[BLOCKED] {label} :{port} \u{2014} allow/deny? ")
        }
        QueueMessage::Unknown => "  Unknown input. Type 'a' to allow or 'd' to deny.\n".to_owned(),
        QueueMessage::NotAsked(request) => format!("  {request} is not what is asked now.\n"),
        QueueMessage::Applied(question, action) => {
            let (mark, verb) = match action {
                Action::Allow => ('\u{2713}', "allowed"),
                Action::Deny => ('\u{2717}', "denied"),
            };
            format!("  {mark} {verb} {}\n", format_dest(question))
        }
        QueueMessage::Failed(question, ..) => {
            let dest = &question.dest;
            format!("  ! verdict failed for {dest} (retry with a/d)\n")
        }
        QueueMessage::Full => {
            "\n  Too many questions wait; the next packet of each new one asks again.\n".to_owned()
        }
    }
}

/// Returns the address, and the name that led there if there was one.
fn format_dest(question: &QueuedQuestion) -> String {
    let QueuedQuestion { dest, domain, .. } = question;
    if domain.is_empty() {
        dest.to_string()
    } else {
        format!("{dest} ({domain})")
    }
}

fn to_queue_event(say: &QueueMessage) -> Option<QueueEvent<'_>> {
    Some(match say {
        QueueMessage::Watching => QueueEvent::Ready {},
        QueueMessage::Queued(question, before) => QueueEvent::Queued {
            question,
            before: *before,
        },
        // It was said when it came, and is asked as long as nothing else is.
        QueueMessage::Ask {
            shown_before: true, ..
        } => return None,
        QueueMessage::Ask { question, .. } => QueueEvent::Pending(question),
        QueueMessage::Unknown => QueueEvent::Refused {
            request: None,
            reason: "no answer: it takes a, d, or an object",
        },
        QueueMessage::NotAsked(request) => QueueEvent::Refused {
            request: Some(request),
            reason: "it is not what is asked now",
        },
        QueueMessage::Applied(question, action) => QueueEvent::Decided {
            question,
            action: *action,
        },
        QueueMessage::Failed(question, action, reason) => QueueEvent::Failed {
            question,
            action: *action,
            reason,
        },
        QueueMessage::Full => QueueEvent::Full {},
    })
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum QueueEvent<'a> {
    /// From now on lines are read.
    Ready {},
    /// The question that an answer is about.
    Pending(&'a QueuedQuestion),
    /// A question that waits for so many others.
    Queued {
        #[serde(flatten)]
        question: &'a QueuedQuestion,
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
        question: &'a QueuedQuestion,
        action: Action,
    },
    /// An answer took no effect; the question stays.
    Failed {
        #[serde(flatten)]
        question: &'a QueuedQuestion,
        action: Action,
        reason: &'a DisplayText,
    },
    /// No more questions can wait.
    Full {},
}

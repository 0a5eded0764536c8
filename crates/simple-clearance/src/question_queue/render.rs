// SPDX-License-Identifier: Apache-2.0
//! Formats queue messages as the text of the Python tool, or as one JSON object per line.
//!
//! People and scripts rely on the text, so the text is the same as the Python tool's, word for word
//! and without colours.

use serde::Serialize;
use terok_clearance::{Action, DisplayText};

use super::{QueueMessage, QueuedQuestion};

/// Formats a message as text, or with `json` as a line; may be empty.
pub(crate) fn render_message(message: &QueueMessage, json: bool) -> String {
    if json {
        // Serialization cannot fail: all fields are texts and numbers.
        let line = to_queue_event(message).and_then(|line| serde_json::to_string(&line).ok());
        line.map_or_else(String::new, |line| line + "\n")
    } else {
        render_text(message)
    }
}

fn render_text(message: &QueueMessage) -> String {
    match message {
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

/// Returns the address and, if known, the name that resolved to the address.
fn format_dest(question: &QueuedQuestion) -> String {
    let QueuedQuestion { dest, domain, .. } = question;
    if domain.is_empty() {
        dest.to_string()
    } else {
        format!("{dest} ({domain})")
    }
}

fn to_queue_event(message: &QueueMessage) -> Option<QueueEvent<'_>> {
    Some(match message {
        QueueMessage::Watching => QueueEvent::Ready {},
        QueueMessage::Queued(question, before) => QueueEvent::Queued {
            question,
            before: *before,
        },
        // A script has read the question already.
        QueueMessage::Ask {
            shown_before: true, ..
        } => return None,
        QueueMessage::Ask { question, .. } => QueueEvent::Pending(question),
        QueueMessage::Unknown => QueueEvent::Refused {
            request: None,
            reason: "not an answer: expected a, d or a JSON object",
        },
        QueueMessage::NotAsked(request) => QueueEvent::Refused {
            request: Some(request),
            reason: "another question is being asked now",
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
    /// Input lines are read from now on.
    Ready {},
    /// The question that the next answer is for.
    Pending(&'a QueuedQuestion),
    /// A question with `before` questions before it in the queue.
    Queued {
        #[serde(flatten)]
        question: &'a QueuedQuestion,
        before: usize,
    },
    /// An input line was not an answer to the current question.
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
    /// The queue is full.
    Full {},
}

// SPDX-License-Identifier: Apache-2.0
//! The questions of one sandbox in a queue, for the terminal without a hub; pure, without I/O.
//!
//! The operator sees the oldest question and answers it with a word; later questions wait. The
//! input is the reader's lines and the operator's, the output is messages to show.

mod render;

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize};
use terok_clearance::{Action, Dest, DestParseError, DisplayText, Protocol, Target};

pub(crate) use render::render_message;

/// A dropped packet, as reported by a reader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct QueuedQuestion {
    /// The reader's request id.
    #[serde(rename(deserialize = "id"), default)]
    pub(crate) request: DisplayText,
    /// The destination address.
    pub(crate) dest: Dest,
    /// The destination port; 0 for a protocol without ports.
    #[serde(default)]
    pub(crate) port: u16,
    /// The protocol, a number in the reader's line; `None` if the line has none.
    #[serde(rename(deserialize = "proto"), default, deserialize_with = "number")]
    pub(crate) protocol: Option<Protocol>,
    /// The name that resolved to the address; empty if unknown.
    #[serde(default)]
    pub(crate) domain: DisplayText,
}

/// Why a reader's line is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueLineError {
    /// The line is not an event of a reader in JSON.
    #[error("the line is not a reader event in JSON")]
    Json(#[from] serde_json::Error),
    /// The destination is neither an address nor a name.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// The destination is a name, but a packet has an address.
    #[error("the destination of a packet is an address, not the name {0}")]
    NotAnAddress(Dest),
}

impl QueuedQuestion {
    /// Parses a reader's line; `None` for an event other than a dropped packet.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, QueueLineError> {
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "lowercase")]
        enum QueueReaderLine {
            Pending(QueuedQuestion),
            #[serde(other)]
            Other,
        }
        let QueueReaderLine::Pending(question) = serde_json::from_str(line)? else {
            return Ok(None);
        };
        match question.dest.parse_target()? {
            Target::Address(_) => Ok(Some(question)),
            Target::Name(_) => Err(QueueLineError::NotAnAddress(question.dest)),
        }
    }

    /// Returns `true` if `other` would show the operator the same question.
    fn is_same_question(&self, other: &Self) -> bool {
        let key = |question: &Self| {
            let Self {
                dest,
                port,
                protocol,
                domain,
                ..
            } = question;
            (dest.clone(), *port, *protocol, domain.clone())
        };
        key(self) == key(other)
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Protocol>, D::Error> {
    Ok(Some(Protocol(u8::deserialize(deserializer)?)))
}

/// A line of the operator's input, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TypedAnswer {
    /// An answer to the question that is shown.
    Answer(Action),
    /// A script's answer to the question with this request id.
    AnswerTo(Action, DisplayText),
    /// An empty line.
    Empty,
    /// Any other line.
    Unknown,
}

impl TypedAnswer {
    /// Parses a line; with `json`, also `{"action":"allow","request":"web:9"}`.
    pub(crate) fn parse(line: &str, json: bool) -> Self {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct QueueAnswerJson {
            action: Action,
            request: Option<DisplayText>,
        }
        if line.is_empty() {
            return Self::Empty;
        }
        let line = line.trim();
        if json && line.starts_with('{') {
            return match serde_json::from_str(line) {
                Ok(QueueAnswerJson {
                    action,
                    request: Some(request),
                }) => Self::AnswerTo(action, request),
                Ok(QueueAnswerJson { action, .. }) => Self::Answer(action),
                Err(_) => Self::Unknown,
            };
        }
        match line.to_lowercase().as_str() {
            "a" | "allow" => Self::Answer(Action::Allow),
            "d" | "deny" => Self::Answer(Action::Deny),
            _ => Self::Unknown,
        }
    }
}

/// A message to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueueMessage {
    /// The reader has started.
    Watching,
    /// A question, and the number of questions before it in the queue.
    Queued(QueuedQuestion, usize),
    /// The question at the front of the queue.
    Ask {
        /// The question.
        question: QueuedQuestion,
        /// Whether the question has been shown before.
        shown_before: bool,
    },
    /// The input line is not an answer.
    Unknown,
    /// A script named a request that is not at the front of the queue.
    NotAsked(DisplayText),
    /// An answer took effect.
    Applied(QueuedQuestion, Action),
    /// An answer took no effect for this reason; the question stays.
    Failed(QueuedQuestion, Action, DisplayText),
    /// The queue is full; the next packet of a rejected question asks again.
    Full,
}

/// The questions of one sandbox, oldest first.
#[derive(Debug, Default)]
pub(crate) struct QuestionQueue {
    questions: VecDeque<QueuedQuestion>,
    /// Whether the question at the front has been shown.
    front_shown: bool,
    full_announced: bool,
}

impl QuestionQueue {
    /// Maximum number of queued questions, since a sandbox can try every port.
    pub(crate) const MAX_QUESTIONS: usize = 1024;

    /// Adds a question unless the queue has it already, and returns the messages to show.
    pub(crate) fn push(&mut self, question: QueuedQuestion) -> Vec<QueueMessage> {
        if self
            .questions
            .iter()
            .any(|queued| queued.is_same_question(&question))
        {
            return Vec::new();
        }
        if self.questions.len() >= Self::MAX_QUESTIONS {
            let announced = std::mem::replace(&mut self.full_announced, true);
            return if announced {
                Vec::new()
            } else {
                vec![QueueMessage::Full]
            };
        }
        let before = self.questions.len();
        self.questions.push_back(question.clone());
        let queued = (before > 0).then_some(QueueMessage::Queued(question, before));
        queued.into_iter().chain(self.show_front()).collect()
    }

    /// Returns the question that `typed` answers and the answer, or the messages to show.
    pub(crate) fn resolve_input(
        &mut self,
        typed: TypedAnswer,
    ) -> Result<(QueuedQuestion, Action), Vec<QueueMessage>> {
        let (action, request) = match typed {
            TypedAnswer::Answer(action) => (action, None),
            TypedAnswer::AnswerTo(action, request) => (action, Some(request)),
            TypedAnswer::Empty => return Err(Vec::new()),
            TypedAnswer::Unknown => return Err(self.with_prompt(QueueMessage::Unknown)),
        };
        let asked = self.questions.front();
        match (asked, request) {
            (Some(asked), None) => Ok((asked.clone(), action)),
            (Some(asked), Some(request)) if asked.request == request => Ok((asked.clone(), action)),
            (_, Some(request)) => Err(vec![QueueMessage::NotAsked(request)]),
            (None, None) => Err(Vec::new()),
        }
    }

    /// Removes the question at the front if the answer to it took effect. Returns the messages to
    /// show.
    pub(crate) fn apply_result(
        &mut self,
        action: Action,
        result: Result<(), DisplayText>,
    ) -> Vec<QueueMessage> {
        let Some(asked) = self.questions.front().cloned() else {
            return Vec::new();
        };
        match result {
            Ok(()) => {
                self.questions.pop_front();
                (self.front_shown, self.full_announced) = (false, false);
                self.with_prompt(QueueMessage::Applied(asked, action))
            }
            Err(reason) => self.with_prompt(QueueMessage::Failed(asked, action, reason)),
        }
    }

    /// Returns the number of unanswered questions.
    pub(crate) fn len(&self) -> usize {
        self.questions.len()
    }

    fn with_prompt(&mut self, message: QueueMessage) -> Vec<QueueMessage> {
        std::iter::once(message).chain(self.show_front()).collect()
    }

    /// Returns the message that shows the question at the front, if any.
    fn show_front(&mut self) -> Option<QueueMessage> {
        let question = self.questions.front()?.clone();
        let shown_before = std::mem::replace(&mut self.front_shown, true);
        Some(QueueMessage::Ask {
            question,
            shown_before,
        })
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! One sandbox's questions, asked one after the other: the terminal fallback's state.
//!
//! A person sees the oldest question and answers it with a word; those that come meanwhile wait.
//! It does no I/O: a reader's lines and a person's go in, what to show comes out.

mod render;

use std::collections::VecDeque;

use serde::{Deserialize, Deserializer, Serialize};
use terok_clearance::{Action, Dest, DestParseError, DisplayText, Protocol, Target};

pub use render::render_message;

/// A packet that was dropped, as a reader reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct QueuedQuestion {
    /// Its id, the reader's.
    #[serde(rename(deserialize = "id"), default)]
    pub request: DisplayText,
    /// The address it was sent to.
    pub dest: Dest,
    /// The port; 0 where the protocol has none.
    #[serde(default)]
    pub port: u16,
    /// The protocol, a number on the line; none if the reader does not say.
    #[serde(rename(deserialize = "proto"), default, deserialize_with = "number")]
    pub protocol: Option<Protocol>,
    /// The name that the sandbox had looked up to get there; may be empty.
    #[serde(default)]
    pub domain: DisplayText,
}

/// Why a reader's line is no question.
#[derive(Debug, thiserror::Error)]
pub enum QueueLineError {
    /// It is not the JSON that a reader writes.
    #[error("it is not what a reader writes")]
    Json(#[from] serde_json::Error),
    /// It is about something that no firewall has rules for.
    #[error(transparent)]
    Dest(#[from] DestParseError),
    /// It is about a name: a packet goes to an address.
    #[error("a packet goes to an address, not to {0}")]
    NotAnAddress(Dest),
}

impl QueuedQuestion {
    /// Parses a reader's line; none if it tells of something else than a dropped packet.
    pub fn parse(line: &str) -> Result<Option<Self>, QueueLineError> {
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

    /// Says whether a person would be asked the same by `other`.
    fn is_same_question(&self, other: &Self) -> bool {
        let what = |it: &Self| (it.dest.clone(), it.port, it.protocol, it.domain.clone());
        what(self) == what(other)
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Protocol>, D::Error> {
    Ok(Some(Protocol(u8::deserialize(deserializer)?)))
}

/// What a person typed, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// An answer to the question that is asked.
    Answer(Action),
    /// An answer by a script to the question with this id.
    AnswerTo(Action, DisplayText),
    /// An empty line.
    Empty,
    /// None of the words.
    Unknown,
}

impl Typed {
    /// Understands a line; with `json`, also `{"action":"allow","request":"web:9"}`.
    pub fn parse(line: &str, json: bool) -> Self {
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

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueMessage {
    /// It watches from now on.
    Watching,
    /// A question that has to wait for this many before it.
    Queued(QueuedQuestion, usize),
    /// The question that is asked; again, if it has been shown before.
    Ask {
        /// The question.
        question: QueuedQuestion,
        /// Whether it has been shown before.
        shown_before: bool,
    },
    /// What was typed is no answer.
    Unknown,
    /// A script answered a question that is not the one asked.
    NotAsked(DisplayText),
    /// An answer is in force.
    Applied(QueuedQuestion, Action),
    /// An answer is not in force, for this reason: it is still asked.
    Failed(QueuedQuestion, Action, DisplayText),
    /// No more can wait; the next packet of each asks again.
    Full,
}

/// The questions of one sandbox, oldest first.
#[derive(Debug, Default)]
pub struct QuestionQueue {
    questions: VecDeque<QueuedQuestion>,
    /// Whether the first of them has been shown.
    front_shown: bool,
    full_announced: bool,
}

impl QuestionQueue {
    /// The most questions that wait: a sandbox that tries every port fills no memory.
    pub const MAX_QUESTIONS: usize = 1024;

    /// Takes a question, and returns what to show. One that waits already is not asked twice.
    pub fn push(&mut self, question: QueuedQuestion) -> Vec<QueueMessage> {
        if self
            .questions
            .iter()
            .any(|it| it.is_same_question(&question))
        {
            return Vec::new();
        }
        if self.questions.len() >= Self::MAX_QUESTIONS {
            let said = std::mem::replace(&mut self.full_announced, true);
            return if said {
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

    /// Takes what was typed. Returns the question that it answers and how, or what to show.
    pub fn resolve_input(
        &mut self,
        typed: Typed,
    ) -> Result<(QueuedQuestion, Action), Vec<QueueMessage>> {
        let (action, request) = match typed {
            Typed::Answer(action) => (action, None),
            Typed::AnswerTo(action, request) => (action, Some(request)),
            Typed::Empty => return Err(Vec::new()),
            Typed::Unknown => return Err(self.with_prompt(QueueMessage::Unknown)),
        };
        let asked = self.questions.front();
        match (asked, request) {
            (Some(asked), None) => Ok((asked.clone(), action)),
            (Some(asked), Some(request)) if asked.request == request => Ok((asked.clone(), action)),
            (_, Some(request)) => Err(vec![QueueMessage::NotAsked(request)]),
            (None, None) => Err(Vec::new()),
        }
    }

    /// Takes what became of an answer to the question that is asked: it goes if the answer is in
    /// force, and stays otherwise. Returns what to show.
    pub fn apply_result(
        &mut self,
        action: Action,
        became: Result<(), DisplayText>,
    ) -> Vec<QueueMessage> {
        let Some(asked) = self.questions.front().cloned() else {
            return Vec::new();
        };
        match became {
            Ok(()) => {
                self.questions.pop_front();
                (self.front_shown, self.full_announced) = (false, false);
                self.with_prompt(QueueMessage::Applied(asked, action))
            }
            Err(reason) => self.with_prompt(QueueMessage::Failed(asked, action, reason)),
        }
    }

    /// Returns how many questions nobody has answered.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Says whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    fn with_prompt(&mut self, say: QueueMessage) -> Vec<QueueMessage> {
        std::iter::once(say).chain(self.show_front()).collect()
    }

    /// Shows the question that is asked, if there is one.
    fn show_front(&mut self) -> Option<QueueMessage> {
        let question = self.questions.front()?.clone();
        let again = std::mem::replace(&mut self.front_shown, true);
        Some(QueueMessage::Ask {
            question,
            shown_before: again,
        })
    }
}

#[cfg(test)]
mod tests;

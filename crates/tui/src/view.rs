// SPDX-License-Identifier: Apache-2.0
//! The part of a session that the screen shows, without the means to change it.

use operator::Session;
use operator::inbox::Inbox;

/// A read-only view of the session: the questions and answers for the model and the panes.
#[derive(Debug, Clone, Copy)]
pub struct SessionView<'a> {
    /// The questions of all hubs.
    pub inbox: &'a Inbox,
    /// Number of answers whose reply is pending.
    pub unanswered: usize,
    /// Whether every hub found at the start has sent its snapshot, or was given up.
    pub is_synced: bool,
}

impl SessionView<'_> {
    /// Returns the text about pending replies: `waiting for 2 answers to take effect`.
    pub(crate) fn unanswered_text(&self) -> String {
        match self.unanswered {
            1 => "waiting for an answer to take effect".to_owned(),
            answers => format!("waiting for {answers} answers to take effect"),
        }
    }
}

impl<'a> From<&'a Session> for SessionView<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            inbox: session.inbox(),
            unanswered: session.unanswered(),
            is_synced: session.is_synced(),
        }
    }
}

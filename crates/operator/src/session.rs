// SPDX-License-Identifier: Apache-2.0
//! The engine of every user interface: hub discovery, inbox and answers behind one type.
//!
//! A user interface needs four types: a [`Session`] returns each [`InboxChange`] as it happens, a
//! change names a [`Row`](crate::inbox::Row) by its [`RowNumber`], and [`Session::answer`] answers
//! that row. What a row shows is exactly what an answer to it opens or closes.

use std::io;
use std::path::PathBuf;

use futures_util::FutureExt as _;
use terok_clearance::Action;
use terok_clearance::socket::RuntimeDir;

use crate::discovery::{AnswerDispatcher, Hubs};
use crate::inbox::{Inbox, InboxChange, RowNumber, RowRefusal};

/// The questions of every hub, and the answers to them.
///
/// Dropping a session writes no rule and takes back no answer that was sent.
#[derive(Debug)]
pub struct Session {
    hubs: Hubs,
    inbox: Inbox,
    answers: AnswerDispatcher,
}

impl Session {
    /// Opens a session with every hub below `runtime`, of every release's socket layout.
    ///
    /// Must be called within a tokio runtime.
    pub fn discover(runtime: RuntimeDir) -> io::Result<Self> {
        Hubs::discover(runtime).map(Self::new)
    }

    /// Opens a session with the one hub whose socket is at `path`.
    ///
    /// Must be called within a tokio runtime.
    pub fn at_socket(path: PathBuf) -> io::Result<Self> {
        Hubs::at_socket(path).map(Self::new)
    }

    fn new(hubs: Hubs) -> Self {
        Self {
            hubs,
            inbox: Inbox::new(),
            answers: AnswerDispatcher::default(),
        }
    }

    /// Returns the changes that the next event of a hub, or the next reply to an answer, made. May
    /// be empty; never ends.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Vec<InboxChange> {
        tokio::select! {
            biased;
            (answer, reply) = self.answers.next_reply() => self.inbox.apply_reply(&answer, reply),
            (hub, event) = self.hubs.next_event() => self.inbox.apply_event(&hub, event),
        }
    }

    /// Returns the next changes if they are there already, as [`Session::next`] would.
    pub fn try_next(&mut self) -> Option<Vec<InboxChange>> {
        self.next().now_or_never()
    }

    /// Sends `action` as the answer to a row, with exactly the scope that the row shows.
    ///
    /// The row is marked as being answered until its hub has replied; a later change says what
    /// came of it. An error means that nothing was sent.
    pub fn answer(&mut self, row: RowNumber, action: Action) -> Result<(), RowRefusal> {
        let answers = self.inbox.answer(row, action)?;
        self.answers.send(&self.hubs, answers);
        Ok(())
    }

    /// Returns the questions as they are now.
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns `true` once every hub that was there at the start has sent its snapshot, has shown
    /// that it cannot be asked, or has let six seconds pass.
    pub fn is_synced(&self) -> bool {
        self.hubs.is_synced()
    }

    /// Returns the number of answers whose reply has not come yet.
    pub fn unanswered(&self) -> usize {
        self.answers.len()
    }

    /// Looks for hubs again, and tries at once to reach those that are disconnected.
    pub fn retry_now(&mut self) {
        self.hubs.retry_now();
    }
}

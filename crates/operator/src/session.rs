// SPDX-License-Identifier: Apache-2.0
//! The engine of every user interface: hub discovery, inbox and answers behind one type.
//!
//! A user interface needs four types. A [`Session`] returns each [`InboxChange`] as it happens, a
//! change names a [`Row`](crate::inbox::Row) by its [`RowNumber`], and [`Session::answer`] answers
//! that row. A row shows exactly what an answer to it opens or closes.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use terok_clearance::Action;
//! use terok_clearance::socket::RuntimeDir;
//! use terok_clearance_operator::inbox::InboxChange;
//! use terok_clearance_operator::{Session, phrases};
//!
//! let mut session = Session::discover(RuntimeDir::new("/run/user/1000"))?;
//! loop {
//!     for change in session.next().await {
//!         if let InboxChange::Added(number) = change
//!             && let Some(row) = session.inbox().row(number)
//!         {
//!             println!("[{number}] allow opens {}", phrases::describe_own_effect(row));
//!             session.answer(number, Action::Deny)?;
//!         }
//!     }
//! }
//! # }
//! ```

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use terok_clearance::Action;
use terok_clearance::client::Client;
use terok_clearance::socket::RuntimeDir;

use crate::answer_scope::AnswerScope;
use crate::discovery::{AnswerDispatcher, Hubs};
use crate::inbox::{HubId, Inbox, InboxChange, OperatorAnswer, RowNumber, RowRefusal};

/// The questions of every hub, and the answers to them.
///
/// Dropping a session writes no rule and takes back no answer that was sent.
#[derive(Debug)]
pub struct Session {
    hubs: Hubs,
    inbox: Inbox,
    answers: AnswerDispatcher,
}

/// Options of a [`Session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Whether an operator is there to answer, as by default. A hub holds the connections of a
    /// sandbox only while such a session is connected, so a session that only displays unsets this.
    pub answers: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { answers: true }
    }
}

impl Session {
    /// Opens a session with every hub below `runtime`, of every release's socket layout.
    ///
    /// Must be called within a tokio runtime.
    pub fn discover(runtime: RuntimeDir) -> io::Result<Self> {
        Self::discover_with(runtime, SessionOptions::default())
    }

    /// Opens a session like [`Session::discover`], with options.
    pub fn discover_with(runtime: RuntimeDir, options: SessionOptions) -> io::Result<Self> {
        Hubs::discover(runtime, options.answers).map(Self::new)
    }

    /// Opens a session with the one hub whose socket is at `path`.
    ///
    /// Must be called within a tokio runtime.
    pub fn at_socket(path: PathBuf) -> io::Result<Self> {
        Self::at_socket_with(path, SessionOptions::default())
    }

    /// Opens a session like [`Session::at_socket`], with options.
    pub fn at_socket_with(path: PathBuf, options: SessionOptions) -> io::Result<Self> {
        Hubs::at_socket(path, options.answers).map(Self::new)
    }

    /// Opens a session with the hubs whose sockets are at `paths`, each over one connection, and
    /// waits for their snapshots while each hub sends something within `sync_timeout`. Does not
    /// count as an operator.
    ///
    /// A socket without a listener is ignored if `ignore_no_listener` is set, and otherwise
    /// unreachable.
    pub(crate) fn query(
        paths: Vec<PathBuf>,
        ignore_no_listener: bool,
        sync_timeout: Duration,
    ) -> Self {
        Self::new(Hubs::query(paths, ignore_no_listener, sync_timeout))
    }

    fn new(hubs: Hubs) -> Self {
        Self {
            hubs,
            inbox: Inbox::new(),
            answers: AnswerDispatcher::default(),
        }
    }

    /// Waits for the next event of a hub or the next reply to an answer, and returns its changes of
    /// the inbox, possibly none. Never ends.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Vec<InboxChange> {
        tokio::select! {
            biased;
            (answer, reply) = self.answers.next_reply() => self.inbox.apply_reply(&answer, reply),
            (hub, event) = self.hubs.next_event() => self.inbox.apply_event(&hub, event),
        }
    }

    /// Returns the next changes if an event or a reply has arrived already, without waiting.
    pub fn try_next(&mut self) -> Option<Vec<InboxChange>> {
        self.next().now_or_never()
    }

    /// Sends `action` as the answer to a row, with exactly the scope that the row shows.
    ///
    /// The row counts as being answered until its hub has replied; a later change has the result.
    /// An error means that nothing was sent.
    ///
    /// Must be called within a tokio runtime.
    pub fn answer(&mut self, row: RowNumber, action: Action) -> Result<(), RowRefusal> {
        let answers = self.inbox.answer(row, action)?;
        self.send(answers);
        Ok(())
    }

    /// Sends `action` like [`Session::answer`], with a scope that the row offers.
    ///
    /// [`phrases::describe_effect`](crate::phrases::describe_effect) says in words what such an
    /// answer opens or closes.
    pub fn answer_with(
        &mut self,
        row: RowNumber,
        action: Action,
        scope: &AnswerScope,
    ) -> Result<(), RowRefusal> {
        let answers = self.inbox.answer_with(row, action, scope)?;
        self.send(answers);
        Ok(())
    }

    fn send(&mut self, answers: Vec<OperatorAnswer>) {
        let hubs = &self.hubs;
        self.answers.send(answers, |hub| hubs.client(hub));
    }

    /// Marks a row as being answered, and returns the answers for [`Session::client`] of its hub.
    ///
    /// For commands that report each reply themselves.
    pub(crate) fn begin_answer(
        &mut self,
        row: RowNumber,
        action: Action,
        scope: &AnswerScope,
    ) -> Result<Vec<OperatorAnswer>, RowRefusal> {
        self.inbox.answer_with(row, action, scope)
    }

    /// Returns the client of `hub`, for answers and for its rules; `None` if the hub was never
    /// connected.
    pub fn client(&self, hub: &HubId) -> Option<Client> {
        self.hubs.client(hub)
    }

    /// Returns the clients of the connected hubs.
    pub(crate) fn clients(&self) -> Vec<(HubId, Client)> {
        let connected = self.inbox.hubs().filter(|(_, connected)| *connected);
        let clients = connected.filter_map(|(hub, _)| Some((hub.clone(), self.client(hub)?)));
        clients.collect()
    }

    /// Returns `true` until the socket of `hub` is gone.
    pub(crate) fn is_tracked(&self, hub: &HubId) -> bool {
        self.hubs.is_tracked(hub)
    }

    /// Returns the current questions.
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns `true` once every hub found at the start has sent its snapshot, has failed, or has
    /// sent nothing for six seconds.
    pub fn is_synced(&self) -> bool {
        self.hubs.is_synced()
    }

    /// Returns the number of answers whose reply is pending.
    pub fn unanswered(&self) -> usize {
        self.answers.len()
    }

    /// Searches for hubs again, and retries disconnected hubs at once.
    pub fn retry_now(&mut self) {
        self.hubs.retry_now();
    }
}

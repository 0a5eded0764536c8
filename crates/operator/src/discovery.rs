// SPDX-License-Identifier: Apache-2.0
//! Finds every hub, listens to each, and is told by the kernel when one comes or goes.
//!
//! Nothing polls: an idle operator of a thousand hubs uses no processor. A directory that is not
//! there yet is waited for in the nearest one that is.

mod dispatcher;
mod inotify;
mod listener;
mod location;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use terok_clearance::client::{Client, ProtocolVersion};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::Event;
use tokio::sync::{mpsc, watch as flag};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::inbox::{HubId, InboxEvent};
use crate::join_result;

pub use dispatcher::AnswerDispatcher;

use inotify::DirectoryWatcher;
use listener::{ListenerUpdate, listen_to_hub};
use location::{HubLocation, SocketFileId};

/// What all hubs have said and nobody has taken yet; a hub that has more to say waits.
const UPDATE_QUEUE_CAPACITY: usize = 256;
/// How long the hubs that were there at the start may take to say what is pending, before nobody
/// waits for them any more: a bit longer than it takes to find out that one does not answer.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_secs(6);

/// Every hub that there is, and what they say.
#[derive(Debug)]
pub struct Hubs {
    location: HubLocation,
    watcher: DirectoryWatcher,
    tracked: BTreeMap<HubId, TrackedHub>,
    /// The hubs that were there at the start and have not yet said what is pending.
    awaiting_sync: BTreeSet<HubId>,
    /// Until when those are waited for.
    sync_deadline: Instant,
    tasks: JoinSet<()>,
    update_sender: mpsc::Sender<(HubId, ListenerUpdate)>,
    update_receiver: mpsc::Receiver<(HubId, ListenerUpdate)>,
}

#[derive(Debug)]
struct TrackedHub {
    /// The socket's file, if it is there; said to have changed to try again at once.
    socket: flag::Sender<Option<SocketFileId>>,
    client: Option<Client>,
}

impl Hubs {
    /// Listens to every hub below `runtime`, of every release's layout.
    ///
    /// Call it within a tokio runtime.
    pub fn discover(runtime: RuntimeDir) -> io::Result<Self> {
        Self::with_location(HubLocation::Runtime(runtime))
    }

    /// Listens to the one hub whose socket is at `path`.
    pub fn at_socket(path: PathBuf) -> io::Result<Self> {
        Self::with_location(HubLocation::Socket(path))
    }

    fn with_location(place: HubLocation) -> io::Result<Self> {
        let (tell, told) = mpsc::channel(UPDATE_QUEUE_CAPACITY);
        let now = Instant::now();
        let mut hubs = Self {
            location: place,
            watcher: DirectoryWatcher::new()?,
            tracked: BTreeMap::new(),
            awaiting_sync: BTreeSet::new(),
            sync_deadline: now.checked_add(INITIAL_SYNC_TIMEOUT).unwrap_or(now),
            tasks: JoinSet::new(),
            update_sender: tell,
            update_receiver: told,
        };
        hubs.rescan();
        hubs.awaiting_sync = hubs.tracked.keys().cloned().collect();
        Ok(hubs)
    }

    /// Returns the next thing that a hub, or its connection, has to tell; never ends.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next_event(&mut self) -> (HubId, InboxEvent) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    join_result(ended);
                }
                () = self.watcher.changed() => self.rescan(),
                Some((hub, told)) = self.update_receiver.recv() => {
                    if let Some(news) = self.apply_update(&hub, told) {
                        return (hub, news);
                    }
                }
                () = sleep_until(self.sync_deadline), if !self.awaiting_sync.is_empty() => {
                    if let Some(hub) = self.awaiting_sync.pop_first() {
                        let reason = "it has not said what is pending";
                        return (hub, InboxEvent::Unreachable(reason.into()));
                    }
                }
            }
        }
    }

    /// Says whether every hub that was there at the start has said what is pending, has shown
    /// that it cannot be asked, or has let six seconds pass.
    pub fn is_synced(&self) -> bool {
        self.awaiting_sync.is_empty()
    }

    /// Returns what answers are given to `hub` with, `None` for one that was never reached.
    pub fn client(&self, hub: &HubId) -> Option<Client> {
        self.tracked.get(hub)?.client.clone()
    }

    /// Looks for hubs again, and tries at once to reach those that are away.
    pub fn retry_now(&mut self) {
        self.rescan();
        for followed in self.tracked.values() {
            followed.socket.send_modify(|_| ());
        }
    }

    fn apply_update(&mut self, hub: &HubId, told: ListenerUpdate) -> Option<InboxEvent> {
        let settles = match &told {
            ListenerUpdate::Event(InboxEvent::Received(event)) => *event == Event::Synced,
            ListenerUpdate::Event(_) => true,
            ListenerUpdate::Up(_, speaks) => *speaks == ProtocolVersion::Clearance1,
        };
        if settles {
            self.awaiting_sync.remove(hub);
        }
        match told {
            ListenerUpdate::Up(client, speaks) => {
                self.tracked.get_mut(hub)?.client = Some(client);
                Some(InboxEvent::Up(speaks))
            }
            ListenerUpdate::Event(InboxEvent::Gone) => {
                let known = self.tracked.remove(hub)?.client.is_some();
                // Its socket may be back since.
                self.rescan();
                known.then_some(InboxEvent::Gone)
            }
            ListenerUpdate::Event(news) => Some(news),
        }
    }

    /// Brings the hubs that are followed in line with the sockets that are there.
    fn rescan(&mut self) {
        self.watcher.update_watches(&self.location);
        let found = self.location.sockets();
        for (hub, followed) in &self.tracked {
            let now = found.get(hub).copied();
            followed.socket.send_if_modified(|mark| {
                let changed = *mark != now;
                *mark = now;
                changed
            });
        }
        for (hub, mark) in found {
            self.tracked.entry(hub.clone()).or_insert_with(|| {
                let (socket, file) = flag::channel(Some(mark));
                let tell = self.update_sender.clone();
                self.tasks.spawn(listen_to_hub(hub, file, tell));
                TrackedHub {
                    socket,
                    client: None,
                }
            });
        }
    }
}

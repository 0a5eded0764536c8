// SPDX-License-Identifier: Apache-2.0
//! Finds hub sockets, listens to each hub, and notices through inotify when one comes or goes.
//!
//! Nothing polls: an idle operator with a thousand hubs uses no CPU time. For a directory that
//! does not exist yet, the nearest existing ancestor is watched.

mod dispatcher;
mod inotify;
mod listener;
mod location;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use terok_clearance::DisplayText;
use terok_clearance::client::{Client, ProtocolVersion};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::Event;
use tokio::sync::{mpsc, watch as flag};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::inbox::{HubId, InboxEvent};
use crate::join_result;

pub(crate) use dispatcher::AnswerDispatcher;

use inotify::DirectoryWatcher;
use listener::{ListenerUpdate, listen_once, listen_to_hub};
use location::{HubLocation, SocketFileId};

/// Capacity of the queue of hub updates; a listener waits while the queue is full.
const UPDATE_QUEUE_CAPACITY: usize = 256;
/// Maximum time that the hubs found at the start may send nothing before their snapshots are
/// complete: longer than the time limit of a connection attempt.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_secs(6);

/// Every known hub, and the events of each.
#[derive(Debug)]
pub(crate) struct Hubs {
    /// Where hubs appear; `None` if only fixed sockets are tried.
    watched: Option<(HubLocation, DirectoryWatcher)>,
    /// Whether the hubs are told that an operator is there to answer.
    answers: bool,
    tracked: BTreeMap<HubId, TrackedHub>,
    /// Socket files that killed hubs have left of sandboxes that have ended.
    leftovers: BTreeMap<HubId, SocketFileId>,
    /// The hubs found at the start whose snapshot is not complete yet, each with the time of its
    /// latest event. A busy hub may need long for a hundred thousand questions.
    awaiting_sync: BTreeMap<HubId, Instant>,
    /// How long one of these may send nothing, and the earliest time at which one may be overdue.
    sync_timeout: Duration,
    sync_deadline: Instant,
    tasks: JoinSet<()>,
    update_sender: mpsc::Sender<(HubId, ListenerUpdate)>,
    update_receiver: mpsc::Receiver<(HubId, ListenerUpdate)>,
}

#[derive(Debug)]
struct TrackedHub {
    /// The socket file, if it exists; a change notification makes the listener retry at once.
    socket: flag::Sender<Option<SocketFileId>>,
    client: Option<Client>,
}

impl Hubs {
    /// Listens to every hub below `runtime`, in every socket layout. `answers` tells the hubs that
    /// an operator is there to answer.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn discover(runtime: RuntimeDir, answers: bool) -> io::Result<Self> {
        Self::with_location(HubLocation::Runtime(runtime), answers)
    }

    /// Listens to the one hub whose socket is at `path`; `answers` as in [`Self::discover`].
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn at_socket(path: PathBuf, answers: bool) -> io::Result<Self> {
        Self::with_location(HubLocation::Socket(path), answers)
    }

    /// Listens to the hubs whose sockets are at `paths`, each over one connection, and waits for
    /// their snapshots while each hub sends something within `sync_timeout`.
    ///
    /// A socket without a listener is ignored if `ignore_no_listener` is set, and otherwise
    /// unreachable. Must be called within a tokio runtime.
    pub(crate) fn query(
        paths: Vec<PathBuf>,
        ignore_no_listener: bool,
        sync_timeout: Duration,
    ) -> Self {
        let mut hubs = Self::new(None, false, sync_timeout);
        for path in paths {
            let hub = HubId::new(&path);
            let (socket, _) = flag::channel(None);
            let updates = hubs.update_sender.clone();
            hubs.tasks
                .spawn(listen_once(hub.clone(), updates, ignore_no_listener));
            let client = None;
            hubs.tracked.insert(hub, TrackedHub { socket, client });
        }
        hubs.await_snapshots();
        hubs
    }

    fn with_location(location: HubLocation, answers: bool) -> io::Result<Self> {
        let watcher = DirectoryWatcher::new()?;
        let mut hubs = Self::new(Some((location, watcher)), answers, INITIAL_SYNC_TIMEOUT);
        hubs.rescan();
        hubs.await_snapshots();
        Ok(hubs)
    }

    fn new(
        watched: Option<(HubLocation, DirectoryWatcher)>,
        answers: bool,
        sync_timeout: Duration,
    ) -> Self {
        let (update_sender, update_receiver) = mpsc::channel(UPDATE_QUEUE_CAPACITY);
        let now = Instant::now();
        Self {
            watched,
            answers,
            tracked: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            awaiting_sync: BTreeMap::new(),
            sync_timeout,
            sync_deadline: now,
            tasks: JoinSet::new(),
            update_sender,
            update_receiver,
        }
    }

    /// Waits for the snapshots of the hubs that are known now.
    fn await_snapshots(&mut self) {
        let now = Instant::now();
        self.awaiting_sync = self.tracked.keys().map(|hub| (hub.clone(), now)).collect();
        self.sync_deadline = now.checked_add(self.sync_timeout).unwrap_or(now);
    }

    /// Returns the next event of a hub or of its connection; never ends.
    ///
    /// Cancel safe.
    pub(crate) async fn next_event(&mut self) -> (HubId, InboxEvent) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    join_result(ended);
                }
                () = directory_change(self.watched.as_ref()) => self.rescan(),
                Some((hub, update)) = self.update_receiver.recv() => {
                    if let Some(event) = self.apply_update(&hub, update) {
                        return (hub, event);
                    }
                }
                () = sleep_until(self.sync_deadline), if !self.awaiting_sync.is_empty() => {
                    if let Some(hub) = self.take_overdue() {
                        let limit = self.sync_timeout;
                        let reason = format!("no list of questions within {limit:?}");
                        return (hub, InboxEvent::Unreachable(DisplayText::new(&reason)));
                    }
                }
            }
        }
    }

    /// Stops waiting for the snapshot of a hub that has sent nothing for too long. Without such a
    /// hub, sets the deadline of the next.
    fn take_overdue(&mut self) -> Option<HubId> {
        let oldest = self.awaiting_sync.iter().min_by_key(|(_, heard)| **heard);
        let (hub, heard) = oldest?;
        let deadline = heard.checked_add(self.sync_timeout).unwrap_or(*heard);
        if deadline > Instant::now() {
            self.sync_deadline = deadline;
            return None;
        }
        let hub = hub.clone();
        self.awaiting_sync.remove(&hub);
        Some(hub)
    }

    /// Returns `true` once every hub found at the start has sent its snapshot, has failed, or has
    /// sent nothing for six seconds.
    pub(crate) fn is_synced(&self) -> bool {
        self.awaiting_sync.is_empty()
    }

    /// Returns the client for answers to `hub`, `None` if the hub was never connected.
    pub(crate) fn client(&self, hub: &HubId) -> Option<Client> {
        self.tracked.get(hub)?.client.clone()
    }

    /// Returns `true` until the socket of `hub` is gone.
    pub(crate) fn is_tracked(&self, hub: &HubId) -> bool {
        self.tracked.contains_key(hub)
    }

    /// Searches for hubs again, and retries disconnected hubs at once.
    pub(crate) fn retry_now(&mut self) {
        self.rescan();
        for hub in self.tracked.values() {
            hub.socket.send_modify(|_| ());
        }
    }

    fn apply_update(&mut self, hub: &HubId, update: ListenerUpdate) -> Option<InboxEvent> {
        let is_answered = match &update {
            ListenerUpdate::Event(InboxEvent::Received(event)) => *event == Event::Synced,
            ListenerUpdate::Event(InboxEvent::UnknownEvent(_)) => false,
            ListenerUpdate::Event(_) | ListenerUpdate::Leftover => true,
            ListenerUpdate::Up(_, version) => *version == ProtocolVersion::Clearance1,
        };
        if is_answered {
            self.awaiting_sync.remove(hub);
        } else if let Some(heard) = self.awaiting_sync.get_mut(hub) {
            *heard = Instant::now();
        }
        match update {
            ListenerUpdate::Up(client, version) => {
                self.tracked.get_mut(hub)?.client = Some(client);
                Some(InboxEvent::Up(version))
            }
            ListenerUpdate::Leftover => {
                let left = self.tracked.remove(hub)?;
                if let Some(file) = *left.socket.borrow() {
                    self.leftovers.insert(hub.clone(), file);
                }
                // The file may have been replaced in the meantime.
                self.rescan();
                Some(InboxEvent::Gone)
            }
            ListenerUpdate::Event(InboxEvent::Gone) => {
                self.tracked.remove(hub)?;
                // A new socket may have appeared in the meantime.
                self.rescan();
                Some(InboxEvent::Gone)
            }
            ListenerUpdate::Event(event) => Some(event),
        }
    }

    /// Updates the tracked hubs to match the existing sockets.
    fn rescan(&mut self) {
        let Some((location, watcher)) = &mut self.watched else {
            return;
        };
        watcher.update_watches(location);
        let is_named = matches!(location, HubLocation::Socket(_));
        let mut found = location.sockets();
        self.leftovers
            .retain(|hub, file| found.get(hub) == Some(file));
        found.retain(|hub, _| !self.leftovers.contains_key(hub));
        for (hub, tracked) in &self.tracked {
            let current = found.get(hub).copied();
            tracked.socket.send_if_modified(|file| {
                let changed = *file != current;
                *file = current;
                changed
            });
        }
        for (hub, file) in found {
            self.tracked.entry(hub.clone()).or_insert_with(|| {
                let (socket, file) = flag::channel(Some(file));
                let updates = self.update_sender.clone();
                let listening = listen_to_hub(hub, file, updates, self.answers, is_named);
                self.tasks.spawn(listening);
                TrackedHub {
                    socket,
                    client: None,
                }
            });
        }
    }
}

/// Waits for a change of a watched directory; forever if none is watched.
async fn directory_change(watched: Option<&(HubLocation, DirectoryWatcher)>) {
    match watched {
        Some((_, directories)) => directories.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slow_snapshot_is_waited_for_while_the_hub_sends() {
        let timeout = Duration::from_secs(5);
        let mut hubs = Hubs::new(None, false, timeout);
        let [slow, silent] = ["/run/slow", "/run/silent"].map(|path| HubId::new(path.as_ref()));
        for hub in [&slow, &silent] {
            let (socket, _) = flag::channel(None);
            let client = None;
            let tracked = TrackedHub { socket, client };
            hubs.tracked.insert(hub.clone(), tracked);
        }
        hubs.await_snapshots();
        let start = Instant::now();
        let lost = || Event::Lost {
            lost: 1,
            reason: DisplayText::new("slow"),
        };
        let (updates, sender) = (hubs.update_sender.clone(), slow.clone());
        hubs.tasks.spawn(async move {
            for event in [lost(), lost(), Event::Synced] {
                sleep(Duration::from_secs(4)).await;
                let event = ListenerUpdate::Event(InboxEvent::Received(event));
                updates.send((sender.clone(), event)).await.unwrap();
            }
        });
        let mut said = Vec::new();
        while !hubs.is_synced() {
            let (hub, event) = hubs.next_event().await;
            let is_unreachable = matches!(event, InboxEvent::Unreachable(_));
            said.push((hub, is_unreachable, start.elapsed().as_secs()));
        }
        let expected = [
            (slow.clone(), false, 4),
            (silent, true, 5),
            (slow.clone(), false, 8),
            (slow, false, 12),
        ];
        assert_eq!(said, expected);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Finds every hub, listens to each, and is told by the kernel when one comes or goes.
//!
//! Nothing polls: an idle operator of a thousand hubs uses no processor. A directory that is not
//! there yet is waited for in the nearest one that is.

mod answers;
mod follow;
mod place;
mod watch;

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

use crate::inbox::{HubId, News};
use crate::unless_panicked;

pub use answers::Answers;

use follow::{Told, follow};
use place::{Mark, Place};
use watch::Watch;

/// What all hubs have said and nobody has taken yet; a hub that has more to say waits.
const QUEUE: usize = 256;
/// How long the hubs that were there at the start may take to say what is pending, before nobody
/// waits for them any more: a bit longer than it takes to find out that one does not answer.
const OPENING: Duration = Duration::from_secs(6);

/// Every hub that there is, and what they say.
#[derive(Debug)]
pub struct Hubs {
    place: Place,
    watch: Watch,
    followed: BTreeMap<HubId, Followed>,
    /// The hubs that were there at the start and have not yet said what is pending.
    opening: BTreeSet<HubId>,
    /// Until when those are waited for.
    patience: Instant,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<(HubId, Told)>,
    told: mpsc::Receiver<(HubId, Told)>,
}

#[derive(Debug)]
struct Followed {
    /// The socket's file, if it is there; said to have changed to try again at once.
    socket: flag::Sender<Option<Mark>>,
    client: Option<Client>,
}

impl Hubs {
    /// Listens to every hub below `runtime`, of every release's layout.
    ///
    /// Call it within a tokio runtime.
    pub fn all(runtime: RuntimeDir) -> io::Result<Self> {
        Self::at(Place::Runtime(runtime))
    }

    /// Listens to the one hub whose socket is at `path`.
    pub fn one(path: PathBuf) -> io::Result<Self> {
        Self::at(Place::Socket(path))
    }

    fn at(place: Place) -> io::Result<Self> {
        let (tell, told) = mpsc::channel(QUEUE);
        let now = Instant::now();
        let mut hubs = Self {
            place,
            watch: Watch::new()?,
            followed: BTreeMap::new(),
            opening: BTreeSet::new(),
            patience: now.checked_add(OPENING).unwrap_or(now),
            tasks: JoinSet::new(),
            tell,
            told,
        };
        hubs.look();
        hubs.opening = hubs.followed.keys().cloned().collect();
        Ok(hubs)
    }

    /// Returns the next thing that a hub, or its connection, has to tell; never ends.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next(&mut self) -> (HubId, News) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    unless_panicked(ended);
                }
                () = self.watch.changed() => self.look(),
                Some((hub, told)) = self.told.recv() => {
                    if let Some(news) = self.heard(&hub, told) {
                        return (hub, news);
                    }
                }
                () = sleep_until(self.patience), if !self.opening.is_empty() => {
                    if let Some(hub) = self.opening.pop_first() {
                        let reason = "it has not said what is pending";
                        return (hub, News::Unreachable(reason.into()));
                    }
                }
            }
        }
    }

    /// Says whether every hub that was there at the start has said what is pending, has shown
    /// that it cannot be asked, or has let six seconds pass.
    pub fn is_settled(&self) -> bool {
        self.opening.is_empty()
    }

    /// Returns what answers are given to `hub` with, `None` for one that was never reached.
    pub fn client(&self, hub: &HubId) -> Option<Client> {
        self.followed.get(hub)?.client.clone()
    }

    /// Looks for hubs again, and tries at once to reach those that are away.
    pub fn poke(&mut self) {
        self.look();
        for followed in self.followed.values() {
            followed.socket.send_modify(|_| ());
        }
    }

    fn heard(&mut self, hub: &HubId, told: Told) -> Option<News> {
        let settles = match &told {
            Told::News(News::Said(event)) => *event == Event::Synced,
            Told::News(_) => true,
            Told::Up(_, speaks) => *speaks == ProtocolVersion::Clearance1,
        };
        if settles {
            self.opening.remove(hub);
        }
        match told {
            Told::Up(client, speaks) => {
                self.followed.get_mut(hub)?.client = Some(client);
                Some(News::Up(speaks))
            }
            Told::News(News::Gone) => {
                let known = self.followed.remove(hub)?.client.is_some();
                // Its socket may be back since.
                self.look();
                known.then_some(News::Gone)
            }
            Told::News(news) => Some(news),
        }
    }

    /// Brings the hubs that are followed in line with the sockets that are there.
    fn look(&mut self) {
        self.watch.keep(&self.place);
        let found = self.place.sockets();
        for (hub, followed) in &self.followed {
            let now = found.get(hub).copied();
            followed.socket.send_if_modified(|mark| {
                let changed = *mark != now;
                *mark = now;
                changed
            });
        }
        for (hub, mark) in found {
            self.followed.entry(hub.clone()).or_insert_with(|| {
                let (socket, file) = flag::channel(Some(mark));
                let tell = self.tell.clone();
                self.tasks.spawn(follow(hub, file, tell));
                Followed {
                    socket,
                    client: None,
                }
            });
        }
    }
}

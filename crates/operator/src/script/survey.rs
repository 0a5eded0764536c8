// SPDX-License-Identifier: Apache-2.0
//! What is pending right now, at every hub at once and within a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use terok_clearance::client::{Client, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::{RuntimeDir, SocketConnectError};
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{ContainerId, DisplayText};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{is_same_container, may_serve};
use crate::inbox::{HubId, Inbox, News, Row};
use crate::lines::{Line, Question, hub, text, up};
use crate::prompt::now;
use crate::{whole_story, words};

/// The events that a hub may say before it has said all that is pending: more than it may have.
const EVENTS: usize = 262_144;

/// What every hub said is pending, once.
#[derive(Debug)]
pub struct Survey {
    pub(super) inbox: Inbox,
    /// Who was heard.
    pub(super) heard: BTreeMap<HubId, (Client, ProtocolVersion)>,
    /// Who is there and was not heard, and why.
    pub(super) unheard: Vec<(HubId, DisplayText)>,
    pub(super) container: Option<ContainerId>,
    /// When that was, in microseconds since the epoch.
    at: u64,
}

/// Asks what is pending at the hub of `socket` or, without one, at every hub below `runtime`.
///
/// With `container`, only hubs that can know of that sandbox are asked. A hub that does not say
/// what is pending within `limit` is unheard, as is `socket` where nobody listens; another socket
/// on which nobody listens is one that a hub left behind, and is no hub.
pub async fn survey(
    runtime: &RuntimeDir,
    socket: Option<&Path>,
    container: Option<ContainerId>,
    limit: Duration,
) -> Survey {
    let paths: Vec<PathBuf> = if let Some(socket) = socket {
        vec![socket.to_owned()]
    } else {
        let found = runtime.hub_sockets().into_iter();
        found.map(|socket| socket.path).collect()
    };
    let mut hubs = JoinSet::new();
    for path in paths {
        let hub = HubId::new(&path);
        if socket.is_some() || container.as_ref().is_none_or(|id| may_serve(&hub, id)) {
            hubs.spawn(async move {
                let asked = timeout(limit, ask(&hub)).await;
                (hub, asked.unwrap_or_else(|_elapsed| Err(late(limit))))
            });
        }
    }
    let mut answers: Vec<_> = hubs.join_all().await;
    answers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut survey = Survey {
        inbox: Inbox::new(),
        heard: BTreeMap::new(),
        unheard: Vec::new(),
        container,
        at: now(),
    };
    for (hub, answer) in answers {
        match answer {
            Ok(said) => survey.hear(hub, said),
            Err(Unheard::Nobody(_)) if socket.is_none() => {}
            Err(Unheard::Nobody(reason) | Unheard::There(reason)) => {
                survey.unheard.push((hub, reason));
            }
        }
    }
    survey
}

/// What a hub said.
struct Said {
    client: Client,
    speaks: ProtocolVersion,
    events: Vec<Event>,
}

/// Why a hub said nothing.
enum Unheard {
    /// There is a socket, and nobody listens on it.
    Nobody(DisplayText),
    /// It is there.
    There(DisplayText),
}

fn late(limit: Duration) -> Unheard {
    let reason = format!("it did not say within {limit:?} what is pending");
    Unheard::There(DisplayText::new(&reason))
}

async fn ask(hub: &HubId) -> Result<Said, Unheard> {
    let (client, mut stream) = Client::start(hub.path()).await.map_err(|error| {
        let reason = whole_story(&error);
        match error {
            HubError::Connect(SocketConnectError::NoListener { .. }) => Unheard::Nobody(reason),
            _ => Unheard::There(reason),
        }
    })?;
    let mut events = Vec::new();
    let speaks = loop {
        match stream.next().await {
            // It never says what is pending, only what happens from now on.
            StreamUpdate::Connected(speaks @ ProtocolVersion::Clearance1) => break speaks,
            StreamUpdate::Connected(ProtocolVersion::Clearance2) => {}
            StreamUpdate::Event(event) => {
                let synced = event == Event::Synced;
                events.push(event);
                if synced {
                    break ProtocolVersion::Clearance2;
                }
                if events.len() > EVENTS {
                    return Err(Unheard::There("it asks without an end".into()));
                }
            }
            StreamUpdate::Disconnected { reason, .. } => return Err(Unheard::There(reason)),
        }
    };
    Ok(Said {
        client,
        speaks,
        events,
    })
}

impl Survey {
    fn hear(&mut self, hub: HubId, said: Said) {
        let news = said.events.into_iter().map(News::Said);
        for news in [News::Up(said.speaks)].into_iter().chain(news) {
            self.inbox.hear(&hub, news);
        }
        self.heard.insert(hub, (said.client, said.speaks));
    }

    /// Returns what is pending, the oldest first.
    pub fn rows(&self) -> Vec<&Row> {
        let wanted = |row: &&Row| {
            let container = self.container.as_ref();
            container.is_none_or(|id| is_same_container(id, row.container()))
        };
        let mut rows: Vec<_> = self.inbox.rows().filter(wanted).collect();
        rows.sort_by_key(|row| row.first_seen());
        rows
    }

    /// Says whether there was any hub to ask, heard or not.
    pub fn has_hubs(&self) -> bool {
        !(self.heard.is_empty() && self.unheard.is_empty())
    }

    /// Says whether every hub that is there was heard.
    pub const fn is_complete(&self) -> bool {
        self.unheard.is_empty()
    }

    /// Returns, in words, which hubs' questions are not in the list, and why.
    pub fn gaps(&self) -> Vec<String> {
        let unheard = self.unheard.iter().map(|(hub, reason)| {
            let hub = words::hub(hub);
            format!("{hub} was not heard: {reason}")
        });
        let older = self.older().map(|hub| {
            let hub = words::hub(hub);
            format!("{hub} is of an older release and does not say what is pending")
        });
        unheard.chain(older).collect()
    }

    /// Returns the hubs that cannot say what is pending.
    pub(super) fn older(&self) -> impl Iterator<Item = &HubId> {
        let heard = self.heard.iter();
        heard.filter_map(|(hub, (_, speaks))| {
            (*speaks == ProtocolVersion::Clearance1).then_some(hub)
        })
    }

    /// Returns the list as lines of JSON: a `listed` for each question, a `hub` for each hub whose
    /// questions are not in it, and the `list` that ends it.
    pub fn json(&self) -> String {
        let rows = self.rows();
        let count = rows.len();
        let listed = rows
            .into_iter()
            .map(|row| Line::Listed(Question::of(row).unnumbered()));
        let older = self.older().map(|id| up(id, ProtocolVersion::Clearance1));
        let unheard = self
            .unheard
            .iter()
            .map(|(id, reason)| hub(id, "unreachable", Some(reason)));
        let end = [Line::List { rows: count }];
        let lines = listed.chain(older).chain(unheard).chain(end);
        lines.map(|line| text(&line)).collect()
    }

    /// Returns the list for a person, for a screen of `width` columns; nothing where nothing is
    /// pending.
    pub fn table(&self, width: usize, color: bool) -> String {
        super::table::table(&self.rows(), self.at, width, color)
    }
}

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
use crate::inbox::{HubId, Inbox, InboxEvent, Row};
use crate::json::{ScriptEvent, ScriptQuestion, hub_state_event, hub_up_event, to_json_line};
use crate::prompt::now_micros;
use crate::{error_chain, phrases};

/// The events that a hub may say before it has said all that is pending: more than it may have.
const MAX_SNAPSHOT_EVENTS: usize = 262_144;

/// What every hub said is pending, once.
#[derive(Debug)]
pub struct PendingSnapshot {
    pub(super) inbox: Inbox,
    /// Who was heard.
    pub(super) responding_hubs: BTreeMap<HubId, (Client, ProtocolVersion)>,
    /// Who is there and was not heard, and why.
    pub(super) unresponsive_hubs: Vec<(HubId, DisplayText)>,
    pub(super) container: Option<ContainerId>,
    /// When that was, in microseconds since the epoch.
    taken_at: u64,
}

/// Asks what is pending at the hub of `socket` or, without one, at every hub below `runtime`.
///
/// With `container`, only hubs that can know of that sandbox are asked. A hub that does not say
/// what is pending within `limit` is unheard, as is `socket` where nobody listens; another socket
/// on which nobody listens is one that a hub left behind, and is no hub.
pub async fn take_snapshot(
    runtime: &RuntimeDir,
    socket: Option<&Path>,
    container: Option<ContainerId>,
    limit: Duration,
) -> PendingSnapshot {
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
                let asked = timeout(limit, query_hub(&hub)).await;
                (
                    hub,
                    asked.unwrap_or_else(|_elapsed| Err(timeout_failure(limit))),
                )
            });
        }
    }
    let mut answers: Vec<_> = hubs.join_all().await;
    answers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut survey = PendingSnapshot {
        inbox: Inbox::new(),
        responding_hubs: BTreeMap::new(),
        unresponsive_hubs: Vec::new(),
        container,
        taken_at: now_micros(),
    };
    for (hub, answer) in answers {
        match answer {
            Ok(said) => survey.add_response(hub, said),
            Err(SnapshotFailure::NotListening(_)) if socket.is_none() => {}
            Err(SnapshotFailure::NotListening(reason) | SnapshotFailure::NotResponding(reason)) => {
                survey.unresponsive_hubs.push((hub, reason));
            }
        }
    }
    survey
}

/// What a hub said.
struct SnapshotResponse {
    client: Client,
    protocol_version: ProtocolVersion,
    events: Vec<Event>,
}

/// Why a hub said nothing.
enum SnapshotFailure {
    /// There is a socket, and nobody listens on it.
    NotListening(DisplayText),
    /// It is there.
    NotResponding(DisplayText),
}

fn timeout_failure(limit: Duration) -> SnapshotFailure {
    let reason = format!("it did not say within {limit:?} what is pending");
    SnapshotFailure::NotResponding(DisplayText::new(&reason))
}

async fn query_hub(hub: &HubId) -> Result<SnapshotResponse, SnapshotFailure> {
    let (client, mut stream) = Client::start(hub.path()).await.map_err(|error| {
        let reason = error_chain(&error);
        match error {
            HubError::Connect(SocketConnectError::NoListener { .. }) => {
                SnapshotFailure::NotListening(reason)
            }
            _ => SnapshotFailure::NotResponding(reason),
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
                if events.len() > MAX_SNAPSHOT_EVENTS {
                    return Err(SnapshotFailure::NotResponding(
                        "it asks without an end".into(),
                    ));
                }
            }
            StreamUpdate::Disconnected { reason, .. } => {
                return Err(SnapshotFailure::NotResponding(reason));
            }
        }
    };
    Ok(SnapshotResponse {
        client,
        protocol_version: speaks,
        events,
    })
}

impl PendingSnapshot {
    fn add_response(&mut self, hub: HubId, said: SnapshotResponse) {
        let news = said.events.into_iter().map(InboxEvent::Received);
        for news in [InboxEvent::Up(said.protocol_version)]
            .into_iter()
            .chain(news)
        {
            self.inbox.apply_event(&hub, news);
        }
        self.responding_hubs
            .insert(hub, (said.client, said.protocol_version));
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
        !(self.responding_hubs.is_empty() && self.unresponsive_hubs.is_empty())
    }

    /// Says whether every hub that is there was heard.
    pub const fn is_complete(&self) -> bool {
        self.unresponsive_hubs.is_empty()
    }

    /// Returns, in words, which hubs' questions are not in the list, and why.
    pub fn describe_gaps(&self) -> Vec<String> {
        let unheard = self.unresponsive_hubs.iter().map(|(hub, reason)| {
            let hub = phrases::describe_hub(hub);
            format!("{hub} was not heard: {reason}")
        });
        let older = self.clearance1_hubs().map(|hub| {
            let hub = phrases::describe_hub(hub);
            format!("{hub} is of an older release and does not say what is pending")
        });
        unheard.chain(older).collect()
    }

    /// Returns the hubs that cannot say what is pending.
    pub(super) fn clearance1_hubs(&self) -> impl Iterator<Item = &HubId> {
        let heard = self.responding_hubs.iter();
        heard.filter_map(|(hub, (_, speaks))| {
            (*speaks == ProtocolVersion::Clearance1).then_some(hub)
        })
    }

    /// Returns the list as lines of JSON: a `listed` for each question, a `hub` for each hub whose
    /// questions are not in it, and the `list` that ends it.
    pub fn to_json(&self) -> String {
        let rows = self.rows();
        let count = rows.len();
        let listed = rows
            .into_iter()
            .map(|row| ScriptEvent::Listed(ScriptQuestion::from_row(row).without_row_number()));
        let older = self
            .clearance1_hubs()
            .map(|id| hub_up_event(id, ProtocolVersion::Clearance1));
        let unheard = self
            .unresponsive_hubs
            .iter()
            .map(|(id, reason)| hub_state_event(id, "unreachable", Some(reason)));
        let end = [ScriptEvent::List { rows: count }];
        let lines = listed.chain(older).chain(unheard).chain(end);
        lines.map(|line| to_json_line(&line)).collect()
    }

    /// Returns the list for a person, for a screen of `width` columns; nothing where nothing is
    /// pending.
    pub fn to_table(&self, width: usize, color: bool) -> String {
        super::table::render_table(&self.rows(), self.taken_at, width, color)
    }
}

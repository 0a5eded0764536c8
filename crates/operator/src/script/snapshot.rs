// SPDX-License-Identifier: Apache-2.0
//! A snapshot of the pending questions of all hubs, taken within a time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{DisplayText, Timestamp};

use super::SandboxSelector;
use super::selector::{HubMatch, hub_sandbox_name};
use crate::inbox::{HubId, InboxChange, Row};
use crate::json::{ScriptEvent, ScriptQuestion, hub_state_event, hub_up_event, to_json_line};
use crate::{Session, phrases};

/// The pending questions of every hub at one moment.
#[derive(Debug)]
pub struct PendingSnapshot {
    pub(super) session: Session,
    /// The hubs that responded. Clearance1 hubs never send pending questions.
    pub(super) responding_hubs: BTreeMap<HubId, ProtocolVersion>,
    /// The hubs that did not respond, with the reasons.
    pub(super) unresponsive_hubs: Vec<(HubId, DisplayText)>,
    /// The selected sandbox; `None` for all.
    pub(super) container: Option<SandboxSelector>,
    /// All hubs with a listener, also those of other sandboxes; not read without a selection.
    found_hubs: Vec<HubId>,
    /// The time of the snapshot.
    taken_at: Timestamp,
}

/// Reads the pending questions of the hub at `socket`; without `socket`, of every hub below
/// `runtime`.
///
/// `container` excludes hubs that cannot have questions of the sandbox. A hub that sends nothing
/// for `limit` before it has sent all questions counts as unresponsive. A socket without a listener
/// is a leftover of an ended hub and is ignored, except `socket`, which counts as unresponsive.
pub async fn take_snapshot(
    runtime: &RuntimeDir,
    socket: Option<&Path>,
    container: Option<SandboxSelector>,
    limit: Duration,
) -> PendingSnapshot {
    let paths: Vec<PathBuf> = if let Some(socket) = socket {
        vec![socket.to_owned()]
    } else {
        let found = runtime.hub_sockets().into_iter();
        found.map(|socket| socket.path).collect()
    };
    let found_hubs = match &container {
        Some(_) if socket.is_none() => runtime.live_hubs(),
        _ => Vec::new(),
    };
    let found_hubs = found_hubs.iter().map(|socket| HubId::new(&socket.path));
    let found_hubs = found_hubs.collect();
    let paths = match &container {
        Some(selected) if socket.is_none() => select_hubs(paths, selected),
        _ => paths,
    };
    let mut hubs: BTreeMap<_, _> = paths
        .iter()
        .map(|path| (HubId::new(path), HubResponse::None))
        .collect();
    let mut session = Session::query(paths, socket.is_none(), limit);
    while !session.is_synced() {
        for change in session.next().await {
            record_response(&mut hubs, change);
        }
    }
    let mut snapshot = PendingSnapshot {
        session,
        responding_hubs: BTreeMap::new(),
        unresponsive_hubs: Vec::new(),
        container,
        found_hubs,
        taken_at: Timestamp::now(),
    };
    for (hub, response) in hubs {
        match response {
            HubResponse::Complete(version) => {
                snapshot.responding_hubs.insert(hub, version);
            }
            HubResponse::Failed(reason) => snapshot.unresponsive_hubs.push((hub, reason)),
            // The socket is a leftover of an ended hub.
            HubResponse::None if !snapshot.session.is_tracked(&hub) => {}
            HubResponse::None | HubResponse::Incomplete => {
                let reason = format!("no list of questions within {limit:?}");
                let reason = DisplayText::new(&reason);
                snapshot.unresponsive_hubs.push((hub, reason));
            }
        }
    }
    snapshot
}

/// Returns the hubs that may have questions of the sandbox. An id in a path settles it: the hubs of
/// other ids are left out. A name may be that of a sandbox whose hub has not recorded it.
fn select_hubs(mut paths: Vec<PathBuf>, selected: &SandboxSelector) -> Vec<PathBuf> {
    let has_id = |path: &PathBuf| {
        let hub = HubId::new(path);
        hub.sandbox().map(|id| selected.serves_id(id))
    };
    let is_id = paths.iter().any(|path| has_id(path) == Some(true));
    paths.retain(|path| match selected.match_hub(&HubId::new(path)) {
        HubMatch::Serves => true,
        HubMatch::Unknown => !is_id || has_id(path).is_none(),
        HubMatch::ServesAnother => false,
    });
    paths
}

/// The state of a hub during the snapshot.
enum HubResponse {
    /// Not connected yet.
    None,
    /// Connected; the hub is sending questions.
    Incomplete,
    /// The hub has sent all questions, or sends none because the hub speaks Clearance1.
    Complete(ProtocolVersion),
    /// Unreachable or disconnected for this reason.
    Failed(DisplayText),
}

fn record_response(hubs: &mut BTreeMap<HubId, HubResponse>, change: InboxChange) {
    let (hub, response) = match change {
        InboxChange::Up(hub, ProtocolVersion::Clearance2) => (hub, HubResponse::Incomplete),
        // A Clearance1 hub sends only new questions, never the pending ones.
        InboxChange::Up(hub, version) => (hub, HubResponse::Complete(version)),
        InboxChange::Synced(hub) => (hub, HubResponse::Complete(ProtocolVersion::Clearance2)),
        InboxChange::Unreachable(hub, reason) | InboxChange::Down(hub, reason) => {
            (hub, HubResponse::Failed(reason))
        }
        _ => return,
    };
    if let Some(known) = hubs.get_mut(&hub)
        && !matches!(known, HubResponse::Complete(_))
    {
        *known = response;
    }
}

impl PendingSnapshot {
    /// Returns the pending questions, the oldest first.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<_> = self.session.inbox().rows().collect();
        rows.retain(|row| self.includes(row));
        rows.sort_by(|a, b| (a.first_seen(), a.hub()).cmp(&(b.first_seen(), b.hub())));
        rows
    }

    /// Returns `true` for a row of the selected sandbox, at a hub that has sent all questions.
    pub(super) fn includes(&self, row: &Row) -> bool {
        let is_complete = self.responding_hubs.get(row.hub()) == Some(&ProtocolVersion::Clearance2);
        let selected = self.container.as_ref();
        is_complete && selected.is_none_or(|selected| selected.matches_row(row))
    }

    /// Returns the selected sandbox if none is called so, as far as the hubs know.
    pub fn unmatched(&self) -> Option<&SandboxSelector> {
        let selected = self.container.as_ref()?;
        let unheard = self.unresponsive_hubs.iter().map(|(hub, _)| hub);
        let mut hubs = self.responding_hubs.keys().chain(unheard);
        let is_known = hubs.any(|hub| selected.match_hub(hub) == HubMatch::Serves);
        (!is_known && self.rows().is_empty()).then_some(selected)
    }

    /// Returns the line that says that no sandbox has the selected name, and which ones there are.
    pub fn describe_unmatched(&self) -> Option<String> {
        const MAX_NAMES: usize = 6;
        let selected = self.unmatched()?;
        let asking = self.session.inbox().rows().map(phrases::describe_sandbox);
        let hubs = self.found_hubs.iter().filter_map(hub_sandbox_name);
        let names: BTreeSet<_> = asking.chain(hubs.map(|name| name.to_string())).collect();
        let mut shown: Vec<_> = names.iter().take(MAX_NAMES).cloned().collect();
        if names.len() > MAX_NAMES {
            shown.push(format!(
                "and {} more",
                names.len().saturating_sub(MAX_NAMES)
            ));
        }
        let there_are = match (shown.is_empty(), self.found_hubs.is_empty()) {
            (true, true) => "no hub is running".to_owned(),
            (true, false) => "no sandbox asks".to_owned(),
            (false, _) => format!("there are: {}", shown.join(", ")),
        };
        Some(format!("no sandbox is called {selected}; {there_are}"))
    }

    /// Returns `true` if at least one hub was found, responding or not.
    pub fn has_hubs(&self) -> bool {
        !(self.responding_hubs.is_empty() && self.unresponsive_hubs.is_empty())
    }

    /// Returns `true` if every hub responded.
    pub const fn is_complete(&self) -> bool {
        self.unresponsive_hubs.is_empty()
    }

    /// Returns `true` if a hub does not list its questions, so that they cannot be known.
    pub fn has_unlisted_hubs(&self) -> bool {
        self.clearance1_hubs().next().is_some()
    }

    /// Returns a line with the reason for each hub whose questions are missing.
    pub fn describe_gaps(&self) -> Vec<String> {
        let unheard = self.describe_unresponsive();
        let older = self.clearance1_hubs().map(|hub| {
            let hub = phrases::describe_hub(hub);
            format!(
                "{hub} is of the Python stack, which does not list its questions: any number may \
                 be pending there"
            )
        });
        unheard.into_iter().chain(older).collect()
    }

    /// Returns a line with the reason for each hub that did not respond.
    pub fn describe_unresponsive(&self) -> Vec<String> {
        let unheard = self.unresponsive_hubs.iter().map(|(hub, reason)| {
            let hub = phrases::describe_hub(hub);
            format!("{hub} did not respond: {reason}")
        });
        unheard.collect()
    }

    /// Returns the hubs that cannot list questions.
    pub(super) fn clearance1_hubs(&self) -> impl Iterator<Item = &HubId> {
        let heard = self.responding_hubs.iter();
        heard.filter_map(|(hub, version)| (*version == ProtocolVersion::Clearance1).then_some(hub))
    }

    /// Returns the list as JSON lines: `listed` per question, `hub` per hub whose questions are
    /// missing, and `list` at the end.
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
        let unmatched = self.unmatched().map(ToString::to_string);
        let end = [ScriptEvent::List {
            rows: count,
            unmatched,
        }];
        let lines = listed.chain(older).chain(unheard).chain(end);
        lines.map(|line| to_json_line(&line)).collect()
    }

    /// Returns the list as text; empty without questions. Lines are broken for a terminal of
    /// `width` columns, and stay whole without one.
    pub fn to_table(&self, width: Option<usize>, color: bool) -> String {
        let inbox = self.session.inbox();
        super::table::render_table(&self.rows(), inbox, self.taken_at, width, color)
    }
}

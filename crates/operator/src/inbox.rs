// SPDX-License-Identifier: Apache-2.0
//! The questions of every hub as one numbered list: pure, without I/O and without a clock.
//!
//! Questions that the same answer would settle are one row, however often they are asked. A row's
//! number is never given to another one, so an answer never meets a question it was not meant for.

mod gap;
mod news;
mod row;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{Action, Decision, DecisionAction, DisplayText, RequestId, ShieldState};

pub use news::{Answer, Change, End, HubId, News, Refusal, Reply};
pub use row::{Row, RowNumber, RowNumberError};

use row::{Echo, Entry, Flow, Key};

/// The rows that one hub may have; a hub of ours has as many questions at most.
const ROWS_OF_A_HUB: usize = 131_072;
/// The ids that a question is known by: as many as a hub of ours knows it by, and some.
const IDS_OF_A_QUESTION: usize = 16;
/// The addresses and ports that are kept apart in a row that an answer settles as a whole.
const FLOWS_OF_A_WHOLE: usize = 64;
/// The ended rows whose end is remembered.
const REMEMBERED_ENDS: usize = 1024;

/// The questions of every hub.
#[derive(Debug, Default)]
pub struct Inbox {
    rows: BTreeMap<RowNumber, Row>,
    keys: HashMap<Key, RowNumber>,
    hubs: BTreeMap<HubId, Hub>,
    ended: VecDeque<(RowNumber, End)>,
    /// Those behind whose socket no hub was found.
    unreachable: BTreeSet<HubId>,
    last: Option<RowNumber>,
}

#[derive(Debug)]
struct Hub {
    speaks: ProtocolVersion,
    up: bool,
    /// Whether it is another process than the one that asked the older rows.
    restarted: bool,
    rows: BTreeSet<RowNumber>,
    requests: HashMap<RequestId, (RowNumber, Flow)>,
}

impl Inbox {
    /// Returns an inbox without hubs and rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the rows, the oldest first.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    /// Returns one row.
    pub fn row(&self, number: RowNumber) -> Option<&Row> {
        self.rows.get(&number)
    }

    /// Returns the hubs, and whether each is connected.
    pub fn hubs(&self) -> impl ExactSizeIterator<Item = (&HubId, bool)> {
        self.hubs.iter().map(|(id, hub)| (id, hub.up))
    }

    /// Returns how many sockets are there of which nobody could be heard: what is asked behind them
    /// is not among the rows.
    pub fn unreachable(&self) -> usize {
        self.unreachable.len()
    }

    /// Says whether there is a connection to `hub`.
    pub fn is_up(&self, hub: &HubId) -> bool {
        self.hubs.get(hub).is_some_and(|hub| hub.up)
    }

    /// Returns the row in which `hub` asks `request`, by any id that it is known by.
    pub fn find(&self, hub: &HubId, request: &str) -> Option<RowNumber> {
        let (row, _) = self.hubs.get(hub)?.requests.get(request)?;
        Some(*row)
    }

    /// Takes in what a hub says, and returns what changed.
    pub fn hear(&mut self, hub: &HubId, news: News) -> Vec<Change> {
        let mut changes = Vec::new();
        match news {
            News::Up(speaks) => self.up(hub, speaks, &mut changes),
            News::Down(reason) => {
                if let Some(state) = self.hubs.get_mut(hub)
                    && std::mem::take(&mut state.up)
                {
                    changes.push(Change::Down(hub.clone(), reason));
                }
            }
            News::Restarted => {
                if let Some(state) = self.hubs.get_mut(hub) {
                    state.restarted = true;
                }
            }
            News::Gone => self.gone(hub, &mut changes),
            // Of one that was there before, it is known that it is away.
            News::Unreachable(_) if self.hubs.contains_key(hub) => {}
            News::Unreachable(reason) => {
                self.unreachable.insert(hub.clone());
                changes.push(Change::Unreachable(hub.clone(), reason));
            }
            News::Said(event) => self.said(hub, event, &mut changes),
        }
        changes
    }

    /// Returns what to tell the hub so that `action` answers the row `number`, which is marked as
    /// being answered until each has its [`Inbox::settle`].
    pub fn answer(&mut self, number: RowNumber, action: Action) -> Result<Vec<Answer>, Refusal> {
        let Some(row) = self.rows.get_mut(&number) else {
            return Err(self.refusal(number));
        };
        if let Some((action, _)) = row.answering {
            return Err(Refusal::Answering(number, action));
        }
        if !self.hubs.get(row.hub()).is_some_and(|hub| hub.up) {
            return Err(Refusal::HubAway(number, row.hub().clone()));
        }
        if row.lapsed {
            return Err(Refusal::Lapsed(number));
        }
        let answer = |entry: &Entry| Answer {
            row: number,
            hub: row.key.hub.clone(),
            request: Arc::clone(&entry.request),
            action,
            scope: row.key.scope.clone(),
        };
        let answers: Vec<_> = match row.speaks {
            // The verdict on one opens the destination, and so answers them all.
            ProtocolVersion::Clearance1 => row
                .entries
                .get(&row.newest)
                .map(answer)
                .into_iter()
                .collect(),
            ProtocolVersion::Clearance2 => row.entries.values().map(answer).collect(),
        };
        for entry in row.entries.values_mut() {
            entry.echo = Echo::None;
        }
        row.answering = Some((action, answers.len()));
        Ok(answers)
    }

    /// Takes in what the hub replied to `answer`, and returns what changed.
    pub fn settle(&mut self, answer: &Answer, reply: Reply) -> Vec<Change> {
        let mut changes = Vec::new();
        let hub = &answer.hub;
        // A row that ends by our own answer ends as one that is being answered.
        let ours = matches!(&reply, Reply::Decided(_));
        if !ours {
            self.settled(answer.row);
        }
        match reply {
            Reply::Decided(decision) | Reply::AlreadyDecided(decision) if decision.ok => {
                self.decided(hub, Arc::new(decision), &mut changes);
            }
            Reply::NoSuchRequest => {
                self.unknown(answer, &mut changes);
            }
            Reply::Failed(reason) => self.failed(answer, reason, &mut changes),
            Reply::Unsure(reason) if self.rows.contains_key(&answer.row) => {
                changes.push(Change::Unsure {
                    row: answer.row,
                    action: answer.action,
                    reason,
                });
            }
            // Its row says what became of it.
            Reply::Unsure(_) => {}
            Reply::Decided(Decision { reason, .. })
            | Reply::AlreadyDecided(Decision { reason, .. }) => {
                self.failed(answer, reason.unwrap_or_default(), &mut changes);
            }
            Reply::EnforcementFailed(reason) => {
                if let Some(entry) = self.entry(hub, &answer.request.id) {
                    entry.echo = match entry.echo {
                        Echo::Heard => Echo::None,
                        Echo::None | Echo::Owed => Echo::Owed,
                    };
                }
                self.failed(answer, reason, &mut changes);
            }
        }
        if ours {
            self.settled(answer.row);
        }
        changes
    }

    /// Counts a reply to the answer that is on its way for the row.
    fn settled(&mut self, row: RowNumber) {
        if let Some(row) = self.rows.get_mut(&row)
            && let Some((action, waiting)) = row.answering
        {
            row.answering = (waiting > 1).then(|| (action, waiting - 1));
        }
    }

    fn said(&mut self, hub: &HubId, event: Event, changes: &mut Vec<Change>) {
        match event {
            Event::Pending(request) | Event::Repeated(request) => self.asked(hub, request, changes),
            Event::Decided(decision) => self.decided(hub, decision, changes),
            Event::Withdrawn { request, reason } => {
                self.drop_entry(hub, &request.id, End::Withdrawn(reason), changes);
            }
            Event::Container {
                container,
                state,
                reason,
            } => {
                if state == ContainerState::Exited {
                    self.void(hub, &container, "exited", changes);
                }
                changes.push(Change::Container {
                    hub: hub.clone(),
                    container,
                    state,
                    reason,
                });
            }
            Event::Shield { container, state } => {
                if state != ShieldState::Up {
                    self.void(hub, &container, "shield", changes);
                }
                changes.push(Change::Shield {
                    hub: hub.clone(),
                    container,
                    state,
                });
            }
            Event::Lost { lost, reason } => {
                self.doubt(hub);
                let hub = hub.clone();
                changes.push(Change::Lost { hub, lost, reason });
            }
            Event::Synced => {
                if self.takes_restart(hub) {
                    self.lapse_doubtful(hub, changes);
                }
                self.drop_doubtful(hub, changes);
                changes.push(Change::Synced(hub.clone()));
            }
        }
    }

    fn refusal(&self, number: RowNumber) -> Refusal {
        if self.last.is_none_or(|last| number > last) {
            return Refusal::NoSuchRow(number);
        }
        match self.ended.iter().rfind(|(ended, _)| *ended == number) {
            Some((_, end)) => Refusal::Ended(number, end.clone()),
            None => Refusal::LongEnded(number),
        }
    }

    fn up(&mut self, hub: &HubId, speaks: ProtocolVersion, changes: &mut Vec<Change>) {
        self.unreachable.remove(hub);
        let state = self.hubs.entry(hub.clone()).or_insert_with(|| Hub {
            speaks,
            up: false,
            restarted: false,
            rows: BTreeSet::new(),
            requests: HashMap::new(),
        });
        state.up = true;
        let before = std::mem::replace(&mut state.speaks, speaks);
        let restarted = state.restarted;
        changes.push(Change::Up(hub.clone(), speaks));
        if before == speaks && restarted {
            self.forget_ids(hub);
        }
        if before == speaks && speaks == ProtocolVersion::Clearance2 {
            self.doubt(hub);
        } else if before != speaks {
            // What an answer opens is another matter now: the next packet asks anew.
            self.end_rows(hub, |_| true, &End::Vanished, changes);
        } else if self.takes_restart(hub) {
            self.doubt(hub);
            self.lapse_doubtful(hub, changes);
        }
        // Else the hub, an older one, still knows what it asked, and refuses what is no more.
    }

    /// Adds a question, or adds to one.
    fn asked(&mut self, hub: &HubId, mut request: Arc<Request>, changes: &mut Vec<Change>) {
        let Some(state) = self.hubs.get(hub) else {
            return;
        };
        let speaks = state.speaks;
        let known = state.requests.get(&request.id).cloned();
        let flow = Flow::of(&request);
        let key = Key {
            hub: hub.clone(),
            container: request.container.clone(),
            scope: request.scope.clone(),
        };
        let row = self.keys.get(&key).copied();
        // More is known of it, and so it stands in another row now.
        let lapsed = |number| self.row(number).is_some_and(Row::is_lapsed);
        if let Some((number, _)) =
            known.filter(|(number, at)| (Some(*number), at) != (row, &flow) && !lapsed(*number))
        {
            let id = request.id.clone();
            let end = if Some(number) == row {
                End::Vanished
            } else {
                End::Changed
            };
            self.drop_entry(hub, &id, end, changes);
        }
        let row = self.keys.get(&key).copied();
        let number = row.unwrap_or_else(|| self.open(key, speaks, &request, changes));
        let (Some(row), Some(state)) = (self.rows.get_mut(&number), self.hubs.get_mut(hub)) else {
            return;
        };
        let revived = row.lapsed;
        if revived {
            gap::revive(row, state);
        }
        let id = request.id.clone();
        let (news, mut ids, echo) = match row.entries.remove(&flow) {
            Some(old) => {
                // A restarted hub counts anew.
                if speaks == ProtocolVersion::Clearance1 || (state.restarted && !old.confirmed) {
                    let counted = Arc::make_mut(&mut request);
                    counted.count = counted.count.saturating_add(old.request.count);
                    counted.first_seen = counted.first_seen.min(old.request.first_seen);
                }
                (old.request != request, old.ids, old.echo)
            }
            None => (true, VecDeque::new(), Echo::None),
        };
        if ids.back() != Some(&id) {
            ids.retain(|known| *known != id);
            ids.push_back(id.clone());
        }
        while ids.len() > IDS_OF_A_QUESTION {
            if let Some(oldest) = ids.pop_front() {
                state.requests.remove(&oldest);
            }
        }
        state.requests.insert(id, (number, flow.clone()));
        row.first_seen = row.first_seen.min(request.first_seen);
        row.entries.insert(
            flow.clone(),
            Entry {
                request,
                ids,
                confirmed: true,
                echo,
            },
        );
        row.newest = flow;
        if speaks == ProtocolVersion::Clearance1 {
            fold(row, state);
        }
        let asked = changes
            .iter()
            .any(|change| matches!(change, Change::Asked(new) if *new == number));
        if revived {
            changes.push(Change::Asked(number));
        } else if news && !asked {
            changes.push(Change::Again(number));
        }
    }

    /// Makes a row, as yet without an entry.
    fn open(
        &mut self,
        key: Key,
        speaks: ProtocolVersion,
        request: &Request,
        changes: &mut Vec<Change>,
    ) -> RowNumber {
        let crowded = self.hubs.get(&key.hub).and_then(|hub| {
            (hub.rows.len() >= ROWS_OF_A_HUB).then(|| hub.rows.first().copied())?
        });
        if let Some(oldest) = crowded {
            self.close(oldest, End::Crowded, changes);
        }
        let number = self.last.map_or(RowNumber::FIRST, RowNumber::next);
        self.last = Some(number);
        if let Some(hub) = self.hubs.get_mut(&key.hub) {
            hub.rows.insert(number);
        }
        self.keys.insert(key.clone(), number);
        let row = Row {
            number,
            key,
            speaks,
            entries: BTreeMap::new(),
            newest: Flow::of(request),
            folded: 0,
            first_seen: request.first_seen,
            answering: None,
            lapsed: false,
        };
        self.rows.insert(number, row);
        changes.push(Change::Asked(number));
        number
    }

    fn decided(&mut self, hub: &HubId, decision: Arc<Decision>, changes: &mut Vec<Change>) {
        if decision.ok {
            let request = decision.request.clone();
            match self.hubs.get(hub).map(|state| state.speaks) {
                // The whole destination is decided now: every question of the row is.
                Some(ProtocolVersion::Clearance1) => {
                    if let Some(row) = self.find(hub, request.as_str()) {
                        self.close(row, End::Decided(decision), changes);
                    }
                }
                _ => self.drop_entry(hub, &request, End::Decided(decision), changes),
            }
            return;
        }
        let action = match decision.action {
            DecisionAction::Allow => Action::Allow,
            DecisionAction::Deny => Action::Deny,
            DecisionAction::Dismiss => return,
        };
        let reason = decision.reason.clone().unwrap_or_default();
        self.failure_heard(hub, &decision.request, action, reason, changes);
    }

    /// Tells of a failure once, though the event and the reply to our answer both do.
    fn failure_heard(
        &mut self,
        hub: &HubId,
        request: &RequestId,
        action: Action,
        reason: DisplayText,
        changes: &mut Vec<Change>,
    ) {
        let Some(row) = self.find(hub, request.as_str()) else {
            return;
        };
        let ours = self.row(row).is_some_and(|row| row.answering.is_some());
        let Some(entry) = self.entry(hub, request) else {
            return;
        };
        match (ours, entry.echo) {
            (true, _) => entry.echo = Echo::Heard,
            (false, Echo::Owed) => entry.echo = Echo::None,
            (false, Echo::None | Echo::Heard) => changes.push(Change::Failed {
                row,
                action,
                reason,
            }),
        }
    }

    fn failed(&mut self, answer: &Answer, reason: DisplayText, changes: &mut Vec<Change>) {
        if self.rows.contains_key(&answer.row) {
            changes.push(Change::Failed {
                row: answer.row,
                action: answer.action,
                reason,
            });
        }
    }

    fn entry(&mut self, hub: &HubId, request: &RequestId) -> Option<&mut Entry> {
        let (number, flow) = self.hubs.get(hub)?.requests.get(request)?;
        self.rows.get_mut(number)?.entries.get_mut(flow)
    }

    /// Takes one question out of its row, and the row with the last one.
    fn drop_entry(
        &mut self,
        hub: &HubId,
        request: &RequestId,
        end: End,
        changes: &mut Vec<Change>,
    ) {
        let Some(state) = self.hubs.get_mut(hub) else {
            return;
        };
        let Some((number, flow)) = state.requests.get(request).cloned() else {
            return;
        };
        let Some(row) = self.rows.get_mut(&number) else {
            return;
        };
        if row.entries.len() <= 1 {
            self.close(number, end, changes);
            return;
        }
        if let Some(entry) = row.entries.remove(&flow) {
            for id in &entry.ids {
                state.requests.remove(id);
            }
        }
        if row.newest == flow {
            let seen = |(_, entry): &(&Flow, &Entry)| entry.request.last_seen;
            if let Some((newest, _)) = row.entries.iter().max_by_key(seen) {
                row.newest = newest.clone();
            }
        }
        if !changes
            .iter()
            .any(|change| matches!(change, Change::Again(n) if *n == number))
        {
            changes.push(Change::Again(number));
        }
    }

    /// Ends a row with all its questions.
    fn close(&mut self, number: RowNumber, end: End, changes: &mut Vec<Change>) {
        let Some(row) = self.rows.remove(&number) else {
            return;
        };
        self.keys.remove(&row.key);
        if let Some(hub) = self.hubs.get_mut(&row.key.hub) {
            hub.rows.remove(&number);
            for id in row.entries.values().flat_map(|entry| &entry.ids) {
                hub.requests.remove(id);
            }
        }
        if self.ended.len() >= REMEMBERED_ENDS {
            self.ended.pop_front();
        }
        self.ended.push_back((number, end.clone()));
        changes.push(Change::Ended(Box::new(row), end));
    }

    fn end_rows(
        &mut self,
        hub: &HubId,
        which: impl Fn(&Row) -> bool,
        end: &End,
        changes: &mut Vec<Change>,
    ) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        let numbers: Vec<_> = rows
            .into_iter()
            .flatten()
            .filter(|number| self.rows.get(number).is_some_and(&which))
            .copied()
            .collect();
        for number in numbers {
            self.close(number, end.clone(), changes);
        }
    }
}

/// Keeps a row small that an answer settles as a whole, however many ports are tried.
fn fold(row: &mut Row, hub: &mut Hub) {
    if row.entries.len() <= FLOWS_OF_A_WHOLE {
        return;
    }
    let oldest = row
        .entries
        .iter()
        .filter(|(flow, _)| **flow != row.newest)
        .min_by_key(|(_, entry)| entry.request.last_seen)
        .map(|(flow, _)| flow.clone());
    if let Some(entry) = oldest.and_then(|flow| row.entries.remove(&flow)) {
        row.folded = row.folded.saturating_add(entry.request.count);
        for id in &entry.ids {
            hub.requests.remove(id);
        }
    }
}

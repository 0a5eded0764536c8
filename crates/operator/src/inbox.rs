// SPDX-License-Identifier: Apache-2.0
//! The questions of every hub as one numbered list: pure, without I/O and without a clock.
//!
//! Questions that the same answer would settle are one row, however often they are asked. A row's
//! number is never given to another one, so an answer never meets a question it was not meant for.

mod events;
mod resync;
mod row;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{Action, Decision, DecisionAction, DisplayText, RequestId, ShieldState};

pub use events::{
    HubId, InboxChange, InboxEvent, OperatorAnswer, OperatorReply, RowEnd, RowRefusal,
};
pub use row::{Row, RowNumber, RowNumberError};

use row::{FailureNotice, RequestFlow, RowEntry, RowKey};

/// The rows that one hub may have; a hub of ours has as many questions at most.
const MAX_ROWS_PER_HUB: usize = 131_072;
/// The ids that a question is known by: as many as a hub of ours knows it by, and some.
const MAX_IDS_PER_ENTRY: usize = 16;
/// The addresses and ports that are kept apart in a row that an answer settles as a whole.
const MAX_CLEARANCE1_FLOWS: usize = 64;
/// The ended rows whose end is remembered.
const MAX_REMEMBERED_ENDS: usize = 1024;

/// The questions of every hub.
#[derive(Debug, Default)]
pub struct Inbox {
    rows: BTreeMap<RowNumber, Row>,
    rows_by_key: HashMap<RowKey, RowNumber>,
    hubs: BTreeMap<HubId, InboxHub>,
    recent_ends: VecDeque<(RowNumber, RowEnd)>,
    /// Those behind whose socket no hub was found.
    unreachable_hubs: BTreeSet<HubId>,
    last_number: Option<RowNumber>,
}

#[derive(Debug)]
struct InboxHub {
    protocol_version: ProtocolVersion,
    connected: bool,
    /// Whether it is another process than the one that asked the older rows.
    restarted: bool,
    rows: BTreeSet<RowNumber>,
    requests: HashMap<RequestId, (RowNumber, RequestFlow)>,
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
        self.hubs.iter().map(|(id, hub)| (id, hub.connected))
    }

    /// Returns how many sockets are there of which nobody could be heard: what is asked behind them
    /// is not among the rows.
    pub fn unreachable_count(&self) -> usize {
        self.unreachable_hubs.len()
    }

    /// Says whether there is a connection to `hub`.
    pub fn is_connected(&self, hub: &HubId) -> bool {
        self.hubs.get(hub).is_some_and(|hub| hub.connected)
    }

    /// Returns the row in which `hub` asks `request`, by any id that it is known by.
    pub fn find_row(&self, hub: &HubId, request: &str) -> Option<RowNumber> {
        let (row, _) = self.hubs.get(hub)?.requests.get(request)?;
        Some(*row)
    }

    /// Takes in what a hub says, and returns what changed.
    pub fn apply_event(&mut self, hub: &HubId, news: InboxEvent) -> Vec<InboxChange> {
        let mut changes = Vec::new();
        match news {
            InboxEvent::Up(speaks) => self.apply_hub_up(hub, speaks, &mut changes),
            InboxEvent::Down(reason) => {
                if let Some(state) = self.hubs.get_mut(hub)
                    && std::mem::take(&mut state.connected)
                {
                    changes.push(InboxChange::Down(hub.clone(), reason));
                }
            }
            InboxEvent::Restarted => {
                if let Some(state) = self.hubs.get_mut(hub) {
                    state.restarted = true;
                }
            }
            InboxEvent::Gone => self.apply_hub_gone(hub, &mut changes),
            // Of one that was there before, it is known that it is away.
            InboxEvent::Unreachable(_) if self.hubs.contains_key(hub) => {}
            InboxEvent::Unreachable(reason) => {
                self.unreachable_hubs.insert(hub.clone());
                changes.push(InboxChange::Unreachable(hub.clone(), reason));
            }
            InboxEvent::Received(event) => self.apply_hub_event(hub, event, &mut changes),
        }
        changes
    }

    /// Returns what to tell the hub so that `action` answers the row `number`, which is marked as
    /// being answered until each has its [`Inbox::settle`].
    pub fn answer(
        &mut self,
        number: RowNumber,
        action: Action,
    ) -> Result<Vec<OperatorAnswer>, RowRefusal> {
        let Some(row) = self.rows.get_mut(&number) else {
            return Err(self.refusal(number));
        };
        if let Some((action, _)) = row.answering {
            return Err(RowRefusal::AlreadyAnswering(number, action));
        }
        if !self.hubs.get(row.hub()).is_some_and(|hub| hub.connected) {
            return Err(RowRefusal::HubDisconnected(number, row.hub().clone()));
        }
        if row.forgotten_by_hub {
            return Err(RowRefusal::ForgottenByHub(number));
        }
        let answer = |entry: &RowEntry| OperatorAnswer {
            row: number,
            hub: row.key.hub.clone(),
            request: Arc::clone(&entry.request),
            action,
            scope: row.key.scope.clone(),
        };
        let answers: Vec<_> = match row.protocol_version {
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
            entry.failure_notice = FailureNotice::None;
        }
        row.answering = Some((action, answers.len()));
        Ok(answers)
    }

    /// Takes in what the hub replied to `answer`, and returns what changed.
    pub fn apply_reply(
        &mut self,
        answer: &OperatorAnswer,
        reply: OperatorReply,
    ) -> Vec<InboxChange> {
        let mut changes = Vec::new();
        let hub = &answer.hub;
        // A row that ends by our own answer ends as one that is being answered.
        let ours = matches!(&reply, OperatorReply::Decided(_));
        if !ours {
            self.count_reply(answer.row);
        }
        match reply {
            OperatorReply::Decided(decision) | OperatorReply::AlreadyDecided(decision)
                if decision.ok =>
            {
                self.apply_decision(hub, Arc::new(decision), &mut changes);
            }
            OperatorReply::NoSuchRequest => {
                self.apply_unknown_request(answer, &mut changes);
            }
            OperatorReply::Failed(reason) => self.report_failure(answer, reason, &mut changes),
            OperatorReply::ResultUnknown(reason) if self.rows.contains_key(&answer.row) => {
                changes.push(InboxChange::ResultUnknown {
                    row: answer.row,
                    action: answer.action,
                    reason,
                });
            }
            // Its row says what became of it.
            OperatorReply::ResultUnknown(_) => {}
            OperatorReply::Decided(Decision { reason, .. })
            | OperatorReply::AlreadyDecided(Decision { reason, .. }) => {
                self.report_failure(answer, reason.unwrap_or_default(), &mut changes);
            }
            OperatorReply::EnforcementFailed(reason) => {
                if let Some(entry) = self.entry_mut(hub, &answer.request.id) {
                    entry.failure_notice = match entry.failure_notice {
                        FailureNotice::ReplyDue => FailureNotice::None,
                        FailureNotice::None | FailureNotice::EventDue => FailureNotice::EventDue,
                    };
                }
                self.report_failure(answer, reason, &mut changes);
            }
        }
        if ours {
            self.count_reply(answer.row);
        }
        changes
    }

    /// Counts a reply to the answer that is on its way for the row.
    fn count_reply(&mut self, row: RowNumber) {
        if let Some(row) = self.rows.get_mut(&row)
            && let Some((action, waiting)) = row.answering
        {
            row.answering = (waiting > 1).then(|| (action, waiting - 1));
        }
    }

    fn apply_hub_event(&mut self, hub: &HubId, event: Event, changes: &mut Vec<InboxChange>) {
        match event {
            Event::Pending(request) | Event::Repeated(request) => {
                self.apply_request(hub, request, changes);
            }
            Event::Decided(decision) => self.apply_decision(hub, decision, changes),
            Event::Withdrawn { request, reason } => {
                self.drop_entry(hub, &request.id, RowEnd::Withdrawn(reason), changes);
            }
            Event::Container {
                container,
                state,
                reason,
            } => {
                if state == ContainerState::Exited {
                    self.withdraw_sandbox_rows(hub, &container, "exited", changes);
                }
                changes.push(InboxChange::Container {
                    hub: hub.clone(),
                    container,
                    state,
                    reason,
                });
            }
            Event::Shield { container, state } => {
                if state != ShieldState::Up {
                    self.withdraw_sandbox_rows(hub, &container, "shield", changes);
                }
                changes.push(InboxChange::Shield {
                    hub: hub.clone(),
                    container,
                    state,
                });
            }
            Event::Lost { lost, reason } => {
                self.mark_unconfirmed(hub);
                let hub = hub.clone();
                changes.push(InboxChange::Lost { hub, lost, reason });
            }
            Event::Synced => {
                if self.take_restarted(hub) {
                    self.mark_forgotten(hub, changes);
                }
                self.drop_unconfirmed(hub, changes);
                changes.push(InboxChange::Synced(hub.clone()));
            }
        }
    }

    fn refusal(&self, number: RowNumber) -> RowRefusal {
        if self.last_number.is_none_or(|last| number > last) {
            return RowRefusal::NoSuchRow(number);
        }
        match self.recent_ends.iter().rfind(|(ended, _)| *ended == number) {
            Some((_, end)) => RowRefusal::Ended(number, end.clone()),
            None => RowRefusal::EndedLongAgo(number),
        }
    }

    fn apply_hub_up(
        &mut self,
        hub: &HubId,
        speaks: ProtocolVersion,
        changes: &mut Vec<InboxChange>,
    ) {
        self.unreachable_hubs.remove(hub);
        let state = self.hubs.entry(hub.clone()).or_insert_with(|| InboxHub {
            protocol_version: speaks,
            connected: false,
            restarted: false,
            rows: BTreeSet::new(),
            requests: HashMap::new(),
        });
        state.connected = true;
        let before = std::mem::replace(&mut state.protocol_version, speaks);
        let restarted = state.restarted;
        changes.push(InboxChange::Up(hub.clone(), speaks));
        if before == speaks && restarted {
            self.clear_request_ids(hub);
        }
        if before == speaks && speaks == ProtocolVersion::Clearance2 {
            self.mark_unconfirmed(hub);
        } else if before != speaks {
            // What an answer opens is another matter now: the next packet asks anew.
            self.end_rows(hub, |_| true, &RowEnd::MissingAfterResync, changes);
        } else if self.take_restarted(hub) {
            self.mark_unconfirmed(hub);
            self.mark_forgotten(hub, changes);
        }
        // Else the hub, an older one, still knows what it asked, and refuses what is no more.
    }

    /// Adds a question, or adds to one.
    fn apply_request(
        &mut self,
        hub: &HubId,
        mut request: Arc<Request>,
        changes: &mut Vec<InboxChange>,
    ) {
        let Some(state) = self.hubs.get(hub) else {
            return;
        };
        let speaks = state.protocol_version;
        let known = state.requests.get(&request.id).cloned();
        let flow = RequestFlow::from_request(&request);
        let key = RowKey {
            hub: hub.clone(),
            container: request.container.clone(),
            scope: request.scope.clone(),
        };
        let row = self.rows_by_key.get(&key).copied();
        // More is known of it, and so it stands in another row now.
        let lapsed = |number| self.row(number).is_some_and(Row::is_forgotten_by_hub);
        if let Some((number, _)) =
            known.filter(|(number, at)| (Some(*number), at) != (row, &flow) && !lapsed(*number))
        {
            let id = request.id.clone();
            let end = if Some(number) == row {
                RowEnd::MissingAfterResync
            } else {
                RowEnd::ScopeChanged
            };
            self.drop_entry(hub, &id, end, changes);
        }
        let row = self.rows_by_key.get(&key).copied();
        let number = row.unwrap_or_else(|| self.open_row(key, speaks, &request, changes));
        let (Some(row), Some(state)) = (self.rows.get_mut(&number), self.hubs.get_mut(hub)) else {
            return;
        };
        let revived = row.forgotten_by_hub;
        if revived {
            resync::revive_row(row, state);
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
                (old.request != request, old.ids, old.failure_notice)
            }
            None => (true, VecDeque::new(), FailureNotice::None),
        };
        if ids.back() != Some(&id) {
            ids.retain(|known| *known != id);
            ids.push_back(id.clone());
        }
        while ids.len() > MAX_IDS_PER_ENTRY {
            if let Some(oldest) = ids.pop_front() {
                state.requests.remove(&oldest);
            }
        }
        state.requests.insert(id, (number, flow.clone()));
        row.first_seen = row.first_seen.min(request.first_seen);
        row.entries.insert(
            flow.clone(),
            RowEntry {
                request,
                ids,
                confirmed: true,
                failure_notice: echo,
            },
        );
        row.newest = flow;
        if speaks == ProtocolVersion::Clearance1 {
            merge_oldest_flow(row, state);
        }
        let asked = changes
            .iter()
            .any(|change| matches!(change, InboxChange::Added(new) if *new == number));
        if revived {
            changes.push(InboxChange::Added(number));
        } else if news && !asked {
            changes.push(InboxChange::Updated(number));
        }
    }

    /// Makes a row, as yet without an entry.
    fn open_row(
        &mut self,
        key: RowKey,
        speaks: ProtocolVersion,
        request: &Request,
        changes: &mut Vec<InboxChange>,
    ) -> RowNumber {
        let crowded = self.hubs.get(&key.hub).and_then(|hub| {
            (hub.rows.len() >= MAX_ROWS_PER_HUB).then(|| hub.rows.first().copied())?
        });
        if let Some(oldest) = crowded {
            self.end_row(oldest, RowEnd::Evicted, changes);
        }
        let number = self.last_number.map_or(RowNumber::FIRST, RowNumber::next);
        self.last_number = Some(number);
        if let Some(hub) = self.hubs.get_mut(&key.hub) {
            hub.rows.insert(number);
        }
        self.rows_by_key.insert(key.clone(), number);
        let row = Row {
            number,
            key,
            protocol_version: speaks,
            entries: BTreeMap::new(),
            newest: RequestFlow::from_request(request),
            merged_count: 0,
            first_seen: request.first_seen,
            answering: None,
            forgotten_by_hub: false,
        };
        self.rows.insert(number, row);
        changes.push(InboxChange::Added(number));
        number
    }

    fn apply_decision(
        &mut self,
        hub: &HubId,
        decision: Arc<Decision>,
        changes: &mut Vec<InboxChange>,
    ) {
        if decision.ok {
            let request = decision.request.clone();
            match self.hubs.get(hub).map(|state| state.protocol_version) {
                // The whole destination is decided now: every question of the row is.
                Some(ProtocolVersion::Clearance1) => {
                    if let Some(row) = self.find_row(hub, request.as_str()) {
                        self.end_row(row, RowEnd::Decided(decision), changes);
                    }
                }
                _ => self.drop_entry(hub, &request, RowEnd::Decided(decision), changes),
            }
            return;
        }
        let action = match decision.action {
            DecisionAction::Allow => Action::Allow,
            DecisionAction::Deny => Action::Deny,
            DecisionAction::Dismiss => return,
        };
        let reason = decision.reason.clone().unwrap_or_default();
        self.apply_failure_event(hub, &decision.request, action, reason, changes);
    }

    /// Tells of a failure once, though the event and the reply to our answer both do.
    fn apply_failure_event(
        &mut self,
        hub: &HubId,
        request: &RequestId,
        action: Action,
        reason: DisplayText,
        changes: &mut Vec<InboxChange>,
    ) {
        let Some(row) = self.find_row(hub, request.as_str()) else {
            return;
        };
        let ours = self.row(row).is_some_and(|row| row.answering.is_some());
        let Some(entry) = self.entry_mut(hub, request) else {
            return;
        };
        match (ours, entry.failure_notice) {
            (true, _) => entry.failure_notice = FailureNotice::ReplyDue,
            (false, FailureNotice::EventDue) => entry.failure_notice = FailureNotice::None,
            (false, FailureNotice::None | FailureNotice::ReplyDue) => {
                changes.push(InboxChange::Failed {
                    row,
                    action,
                    reason,
                });
            }
        }
    }

    fn report_failure(
        &mut self,
        answer: &OperatorAnswer,
        reason: DisplayText,
        changes: &mut Vec<InboxChange>,
    ) {
        if self.rows.contains_key(&answer.row) {
            changes.push(InboxChange::Failed {
                row: answer.row,
                action: answer.action,
                reason,
            });
        }
    }

    fn entry_mut(&mut self, hub: &HubId, request: &RequestId) -> Option<&mut RowEntry> {
        let (number, flow) = self.hubs.get(hub)?.requests.get(request)?;
        self.rows.get_mut(number)?.entries.get_mut(flow)
    }

    /// Takes one question out of its row, and the row with the last one.
    fn drop_entry(
        &mut self,
        hub: &HubId,
        request: &RequestId,
        end: RowEnd,
        changes: &mut Vec<InboxChange>,
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
            self.end_row(number, end, changes);
            return;
        }
        if let Some(entry) = row.entries.remove(&flow) {
            for id in &entry.ids {
                state.requests.remove(id);
            }
        }
        if row.newest == flow {
            let seen = |(_, entry): &(&RequestFlow, &RowEntry)| entry.request.last_seen;
            if let Some((newest, _)) = row.entries.iter().max_by_key(seen) {
                row.newest = newest.clone();
            }
        }
        if !changes
            .iter()
            .any(|change| matches!(change, InboxChange::Updated(n) if *n == number))
        {
            changes.push(InboxChange::Updated(number));
        }
    }

    /// Ends a row with all its questions.
    fn end_row(&mut self, number: RowNumber, end: RowEnd, changes: &mut Vec<InboxChange>) {
        let Some(row) = self.rows.remove(&number) else {
            return;
        };
        self.rows_by_key.remove(&row.key);
        if let Some(hub) = self.hubs.get_mut(&row.key.hub) {
            hub.rows.remove(&number);
            for id in row.entries.values().flat_map(|entry| &entry.ids) {
                hub.requests.remove(id);
            }
        }
        if self.recent_ends.len() >= MAX_REMEMBERED_ENDS {
            self.recent_ends.pop_front();
        }
        self.recent_ends.push_back((number, end.clone()));
        changes.push(InboxChange::Ended(Box::new(row), end));
    }

    fn end_rows(
        &mut self,
        hub: &HubId,
        which: impl Fn(&Row) -> bool,
        end: &RowEnd,
        changes: &mut Vec<InboxChange>,
    ) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        let numbers: Vec<_> = rows
            .into_iter()
            .flatten()
            .filter(|number| self.rows.get(number).is_some_and(&which))
            .copied()
            .collect();
        for number in numbers {
            self.end_row(number, end.clone(), changes);
        }
    }
}

/// Keeps a row small that an answer settles as a whole, however many ports are tried.
fn merge_oldest_flow(row: &mut Row, hub: &mut InboxHub) {
    if row.entries.len() <= MAX_CLEARANCE1_FLOWS {
        return;
    }
    let oldest = row
        .entries
        .iter()
        .filter(|(flow, _)| **flow != row.newest)
        .min_by_key(|(_, entry)| entry.request.last_seen)
        .map(|(flow, _)| flow.clone());
    if let Some(entry) = oldest.and_then(|flow| row.entries.remove(&flow)) {
        row.merged_count = row.merged_count.saturating_add(entry.request.count);
        for id in &entry.ids {
            hub.requests.remove(id);
        }
    }
}

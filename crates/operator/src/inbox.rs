// SPDX-License-Identifier: Apache-2.0
//! The numbered list of the questions of all hubs; pure, without I/O or clock.
//!
//! Questions with the same answer share a row, also when repeated. A row number is never reused, so
//! that an answer reaches only the question that the operator saw.

mod answers;
mod events;
mod hub_states;
mod offers;
mod question_id;
mod removal;
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

pub(crate) use question_id::is_request_number;

use question_id::SandboxIndex;
use removal::merge_oldest_flow;
use row::{FailureNotice, RequestFlow, RowEntry, RowKey};

/// Maximum number of rows per hub; the hub of this project has the same limit for questions.
const MAX_ROWS_PER_HUB: usize = 131_072;
/// Maximum number of ids per question, higher than the limit of this project's hub.
const MAX_IDS_PER_ENTRY: usize = 16;
/// Maximum number of flows in a row of a Clearance1 hub; older flows are merged into a count.
const MAX_CLEARANCE1_FLOWS: usize = 64;
/// Maximum number of answers per hub whose event is awaited.
const MAX_AWAITED_DECISIONS: usize = 1024;
/// Maximum number of ended rows whose reasons are remembered.
const MAX_REMEMBERED_ENDS: usize = 1024;

/// The questions of all hubs.
#[derive(Debug, Default)]
pub struct Inbox {
    rows: BTreeMap<RowNumber, Row>,
    rows_by_key: HashMap<RowKey, RowNumber>,
    hubs: BTreeMap<HubId, InboxHub>,
    sandbox_index: SandboxIndex,
    recent_ends: VecDeque<(RowNumber, RowEnd)>,
    /// The hubs with a socket that cannot be used.
    unreachable_hubs: BTreeSet<HubId>,
    last_number: Option<RowNumber>,
}

#[derive(Debug)]
struct InboxHub {
    protocol_version: ProtocolVersion,
    connected: bool,
    /// Whether the hub process was replaced since the existing rows were asked.
    restarted: bool,
    rows: BTreeSet<RowNumber>,
    requests: HashMap<RequestId, (RowNumber, RequestFlow)>,
    /// Questions that the reply to an answer has ended, before their event: an update of the
    /// question may be on its way still.
    awaited_decisions: VecDeque<RequestId>,
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

    /// Returns the row `number`.
    pub fn row(&self, number: RowNumber) -> Option<&Row> {
        self.rows.get(&number)
    }

    /// Returns the row of the question `request` of `hub`; finds a question by any of its ids.
    pub fn find_row(&self, hub: &HubId, request: &str) -> Option<RowNumber> {
        let (row, _) = self.hubs.get(hub)?.requests.get(request)?;
        Some(*row)
    }

    /// Applies an event of a hub, and returns the changes.
    pub fn apply_event(&mut self, hub: &HubId, event: InboxEvent) -> Vec<InboxChange> {
        let mut changes = Vec::new();
        match event {
            InboxEvent::Up(version) => self.apply_hub_up(hub, version, &mut changes),
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
            // A known hub was reported as down before.
            InboxEvent::Unreachable(_) if self.hubs.contains_key(hub) => {}
            InboxEvent::NoListener => {}
            InboxEvent::Unreachable(reason) => {
                self.unreachable_hubs.insert(hub.clone());
                changes.push(InboxChange::Unreachable(hub.clone(), reason));
            }
            InboxEvent::Received(event) => self.apply_hub_event(hub, event, &mut changes),
            InboxEvent::UnknownEvent(event) => {
                changes.push(InboxChange::UnknownEvent(hub.clone(), event));
            }
        }
        changes
    }

    /// Applies the reply of a hub to `answer`, and returns the changes.
    pub fn apply_reply(
        &mut self,
        answer: &OperatorAnswer,
        reply: OperatorReply,
    ) -> Vec<InboxChange> {
        let mut changes = Vec::new();
        let hub = &answer.hub;
        // A row answered by this operator must end before its pending reply is counted: user
        // interfaces recognize own answers by `Row::answering`.
        let ours = matches!(&reply, OperatorReply::Decided(_));
        if !ours {
            self.count_reply(answer.row);
        }
        match reply {
            OperatorReply::Decided(decision) | OperatorReply::AlreadyDecided(decision)
                if decision.ok =>
            {
                self.await_decision(hub, &decision.request);
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
            // The row has ended; that change reported the result.
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

    /// Ignores updates of a decided question until the event of the decision.
    fn await_decision(&mut self, hub: &HubId, request: &RequestId) {
        let Some(state) = self.hubs.get_mut(hub) else {
            return;
        };
        // A Clearance1 hub asks anew under any id, and an unknown question has had its event.
        if state.protocol_version == ProtocolVersion::Clearance2
            && state.requests.contains_key(request)
        {
            if state.awaited_decisions.len() >= MAX_AWAITED_DECISIONS {
                state.awaited_decisions.pop_front();
            }
            state.awaited_decisions.push_back(request.clone());
        }
    }

    fn apply_hub_event(&mut self, hub: &HubId, event: Event, changes: &mut Vec<InboxChange>) {
        match event {
            Event::Repeated(request) if self.awaits_decision(hub, &request.id) => {}
            Event::Pending(request) | Event::Repeated(request) => {
                self.apply_request(hub, request, changes);
            }
            Event::Decided(decision) => {
                if let Some(state) = self.hubs.get_mut(hub) {
                    state.awaited_decisions.retain(|id| *id != decision.request);
                }
                self.apply_decision(hub, decision, changes);
            }
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
                self.forget_awaited_decisions(hub);
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
            // `Event` is non-exhaustive. Event types unknown to this release arrive as
            // `InboxEvent::UnknownEvent`.
            other => tracing::debug!(?other, "ignored an event"),
        }
    }

    fn awaits_decision(&self, hub: &HubId, request: &RequestId) -> bool {
        let state = self.hubs.get(hub);
        state.is_some_and(|state| state.awaited_decisions.contains(request))
    }

    /// Forgets which decisions are awaited: their events may have been lost.
    fn forget_awaited_decisions(&mut self, hub: &HubId) {
        if let Some(state) = self.hubs.get_mut(hub) {
            state.awaited_decisions.clear();
        }
    }

    fn apply_hub_up(
        &mut self,
        hub: &HubId,
        version: ProtocolVersion,
        changes: &mut Vec<InboxChange>,
    ) {
        self.unreachable_hubs.remove(hub);
        let state = self.hubs.entry(hub.clone()).or_insert_with(|| InboxHub {
            protocol_version: version,
            connected: false,
            restarted: false,
            rows: BTreeSet::new(),
            requests: HashMap::new(),
            awaited_decisions: VecDeque::new(),
        });
        state.connected = true;
        state.awaited_decisions.clear();
        let before = std::mem::replace(&mut state.protocol_version, version);
        let restarted = state.restarted;
        changes.push(InboxChange::Up(hub.clone(), version));
        if before == version && restarted {
            self.clear_request_ids(hub);
        }
        if before == version && version == ProtocolVersion::Clearance2 {
            self.mark_unconfirmed(hub);
        } else if before != version {
            // Answers have different scopes in the two versions; the next packet asks again.
            self.end_rows(hub, |_| true, &RowEnd::MissingAfterResync, changes);
        } else if self.take_restarted(hub) {
            self.mark_unconfirmed(hub);
            self.mark_forgotten(hub, changes);
        }
        // Otherwise the same Clearance1 hub still has the questions, and refuses answers to ended
        // questions.
    }

    /// Adds or updates a question.
    fn apply_request(
        &mut self,
        hub: &HubId,
        mut request: Arc<Request>,
        changes: &mut Vec<InboxChange>,
    ) {
        let Some(state) = self.hubs.get(hub) else {
            return;
        };
        let version = state.protocol_version;
        let known = state.requests.get(&request.id).cloned();
        let flow = RequestFlow::from_request(&request);
        let key = RowKey::new(hub, &request);
        let row = self.rows_by_key.get(&key).copied();
        // The question has a new scope or flow, and moves to another row.
        let is_forgotten = |number| self.row(number).is_some_and(Row::is_forgotten_by_hub);
        if let Some((number, _)) = known
            .filter(|(number, at)| (Some(*number), at) != (row, &flow) && !is_forgotten(*number))
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
        let number = row.unwrap_or_else(|| self.open_row(key, version, &request, changes));
        let (Some(row), Some(state)) = (self.rows.get_mut(&number), self.hubs.get_mut(hub)) else {
            return;
        };
        let revived = row.forgotten_by_hub;
        if revived {
            resync::revive_row(row, state);
        }
        let id = request.id.clone();
        let mut process_found = false;
        let (is_changed, mut ids, failure_notice) = match row.entries.remove(&flow) {
            Some(old) => {
                // A restarted hub counts from zero again.
                if version == ProtocolVersion::Clearance1 || (state.restarted && !old.confirmed) {
                    let counted = Arc::make_mut(&mut request);
                    counted.count = counted.count.saturating_add(old.request.count);
                    counted.first_seen = counted.first_seen.min(old.request.first_seen);
                }
                process_found = old.request.process.is_none() && request.process.is_some();
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
                failure_notice,
            },
        );
        row.newest = flow;
        if version == ProtocolVersion::Clearance1 {
            merge_oldest_flow(row, state);
        }
        let waiting_grew = row.note_waiting_growth();
        let is_added = changes
            .iter()
            .any(|change| matches!(change, InboxChange::Added(new) if *new == number));
        if revived {
            changes.push(InboxChange::Added(number));
        } else if is_changed && !is_added {
            changes.push(InboxChange::Updated(number));
            if process_found {
                changes.push(InboxChange::ProcessFound(number));
            }
            if waiting_grew {
                changes.push(InboxChange::WaitingGrew(number));
            }
        }
    }

    /// Adds a row without entries.
    fn open_row(
        &mut self,
        key: RowKey,
        version: ProtocolVersion,
        request: &Request,
        changes: &mut Vec<InboxChange>,
    ) -> RowNumber {
        let evicted = self.hubs.get(&key.hub).and_then(|hub| {
            (hub.rows.len() >= MAX_ROWS_PER_HUB).then(|| hub.rows.first().copied())?
        });
        if let Some(oldest) = evicted {
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
            short_name: question_id::short_name(&request.container, &request.dossier),
            key,
            protocol_version: version,
            entries: BTreeMap::new(),
            newest: RequestFlow::from_request(request),
            merged_count: 0,
            first_seen: request.first_seen,
            answering: None,
            forgotten_by_hub: false,
            waiting_magnitude: 0,
        };
        self.sandbox_index.add_row(&row);
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
                // The decision applies to the whole destination, so the row ends.
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

    /// Applies the event of a failed answer. The reply to the answer announces the same failure,
    /// but the inbox reports each failure once.
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
}

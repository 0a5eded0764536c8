// SPDX-License-Identifier: Apache-2.0
//! Keeps rows correct across lost connections and hub restarts: no question is lost, and no answer
//! reaches another question.

use terok_clearance::client::ProtocolVersion;
use terok_clearance::{ContainerId, RequestId};

use super::row::{RequestFlow, Row, RowEntry};
use super::{HubId, Inbox, InboxChange, InboxHub, OperatorAnswer, RowEnd};

impl Inbox {
    /// Applies the removal of a hub's socket.
    pub(super) fn apply_hub_gone(&mut self, hub: &HubId, changes: &mut Vec<InboxChange>) {
        self.unreachable_hubs.remove(hub);
        if hub.sandbox().is_some() {
            // A per-sandbox hub ends with the sandbox.
            self.end_rows(hub, |_| true, &RowEnd::HubGone, changes);
        }
        let Some(state) = self.hubs.get_mut(hub) else {
            return;
        };
        changes.push(InboxChange::Gone(hub.clone()));
        if state.rows.is_empty() {
            self.hubs.remove(hub);
            return;
        }
        // A hub for all sandboxes may be restarting: at the start, the Python hub removes the old
        // socket.
        state.connected = false;
        state.restarted = true;
        self.clear_request_ids(hub);
        self.mark_unconfirmed(hub);
        self.mark_forgotten(hub, changes);
    }

    /// Applies a reply that means: the hub does not know the question of `answer`.
    ///
    /// If the hub withdrew the question, an event reports the end. If the hub was restarted, no
    /// event follows, so the row is kept and marked as forgotten.
    pub(super) fn apply_unknown_request(
        &mut self,
        answer: &OperatorAnswer,
        changes: &mut Vec<InboxChange>,
    ) {
        let (hub, id) = (&answer.hub, &answer.request.id);
        let asks = self.find_row(hub, id.as_str()) == Some(answer.row);
        let Some(row) = self.rows.get_mut(&answer.row) else {
            return;
        };
        if asks && row.entries.len() > 1 {
            return self.drop_entry(hub, id, RowEnd::MissingAfterResync, changes);
        }
        let becomes_forgotten = asks && !std::mem::replace(&mut row.forgotten_by_hub, true);
        self.report_failure(answer, "the hub does not know the question".into(), changes);
        if becomes_forgotten {
            changes.push(InboxChange::ForgottenByHub(answer.row));
        }
    }

    /// Marks every question of the hub as unconfirmed, for [`Self::drop_unconfirmed`].
    pub(super) fn mark_unconfirmed(&mut self, hub: &HubId) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        for number in rows.into_iter().flatten() {
            if let Some(row) = self.rows.get_mut(number) {
                for entry in row.entries.values_mut() {
                    entry.confirmed = false;
                }
            }
        }
    }

    /// Clears the ids of a hub's questions, because a restarted reader reuses ids.
    pub(super) fn clear_request_ids(&mut self, hub: &HubId) {
        let Some(state) = self.hubs.get_mut(hub) else {
            return;
        };
        state.requests.clear();
        for number in &state.rows {
            if let Some(row) = self.rows.get_mut(number) {
                for entry in row.entries.values_mut() {
                    entry.ids.clear();
                }
            }
        }
    }

    /// Returns `true` once per restart of the hub.
    pub(super) fn take_restarted(&mut self, hub: &HubId) -> bool {
        let state = self.hubs.get_mut(hub);
        state.is_some_and(|state| std::mem::take(&mut state.restarted))
    }

    /// Marks the rows that a restarted hub did not confirm as forgotten. Such rows stay, because
    /// the questions are unanswered, but the hub would refuse an answer. A row with a confirmed
    /// question loses the unconfirmed questions.
    pub(super) fn mark_forgotten(&mut self, hub: &HubId, changes: &mut Vec<InboxChange>) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        for number in rows.into_iter().flatten() {
            let Some(row) = self.rows.get_mut(number) else {
                continue;
            };
            let confirmed = row.entries.values().filter(|entry| entry.confirmed);
            let seen = |entry: &&RowEntry| entry.request.last_seen;
            if let Some(newest) = confirmed.max_by_key(seen) {
                row.newest = RequestFlow::from_request(&newest.request);
                row.entries.retain(|_, entry| entry.confirmed);
            } else if !std::mem::replace(&mut row.forgotten_by_hub, true) {
                changes.push(InboxChange::ForgottenByHub(*number));
            }
        }
    }

    /// Ends the questions that the hub did not confirm. Called only if the hub was not restarted.
    pub(super) fn drop_unconfirmed(&mut self, hub: &HubId, changes: &mut Vec<InboxChange>) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        let unconfirmed: Vec<RequestId> = rows
            .into_iter()
            .flatten()
            .filter_map(|number| self.rows.get(number))
            .filter(|row| !row.forgotten_by_hub)
            .flat_map(|row| row.entries.values())
            .filter(|entry| !entry.confirmed)
            .map(|entry| entry.request.id.clone())
            .collect();
        for request in unconfirmed {
            self.drop_entry(hub, &request, RowEnd::MissingAfterResync, changes);
        }
    }

    /// Ends the rows of a sandbox that ended or lost the firewall. A Clearance2 hub withdraws each
    /// question by an event, so only forgotten rows are ended here.
    pub(super) fn withdraw_sandbox_rows(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        reason: &str,
        changes: &mut Vec<InboxChange>,
    ) {
        let Some(state) = self.hubs.get(hub) else {
            return;
        };
        let forgotten_only = state.protocol_version == ProtocolVersion::Clearance2;
        // `terok-shield down` sends the podman name, the reader sends the id. At a per-sandbox hub,
        // both mean the same sandbox.
        let is_own_sandbox = hub.sandbox().is_some();
        let end = RowEnd::Withdrawn(reason.into());
        self.end_rows(
            hub,
            |row| {
                (is_own_sandbox || row.container() == container)
                    && (row.forgotten_by_hub || !forgotten_only)
            },
            &end,
            changes,
        );
    }
}

/// Clears the entries of a forgotten row that is asked again; the row keeps the packet count.
pub(super) fn revive_row(row: &mut Row, hub: &mut InboxHub) {
    row.forgotten_by_hub = false;
    row.merged_count = row.count();
    for entry in std::mem::take(&mut row.entries).into_values() {
        for id in &entry.ids {
            hub.requests.remove(id);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What is left of the rows after a hub was away: no question is lost, and none meets an answer
//! that was not meant for it.

use terok_clearance::client::ProtocolVersion;
use terok_clearance::{ContainerId, RequestId};

use super::row::{RequestFlow, Row, RowEntry};
use super::{HubId, Inbox, InboxChange, InboxHub, OperatorAnswer, RowEnd};

impl Inbox {
    /// Takes in that a hub's socket is gone.
    pub(super) fn apply_hub_gone(&mut self, hub: &HubId, changes: &mut Vec<InboxChange>) {
        self.unreachable_hubs.remove(hub);
        if hub.sandbox().is_some() {
            // It ends with its sandbox, and nobody wants to go anywhere any more.
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
        // The hub of every sandbox is on its way back, for all that is known; theirs takes its
        // socket away for a moment even when it was killed and starts anew.
        state.connected = false;
        state.restarted = true;
        self.clear_request_ids(hub);
        self.mark_unconfirmed(hub);
        self.mark_forgotten(hub, changes);
    }

    /// Takes in that the hub does not know the question of `answer`.
    ///
    /// A hub that has withdrawn it says so to everybody, before or after; one that was restarted
    /// says nothing, and there the question must not get lost.
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
        let lapses = asks && !std::mem::replace(&mut row.forgotten_by_hub, true);
        self.report_failure(answer, "the hub does not know the question".into(), changes);
        if lapses {
            changes.push(InboxChange::ForgottenByHub(answer.row));
        }
    }

    /// Marks what the hub has not said again; [`Self::drop_doubtful`] ends it.
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

    /// Forgets the ids of a hub's questions: a reader that starts anew gives them again, to others.
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

    /// Says, once for each restart, whether the hub is another process than the old rows'.
    pub(super) fn take_restarted(&mut self, hub: &HubId) -> bool {
        let state = self.hubs.get_mut(hub);
        state.is_some_and(|state| std::mem::take(&mut state.restarted))
    }

    /// Keeps the rows of which the hub has said nothing, and marks them: it was restarted, so
    /// nobody has answered them, and it cannot take an answer either.
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

    /// Ends what the hub, which was there all the time, did not say again.
    pub(super) fn drop_unconfirmed(&mut self, hub: &HubId, changes: &mut Vec<InboxChange>) {
        let rows = self.hubs.get(hub).map(|state| &state.rows);
        let doubtful: Vec<RequestId> = rows
            .into_iter()
            .flatten()
            .filter_map(|number| self.rows.get(number))
            .filter(|row| !row.forgotten_by_hub)
            .flat_map(|row| row.entries.values())
            .filter(|entry| !entry.confirmed)
            .map(|entry| entry.request.id.clone())
            .collect();
        for request in doubtful {
            self.drop_entry(hub, &request, RowEnd::MissingAfterResync, changes);
        }
    }

    /// Ends the rows of a sandbox of which a Clearance1 hub has said what makes them void; over
    /// Clearance2 it says so for each of them.
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
        // What it has forgotten it cannot withdraw.
        let lapsed_only = state.protocol_version == ProtocolVersion::Clearance2;
        // `terok-shield down` gives the podman name, the reader the id: a hub's own sandbox is
        // meant by either.
        let whole = hub.sandbox().is_some();
        let end = RowEnd::Withdrawn(reason.into());
        self.end_rows(
            hub,
            |row| (whole || row.container() == container) && (row.forgotten_by_hub || !lapsed_only),
            &end,
            changes,
        );
    }
}

/// Makes room for what is asked again: of what it had before, the row keeps the count.
pub(super) fn revive_row(row: &mut Row, hub: &mut InboxHub) {
    row.forgotten_by_hub = false;
    row.merged_count = row.count();
    for entry in std::mem::take(&mut row.entries).into_values() {
        for id in &entry.ids {
            hub.requests.remove(id);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Removal of questions and rows. The reasons for the ends are remembered.

use terok_clearance::RequestId;

use super::row::{RequestFlow, Row, RowEntry};
use super::{
    HubId, Inbox, InboxChange, InboxHub, MAX_CLEARANCE1_FLOWS, MAX_REMEMBERED_ENDS, RowEnd,
    RowNumber,
};

impl Inbox {
    /// Removes a question from the row. A row without questions ends.
    pub(super) fn drop_entry(
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

    /// Removes a row with all questions.
    pub(super) fn end_row(
        &mut self,
        number: RowNumber,
        end: RowEnd,
        changes: &mut Vec<InboxChange>,
    ) {
        let Some(row) = self.rows.remove(&number) else {
            return;
        };
        self.rows_by_key.remove(&row.key);
        self.sandbox_index.remove_row(&row);
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

    pub(super) fn end_rows(
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

/// Limits the size of a Clearance1 row even if the sandbox tries many ports.
pub(super) fn merge_oldest_flow(row: &mut Row, hub: &mut InboxHub) {
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

// SPDX-License-Identifier: Apache-2.0
//! The listed, the selected and the marked questions, all by number.
//!
//! A number belongs to one question, so the selection follows its question when the list moves.

use std::collections::{BTreeSet, VecDeque};

use terok_clearance::{Dest, DisplayText};

use crate::drawn::DrawnList;
use crate::keys::CursorMove;
use operator::inbox::{Inbox, Row, RowNumber};

#[derive(Debug, Default)]
pub(crate) struct QuestionSelection {
    /// The listed questions in increasing order. A deque, because questions often end in the order
    /// in which they came.
    listed: VecDeque<RowNumber>,
    /// The filter, in lower case.
    filter: String,
    selected: Option<RowNumber>,
    /// Whether the operator chose the selected question since the last frame.
    user_selected: bool,
    /// Whether questions appeared or ended since the last frame, listed or hidden by the filter.
    /// The hidden ones count, because the operator may clear the filter at any time.
    rows_changed: bool,
    marked: BTreeSet<RowNumber>,
    /// The index of the first question in the window.
    first_visible: usize,
    /// Number of lines of the window in the last frame.
    window_height: usize,
}

impl QuestionSelection {
    pub(crate) const fn selected(&self) -> Option<RowNumber> {
        self.selected
    }

    pub(crate) const fn marked(&self) -> &BTreeSet<RowNumber> {
        &self.marked
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// Lists a new question, or one that matches the filter only now.
    pub(crate) fn add_row(&mut self, row: &Row) {
        if !matches_filter(row, &self.filter) {
            return;
        }
        match self.listed.back() {
            Some(last) if *last >= row.number() => {
                if let Err(at) = self.listed.binary_search(&row.number()) {
                    self.listed.insert(at, row.number());
                    self.rows_changed = true;
                    if at < self.first_visible {
                        self.first_visible = self.first_visible.saturating_add(1);
                    }
                }
            }
            _ => {
                self.listed.push_back(row.number());
                self.rows_changed = true;
            }
        }
        if self.selected.is_none() {
            self.auto_select(self.listed.front().copied());
        }
    }

    /// Records that a question appeared, whether or not the filter hides it.
    pub(crate) const fn record_added(&mut self) {
        self.rows_changed = true;
    }

    /// Removes ended questions. If the selected question ended, selects the next one.
    pub(crate) fn remove_rows(&mut self, ended: &BTreeSet<RowNumber>) {
        // The selected question stays on its line of the screen, or the next one takes that line.
        let at = self.selected.map_or(0, |row| self.lower_bound(row));
        let line = at.saturating_sub(self.first_visible);
        if self.selected.is_some_and(|row| ended.contains(&row)) {
            let stays = |row: &&RowNumber| !ended.contains(row);
            let next = self.listed.range(at..).find(stays);
            let next = next.or_else(|| self.listed.range(..at).rev().find(stays));
            self.auto_select(next.copied());
        }
        match ended.first() {
            // The usual case, without a walk through the whole list.
            Some(row) if ended.len() == 1 => {
                if let Ok(at) = self.listed.binary_search(row) {
                    self.listed.remove(at);
                }
            }
            _ => self.listed.retain(|row| !ended.contains(row)),
        }
        for row in ended {
            self.marked.remove(row);
        }
        self.rows_changed |= !ended.is_empty();
        self.first_visible = self.position().unwrap_or(0).saturating_sub(line);
    }

    /// Selects a question that the operator did not choose.
    fn auto_select(&mut self, row: Option<RowNumber>) {
        self.selected = row;
        self.user_selected = false;
    }

    /// Selects a question that the operator chose, if it is listed.
    pub(crate) fn select(&mut self, row: RowNumber) {
        if self.selected != Some(row) && self.listed.binary_search(&row).is_ok() {
            self.selected = Some(row);
            self.user_selected = true;
        }
        self.first_visible = self.scrolled_to_selected(self.window_height);
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        let Some(last) = self.listed.len().checked_sub(1) else {
            return;
        };
        let at = target_index(self.position().unwrap_or(0), to, self.window_height, last);
        if let Some(row) = self.listed.get(at).copied() {
            self.select(row);
        }
    }

    /// Returns the index of the first question of a window that contains the selected one.
    fn scrolled_to_selected(&self, window: usize) -> usize {
        let Some(at) = self.position() else {
            return self.first_visible;
        };
        let lowest = at.saturating_add(1).saturating_sub(window.max(1));
        self.first_visible.clamp(lowest, at)
    }

    fn lower_bound(&self, row: RowNumber) -> usize {
        self.listed.partition_point(|listed| *listed < row)
    }

    /// Returns the index of the selected question in the list.
    pub(crate) fn position(&self) -> Option<usize> {
        self.listed.binary_search(&self.selected?).ok()
    }

    /// Returns the number of listed questions.
    pub(crate) fn len(&self) -> usize {
        self.listed.len()
    }

    /// Returns the questions in a window of `height` lines, and the index of the first.
    pub(crate) fn window(&self, height: usize) -> (usize, Vec<RowNumber>) {
        let all = self.listed.len();
        let first = self.scrolled_to_selected(height);
        let first = first.min(all.saturating_sub(height));
        let end = first.saturating_add(height).min(all);
        (first, self.listed.range(first..end).copied().collect())
    }

    /// Records the window that a frame showed.
    pub(crate) const fn record_drawn(&mut self, list: &DrawnList) {
        self.first_visible = list.first_visible;
        self.window_height = list.height;
    }

    /// Returns whether the operator chose the selected question since the last call.
    pub(crate) const fn take_user_selected(&mut self) -> bool {
        std::mem::replace(&mut self.user_selected, false)
    }

    /// Returns whether questions appeared or ended since the last call.
    pub(crate) const fn take_rows_changed(&mut self) -> bool {
        std::mem::replace(&mut self.rows_changed, false)
    }

    /// Toggles the mark of the selected question, and selects the next one.
    pub(crate) fn toggle_mark(&mut self) {
        if let Some(row) = self.selected {
            if !self.marked.remove(&row) {
                self.marked.insert(row);
            }
            self.navigate(CursorMove::Lines(1));
        }
    }

    /// Marks every listed question, or clears all marks if each of them is marked already.
    pub(crate) fn toggle_all_marks(&mut self) {
        if self.listed.iter().all(|row| self.marked.contains(row)) {
            self.marked.clear();
        } else {
            self.marked.extend(self.listed.iter().copied());
        }
    }

    pub(crate) fn unmark(&mut self, row: RowNumber) {
        self.marked.remove(&row);
    }

    pub(crate) fn clear_marks(&mut self) {
        self.marked.clear();
    }

    /// Lists only the questions that contain a text that the operator typed.
    pub(crate) fn set_filter(&mut self, filter: &str, inbox: &Inbox) {
        let filter = filter.to_lowercase();
        if filter.starts_with(&self.filter) {
            let row = |number: &RowNumber| inbox.row(*number);
            self.listed
                .retain(|number| row(number).is_some_and(|row| matches_filter(row, &filter)));
        } else {
            let rows = inbox.rows().filter(|row| matches_filter(row, &filter));
            self.listed = rows.map(Row::number).collect();
        }
        self.filter = filter;
        if self.position().is_some() {
            return;
        }
        let near = self.selected.and_then(|selected| {
            let next = self.listed.get(self.lower_bound(selected));
            next.or_else(|| self.listed.back()).copied()
        });
        if near.is_some() {
            self.selected = near;
            self.user_selected = true;
        } else {
            self.auto_select(self.listed.front().copied());
        }
    }
}

/// Returns the index after a move from `at` in a list whose last index is `last`.
pub(crate) fn target_index(at: usize, to: CursorMove, window: usize, last: usize) -> usize {
    let by = |count: i32, size: usize| {
        let by = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let by = by.saturating_mul(size);
        if count < 0 {
            at.saturating_sub(by)
        } else {
            at.saturating_add(by).min(last)
        }
    };
    match to {
        CursorMove::Lines(count) => by(count, 1),
        CursorMove::Windows(count) => by(count, window.saturating_sub(1).max(1)),
        CursorMove::First => 0,
        CursorMove::Last => last,
    }
}

/// Returns `true` if any shown text of a row contains `filter`, which is in lower case.
fn matches_filter(row: &Row, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    let has = |text: &str| {
        let (text, filter) = (text.as_bytes(), filter.as_bytes());
        text.windows(filter.len())
            .any(|part| part.eq_ignore_ascii_case(filter))
    };
    let dossier = || row.dossier().values().map(DisplayText::as_str);
    has(row.dest().as_str())
        || has(row.container().as_str())
        || dossier().any(has)
        || row
            .process()
            .is_some_and(|process| has(process.name.as_str()))
        || row.addresses().into_iter().map(Dest::as_str).any(has)
        || row.looked_up_as().map(Dest::as_str).is_some_and(has)
        || row
            .ports()
            .iter()
            .any(|(port, protocol)| has(&format!("{port}/{protocol}")))
        || has(&operator::phrases::describe_sandbox(row))
}

// SPDX-License-Identifier: Apache-2.0
//! Which questions are listed, which one is selected, and which are marked: all by number.
//!
//! A question's number is its alone, so a list that moves takes the selection along with it.

use std::collections::BTreeSet;

use terok_clearance::{Dest, DisplayText};

use crate::keys::CursorMove;
use operator::inbox::{Inbox, Row, RowNumber};

#[derive(Debug, Default)]
pub(crate) struct QuestionSelection {
    /// The listed ones, in rising order, and those of `ended`.
    listed: Vec<RowNumber>,
    /// Those that are no more and have yet to be taken out, all at once.
    ended: BTreeSet<RowNumber>,
    /// In lower case.
    filter: String,
    selected: Option<RowNumber>,
    /// Whether the person chose the selected one, and the screen has not shown that yet.
    user_selected: bool,
    /// Whether questions came or went, and the screen has not shown that yet.
    rows_changed: bool,
    pub(crate) marked: BTreeSet<RowNumber>,
    /// The first one in the window.
    first_visible: usize,
    /// How many fit into the window.
    window_height: usize,
}

impl QuestionSelection {
    pub(crate) fn selected(&self) -> Option<RowNumber> {
        self.selected
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// Takes in that there is a question, or that more is known of one.
    pub(crate) fn add_row(&mut self, row: &Row) {
        if !matches_filter(row, &self.filter) {
            return;
        }
        match self.listed.last() {
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
                self.listed.push(row.number());
                self.rows_changed = true;
            }
        }
    }

    /// Takes in that a question is no more.
    pub(crate) fn mark_ended(&mut self, row: RowNumber) {
        self.marked.remove(&row);
        self.ended.insert(row);
    }

    /// Takes out what is no more, and selects a question where none is.
    pub(crate) fn remove_ended(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        if !ended.is_empty() {
            // What is selected stays on its line of the screen, or the next one takes the line.
            let at = self
                .selected
                .map_or(0, |row| self.listed.partition_point(|listed| *listed < row));
            let line = at.saturating_sub(self.first_visible);
            if self.selected.is_some_and(|row| ended.contains(&row)) {
                let (above, below) = self.listed.split_at(at.min(self.listed.len()));
                let stays = |row: &&RowNumber| !ended.contains(row);
                let next = below.iter().find(stays);
                let next = next.or_else(|| above.iter().rev().find(stays));
                self.auto_select(next.copied());
            }
            let before = self.listed.len();
            self.listed.retain(|row| !ended.contains(row));
            self.rows_changed |= self.listed.len() != before;
            self.first_visible = self.position().unwrap_or(0).saturating_sub(line);
        }
        if self.selected.is_none() {
            self.auto_select(self.listed.first().copied());
        }
    }

    /// Selects what the person did not ask for.
    fn auto_select(&mut self, row: Option<RowNumber>) {
        self.selected = row;
        self.user_selected = false;
    }

    /// Selects what the person asked for, if it is listed.
    pub(crate) fn select(&mut self, row: RowNumber) {
        if self.selected != Some(row) && self.listed.binary_search(&row).is_ok() {
            self.selected = Some(row);
            self.user_selected = true;
        }
        self.scroll_to_selected();
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        self.remove_ended();
        let Some(last) = self.listed.len().checked_sub(1) else {
            return;
        };
        let at = target_index(self.position().unwrap_or(0), to, self.window_height, last);
        if let Some(row) = self.listed.get(at).copied() {
            self.select(row);
        }
    }

    /// Scrolls the selected one into the window.
    fn scroll_to_selected(&mut self) {
        let Some(at) = self.position() else {
            return;
        };
        let window = self.window_height.max(1);
        if at < self.first_visible {
            self.first_visible = at;
        } else if at >= self.first_visible.saturating_add(window) {
            self.first_visible = at.saturating_add(1).saturating_sub(window);
        }
    }

    /// Returns where in the list the selected one is.
    pub(crate) fn position(&self) -> Option<usize> {
        self.listed.binary_search(&self.selected?).ok()
    }

    /// Returns how many are listed.
    pub(crate) fn len(&self) -> usize {
        self.listed.len()
    }

    /// Returns those in a window of so many lines, and notes that they are shown.
    pub(crate) fn lay_out(&mut self, window: usize) -> &[RowNumber] {
        self.remove_ended();
        self.window_height = window;
        self.scroll_to_selected();
        self.first_visible = self
            .first_visible
            .min(self.listed.len().saturating_sub(window));
        let end = self
            .first_visible
            .saturating_add(window)
            .min(self.listed.len());
        self.listed.get(self.first_visible..end).unwrap_or_default()
    }

    /// Says whether the person went to the selected one since the last time, and forgets it.
    pub(crate) fn take_user_selected(&mut self) -> bool {
        std::mem::take(&mut self.user_selected)
    }

    /// Says whether questions came or went since the last time, and forgets it.
    pub(crate) fn take_rows_changed(&mut self) -> bool {
        std::mem::take(&mut self.rows_changed)
    }

    /// Marks the selected one, or takes its mark away, and goes on to the next.
    pub(crate) fn toggle_mark(&mut self) {
        if let Some(row) = self.selected {
            if !self.marked.remove(&row) {
                self.marked.insert(row);
            }
            self.navigate(CursorMove::Lines(1));
        }
    }

    /// Marks all that are listed, or, where they are, takes all marks away.
    pub(crate) fn toggle_all_marks(&mut self) {
        self.remove_ended();
        if self.listed.iter().all(|row| self.marked.contains(row)) {
            self.marked.clear();
        } else {
            self.marked.extend(self.listed.iter().copied());
        }
    }

    /// Lists only what has this text in it, which the person is typing.
    pub(crate) fn set_filter(&mut self, filter: &str, inbox: &Inbox) {
        let filter = filter.to_lowercase();
        self.remove_ended();
        if filter.starts_with(&self.filter) {
            let row = |number: &RowNumber| inbox.row(*number);
            self.listed
                .retain(|number| row(number).is_some_and(|row| matches_filter(row, &filter)));
        } else {
            let rows = inbox.rows().filter(|row| matches_filter(row, &filter));
            self.listed = rows.map(Row::number).collect();
        }
        self.filter = filter;
        if self.position().is_none() {
            let near = self.selected.and_then(|selected| {
                let at = self.listed.partition_point(|row| *row < selected);
                self.listed.get(at).or_else(|| self.listed.last()).copied()
            });
            self.selected = near;
            self.user_selected = true;
        }
    }
}

/// Returns where a step from `at` leads in a list that ends at `last`.
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

/// Says whether a row has this lower-case text in anything that is shown of it.
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
        || row
            .ports()
            .iter()
            .any(|(port, protocol)| has(&format!("{port}/{protocol}")))
        || has(&operator::phrases::describe_sandbox(row))
}

// SPDX-License-Identifier: Apache-2.0
//! The record of one frame.
//!
//! The layout computes a [`DrawnScreen`] together with the frame; the event loop passes the record
//! to the model once the terminal has accepted the frame. Answers depend on the record, so that a
//! key counts only for a question that was really shown.

use operator::answer_guard::VisibleLines;
use operator::inbox::RowNumber;

/// The contents of a frame that the model needs for the next keys and clicks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrawnScreen {
    /// The list of questions, if shown.
    pub(crate) list: Option<DrawnList>,
    /// The pane of the selected question, if shown.
    pub(crate) question_pane: Option<DrawnQuestionPane>,
    /// The scrollable page, if shown.
    pub(crate) page: Option<DrawnPage>,
    /// The questions to confirm, if shown.
    pub(crate) confirm: Option<DrawnConfirm>,
    /// The list of rules, if shown.
    pub(crate) rules: Option<DrawnRules>,
    /// Number of answers that were pending.
    pub(crate) unanswered: usize,
    /// Whether the session was synced.
    pub(crate) is_synced: bool,
}

/// The visible part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawnList {
    /// The shown questions, one per line of the screen.
    pub(crate) rows: Vec<RowNumber>,
    /// The line of the screen of the first question.
    pub(crate) first_row_y: u16,
    /// The index of the first shown question in the list.
    pub(crate) first_visible: usize,
    /// Number of lines for questions.
    pub(crate) height: usize,
}

impl DrawnList {
    /// Returns the question at a line of the screen.
    pub(crate) fn row_at(&self, y: u16) -> Option<RowNumber> {
        let at = y.checked_sub(self.first_row_y)?;
        self.rows.get(usize::from(at)).copied()
    }
}

/// The pane of the selected question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawnQuestionPane {
    /// The selected question, if any.
    pub(crate) question: Option<DrawnQuestion>,
}

/// The visible part of the selected question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawnQuestion {
    pub(crate) number: RowNumber,
    /// The text of what an answer opens or closes.
    pub(crate) effects: String,
    pub(crate) lines: VisibleLines,
}

/// The visible part of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrawnPage {
    /// The first shown line.
    pub(crate) first_line: usize,
    /// The first shown line at the end of the page.
    pub(crate) max_first_line: usize,
    /// Number of lines.
    pub(crate) height: usize,
}

/// The visible part of the list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrawnRules {
    /// The line of the screen of the first line of the list.
    pub(crate) first_row_y: u16,
    /// The index of the first shown line of the list.
    pub(crate) first_visible: usize,
    /// Number of lines of the list that fit.
    pub(crate) height: usize,
}

/// The visible part of the confirm dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrawnConfirm {
    /// The index of the first shown question.
    pub(crate) first_item: usize,
    /// Number of questions shown in full.
    pub(crate) complete_items: usize,
}

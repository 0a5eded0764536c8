// SPDX-License-Identifier: Apache-2.0
//! The confirm dialog: each marked question with everything that the answer opens or refuses.

use operator::ScopeChoice;
use ratatui::text::{Line, Span};
use terok_clearance::Action;

use super::scopes;
use crate::confirm_dialog::ConfirmDialog;
use crate::drawn::DrawnConfirm;
use crate::theme::Theme;
use crate::wrap::{truncate, wrap};

/// The visible part of the dialog, as lines.
#[derive(Debug)]
pub(crate) struct ConfirmText {
    pub(crate) lines: Vec<Line<'static>>,
    pub(crate) drawn: DrawnConfirm,
}

/// Returns the title of the dialog.
pub(crate) fn title(dialog: &ConfirmDialog) -> String {
    let verb = match dialog.action() {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
    };
    match dialog.items().len() {
        1 => format!("{verb} this one question?"),
        count => format!("{verb} these {count} questions?"),
    }
}

/// Returns the lines that fit into `height`.
///
/// Wraps the text without ratatui, because a question counts as shown only if all lines fit.
pub(crate) fn text(dialog: &ConfirmDialog, width: usize, height: usize) -> ConfirmText {
    let first_item = dialog.first_visible();
    let mut lines = lifetime_lines(dialog, width);
    let mut complete_items = 0_usize;
    for item in dialog.items().iter().skip(first_item) {
        let heading = format!(" [{}] {}", item.number, item.sandbox_name);
        lines.push(Line::styled(truncate(&heading, width), Theme::bold()));
        let text = wrap(&item.effect, width.saturating_sub(7));
        lines.extend(text.iter().map(|line| Line::raw(format!("      {line}"))));
        if lines.len() > height {
            lines.truncate(height);
            break;
        }
        complete_items = complete_items.saturating_add(1);
    }
    let drawn = DrawnConfirm {
        first_item,
        complete_items,
    };
    ConfirmText { lines, drawn }
}

/// Returns the lifetimes that the operator can choose for all questions.
fn lifetime_lines(dialog: &ConfirmDialog, width: usize) -> Vec<Line<'static>> {
    let chosen = |choice: ScopeChoice| dialog.lasts(choice);
    let lines = scopes::choice_lines(dialog.offered(), chosen, width.saturating_sub(8));
    let mut label = " lasts ";
    let labelled = lines.into_iter().map(|spans| {
        let label = Span::styled(std::mem::replace(&mut label, "       "), Theme::dim());
        std::iter::once(label).chain(spans).collect()
    });
    labelled.collect()
}

/// Returns the position in the list: `1 to 8 of 20`.
pub(crate) fn position_text(dialog: &ConfirmDialog, drawn: DrawnConfirm) -> String {
    let count = dialog.items().len();
    let first = drawn.first_item.saturating_add(1);
    let last = drawn.first_item.saturating_add(drawn.complete_items.max(1));
    format!("{first} to {} of {count}", last.min(count))
}

// SPDX-License-Identifier: Apache-2.0
//! The help page: the rules of answering, and the key tables.

use ratatui::text::{Line, Span};

use crate::keys::BINDING_TABLES;
use crate::theme::Theme;
use crate::wrap::wrap;

const HELP_PARAGRAPHS: &[&str] = &[
    "Each line of the list is a destination that a sandbox tried to reach and that its firewall \
     refused. Nothing opens unless you allow it; unanswered questions stay pending and refused.",
    "An answer opens or refuses exactly what the screen says. A key is ignored if the question \
     has just appeared or changed; the line above the keys then says why.",
    "The keys 1 to 6 choose how long the answer to the selected question lasts, w chooses a wider \
     name; only what the question offers is shown. After each choice, read the new text. The \
     choice is for this question alone. r shows all rules, and x there revokes one.",
    "A click selects a question and never answers one. In most terminals, Shift and the mouse \
     select text.",
];

/// Returns the lines of the page.
pub(crate) fn help_lines(theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for paragraph in HELP_PARAGRAPHS {
        for line in wrap(paragraph, width.saturating_sub(2).min(90)) {
            lines.push(Line::raw(format!(" {line}")));
        }
        lines.push(Line::default());
    }
    for (title, keys) in BINDING_TABLES {
        lines.push(Line::styled(format!(" {title}"), theme.title()));
        for key in *keys {
            let mut rest = wrap(key.help, width.saturating_sub(15)).into_iter();
            lines.push(Line::from(vec![
                Span::styled(format!("   {:<10}", key.name), Theme::bold()),
                Span::raw(rest.next().unwrap_or_default()),
            ]));
            lines.extend(rest.map(|line| Line::raw(format!("{:13}{line}", ""))));
        }
        lines.push(Line::default());
    }
    lines.pop();
    lines
}

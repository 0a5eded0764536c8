// SPDX-License-Identifier: Apache-2.0
//! The help: the tables of keys, and the few things one has to know.

use ratatui::text::{Line, Span};

use crate::keys::BINDING_TABLES;
use crate::theme::Theme;
use crate::wrap::wrap;

const HELP_PARAGRAPHS: &[&str] = &[
    "Each line of the list is something that a sandbox wanted to reach and that its firewall \
     refused. Nothing opens unless you allow it; what you leave alone stays asked and stays shut.",
    "An answer opens or refuses exactly what the screen says. A key is not taken when the question \
     has only just come under it, by itself, or has changed: the bottom line says so.",
    "A click selects and never answers. Shift and the mouse select text in most terminals.",
];

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

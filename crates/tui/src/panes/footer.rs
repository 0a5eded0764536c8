// SPDX-License-Identifier: Apache-2.0
//! The two lines at the bottom: the status, and the keys of the current mode.

use operator::phrases::MessageTone;
use ratatui::text::{Line, Span};

use crate::keys::ViewMode;
use crate::theme::Theme;
use crate::view::SessionView;
use crate::wrap::truncate;

/// Returns the line with the filter that is being typed.
pub(crate) fn filter_line(theme: Theme, filter: &str, width: usize) -> Line<'static> {
    // The end of the filter is where the operator types.
    let shown = filter.char_indices().rev().take(width.saturating_sub(11));
    let end = shown.last().and_then(|(at, _)| filter.get(at..));
    Line::from(vec![
        Span::styled(" filter: ", theme.title()),
        Span::raw(end.unwrap_or_default().to_owned()),
        Span::styled(" ", Theme::selected()),
    ])
}

/// Returns the status line: the latest message, otherwise the pending answers.
pub(crate) fn status_line(
    theme: Theme,
    status: Option<&(MessageTone, String)>,
    view: SessionView<'_>,
    width: usize,
) -> Line<'static> {
    match status {
        Some((tone, text)) => Line::styled(truncate(&format!(" {text}"), width), theme.tone(*tone)),
        None if view.unanswered > 0 => {
            let text = format!(" {}", view.unanswered_text());
            Line::styled(truncate(&text, width), Theme::dim())
        }
        None => Line::default(),
    }
}

/// Returns the line with the most important keys of a mode.
pub(crate) fn keys_line(mode: ViewMode, width: usize) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    let mut used = 1_usize;
    let keys = mode.bindings().iter();
    for (name, short) in keys.filter_map(|key| Some((key.name, key.short_help?))) {
        let len = name.len().saturating_add(short.len()).saturating_add(3);
        if used.saturating_add(len) > width.saturating_add(2) {
            break;
        }
        used = used.saturating_add(len);
        spans.push(Span::styled(name, Theme::bold()));
        spans.push(Span::styled(format!(" {short}  "), Theme::dim()));
    }
    Line::from(spans)
}

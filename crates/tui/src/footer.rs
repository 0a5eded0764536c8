// SPDX-License-Identifier: Apache-2.0
//! The two lines at the bottom: what just happened, and which keys there are.

use ratatui::text::{Line, Span};

use crate::keys::ViewMode;
use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::truncate;

impl TuiModel {
    pub(crate) fn status_line(&self, width: usize) -> Line<'static> {
        if self.mode == ViewMode::Filter {
            let room = width.saturating_sub(11);
            let filter = self.selection.filter();
            // The end of what is typed is what one looks at.
            let start = filter.char_indices().rev().take(room).last();
            let end = start.map_or("", |(at, _)| filter.get(at..).unwrap_or_default());
            return Line::from(vec![
                Span::styled(" filter: ", self.theme.title()),
                Span::raw(end.to_owned()),
                Span::styled(" ", Theme::selected()),
            ]);
        }
        match &self.status {
            Some((tone, text)) => {
                Line::styled(truncate(&format!(" {text}"), width), self.theme.tone(*tone))
            }
            None if self.in_flight_count() > 0 => {
                let text = format!(" {}", self.in_flight_text());
                Line::styled(truncate(&text, width), Theme::dim())
            }
            None => Line::default(),
        }
    }

    pub(crate) fn keys_line(&self, width: usize) -> Line<'static> {
        let mut spans = vec![Span::raw(" ")];
        let mut used = 1_usize;
        let keys = self.mode.bindings().iter();
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
}

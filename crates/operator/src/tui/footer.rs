// SPDX-License-Identifier: Apache-2.0
//! The two lines at the bottom: what just happened, and which keys there are.

use ratatui::text::{Line, Span};

use super::keys::Mode;
use super::model::Model;
use super::theme::Theme;
use super::wrap::fit;

impl Model {
    pub(super) fn status_line(&self, width: usize) -> Line<'static> {
        if self.mode == Mode::Filter {
            let room = width.saturating_sub(11);
            let filter = self.list.filter();
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
                Line::styled(fit(&format!(" {text}"), width), self.theme.tone(*tone))
            }
            None if self.waiting() > 0 => {
                let text = format!(" {}", self.what_is_under_way());
                Line::styled(fit(&text, width), Theme::quiet())
            }
            None => Line::default(),
        }
    }

    pub(super) fn keys_line(&self, width: usize) -> Line<'static> {
        let mut spans = vec![Span::raw(" ")];
        let mut used = 1_usize;
        let keys = self.mode.keys().iter();
        for (name, short) in keys.filter_map(|key| Some((key.name, key.short?))) {
            let len = name.len().saturating_add(short.len()).saturating_add(3);
            if used.saturating_add(len) > width.saturating_add(2) {
                break;
            }
            used = used.saturating_add(len);
            spans.push(Span::styled(name, Theme::strong()));
            spans.push(Span::styled(format!(" {short}  "), Theme::quiet()));
        }
        Line::from(spans)
    }
}

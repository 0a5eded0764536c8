// SPDX-License-Identifier: Apache-2.0
//! The top line: how much waits, and whether all that should be there is.

use ratatui::text::{Line, Span};

use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::truncate;

impl TuiModel {
    pub(crate) fn header_line(&self, width: usize) -> Line<'static> {
        let theme = self.theme;
        let waiting = self.inbox.rows().len();
        let (waiting, style) = match waiting {
            0 => ("nothing waits".to_owned(), theme.good()),
            1 => ("1 question waits".to_owned(), theme.pending()),
            many => (format!("{many} questions wait"), theme.pending()),
        };
        let mut spans = vec![
            Span::styled(" Clearance  ", theme.title()),
            Span::styled(waiting, style),
        ];
        let marked = self.selection.marked.len();
        if marked > 0 {
            spans.push(Span::styled(format!("  {marked} marked"), Theme::bold()));
        }
        let sandboxes = match self.sandboxes.len() {
            1 => "  1 sandbox".to_owned(),
            many => format!("  {many} sandboxes"),
        };
        spans.push(Span::raw(sandboxes));
        let open = self.sandboxes.unguarded_count();
        if open > 0 {
            spans.push(Span::styled(format!("  {open} NOT GUARDED"), theme.bad()));
        }
        let (hubs, away) = (
            self.inbox.hubs().len(),
            self.inbox.hubs().filter(|(_, up)| !up).count(),
        );
        spans.push(Span::raw(match hubs {
            0 => "  no hub yet".to_owned(),
            1 => "  1 hub".to_owned(),
            many => format!("  {many} hubs"),
        }));
        if away > 0 {
            spans.push(Span::styled(format!("  {away} AWAY"), theme.bad()));
        }
        let unreachable = self.inbox.unreachable_count();
        if unreachable > 0 {
            spans.push(Span::styled(
                format!("  {unreachable} UNREACHABLE"),
                theme.bad(),
            ));
        }
        let used: usize = spans.iter().map(Span::width).sum();
        let place = self.hub_source.as_str();
        if let Some(room) = width
            .checked_sub(used.saturating_add(4))
            .filter(|r| *r >= 12)
        {
            let place = truncate(place, room);
            let gap = width
                .saturating_sub(used)
                .saturating_sub(place.len())
                .saturating_sub(1);
            spans.push(Span::styled(format!("{:gap$}{place}", ""), Theme::dim()));
        }
        Line::from(spans)
    }
}

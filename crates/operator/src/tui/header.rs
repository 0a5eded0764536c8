// SPDX-License-Identifier: Apache-2.0
//! The top line: how much waits, and whether all that should be there is.

use ratatui::text::{Line, Span};

use super::model::Model;
use super::theme::Theme;
use super::wrap::fit;

impl Model {
    pub(super) fn header(&self, width: usize) -> Line<'static> {
        let theme = self.theme;
        let waiting = self.inbox.rows().len();
        let (waiting, style) = match waiting {
            0 => ("nothing waits".to_owned(), theme.good()),
            1 => ("1 question waits".to_owned(), theme.asked()),
            many => (format!("{many} questions wait"), theme.asked()),
        };
        let mut spans = vec![
            Span::styled(" Clearance  ", theme.title()),
            Span::styled(waiting, style),
        ];
        let marked = self.list.marked.len();
        if marked > 0 {
            spans.push(Span::styled(format!("  {marked} marked"), Theme::strong()));
        }
        let sandboxes = match self.sandboxes.len() {
            1 => "  1 sandbox".to_owned(),
            many => format!("  {many} sandboxes"),
        };
        spans.push(Span::raw(sandboxes));
        let open = self.sandboxes.open();
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
        let unreachable = self.inbox.unreachable();
        if unreachable > 0 {
            spans.push(Span::styled(
                format!("  {unreachable} UNREACHABLE"),
                theme.bad(),
            ));
        }
        let used: usize = spans.iter().map(Span::width).sum();
        let place = self.place.as_str();
        if let Some(room) = width
            .checked_sub(used.saturating_add(4))
            .filter(|r| *r >= 12)
        {
            let place = fit(place, room);
            let gap = width
                .saturating_sub(used)
                .saturating_sub(place.len())
                .saturating_sub(1);
            spans.push(Span::styled(format!("{:gap$}{place}", ""), Theme::quiet()));
        }
        Line::from(spans)
    }
}

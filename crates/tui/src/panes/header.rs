// SPDX-License-Identifier: Apache-2.0
//! The top line: the number of questions, sandboxes and hubs, and their problems.

use operator::inbox::Inbox;
use ratatui::text::{Line, Span};

use crate::sandbox_list::SandboxList;
use crate::theme::Theme;
use crate::wrap::truncate;

/// The header, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderPane<'a> {
    pub(crate) inbox: &'a Inbox,
    pub(crate) sandboxes: &'a SandboxList,
    /// Number of marked questions.
    pub(crate) marked: usize,
    /// Where hubs are searched.
    pub(crate) hub_source: &'a str,
    pub(crate) theme: Theme,
}

impl HeaderPane<'_> {
    /// Returns the line; `hub_source` only if the line has room for it.
    pub(crate) fn line(&self, width: usize) -> Line<'static> {
        let mut spans = self.counts();
        let used: usize = spans.iter().map(Span::width).sum();
        let remaining = width.checked_sub(used.saturating_add(4));
        if let Some(remaining) = remaining.filter(|remaining| *remaining >= 12) {
            let place = truncate(self.hub_source, remaining);
            let gap = width
                .saturating_sub(used)
                .saturating_sub(place.len())
                .saturating_sub(1);
            spans.push(Span::styled(format!("{:gap$}{place}", ""), Theme::dim()));
        }
        Line::from(spans)
    }

    fn counts(&self) -> Vec<Span<'static>> {
        let theme = self.theme;
        let (waiting, style) = match self.inbox.rows().len() {
            0 => ("nothing waits".to_owned(), theme.good()),
            1 => ("1 question waits".to_owned(), theme.pending()),
            count => (format!("{count} questions wait"), theme.pending()),
        };
        let mut spans = vec![
            Span::styled(" Clearance  ", theme.title()),
            Span::styled(waiting, style),
        ];
        if self.marked > 0 {
            let marked = format!("  {} marked", self.marked);
            spans.push(Span::styled(marked, Theme::bold()));
        }
        spans.push(Span::raw(match self.sandboxes.len() {
            1 => "  1 sandbox".to_owned(),
            count => format!("  {count} sandboxes"),
        }));
        let hubs = match self.inbox.hubs().len() {
            0 => "  no hub yet".to_owned(),
            1 => "  1 hub".to_owned(),
            count => format!("  {count} hubs"),
        };
        let problem = |count: usize, word: &str| {
            (count > 0).then(|| Span::styled(format!("  {count} {word}"), theme.bad()))
        };
        let unguarded = self.sandboxes.unguarded_count();
        let away = self.inbox.hubs().filter(|(_, connected)| !connected);
        spans.extend(problem(unguarded, "NOT GUARDED"));
        spans.push(Span::raw(hubs));
        spans.extend(problem(away.count(), "AWAY"));
        spans.extend(problem(self.inbox.unreachable_count(), "UNREACHABLE"));
        spans
    }
}

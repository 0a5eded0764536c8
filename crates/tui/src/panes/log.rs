// SPDX-License-Identifier: Apache-2.0
//! The activity log: its last lines below the list, all of it on a page.

use operator::clock::TimeZone;
use ratatui::text::{Line, Span};

use crate::activity_log::{ActivityEntry, ActivityLog};
use crate::theme::Theme;
use crate::wrap::{truncate, wrap};

/// The activity log, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPane<'a> {
    pub(crate) log: &'a ActivityLog,
    pub(crate) theme: Theme,
    pub(crate) zone: &'a TimeZone,
}

impl LogPane<'_> {
    /// Returns the newest `height` entries, one line each, the newest last.
    pub(crate) fn last_lines(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let entries = self.log.entries();
        let skip = entries.len().saturating_sub(height);
        let lines = entries.skip(skip).map(|entry| {
            let (time, label) = self.prefix(entry);
            let used = time.width().saturating_add(label.width());
            let text = truncate(&entry.text(), width.saturating_sub(used).saturating_sub(1));
            self.line(entry, time, label, text)
        });
        lines.collect()
    }

    /// Returns every entry, wrapped to `width`.
    pub(crate) fn all_lines(&self, width: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for entry in self.log.entries() {
            let (time, label) = self.prefix(entry);
            let used = time.width().saturating_add(label.width());
            let room = width.saturating_sub(used).saturating_sub(1);
            let mut pieces = wrap(&entry.text(), room).into_iter();
            let first = pieces.next().unwrap_or_default();
            lines.push(self.line(entry, time, label, first));
            lines.extend(pieces.map(|piece| Line::raw(format!("{:used$}{piece}", ""))));
        }
        lines
    }

    fn prefix(&self, entry: &ActivityEntry) -> (Span<'static>, Span<'static>) {
        let time = format!(" {}  ", self.zone.format_time(entry.time));
        let label = entry.label.as_ref().map(|label| format!("{label}  "));
        let style = self.theme.tone(entry.tone);
        (
            Span::styled(time, Theme::dim()),
            Span::styled(label.unwrap_or_default(), style),
        )
    }

    fn line(
        &self,
        entry: &ActivityEntry,
        time: Span<'static>,
        label: Span<'static>,
        text: String,
    ) -> Line<'static> {
        let text = match entry.label {
            Some(_) => Span::raw(text),
            None => Span::styled(text, self.theme.tone(entry.tone)),
        };
        Line::from(vec![time, label, text])
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The log: its last lines under the list, all of them on a page.

use ratatui::text::{Line, Span};

use crate::activity_log;
use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::{truncate, wrap};

impl TuiModel {
    /// Returns the newest lines of the log, the newest last.
    pub(crate) fn log_lines(&self, width: usize, most: usize) -> Vec<Line<'static>> {
        let lines = self.log.entries();
        let skip = lines.len().saturating_sub(most);
        lines
            .skip(skip)
            .map(|line| {
                let (time, head) = self.log_prefix(line);
                let used = time.width().saturating_add(head.width());
                let text = truncate(&line.text(), width.saturating_sub(used).saturating_sub(1));
                self.log_line(line, time, head, text)
            })
            .collect()
    }

    /// Returns all of the log in lines that hide nothing.
    pub(crate) fn log_page(&self, width: usize) -> Vec<Line<'static>> {
        let mut page = Vec::new();
        for line in self.log.entries() {
            let (time, head) = self.log_prefix(line);
            let used = time.width().saturating_add(head.width());
            let room = width.saturating_sub(used).saturating_sub(1);
            let mut pieces = wrap(&line.text(), room).into_iter();
            let first = pieces.next().unwrap_or_default();
            page.push(self.log_line(line, time, head, first));
            page.extend(pieces.map(|piece| Line::raw(format!("{:used$}{piece}", ""))));
        }
        page
    }

    fn log_prefix(&self, line: &activity_log::ActivityEntry) -> (Span<'static>, Span<'static>) {
        let time = Span::styled(
            format!(" {}  ", self.zone.format_time(line.time_us)),
            Theme::dim(),
        );
        let head = line.head.as_ref().map(|head| format!("{head}  "));
        let style = self.theme.tone(line.tone);
        (time, Span::styled(head.unwrap_or_default(), style))
    }

    fn log_line(
        &self,
        line: &activity_log::ActivityEntry,
        time: Span<'static>,
        head: Span<'static>,
        text: String,
    ) -> Line<'static> {
        let text = match line.head {
            Some(_) => Span::raw(text),
            None => Span::styled(text, self.theme.tone(line.tone)),
        };
        Line::from(vec![time, head, text])
    }
}

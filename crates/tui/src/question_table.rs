// SPDX-License-Identifier: Apache-2.0
//! The list: who wants what, how often, since when. Only the lines of the window are made.

use ratatui::text::{Line, Span};
use terok_clearance::Action;

use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::{truncate, truncate_middle};
use operator::inbox::{Row, RowNumber};
use operator::phrases;

/// How wide the columns are.
struct QuestionColumns {
    width: usize,
    number: usize,
    sandbox: usize,
    target: usize,
    /// None in a narrow window: the details tell how often.
    count: usize,
}

const COUNT_COLUMN_WIDTH: usize = 7;
const COUNT_COLUMN_MIN_SCREEN_WIDTH: usize = 60;
const SINCE_COLUMN_WIDTH: usize = 8;

impl QuestionColumns {
    fn for_width(width: usize, last: Option<RowNumber>) -> Self {
        let digits = last.map_or(1, |last| last.get().to_string().len());
        let number = digits.max(3);
        // The mark, the spaces between columns, and one at the end.
        let times = if width < COUNT_COLUMN_MIN_SCREEN_WIDTH {
            0
        } else {
            COUNT_COLUMN_WIDTH
        };
        let fixed = number
            .saturating_add(times)
            .saturating_add(SINCE_COLUMN_WIDTH + 10);
        let room = width.saturating_sub(fixed);
        let who = (room / 5 * 2).min(40);
        Self {
            width,
            number,
            sandbox: who,
            target: room.saturating_sub(who),
            count: times,
        }
    }
}

impl TuiModel {
    /// Returns the heading and a line for each row.
    pub(crate) fn question_lines(&self, rows: &[RowNumber], width: usize) -> Vec<Line<'static>> {
        let columns = QuestionColumns::for_width(width, rows.last().copied());
        let head = format_row(
            &columns,
            "  ",
            "#",
            "sandbox",
            "wants to reach",
            "times",
            "since",
        );
        let mut lines = vec![Line::styled(head, Theme::dim())];
        let found = rows.iter().filter_map(|number| self.inbox.row(*number));
        lines.extend(found.map(|row| self.question_line(row, &columns)));
        lines
    }

    fn question_line(&self, row: &Row, columns: &QuestionColumns) -> Line<'static> {
        let number = row.number();
        let selected = self.selection.selected() == Some(number);
        let marked = self.selection.marked.contains(&number);
        let mark = match (selected, marked) {
            (true, true) => ">*",
            (true, false) => "> ",
            (false, true) => " *",
            (false, false) => "  ",
        };
        let away = self
            .inbox
            .hubs()
            .find(|(id, _)| *id == row.hub())
            .is_some_and(|(_, up)| !up);
        // What is with it now takes the place of when it began.
        let since = match row.answering() {
            Some(Action::Allow) => "allowing".to_owned(),
            Some(Action::Deny) => "denying".to_owned(),
            None if row.is_forgotten_by_hub() => "forgot".to_owned(),
            None if away => "hub away".to_owned(),
            None => self.zone.format_time(row.first_seen().as_micros()),
        };
        let text = format_row(
            columns,
            mark,
            &number.to_string(),
            &phrases::describe_sandbox(row),
            &phrases::describe_dest_briefly(row),
            &format_count(row.count()),
            &since,
        );
        let style = match (selected, row.answering().is_some()) {
            (true, _) => Theme::selected(),
            (false, true) => Theme::dim(),
            (false, false) if marked => Theme::bold(),
            (false, false) => ratatui::style::Style::new(),
        };
        Line::from(Span::styled(text, style))
    }

    /// Returns what to say where no question is listed.
    pub(crate) fn empty_list_lines(&self) -> Vec<Line<'static>> {
        let quiet = Theme::dim();
        let (first, second) = if !self.hubs_synced {
            ("Looking for hubs ...", "")
        } else if self.inbox.rows().len() > 0 {
            (
                "No question has this text in it.",
                "Esc takes the filter away.",
            )
        } else if self.inbox.hubs().len() == 0 {
            (
                "No hub yet: no sandbox runs, or none is guarded.",
                "This waits for one. `terok-clearance run -- COMMAND` starts a sandbox.",
            )
        } else {
            (
                "Nothing waits for you.",
                "What a sandbox wants to reach and may not is asked here.",
            )
        };
        vec![
            Line::default(),
            Line::styled(format!("   {first}"), Theme::bold()),
            Line::styled(format!("   {second}"), quiet),
        ]
    }
}

fn format_row(
    columns: &QuestionColumns,
    mark: &str,
    number: &str,
    who: &str,
    what: &str,
    times: &str,
    since: &str,
) -> String {
    let QuestionColumns {
        width,
        number: digits,
        sandbox: w,
        target: to,
        count: often,
    } = *columns;
    let times = if often == 0 { "" } else { times };
    let who = truncate(who, w);
    let what = truncate_middle(what, to);
    let line = format!(
        "{mark} {number:>digits$}  {who:<w$} {what:<to$} {times:>often$}  {since:<SINCE_COLUMN_WIDTH$}"
    );
    truncate(&format!("{line:<width$}"), width)
}

/// Returns a count in at most six columns.
fn format_count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..100_000_000 => format!("{}k", count / 1000),
        _ => "many".to_owned(),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The list: who wants what, how often, since when. Only the lines of the window are made.

use ratatui::text::{Line, Span};
use terok_clearance::Action;

use super::model::Model;
use super::theme::Theme;
use super::wrap::{fit, fit_middle};
use crate::inbox::{Row, RowNumber};
use crate::words;

/// How wide the columns are.
struct Columns {
    width: usize,
    number: usize,
    who: usize,
    what: usize,
    /// None in a narrow window: the details tell how often.
    times: usize,
}

const TIMES: usize = 7;
const NARROW: usize = 60;
const SINCE: usize = 8;

impl Columns {
    fn of(width: usize, last: Option<RowNumber>) -> Self {
        let digits = last.map_or(1, |last| last.get().to_string().len());
        let number = digits.max(3);
        // The mark, the spaces between columns, and one at the end.
        let times = if width < NARROW { 0 } else { TIMES };
        let fixed = number.saturating_add(times).saturating_add(SINCE + 10);
        let room = width.saturating_sub(fixed);
        let who = (room / 5 * 2).min(40);
        Self {
            width,
            number,
            who,
            what: room.saturating_sub(who),
            times,
        }
    }
}

impl Model {
    /// Returns the heading and a line for each row.
    pub(super) fn question_lines(&self, rows: &[RowNumber], width: usize) -> Vec<Line<'static>> {
        let columns = Columns::of(width, rows.last().copied());
        let head = line(
            &columns,
            "  ",
            "#",
            "sandbox",
            "wants to reach",
            "times",
            "since",
        );
        let mut lines = vec![Line::styled(head, Theme::quiet())];
        let found = rows.iter().filter_map(|number| self.inbox.row(*number));
        lines.extend(found.map(|row| self.question_line(row, &columns)));
        lines
    }

    fn question_line(&self, row: &Row, columns: &Columns) -> Line<'static> {
        let number = row.number();
        let selected = self.list.selected() == Some(number);
        let marked = self.list.marked.contains(&number);
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
            None if row.is_lapsed() => "forgot".to_owned(),
            None if away => "hub away".to_owned(),
            None => self.zone.time(row.first_seen()),
        };
        let text = line(
            columns,
            mark,
            &number.to_string(),
            &words::who(row),
            &words::what_briefly(row),
            &times(row.count()),
            &since,
        );
        let style = match (selected, row.answering().is_some()) {
            (true, _) => Theme::selected(),
            (false, true) => Theme::quiet(),
            (false, false) if marked => Theme::strong(),
            (false, false) => ratatui::style::Style::new(),
        };
        Line::from(Span::styled(text, style))
    }

    /// Returns what to say where no question is listed.
    pub(super) fn nothing_listed(&self) -> Vec<Line<'static>> {
        let quiet = Theme::quiet();
        let (first, second) = if !self.settled {
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
            Line::styled(format!("   {first}"), Theme::strong()),
            Line::styled(format!("   {second}"), quiet),
        ]
    }
}

fn line(
    columns: &Columns,
    mark: &str,
    number: &str,
    who: &str,
    what: &str,
    times: &str,
    since: &str,
) -> String {
    let Columns {
        width,
        number: digits,
        who: w,
        what: to,
        times: often,
    } = *columns;
    let times = if often == 0 { "" } else { times };
    let who = fit(who, w);
    let what = fit_middle(what, to);
    let line =
        format!("{mark} {number:>digits$}  {who:<w$} {what:<to$} {times:>often$}  {since:<SINCE$}");
    fit(&format!("{line:<width$}"), width)
}

/// Returns a count in at most six columns.
fn times(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..100_000_000 => format!("{}k", count / 1000),
        _ => "many".to_owned(),
    }
}

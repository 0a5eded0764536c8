// SPDX-License-Identifier: Apache-2.0
//! The list of questions: sandbox, destination, number of packets, time of the first.
//!
//! Only the visible rows are built, so the cost of a frame does not grow with the list.

use std::collections::BTreeSet;

use operator::clock::TimeZone;
use operator::inbox::{self, Inbox, RowNumber};
use operator::phrases;
use ratatui::layout::{Alignment, Constraint};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use terok_clearance::Action;

use crate::theme::Theme;
use crate::view::SessionView;
use crate::wrap::{truncate, truncate_middle};

const MARK_WIDTH: usize = 2;
const COUNT_WIDTH: usize = 7;
/// Narrower screens have no count column; the question pane has the count.
const COUNT_MIN_SCREEN_WIDTH: usize = 60;
const SINCE_WIDTH: usize = 8;

/// The list of questions, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListPane<'a> {
    pub(crate) inbox: &'a Inbox,
    pub(crate) selected: Option<RowNumber>,
    pub(crate) marked: &'a BTreeSet<RowNumber>,
    pub(crate) zone: &'a TimeZone,
}

/// The widths of the columns.
#[derive(Debug, Clone, Copy)]
struct ListColumns {
    number: usize,
    sandbox: usize,
    target: usize,
    count: usize,
}

impl ListColumns {
    fn for_width(width: usize, last: Option<RowNumber>) -> Self {
        let digits = last.map_or(1, |last| last.get().to_string().len());
        let number = digits.max(3);
        let count = if width < COUNT_MIN_SCREEN_WIDTH {
            0
        } else {
            COUNT_WIDTH
        };
        // The mark, the spaces between the columns, and one at the end.
        let fixed = number
            .saturating_add(count)
            .saturating_add(SINCE_WIDTH + 10);
        let remaining = width.saturating_sub(fixed);
        let sandbox = (remaining / 5 * 2).min(40);
        Self {
            number,
            sandbox,
            target: remaining.saturating_sub(sandbox),
            count,
        }
    }

    /// Returns the columns of the table, which puts one space between columns. Right-aligned
    /// columns are one wider, for a second space.
    fn constraints(self) -> [Constraint; 6] {
        let widths = [
            MARK_WIDTH,
            self.number.saturating_add(1),
            self.sandbox,
            self.target,
            self.count.saturating_add(1),
            SINCE_WIDTH,
        ];
        widths.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)))
    }

    /// Returns a row of the table, with each text cut to its column.
    fn row(self, mark: &'static str, cells: [&str; 5]) -> Row<'static> {
        let [number, sandbox, target, count, since] = cells;
        let count = if self.count == 0 { "" } else { count };
        Row::new([
            Line::raw(mark),
            Line::raw(format!("{number} ")).alignment(Alignment::Right),
            Line::raw(truncate(sandbox, self.sandbox)),
            Line::raw(truncate_middle(target, self.target)),
            Line::raw(format!("{count} ")).alignment(Alignment::Right),
            Line::raw(since.to_owned()),
        ])
    }
}

impl ListPane<'_> {
    /// Returns a table of the rows with a heading.
    pub(crate) fn table(&self, rows: &[RowNumber], width: usize) -> Table<'static> {
        let columns = ListColumns::for_width(width, rows.last().copied());
        let headings = ["#", "sandbox", "wants to reach", "times", "since"];
        let found = rows.iter().filter_map(|number| self.inbox.row(*number));
        let rows: Vec<_> = found.map(|row| self.question_row(row, columns)).collect();
        Table::new(rows, columns.constraints())
            .header(columns.row("", headings).style(Theme::dim()))
    }

    fn question_row(&self, row: &inbox::Row, columns: ListColumns) -> Row<'static> {
        let number = row.number();
        let selected = self.selected == Some(number);
        let marked = self.marked.contains(&number);
        let mark = match (selected, marked) {
            (true, true) => ">*",
            (true, false) => "> ",
            (false, true) => " *",
            (false, false) => "  ",
        };
        // A state other than "waiting" replaces the time.
        let since = match row.answering() {
            Some(Action::Allow) => "allowing".to_owned(),
            Some(Action::Deny) => "denying".to_owned(),
            None if row.is_forgotten_by_hub() => "forgot".to_owned(),
            None if !self.inbox.is_connected(row.hub()) => "hub away".to_owned(),
            None => self.zone.format_time(row.first_seen()),
        };
        let cells = [
            &number.to_string(),
            &phrases::describe_sandbox(row),
            &phrases::describe_dest_briefly(row),
            &format_count(row.count()),
            since.as_str(),
        ];
        let style = match (selected, row.answering().is_some()) {
            (true, _) => Theme::selected(),
            (false, true) => Theme::dim(),
            (false, false) if marked => Theme::bold(),
            (false, false) => Style::new(),
        };
        columns.row(mark, cells).style(style)
    }
}

/// Returns the text of a list without questions.
pub(crate) fn empty_list_lines(view: SessionView<'_>) -> Vec<Line<'static>> {
    let (first, second) = if !view.is_synced {
        ("Looking for hubs ...", "")
    } else if view.inbox.rows().len() > 0 {
        ("No question contains this text.", "Esc clears the filter.")
    } else if view.inbox.hubs().len() == 0 {
        (
            "No hub yet: no sandbox with a hub is running.",
            "`terok-clearance run -- COMMAND` starts a sandbox with a hub.",
        )
    } else if view.inbox.has_unlisted_hubs() {
        (
            "No new question.",
            "A hub of the Python stack tells only new ones: earlier ones may be pending.",
        )
    } else {
        (
            "Nothing waits for you.",
            "Each destination that is refused to a sandbox appears here.",
        )
    };
    vec![
        Line::default(),
        Line::styled(format!("   {first}"), Theme::bold()),
        Line::styled(format!("   {second}"), Theme::dim()),
    ]
}

/// Returns a count in at most six columns.
fn format_count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..100_000_000 => format!("{}k", count / 1000),
        _ => "many".to_owned(),
    }
}

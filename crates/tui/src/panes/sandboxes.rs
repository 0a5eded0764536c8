// SPDX-License-Identifier: Apache-2.0
//! The table of sandboxes: number of questions, firewall state, name.

use ratatui::layout::{Alignment, Constraint};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table};
use terok_clearance::{ContainerId, ShieldState};

use crate::sandbox_list::{SandboxList, SandboxStatus};
use crate::theme::Theme;
use crate::wrap::truncate;

const QUESTIONS_WIDTH: u16 = 9;
const FIREWALL_WIDTH: u16 = 8;
/// Width of the first two columns with the spaces after them.
const NAME_COLUMN: usize = 19;

/// Returns the table, from the sandbox `first` on, with at most `max_rows` sandboxes.
pub(crate) fn table(
    sandboxes: &SandboxList,
    theme: Theme,
    width: usize,
    first: usize,
    max_rows: usize,
) -> Table<'static> {
    let columns = [
        Constraint::Length(QUESTIONS_WIDTH),
        Constraint::Length(FIREWALL_WIDTH),
        Constraint::Fill(1),
    ];
    if sandboxes.len() == 0 {
        let none = Line::styled(" no sandbox is known yet", Theme::dim());
        return Table::new([Row::new([none])], [Constraint::Fill(1)]);
    }
    let name_width = width.saturating_sub(NAME_COLUMN);
    let shown = sandboxes.iter().skip(first).take(max_rows);
    let rows = shown.map(|(id, status)| sandbox_row(id, status, theme, name_width));
    let header = Row::new([
        Line::raw("waiting ").alignment(Alignment::Right),
        Line::raw("firewall"),
        Line::raw("sandbox"),
    ]);
    Table::new(rows, columns).header(header.style(Theme::dim()))
}

fn sandbox_row(
    id: &ContainerId,
    status: &SandboxStatus,
    theme: Theme,
    name_width: usize,
) -> Row<'static> {
    let questions = match status.questions {
        0 => "- ".to_owned(),
        count => format!("{count} "),
    };
    let (state, style) = match status.shield_state {
        Some(ShieldState::Up) => ("up", theme.good()),
        Some(ShieldState::Down) => ("DOWN", theme.bad()),
        Some(ShieldState::Disengaged) => ("OFF", theme.bad()),
        None => ("?", Theme::dim()),
    };
    let name = match &status.name {
        Some(name) if name != id.as_str() => format!("{name}  {id}"),
        _ => id.to_string(),
    };
    Row::new([
        Line::raw(questions).alignment(Alignment::Right),
        Line::from(Span::styled(state, style)),
        Line::raw(truncate(&name, name_width)),
    ])
}

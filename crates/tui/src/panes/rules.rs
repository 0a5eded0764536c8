// SPDX-License-Identifier: Apache-2.0
//! The rules of all sandboxes, grouped by sandbox, and all about the selected one.

use operator::clock::TimeZone;
use operator::inbox::HubId;
use operator::rules::RuleRow;
use ratatui::layout::{Alignment, Constraint};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table};
use terok_clearance::wire::clearance2::ListedRule;
use terok_clearance::{Action, RuleLifetime};

use crate::rule_list::{RuleEntry, RuleLine, RuleList};
use crate::sandbox_list::SandboxList;
use crate::theme::Theme;
use crate::wrap::{truncate, truncate_middle, wrap};

const MARK_WIDTH: usize = 2;
const NAME_WIDTH: usize = 6;
const ACTION_WIDTH: usize = 6;
const LIFETIME_WIDTH: usize = 13;
const COUNT_WIDTH: usize = 7;
const ORIGIN_WIDTH: usize = 24;
const AGE_WIDTH: usize = 11;
const BY_WIDTH: usize = 30;
/// The smallest width of the column with the destinations for which other columns are added.
const MIN_DEST_WIDTH: usize = 24;
/// Width of the labels: a space, the label, a space.
const LABEL_WIDTH: usize = 10;

/// The rules, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RulesPane<'a> {
    pub(crate) rules: &'a RuleList,
    pub(crate) sandboxes: &'a SandboxList,
    pub(crate) theme: Theme,
    pub(crate) zone: &'a TimeZone,
}

/// A column after the destination, with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RuleColumn {
    Lifetime,
    Uses,
    Open,
    Origin,
    Age,
    By,
}

impl RuleColumn {
    const fn width(self) -> usize {
        match self {
            Self::Lifetime => LIFETIME_WIDTH,
            Self::Uses | Self::Open => COUNT_WIDTH,
            Self::Origin => ORIGIN_WIDTH,
            Self::Age => AGE_WIDTH,
            Self::By => BY_WIDTH,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Lifetime => "lasts",
            Self::Uses => "uses",
            Self::Open => "open",
            Self::Origin => "from",
            Self::Age => "age",
            Self::By => "by",
        }
    }

    fn text(self, entry: &RuleEntry) -> String {
        let RuleEntry { rule, words } = entry;
        match self {
            Self::Lifetime => short_lifetime(rule, words),
            Self::Uses => rule.uses.map_or_else(|| "-".to_owned(), short_count),
            Self::Open => short_count(rule.open),
            Self::Origin => words.origin.clone(),
            Self::Age => words.age.clone(),
            Self::By => words.by.clone(),
        }
    }

    const fn is_count(self) -> bool {
        matches!(self, Self::Uses | Self::Open)
    }
}

/// The columns that the screen has room for.
#[derive(Debug)]
struct RuleColumns {
    dest_width: usize,
    others: Vec<RuleColumn>,
}

impl RuleColumns {
    fn for_width(width: usize) -> Self {
        let fixed = MARK_WIDTH + NAME_WIDTH + ACTION_WIDTH + 4;
        let mut remaining = width.saturating_sub(fixed);
        // The columns in the order of their use; they are shown in the order of the table.
        let by_use = [
            RuleColumn::Open,
            RuleColumn::Lifetime,
            RuleColumn::Uses,
            RuleColumn::Origin,
            RuleColumn::Age,
            RuleColumn::By,
        ];
        let mut shown = Vec::new();
        for column in by_use {
            let rest = remaining.saturating_sub(column.width().saturating_add(1));
            if rest < MIN_DEST_WIDTH {
                break;
            }
            remaining = rest;
            shown.push(column);
        }
        let in_order = [
            RuleColumn::Lifetime,
            RuleColumn::Uses,
            RuleColumn::Open,
            RuleColumn::Origin,
            RuleColumn::Age,
            RuleColumn::By,
        ];
        Self {
            dest_width: remaining,
            others: in_order
                .into_iter()
                .filter(|column| shown.contains(column))
                .collect(),
        }
    }

    fn constraints(&self) -> Vec<Constraint> {
        let first = [MARK_WIDTH, NAME_WIDTH, ACTION_WIDTH, self.dest_width];
        let others = self.others.iter().map(|column| column.width());
        let all = first.into_iter().chain(others);
        all.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)))
            .collect()
    }
}

impl RulesPane<'_> {
    /// Returns the table of these lines, with a heading.
    pub(crate) fn table(&self, lines: &[RuleLine<'_>], width: usize) -> Table<'static> {
        let columns = RuleColumns::for_width(width);
        let rows = lines.iter().map(|line| match line {
            RuleLine::Rule(hub, entry) => self.rule_row(hub, entry, &columns),
            RuleLine::Heading(..) | RuleLine::Note(_) => Row::new([Line::default()]),
        });
        let mut header = vec![
            Line::default(),
            Line::raw("rule"),
            Line::raw("what"),
            Line::default(),
        ];
        header.extend(columns.others.iter().map(|column| {
            if column.is_count() {
                count_cell(column.heading())
            } else {
                Line::raw(column.heading())
            }
        }));
        let rows: Vec<_> = rows.collect();
        Table::new(rows, columns.constraints()).header(Row::new(header).style(Theme::dim()))
    }

    /// Returns the text of a line that is no rule, over the whole width.
    pub(crate) fn remark(&self, line: &RuleLine<'_>, width: usize) -> Option<Line<'static>> {
        match line {
            RuleLine::Rule(..) => None,
            RuleLine::Heading(hub, count) => {
                let count = match count {
                    0 => String::new(),
                    1 => "  1 rule".to_owned(),
                    count => format!("  {count} rules"),
                };
                let name = truncate(&self.sandbox(hub), width.saturating_sub(13));
                Some(Line::from(vec![
                    Span::styled(format!(" {name}"), Theme::bold()),
                    Span::styled(count, Theme::dim()),
                ]))
            }
            RuleLine::Note(text) => {
                let text = truncate(&format!("   {text}"), width);
                Some(Line::styled(text, Theme::dim()))
            }
        }
    }

    fn sandbox(&self, hub: &HubId) -> String {
        self.sandboxes.long_name(hub)
    }

    fn rule_row(&self, hub: &HubId, entry: &RuleEntry, columns: &RuleColumns) -> Row<'static> {
        let selected = self.rules.is_selected(hub, entry);
        let (action, style) = match entry.rule.action {
            Action::Allow => ("allow", self.theme.good()),
            Action::Deny => ("deny", self.theme.bad()),
        };
        let dest = match entry.rule.dest.as_str() {
            "*" => "the WHOLE internet",
            dest => dest,
        };
        let mut cells = vec![
            Line::raw(if selected { "> " } else { "  " }),
            Line::raw(truncate(entry.rule.rule.as_str(), NAME_WIDTH)),
            Line::styled(action, style),
            Line::raw(truncate_middle(dest, columns.dest_width)),
        ];
        cells.extend(columns.others.iter().map(|column| {
            let text = truncate(&column.text(entry), column.width());
            if column.is_count() {
                count_cell(&text)
            } else {
                Line::raw(text)
            }
        }));
        Row::new(cells).style(match (selected, entry.rule.spent) {
            (true, _) => Theme::selected(),
            (false, true) => Theme::dim(),
            (false, false) => Style::new(),
        })
    }

    /// Returns the lines about the selected rule; none without one.
    pub(crate) fn selected_lines(&self, width: usize) -> Vec<Line<'static>> {
        let Some((_, entry)) = self.rules.selected() else {
            return Vec::new();
        };
        let RuleRow {
            covers,
            lifetime,
            origin,
            by,
            age,
            uses,
            open,
            ..
        } = &entry.words;
        let verb = match entry.rule.action {
            Action::Allow => "allows",
            Action::Deny => "denies",
        };
        let since = self.zone.format_datetime(entry.rule.since);
        let open = match open {
            0 => "no connection is open because of it".to_owned(),
            1 => "1 connection is open because of it".to_owned(),
            count => format!("{count} connections are open because of it"),
        };
        let lines = [
            (verb, covers.clone()),
            ("lasts", lifetime.clone()),
            ("used", format!("{uses}; {open}")),
            ("from", origin.clone()),
            ("by", by.clone()),
            ("age", format!("{age}, since {since}")),
        ];
        let lines = lines.into_iter().flat_map(|(label, text)| {
            let mut label = format!(" {label:<9}");
            let lines = wrap(&text, width.saturating_sub(LABEL_WIDTH + 1));
            lines.into_iter().map(move |line| {
                let blank = format!("{:LABEL_WIDTH$}", "");
                Line::from(vec![
                    Span::styled(std::mem::replace(&mut label, blank), Theme::dim()),
                    Span::raw(line),
                ])
            })
        });
        lines.collect()
    }
}

/// Returns the lines of a page without a hub.
pub(crate) fn no_rules_lines() -> Vec<Line<'static>> {
    vec![
        Line::default(),
        Line::styled("   No hub is there, and so no rule.", Theme::bold()),
    ]
}

/// Returns a cell that ends in a space, because the next column is left-aligned.
fn count_cell(text: &str) -> Line<'static> {
    Line::raw(format!("{text} ")).alignment(Alignment::Right)
}

/// Returns the lifetime for a narrow column.
fn short_lifetime(rule: &ListedRule, words: &RuleRow) -> String {
    match (rule.spent, rule.keep, rule.seconds_left) {
        (true, ..) => "spent".to_owned(),
        (_, RuleLifetime::Once, _) => "once".to_owned(),
        (_, _, Some(_)) => words.lifetime.trim_end_matches(" left").to_owned(),
        (_, RuleLifetime::Sandbox, None) => "this run".to_owned(),
        (_, RuleLifetime::UntilRemoved, None) => "until removed".to_owned(),
        (_, RuleLifetime::Project, None) => "this project".to_owned(),
        (_, RuleLifetime::Always, None) => "always".to_owned(),
    }
}

/// Returns a count in at most six columns.
fn short_count(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        1..100_000 => count.to_string(),
        100_000..100_000_000 => format!("{}k", count / 1000),
        _ => "many".to_owned(),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The lifetimes and the names that an answer may have, each with its key.

use operator::inbox::Row;
use operator::{AnswerScope, ScopeChoice};
use ratatui::text::Span;
use unicode_width::UnicodeWidthStr as _;

use crate::scope_picker::next_name;
use crate::theme::Theme;
use crate::wrap::truncate_middle;

/// A key with its effect. The chosen one is in brackets.
struct ScopeKey {
    key: &'static str,
    text: String,
    is_chosen: bool,
}

impl ScopeKey {
    fn width(&self) -> usize {
        let key = self.key.width();
        let space = usize::from(key > 0);
        let brackets = if self.is_chosen { 2 } else { 0 };
        self.text
            .width()
            .saturating_add(key)
            .saturating_add(space)
            .saturating_add(brackets)
    }

    fn add_to(&self, line: &mut Vec<Span<'static>>) {
        let Self {
            key,
            text,
            is_chosen,
        } = self;
        let gap = if key.is_empty() { "" } else { " " };
        if *is_chosen {
            line.push(Span::styled(
                format!("[{key}{gap}{text}]"),
                Theme::selected(),
            ));
        } else {
            line.push(Span::styled(*key, Theme::bold()));
            line.push(Span::raw(format!("{gap}{text}")));
        }
    }
}

/// Returns the lifetimes that a question offers, in lines of at most `width`; none without choice.
pub(super) fn lifetime_lines(
    row: &Row,
    scope: &AnswerScope,
    width: usize,
) -> Vec<Vec<Span<'static>>> {
    let lasts = |of: &AnswerScope| (of.keep, of.seconds) == (scope.keep, scope.seconds);
    let mut keys = choice_keys(&ScopeChoice::offered(row).collect::<Vec<_>>(), |choice| {
        lasts(&choice.scope())
    });
    let own = AnswerScope::default_of(row);
    let is_own = |choice: ScopeChoice| {
        let scope = choice.scope();
        (scope.keep, scope.seconds) == (own.keep, own.seconds)
    };
    if !ScopeChoice::all().into_iter().any(is_own) {
        keys.push(ScopeKey {
            key: "0",
            text: "as proposed".to_owned(),
            is_chosen: lasts(&own),
        });
    }
    flow_choices(keys, width)
}

/// Returns these lifetimes, in lines of at most `width`; none without a choice.
pub(super) fn choice_lines(
    choices: &[ScopeChoice],
    is_chosen: impl Fn(ScopeChoice) -> bool,
    width: usize,
) -> Vec<Vec<Span<'static>>> {
    flow_choices(choice_keys(choices, is_chosen), width)
}

fn choice_keys(choices: &[ScopeChoice], is_chosen: impl Fn(ScopeChoice) -> bool) -> Vec<ScopeKey> {
    let choices = choices.iter().copied();
    let keys = choices.map(|choice| ScopeKey {
        key: key_name(choice),
        text: choice.to_string(),
        is_chosen: is_chosen(choice),
    });
    keys.collect()
}

fn flow_choices(keys: Vec<ScopeKey>, width: usize) -> Vec<Vec<Span<'static>>> {
    if keys.len() < 2 {
        return Vec::new();
    }
    flow(keys, width)
}

/// Returns the line of the names; none if the question offers no wider name.
pub(super) fn name_lines(row: &Row, scope: &AnswerScope, width: usize) -> Vec<Vec<Span<'static>>> {
    if row.offered_names().is_empty() {
        return Vec::new();
    }
    let room = width.saturating_sub(7);
    let chosen = scope.dest.as_ref().unwrap_or_else(|| row.dest());
    let next = match next_name(row, scope) {
        Some(name) => truncate_middle(name.as_str(), room),
        None => format!("only {}", truncate_middle(row.dest().as_str(), room)),
    };
    let keys = vec![
        ScopeKey {
            key: "",
            text: truncate_middle(chosen.as_str(), room),
            is_chosen: true,
        },
        ScopeKey {
            key: "w",
            text: next,
            is_chosen: false,
        },
    ];
    flow(keys, width)
}

/// Puts keys into lines of at most `width`, none of them divided.
fn flow(keys: Vec<ScopeKey>, width: usize) -> Vec<Vec<Span<'static>>> {
    let (mut lines, mut line, mut used) = (Vec::new(), Vec::new(), 0_usize);
    for key in keys {
        let needed = key.width();
        if used > 0 && used.saturating_add(needed).saturating_add(2) > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(Span::raw("  "));
            used = used.saturating_add(2);
        }
        key.add_to(&mut line);
        used = used.saturating_add(needed);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

const fn key_name(choice: ScopeChoice) -> &'static str {
    match choice {
        ScopeChoice::Once => "1",
        ScopeChoice::FiveMinutes => "2",
        ScopeChoice::OneHour => "3",
        ScopeChoice::Run => "4",
        ScopeChoice::Project => "5",
        ScopeChoice::Always => "6",
    }
}

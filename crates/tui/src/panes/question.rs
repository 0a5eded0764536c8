// SPDX-License-Identifier: Apache-2.0
//! The selected question, and exactly what an answer to it opens.

use operator::clock::TimeZone;
use operator::inbox::Row;
use operator::{AnswerScope, phrases};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::{Action, Dest, DisplayText, ShieldState};

use super::scopes;
use crate::answer_text::answer_effect;
use crate::theme::Theme;
use crate::wrap::wrap;

/// Width of the labels: a space, the label, a space.
const LABEL_WIDTH: usize = 10;

/// The selected question, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuestionPane<'a> {
    pub(crate) row: &'a Row,
    /// The scope that an answer would have.
    pub(crate) scope: &'a AnswerScope,
    pub(crate) is_hub_connected: bool,
    /// The state of the sandbox's firewall, if known.
    pub(crate) shield_state: Option<ShieldState>,
    pub(crate) theme: Theme,
    pub(crate) zone: &'a TimeZone,
}

/// The lines about a question.
#[derive(Debug, Default)]
pub(crate) struct QuestionText {
    pub(crate) lines: Vec<Line<'static>>,
    /// Number of lines, from the first on, that must have been shown before an answer counts.
    pub(crate) required_lines: usize,
    /// Number of lines, from the first on, that are shown where the screen has room.
    pub(crate) preferred_lines: usize,
}

impl QuestionText {
    /// Adds a labelled text.
    ///
    /// Wraps the text without ratatui, because the answer guard counts the shown lines.
    fn add(&mut self, label: &str, label_style: Style, text: &str, style: Style, width: usize) {
        let lines = wrap(text, text_width(width)).into_iter();
        self.add_spans(
            label,
            label_style,
            lines.map(|line| vec![Span::styled(line, style)]),
        );
    }

    /// Adds lines with a label in the first one.
    fn add_spans(
        &mut self,
        label: &str,
        label_style: Style,
        lines: impl IntoIterator<Item = Vec<Span<'static>>>,
    ) {
        let mut label = format!(" {label:<9}");
        for line in lines {
            let mut spans = vec![Span::styled(label, label_style)];
            spans.extend(line);
            self.lines.push(Line::from(spans));
            label = format!("{:LABEL_WIDTH$}", "");
        }
    }
}

/// Returns the width of the texts beside the labels.
const fn text_width(width: usize) -> usize {
    width.saturating_sub(LABEL_WIDTH + 1)
}

impl QuestionPane<'_> {
    /// Returns the lines about the question; with `full`, everything that is known.
    pub(crate) fn text(&self, width: usize, full: bool) -> QuestionText {
        let mut question = QuestionText::default();
        self.add_effects(&mut question, width);
        self.add_scopes(&mut question, width);
        self.add_state(&mut question, width, full);
        if full {
            self.add_details(&mut question, width);
        }
        question
    }

    /// Adds what an answer does, all of which must be read.
    fn add_effects(&self, question: &mut QuestionText, width: usize) {
        let Self {
            row, scope, theme, ..
        } = *self;
        let (dim, plain) = (Theme::dim(), Style::new());
        let mut add = |label: &str, style, text: &str, text_style| {
            question.add(label, style, text, text_style, width);
        };
        add("wants", dim, &phrases::describe_dest(row), theme.pending());
        let opens = answer_effect(row, Action::Allow, scope);
        add("a allow", theme.good(), &opens, plain);
        let refuses = answer_effect(row, Action::Deny, scope);
        add("x deny", theme.bad(), &refuses, plain);
        let mut from = phrases::describe_sandbox(row);
        if from != row.container().as_str() {
            from = format!("{from}, sandbox {}", row.container());
        }
        // Required too: two sandboxes may ask for the same, and the list shortens their names.
        add("from", dim, &from, plain);
        question.required_lines = question.lines.len();
    }

    /// Adds the choice of scopes, and the answer before.
    fn add_scopes(&self, question: &mut QuestionText, width: usize) {
        let Self { row, scope, .. } = *self;
        let room = text_width(width);
        let dim = Theme::dim();
        question.add_spans("lasts", dim, scopes::lifetime_lines(row, scope, room));
        question.add_spans("name", dim, scopes::name_lines(row, scope, room));
        // With the time and not the age: the screen is not redrawn as time passes.
        if let Some(before) = phrases::describe_previous_with_time(row, self.zone) {
            question.add("before", dim, &before, Style::new(), width);
        }
        for words in [
            phrases::describe_approver_note(row),
            phrases::describe_reason(row),
        ]
        .into_iter()
        .flatten()
        {
            question.add("note", dim, &words, Style::new(), width);
        }
        question.preferred_lines = question.lines.len();
    }

    /// Adds the state of the question, the sandbox and the hub.
    fn add_state(&self, question: &mut QuestionText, width: usize, full: bool) {
        let Self { row, theme, .. } = *self;
        let (dim, plain) = (Theme::dim(), Style::new());
        let mut add = |label: &str, style, text: &str, text_style| {
            question.add(label, style, text, text_style, width);
        };
        if let Some(action) = row.answering() {
            let text = format!("being answered: {action}; waiting for it to take effect");
            add("now", Theme::bold(), &text, Theme::bold());
        }
        if row.is_forgotten_by_hub() {
            let text = "forgotten by its restarted hub; the next packet asks again";
            add("now", theme.bad(), text, plain);
        }
        if !self.is_hub_connected {
            let text = "the hub is away; an answer is possible once the hub is back";
            add("now", theme.bad(), text, plain);
        }
        if let Some(lookup) = phrases::describe_lookup(row) {
            add("lookup", dim, &lookup, plain);
        }
        // Without the length of the wait: the screen is not redrawn as time passes.
        if let Some(waiting) = phrases::describe_waiting(row, Some(self.zone), None) {
            add("waits", dim, &waiting, plain);
        }
        if let Some(process) = phrases::describe_process(row) {
            add("asks", dim, &process, plain);
        }
        if let Some(state) = self.shield_state
            && (full || state != ShieldState::Up)
        {
            let is_up = state == ShieldState::Up;
            let style = if is_up { plain } else { theme.bad() };
            add("firewall", dim, phrases::describe_firewall(state), style);
        }
        add("blocked", dim, &self.blocked_text(full), plain);
    }

    /// Adds everything else that is known.
    fn add_details(&self, question: &mut QuestionText, width: usize) {
        let row = self.row;
        let mut add = |label: &str, text: &str| {
            question.add(label, Theme::dim(), text, Style::new(), width);
        };
        let addresses: Vec<_> = row.addresses().into_iter().map(Dest::as_str).collect();
        let addresses = match addresses.as_slice() {
            [] => "the name is resolved after the answer".to_owned(),
            addresses => addresses.join(", "),
        };
        add("address", &addresses);
        let interface = match row.protocol_version() {
            ProtocolVersion::Clearance1 => {
                "org.terok.Clearance1: a verdict opens the whole destination"
            }
            ProtocolVersion::Clearance2 => "org.terok.Clearance2",
        };
        add("hub", &format!("{} ({interface})", row.hub()));
        add("request", row.request().id.as_str());
        if let Some(process) = row.process() {
            let text = format!("process {} of user {}", process.pid, process.uid);
            add("process", &text);
            let directory = process.directory.as_ref();
            add("in", directory.map_or("not known", DisplayText::as_str));
            let parents = phrases::describe_parents(process);
            add("parents", parents.as_deref().unwrap_or("not known"));
        }
        for (key, value) in row.dossier().iter() {
            add("known", &format!("{key}: {value}"));
        }
    }

    fn blocked_text(&self, full: bool) -> String {
        let time = |at| {
            if full {
                self.zone.format_datetime(at)
            } else {
                self.zone.format_time(at)
            }
        };
        let row = self.row;
        let (first, last) = (time(row.first_seen()), time(row.last_seen()));
        match row.count() {
            0 | 1 => format!("once, at {first}"),
            count => format!("{count} times since {first}, last at {last}"),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The selected question, and exactly what an answer to it opens.

use operator::clock::TimeZone;
use operator::inbox::Row;
use operator::phrases;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::{Dest, DisplayText, ShieldState};

use crate::theme::Theme;
use crate::wrap::wrap;

/// Width of the labels: a space, the label, a space.
const LABEL_WIDTH: usize = 10;

/// The selected question, read only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuestionPane<'a> {
    pub(crate) row: &'a Row,
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
}

impl QuestionText {
    /// Adds a labelled text.
    ///
    /// Wraps the text without ratatui, because the answer guard counts the shown lines.
    fn add(&mut self, label: &str, label_style: Style, text: &str, style: Style, width: usize) {
        let mut label = format!(" {label:<9}");
        for line in wrap(text, width.saturating_sub(LABEL_WIDTH + 1)) {
            self.lines.push(Line::from(vec![
                Span::styled(label, label_style),
                Span::styled(line, style),
            ]));
            label = format!("{:LABEL_WIDTH$}", "");
        }
    }
}

impl QuestionPane<'_> {
    /// Returns the lines about the question; with `full`, everything that is known.
    pub(crate) fn text(&self, width: usize, full: bool) -> QuestionText {
        let Self { row, theme, .. } = *self;
        let (dim, plain) = (Theme::dim(), Style::new());
        let mut question = QuestionText::default();
        let opens = phrases::describe_allow_effect(row);
        let mut add = |label: &str, style, text: &str, text_style| {
            question.add(label, style, text, text_style, width);
            question.lines.len()
        };
        add("wants", dim, &phrases::describe_dest(row), theme.pending());
        add("a allow", theme.good(), &format!("opens {opens}"), plain);
        let refuses = "refuses the same without asking again";
        add("x deny", theme.bad(), refuses, plain);
        let mut from = phrases::describe_sandbox(row);
        if from != row.container().as_str() {
            from = format!("{from}, sandbox {}", row.container());
        }
        // Required too: two sandboxes may ask for the same, and the list shortens their names.
        let required_lines = add("from", dim, &from, plain);
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
        if full {
            let addresses: Vec<_> = row.addresses().into_iter().map(Dest::as_str).collect();
            let addresses = match addresses.as_slice() {
                [] => "the name is resolved after the answer".to_owned(),
                addresses => addresses.join(", "),
            };
            add("address", dim, &addresses, plain);
            let interface = match row.protocol_version() {
                ProtocolVersion::Clearance1 => {
                    "org.terok.Clearance1: a verdict opens the whole destination"
                }
                ProtocolVersion::Clearance2 => "org.terok.Clearance2",
            };
            add("hub", dim, &format!("{} ({interface})", row.hub()), plain);
            add("request", dim, row.request().id.as_str(), plain);
            if let Some(process) = row.process() {
                let text = format!("process {} of user {}", process.pid, process.uid);
                add("process", dim, &text, plain);
                let directory = process.directory.as_ref();
                let directory = directory.map_or("not known", DisplayText::as_str);
                add("in", dim, directory, plain);
                let parents = phrases::describe_parents(process);
                let parents = parents.as_deref().unwrap_or("not known");
                add("parents", dim, parents, plain);
            }
            for (key, value) in row.dossier().iter() {
                add("known", dim, &format!("{key}: {value}"), plain);
            }
        }
        question.required_lines = required_lines;
        question
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

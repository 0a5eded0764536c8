// SPDX-License-Identifier: Apache-2.0
//! All about one question, and exactly what an answer to it opens.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use terok_clearance::Dest;
use terok_clearance::client::ProtocolVersion;

use crate::model::TuiModel;
use crate::theme::Theme;
use crate::wrap::wrap;
use operator::inbox::Row;
use operator::phrases;

/// The lines about a question.
#[derive(Debug, Default)]
pub(crate) struct QuestionDetails {
    pub(crate) lines: Vec<Line<'static>>,
    /// How many of them have to be on the screen for an answer to be one to what was read.
    pub(crate) required_lines: usize,
}

const LABEL_WIDTH: usize = 10;

impl QuestionDetails {
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

impl TuiModel {
    /// Returns the lines about a question; `whole`, everything that is known.
    pub(crate) fn question_details(&self, row: &Row, width: usize, whole: bool) -> QuestionDetails {
        let theme = self.theme;
        let (quiet, plain) = (Theme::dim(), Style::new());
        let mut details = QuestionDetails::default();
        let opens = phrases::describe_allow_effect(row);
        let mut add = |label: &str, style, text: &str, text_style| {
            details.add(label, style, text, text_style, width);
            details.lines.len()
        };
        add(
            "wants",
            quiet,
            &phrases::describe_dest(row),
            theme.pending(),
        );
        add("a allow", theme.good(), &format!("opens {opens}"), plain);
        let refuses = "refuses the same without asking again";
        add("x deny", theme.bad(), refuses, plain);
        let mut from = phrases::describe_sandbox(row);
        if from != row.container().as_str() {
            from = format!("{from}, sandbox {}", row.container());
        }
        // Two sandboxes may ask for the same, and the list has cut their names.
        let needed = add("from", quiet, &from, plain);
        if let Some(action) = row.answering() {
            let text = format!("being answered: {action}; waiting for it to take effect");
            add("now", Theme::bold(), &text, Theme::bold());
        }
        if row.is_forgotten_by_hub() {
            let text = "forgotten by its hub, which ended: asked again at the next packet";
            add("now", theme.bad(), text, plain);
        }
        if let Some((_, false)) = self.inbox.hubs().find(|(id, _)| *id == row.hub()) {
            let text = "its hub is away; it can be answered when the hub is back";
            add("now", theme.bad(), text, plain);
        }
        if let Some(process) = phrases::describe_process(row) {
            add("by", quiet, &process, plain);
        }
        if let Some(state) = self.sandboxes.shield_state(row) {
            let style = if state == terok_clearance::ShieldState::Up {
                plain
            } else {
                theme.bad()
            };
            if whole || state != terok_clearance::ShieldState::Up {
                add("firewall", quiet, phrases::describe_firewall(state), style);
            }
        }
        add("blocked", quiet, &self.blocked_text(row, whole), plain);
        if whole {
            let addresses: Vec<_> = row.addresses().into_iter().map(Dest::as_str).collect();
            add("address", quiet, &addresses.join(", "), plain);
            let interface = match row.protocol_version() {
                ProtocolVersion::Clearance1 => {
                    "org.terok.Clearance1: a verdict opens the whole destination"
                }
                ProtocolVersion::Clearance2 => "org.terok.Clearance2",
            };
            add("hub", quiet, &format!("{} ({interface})", row.hub()), plain);
            add("request", quiet, row.request().id.as_str(), plain);
            if let Some(process) = row.process() {
                let text = format!("process {} of user {}", process.pid, process.uid);
                add("", quiet, &text, plain);
            }
            for (key, value) in row.dossier().iter() {
                add("known", quiet, &format!("{key}: {value}"), plain);
            }
        }
        details.required_lines = needed;
        details
    }

    fn blocked_text(&self, row: &Row, whole: bool) -> String {
        let time = |micros| {
            if whole {
                self.zone.format_datetime(micros)
            } else {
                self.zone.format_time(micros)
            }
        };
        let (first, last) = (row.first_seen().as_micros(), row.last_seen().as_micros());
        let (first, last) = (time(first), time(last));
        match row.count() {
            0 | 1 => format!("once, at {first}"),
            count => format!("{count} times since {first}, last at {last}"),
        }
    }
}

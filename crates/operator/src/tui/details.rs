// SPDX-License-Identifier: Apache-2.0
//! All about one question, and exactly what an answer to it opens.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use terok_clearance::Dest;
use terok_clearance::client::ProtocolVersion;

use super::model::Model;
use super::theme::Theme;
use super::wrap::wrap;
use crate::inbox::Row;
use crate::words;

/// The lines about a question.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) lines: Vec<Line<'static>>,
    /// How many of them have to be on the screen for an answer to be one to what was read.
    pub(super) needed: usize,
}

const LABEL: usize = 10;

impl Details {
    fn add(&mut self, label: &str, label_style: Style, text: &str, style: Style, width: usize) {
        let mut label = format!(" {label:<9}");
        for line in wrap(text, width.saturating_sub(LABEL + 1)) {
            self.lines.push(Line::from(vec![
                Span::styled(label, label_style),
                Span::styled(line, style),
            ]));
            label = format!("{:LABEL$}", "");
        }
    }
}

impl Model {
    /// Returns the lines about a question; `whole`, everything that is known.
    pub(super) fn details(&self, row: &Row, width: usize, whole: bool) -> Details {
        let theme = self.theme;
        let (quiet, plain) = (Theme::quiet(), Style::new());
        let mut details = Details::default();
        let opens = words::opens(row);
        let mut add = |label: &str, style, text: &str, text_style| {
            details.add(label, style, text, text_style, width);
            details.lines.len()
        };
        add("wants", quiet, &words::what(row), theme.asked());
        add("a allow", theme.good(), &format!("opens {opens}"), plain);
        let refuses = "refuses the same without asking again";
        add("x deny", theme.bad(), refuses, plain);
        let mut from = words::who(row);
        if from != row.container().as_str() {
            from = format!("{from}, sandbox {}", row.container());
        }
        // Two sandboxes may ask for the same, and the list has cut their names.
        let needed = add("from", quiet, &from, plain);
        if let Some(action) = row.answering() {
            let text = format!("being answered: {action}; waiting for it to take effect");
            add("now", Theme::strong(), &text, Theme::strong());
        }
        if row.is_lapsed() {
            let text = "forgotten by its hub, which ended: asked again at the next packet";
            add("now", theme.bad(), text, plain);
        }
        if let Some((_, false)) = self.inbox.hubs().find(|(id, _)| *id == row.hub()) {
            let text = "its hub is away; it can be answered when the hub is back";
            add("now", theme.bad(), text, plain);
        }
        if let Some(process) = words::process(row) {
            add("by", quiet, &process, plain);
        }
        if let Some(state) = self.sandboxes.firewall(row) {
            let style = if state == terok_clearance::ShieldState::Up {
                plain
            } else {
                theme.bad()
            };
            if whole || state != terok_clearance::ShieldState::Up {
                add("firewall", quiet, words::firewall(state), style);
            }
        }
        add("blocked", quiet, &self.blocked(row, whole), plain);
        if whole {
            let addresses: Vec<_> = row.addresses().into_iter().map(Dest::as_str).collect();
            add("address", quiet, &addresses.join(", "), plain);
            let interface = match row.speaks() {
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
        details.needed = needed;
        details
    }

    fn blocked(&self, row: &Row, whole: bool) -> String {
        let time = |micros| {
            if whole {
                self.zone.date(micros)
            } else {
                self.zone.time(micros)
            }
        };
        let (first, last) = (time(row.first_seen()), time(row.last_seen()));
        match row.count() {
            0 | 1 => format!("once, at {first}"),
            count => format!("{count} times since {first}, last at {last}"),
        }
    }
}

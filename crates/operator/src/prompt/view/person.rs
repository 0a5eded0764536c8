// SPDX-License-Identifier: Apache-2.0
//! What a person sees: a line that says what is asked, and one that says what an answer opens.

use terok_clearance::DisplayText;

use super::Say;
use crate::inbox::{Change, Inbox, Row};
use crate::words::{self, Tone};

/// The rows that are listed when the prompt starts; `l` lists them all.
const AT_START: usize = 20;

const COMMANDS: &str = "a N allow, d N deny, l list, h help, q quit";

const HELP: &str = "  \
  a N [N...]  allow: open exactly what the row says
  d N [N...]  deny: refuse it without asking again
  l           list what is asked
  h           this help
  q           quit; what is not answered stays asked, and nothing is opened
";

/// How it is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Whether to use colours.
    pub(crate) color: bool,
    /// Whether a question is called by its id, since nobody types numbers here.
    pub(crate) ids: bool,
}

impl Style {
    /// Returns how a prompt says it, where questions are answered by number.
    pub(super) const fn prompt(color: bool) -> Self {
        Self { color, ids: false }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn yellow(self, text: &str) -> String {
        self.with("1;33", text)
    }

    fn green(self, text: &str) -> String {
        self.with("1;32", text)
    }

    fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

pub(super) fn show(say: &Say<'_>, inbox: &Inbox, paint: Style, now: u64) -> String {
    match say {
        Say::Hello(place) => {
            format!("Clearance: what your sandboxes want to reach, in {place}\n{COMMANDS}\n")
        }
        Say::Settled => settled(inbox, paint, now),
        Say::Change(said) => change(said, inbox, paint),
        Say::Hushed(rows) => format!("... and {rows} more; l lists them\n"),
        Say::List if inbox.rows().len() == 0 => "  nothing is asked\n".to_owned(),
        Say::List => inbox.rows().map(|row| listed(row, paint, now)).collect(),
        Say::Help => HELP.to_owned(),
        Say::Sent(..) => String::new(),
        Say::Refused(_, reason) => format!("{reason}\n"),
        Say::NotSent(_, refusal) => format!("{}\n", DisplayText::new(&refusal.to_string())),
        Say::Misunderstood(_, error) => format!("{}\n", DisplayText::new(&error.to_string())),
        Say::Ending(1) => "waiting for an answer to take effect\n".to_owned(),
        Say::Ending(answers) => format!("waiting for {answers} answers to take effect\n"),
    }
}

fn settled(inbox: &Inbox, paint: Style, now: u64) -> String {
    let (hubs, rows) = (inbox.hubs().len(), inbox.rows().len());
    let first = inbox.rows().take(AT_START);
    let mut shown: String = first.map(|row| asked(row, paint, Some(now))).collect();
    if let Some(rest @ 1..) = rows.checked_sub(AT_START) {
        shown = format!("{shown}... and {rest} more; l lists them\n");
    }
    format!("{shown}{}", ready(hubs, rows, paint))
}

/// Says that every hub that was there has been heard.
pub(crate) fn ready(hubs: usize, rows: usize, paint: Style) -> String {
    let hubs = match hubs {
        0 => "no hub yet; waiting for one".to_owned(),
        1 => "1 hub".to_owned(),
        hubs => format!("{hubs} hubs"),
    };
    let rows = match rows {
        0 => "nothing asked".to_owned(),
        1 => "1 question".to_owned(),
        rows => format!("{rows} questions"),
    };
    format!("{}\n", paint.dim(&format!("({hubs}, {rows})")))
}

/// Shows a question: what is asked, and what an answer opens.
fn asked(row: &Row, paint: Style, now: Option<u64>) -> String {
    let name = if paint.ids {
        row.request().id.to_string()
    } else {
        row.number().to_string()
    };
    let head = format!("[{name}] BLOCKED  {}", words::what(row));
    let mut line = format!("{}  from {}", paint.yellow(&head), words::who(row));
    if let Some(process) = words::process(row) {
        line = format!("{line}  by {process}");
    }
    if let Some(now) = now {
        line = format!("{line}  {}", words::how_often(row, now));
    }
    let allow = if paint.ids { "allow" } else { "a" };
    format!("{line}\n      {allow} {name} opens {}\n", words::opens(row))
}

fn listed(row: &Row, paint: Style, now: u64) -> String {
    let mut shown = asked(row, paint, Some(now));
    if let Some(action) = row.answering() {
        shown = format!("{shown}      being answered: {action}\n");
    }
    if row.is_lapsed() {
        shown = format!(
            "{shown}      forgotten by its hub, which ended: asked again at the next packet\n"
        );
    }
    shown
}

/// Says what changed; nothing where a person need not know.
pub(crate) fn change(change: &Change, inbox: &Inbox, paint: Style) -> String {
    if let Change::Asked(number) = change {
        let row = inbox.row(*number);
        return row.map_or_else(String::new, |row| asked(row, paint, None));
    }
    // The list counts; a line for each packet would push the questions off the screen.
    let told = if paint.ids {
        words::told_by_id(change, inbox)
    } else {
        words::told(change)
    };
    let Some(told) = told else {
        return String::new();
    };
    let tone = |text: &str| match told.tone {
        Tone::Quiet => paint.dim(text),
        Tone::Good => paint.green(text),
        Tone::Bad => paint.red(text),
    };
    let by = told.by.map(|by| paint.dim(&format!("  by {by}")));
    let line = match told.head {
        Some(head) => format!("{}  {}", tone(&head), told.text),
        None => tone(&told.text),
    };
    format!("{line}{}\n", by.unwrap_or_default())
}

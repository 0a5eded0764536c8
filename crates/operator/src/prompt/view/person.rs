// SPDX-License-Identifier: Apache-2.0
//! What a person sees: a line that says what is asked, and one that says what an answer opens.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{Decision, DisplayText, Resolution, ShieldState};

use super::Say;
use crate::inbox::{Change, End, Inbox, Row, RowNumber};
use crate::words;

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

    /// Returns what a question is called.
    fn name(self, row: &Row) -> String {
        if self.ids {
            row.request().id.to_string()
        } else {
            row.number().to_string()
        }
    }

    /// Returns what a question of this number is called, if it is still there.
    fn name_of(self, row: RowNumber, inbox: &Inbox) -> String {
        inbox
            .row(row)
            .map_or_else(|| row.to_string(), |row| self.name(row))
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
    let name = paint.name(row);
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
    let line = match change {
        Change::Asked(number) => {
            let row = inbox.row(*number);
            return row.map_or_else(String::new, |row| asked(row, paint, None));
        }
        // The list counts; a line for each packet would push the questions off the screen.
        Change::Again(_) | Change::Synced(_) => return String::new(),
        Change::Ended(row, End::Decided(decision)) => decided(row, decision, paint),
        Change::Ended(row, end) => paint.dim(&format!(
            "[{}] GONE     {}: {}",
            paint.name(row),
            words::what(row),
            words::why(end)
        )),
        Change::Failed {
            row,
            action,
            reason,
        } => {
            let name = paint.name_of(*row, inbox);
            let head = paint.red(&format!("[{name}] FAILED "));
            let why = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            format!("{head}  {action} took no effect, it is still asked{why}")
        }
        Change::Unsure {
            row,
            action,
            reason,
        } => {
            let name = paint.name_of(*row, inbox);
            let head = paint.red(&format!("[{name}] UNSURE "));
            format!("{head}  {action} may have taken effect, or not: {reason}")
        }
        Change::Lapsed(row) => {
            let name = paint.name_of(*row, inbox);
            let again = if paint.ids {
                String::new()
            } else {
                format!(", as [{name}],")
            };
            paint.dim(&format!(
                "[{name}] WAITS    its hub ended and has forgotten it; it is asked again{again} at \
                 the sandbox's next packet"
            ))
        }
        Change::Up(hub, _) => paint.dim(&format!("listening to {}", words::hub(hub))),
        Change::Down(hub, reason) => paint.dim(&format!(
            "{} is away, its questions wait for it: {reason}",
            words::hub(hub)
        )),
        Change::Gone(hub) => paint.dim(&format!("{} is gone", words::hub(hub))),
        Change::Unreachable(hub, reason) => {
            paint.dim(&format!("cannot reach {}: {reason}", words::hub(hub)))
        }
        Change::Lost { hub, lost, reason } if reason.as_str() == "kernel" => paint.red(&format!(
            "{}: the kernel lost the reports of {lost} packets; they are asked when sent again",
            words::hub(hub)
        )),
        Change::Lost { hub, lost, .. } => paint.dim(&format!(
            "{} skipped {lost} events; what is asked is complete",
            words::hub(hub)
        )),
        Change::Container {
            container, state, ..
        } => paint.dim(&match state {
            ContainerState::Started => format!("sandbox {container} started"),
            ContainerState::Exited => format!("sandbox {container} ended"),
        }),
        Change::Shield {
            container, state, ..
        } => match state {
            ShieldState::Up => paint.dim(&format!("sandbox {container}: the firewall is up")),
            ShieldState::Down => paint.red(&format!(
                "sandbox {container}: the firewall is DOWN, all but the private ranges passes"
            )),
            ShieldState::Disengaged => paint.red(&format!(
                "sandbox {container}: the firewall is OFF, everything passes"
            )),
        },
    };
    line + "\n"
}

fn decided(row: &Row, decision: &Decision, paint: Style) -> String {
    let name = paint.name(row);
    let reach = words::reach(decision.scope.as_ref().unwrap_or_else(|| row.scope()));
    let (head, what) = match decision.action {
        Resolution::Allow => (paint.green(&format!("[{name}] ALLOWED")), reach),
        Resolution::Deny => (paint.red(&format!("[{name}] DENIED ")), reach),
        Resolution::Dismiss => (
            paint.dim(&format!("[{name}] PUT AWAY")),
            format!("{}: the next packet asks again", words::what(row)),
        ),
    };
    let ours = row.answering().map(Resolution::from) == Some(decision.action);
    let by = if ours || decision.by.is_empty() {
        String::new()
    } else {
        paint.dim(&format!("  by {}", decision.by))
    };
    format!("{head}  {what}  for {}{by}", words::who(row))
}

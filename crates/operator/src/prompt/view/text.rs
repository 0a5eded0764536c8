// SPDX-License-Identifier: Apache-2.0
//! Formats prompt messages for people: two or three lines per question, the last with the effect
//! of `allow`.

use terok_clearance::{DisplayText, Timestamp};

use super::PromptMessage;
use crate::inbox::{Inbox, InboxChange, Row};
use crate::phrases::{self, MessageTone};
use crate::prompt::rule_calls::RuleCallReply;

/// Maximum number of rows listed at the start; `l` lists all.
pub(crate) const MAX_ROWS_AT_START: usize = 20;

const COMMAND_SUMMARY: &str = "a N allow, d N deny, l list, rules, h help, q quit";

const HELP_TEXT: &str = "  \
  a N [N...]      allow: open exactly what the row says
  d N [N...]      deny: refuse it without asking again
  a N 5m          the same for a time (30s, 5m, 2h, 1d); or once (the connections that wait),
                  run (until the sandbox ends), project (also in later runs), always
  a N as *.example.com [5m]
                  the same for every name below one, if the row offers it
  l               list the pending questions
  rules           list the rules in force
  revoke r12      end a rule, and the connections that it opened; or `revoke web:17`, the rules of
                  your answers to a question
  h               this help
  q               quit; unanswered questions stay pending, and nothing is opened
";

/// The style of messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageStyle {
    /// Whether to use colours.
    pub(crate) color: bool,
    /// Whether questions are named by request id instead of row number.
    pub(crate) show_ids: bool,
}

impl MessageStyle {
    /// Returns the style of a prompt, where questions are answered by row number.
    pub(super) const fn for_prompt(color: bool) -> Self {
        Self {
            color,
            show_ids: false,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn green(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

pub(super) fn render(
    message: &PromptMessage<'_>,
    inbox: &Inbox,
    paint: MessageStyle,
    now: Timestamp,
) -> String {
    match message {
        PromptMessage::Greeting(place) => {
            format!("Clearance: questions of the sandboxes in {place}\n{COMMAND_SUMMARY}\n")
        }
        PromptMessage::Ready => format_initial_list(inbox, paint, now),
        PromptMessage::Change(change) => format_change(change, inbox, paint, now),
        PromptMessage::Suppressed(rows) => format!("... and {rows} more; l lists them\n"),
        PromptMessage::List if inbox.rows().len() == 0 => {
            format!("  no pending questions\n{}", unlisted_note(inbox))
        }
        PromptMessage::List => inbox
            .rows()
            .map(|row| format_list_row(row, inbox, paint, now))
            .collect(),
        PromptMessage::Help => HELP_TEXT.to_owned(),
        PromptMessage::Sent(..) => String::new(),
        PromptMessage::Rules(reply) => format_rules(reply, now, paint.color),
        PromptMessage::Refused(_, reason) => format!("{reason}\n"),
        PromptMessage::NotSent(_, refusal) => {
            format!("{}\n", DisplayText::new(&refusal.to_string()))
        }
        PromptMessage::InvalidCommand(_, error) => {
            format!("{}\n", DisplayText::new(&error.to_string()))
        }
        PromptMessage::WaitingForReplies(1) => "waiting for the reply to an answer\n".to_owned(),
        PromptMessage::WaitingForReplies(answers) => {
            format!("waiting for the replies to {answers} answers\n")
        }
    }
}

/// Returns the line after a list that may lack questions.
pub(crate) fn unlisted_note(inbox: &Inbox) -> &'static str {
    if inbox.has_unlisted_hubs() {
        "  (a hub of the Python stack tells only new questions; earlier ones may be pending)\n"
    } else {
        ""
    }
}

fn format_initial_list(inbox: &Inbox, paint: MessageStyle, now: Timestamp) -> String {
    let (hubs, rows) = (inbox.hubs().len(), inbox.rows().len());
    let first = inbox.rows().take(MAX_ROWS_AT_START);
    let mut shown: String = first
        .map(|row| format_question(row, inbox, paint, now, true))
        .collect();
    if let Some(rest @ 1..) = rows.checked_sub(MAX_ROWS_AT_START) {
        shown = format!("{shown}... and {rest} more; l lists them\n");
    }
    let ready = format_ready(hubs, rows, paint);
    format!("{shown}{ready}{}", unlisted_note(inbox))
}

/// Formats the line that announces readiness.
pub(crate) fn format_ready(hubs: usize, rows: usize, paint: MessageStyle) -> String {
    let hubs = match hubs {
        0 => "no hub yet; waiting for one".to_owned(),
        1 => "1 hub".to_owned(),
        hubs => format!("{hubs} hubs"),
    };
    let rows = match rows {
        0 => "no questions".to_owned(),
        1 => "1 question".to_owned(),
        rows => format!("{rows} questions"),
    };
    format!("{}\n", paint.dim(&format!("({hubs}, {rows})")))
}

/// Returns the name by which commands select the question.
fn question_name(row: &Row, inbox: &Inbox, paint: MessageStyle) -> String {
    if paint.show_ids {
        inbox.question_id(row)
    } else {
        row.number().to_string()
    }
}

/// Formats a question, and the effect of `allow`. Ages that change stand in lists only.
fn format_question(
    row: &Row,
    inbox: &Inbox,
    paint: MessageStyle,
    now: Timestamp,
    is_listed: bool,
) -> String {
    let name = question_name(row, inbox, paint);
    let head = format!("[{name}] BLOCKED  {}", phrases::describe_dest(row));
    let mut line = format!(
        "{}  from {}",
        paint.yellow(&head),
        phrases::describe_sandbox(row)
    );
    if !paint.show_ids {
        // For `allow` and `deny` in another terminal.
        line = format!("{line}  id {}", inbox.question_id(row));
    }
    if let Some(process) = phrases::describe_process(row) {
        line = format!("{line}  who asks: {process}");
    }
    if is_listed {
        line = format!("{line}  {}", phrases::describe_occurrences(row, now));
    }
    let notes = [
        phrases::describe_addresses(row),
        phrases::describe_lookup(row),
        phrases::describe_waiting(row, None, is_listed.then_some(now)),
        phrases::describe_previous(row, now),
    ];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    if !notes.is_empty() {
        line = format!("{line}\n      {}", notes.join("; "));
    }
    // Each on a line of its own: the words are not this program's.
    for words in [
        phrases::describe_approver_note(row),
        phrases::describe_reason(row),
    ]
    .into_iter()
    .flatten()
    {
        line = format!("{line}\n      {words}");
    }
    let allow = if paint.show_ids { "allow" } else { "a" };
    let effect = phrases::describe_own_effect(row);
    let offers = phrases::describe_offers(row).filter(|_| !paint.show_ids);
    let offers = offers.map_or_else(String::new, |offers| format!("\n      or {offers}"));
    format!("{line}\n      {allow} {name} opens {effect}{offers}\n")
}

/// Formats the reply to a call about rules.
pub(super) fn format_rules(reply: &RuleCallReply, now: Timestamp, color: bool) -> String {
    let survey = match reply {
        RuleCallReply::Revoked(_, outcome) => return format!("{}\n", outcome.to_text()),
        RuleCallReply::Listed(survey) => survey,
    };
    let mut shown = survey.to_table(now, None, color);
    for gap in survey.describe_gaps() {
        shown = format!("{shown}  {gap}\n");
    }
    if shown.is_empty() {
        "  no rules\n".to_owned()
    } else {
        shown
    }
}

/// Formats what has become known about a question since it was shown.
fn format_addition(row: &Row, inbox: &Inbox, text: &str, paint: MessageStyle) -> String {
    let line = format!("[{}] {text}", question_name(row, inbox, paint));
    format!("{}\n", paint.dim(&line))
}

fn format_list_row(row: &Row, inbox: &Inbox, paint: MessageStyle, now: Timestamp) -> String {
    let mut shown = format_question(row, inbox, paint, now, true);
    if let Some(action) = row.answering() {
        let scope = row.answering_scope().map(phrases::describe_answered_scope);
        let scope = scope.unwrap_or_default();
        shown = format!("{shown}      being answered: {action} {scope}\n");
    }
    if row.is_forgotten_by_hub() {
        shown = format!("{shown}      stale: the hub restarted; the next packet will ask again\n");
    }
    shown
}

/// Formats a change. Returns an empty text for changes that are not shown.
pub(crate) fn format_change(
    change: &InboxChange,
    inbox: &Inbox,
    paint: MessageStyle,
    now: Timestamp,
) -> String {
    if let InboxChange::Added(number) = change {
        let row = inbox.row(*number);
        return row.map_or_else(String::new, |row| {
            format_question(row, inbox, paint, now, false)
        });
    }
    if let InboxChange::ProcessFound(number) | InboxChange::WaitingGrew(number) = change {
        let addition = inbox.row(*number).and_then(|row| {
            let text = match change {
                InboxChange::WaitingGrew(_) => phrases::describe_waiting(row, None, None)?,
                _ => format!("who asks: {}", phrases::describe_process(row)?),
            };
            Some(format_addition(row, inbox, &text, paint))
        });
        return addition.unwrap_or_default();
    }
    // The list shows the packet counts; a line for each packet would push the questions off the
    // screen.
    let message = if paint.show_ids {
        phrases::describe_change_by_id(change, inbox)
    } else {
        phrases::describe_change(change)
    };
    let Some(message) = message else {
        return String::new();
    };
    let tone = |text: &str| match message.tone {
        MessageTone::Quiet => paint.dim(text),
        MessageTone::Good => paint.green(text),
        MessageTone::Bad => paint.red(text),
    };
    let by = message
        .decided_by
        .map(|by| paint.dim(&format!("  by {by}")));
    let line = match message.label {
        Some(label) => format!("{}  {}", tone(&label), message.text),
        None => tone(&message.text),
    };
    format!("{line}{}\n", by.unwrap_or_default())
}

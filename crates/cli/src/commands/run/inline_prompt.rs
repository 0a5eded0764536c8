// SPDX-License-Identifier: Apache-2.0
//! Asks at the terminal that the command uses too, so that neither an accident nor the command can
//! answer.
//!
//! Keys go to the command until Ctrl-] is pressed while a question waits. Then the command's output
//! waits, and only the keys that are listed count: one at a time, as a person types them, not what
//! a terminal sends in a burst when it is asked something (which a command can make it do) or when
//! text is pasted; and not before the question has stood there for a moment, so that nobody answers
//! what was not read.

use std::time::Duration;

use operator::inbox::{
    HubId, Inbox, InboxChange, InboxEvent, OperatorAnswer, OperatorReply, Row, RowEnd, RowNumber,
};
use operator::phrases;
use terok_clearance::{Action, DecisionAction};
use tokio::time::Instant;

/// Ctrl-].
pub(super) const HOTKEY: u8 = 0x1d;
/// How long a question stands there before a key counts.
const MIN_READING_TIME: Duration = Duration::from_millis(400);

/// The questions at this terminal.
#[derive(Debug, Default)]
pub(super) struct InlinePrompt {
    inbox: Inbox,
    /// The question that is shown, and since when; none while the command has the terminal.
    shown_question: Option<(RowNumber, Instant)>,
    notices: ConsoleNoticeLimiter,
}

/// When to tell of questions in passing: of the first one, and then not all the time.
#[derive(Debug, Default)]
pub(super) struct ConsoleNoticeLimiter {
    last_notice: Option<Instant>,
}

impl ConsoleNoticeLimiter {
    /// The least time between two of them.
    const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

    /// Says whether a question that has just come, of `count` in all, is to be told of, and takes
    /// it for told.
    pub(super) fn is_due(&mut self, count: usize, now: Instant) -> bool {
        let quiet = self
            .last_notice
            .is_some_and(|at| now.duration_since(at) < Self::NOTICE_INTERVAL);
        let due = count == 1 || !quiet;
        if due {
            self.last_notice = Some(now);
        }
        due
    }
}

/// What is to be done about a key, or about news.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConsoleAction {
    /// Pass what was typed on to the command.
    ForwardKeys,
    /// Nothing.
    Ignore,
    /// Take the terminal and say this; the command waits.
    Open(String),
    /// Say this.
    Print(String),
    /// Give the terminal back to the command, after these words.
    Close(String),
    /// Send these answers.
    SendAnswers(Vec<OperatorAnswer>),
    /// Tell, in passing, that there are so many questions.
    Notice(usize),
}

impl InlinePrompt {
    /// Takes in what was typed, `now`.
    pub(super) fn handle_keys(&mut self, keys: &[u8], now: Instant) -> ConsoleAction {
        let Some((row, since)) = self.shown_question else {
            return match keys {
                [HOTKEY] if self.inbox.rows().len() > 0 => {
                    ConsoleAction::Open(self.open_first_question(now))
                }
                _ => ConsoleAction::ForwardKeys,
            };
        };
        let [key] = keys else {
            return ConsoleAction::Ignore;
        };
        match *key {
            b'q' | HOTKEY => self.close("back to the command\n"),
            b'n' => match self.next_row(row) {
                Some(next) => ConsoleAction::Print(self.show_question(next, now)),
                None => ConsoleAction::Ignore,
            },
            b'a' | b'd' if now.duration_since(since) >= MIN_READING_TIME => {
                let action = if key == &b'a' {
                    Action::Allow
                } else {
                    Action::Deny
                };
                match self.inbox.answer(row, action) {
                    Ok(answers) => ConsoleAction::SendAnswers(answers),
                    Err(refusal) => ConsoleAction::Print(format!("  {refusal}\n")),
                }
            }
            _ => ConsoleAction::Ignore,
        }
    }

    /// Takes in what our hub says.
    pub(super) fn apply_event(
        &mut self,
        hub: &HubId,
        news: InboxEvent,
        now: Instant,
    ) -> Vec<ConsoleAction> {
        let changes = self.inbox.apply_event(hub, news);
        self.apply_changes(changes, now)
    }

    /// Takes in what became of an answer.
    pub(super) fn apply_reply(
        &mut self,
        answer: &OperatorAnswer,
        reply: OperatorReply,
        now: Instant,
    ) -> Vec<ConsoleAction> {
        let changes = self.inbox.apply_reply(answer, reply);
        self.apply_changes(changes, now)
    }

    fn apply_changes(&mut self, changes: Vec<InboxChange>, now: Instant) -> Vec<ConsoleAction> {
        let mut acts = Vec::new();
        for change in changes {
            let shown = self.shown_question.map(|(row, _)| row);
            match change {
                InboxChange::Added(_) if shown.is_none() => {
                    let count = self.inbox.rows().len();
                    if self.notices.is_due(count, now) {
                        acts.push(ConsoleAction::Notice(count));
                    }
                }
                InboxChange::Added(_) if self.inbox.rows().len() == 2 => {
                    acts.push(ConsoleAction::Print(
                        "  another question waits: [n] next\n".to_owned(),
                    ));
                }
                InboxChange::Ended(row, end) if shown == Some(row.number()) => {
                    let said = format!("  {}: {}\n", row.dest(), describe_end(&end));
                    acts.push(match self.next_row(row.number()) {
                        Some(next) => ConsoleAction::Print(said + &self.show_question(next, now)),
                        None => self.close(&said),
                    });
                }
                InboxChange::Failed {
                    row,
                    action,
                    reason,
                } if shown == Some(row) => {
                    acts.push(ConsoleAction::Print(format!(
                        "  {action} failed: {reason}\n"
                    )));
                }
                InboxChange::ResultUnknown {
                    row,
                    action,
                    reason,
                } if shown == Some(row) => {
                    let said = format!("  {action} may have taken effect, or not: {reason}\n");
                    acts.push(ConsoleAction::Print(said));
                }
                _ => {}
            }
        }
        acts
    }

    fn open_first_question(&mut self, now: Instant) -> String {
        let first = self.inbox.rows().next().map(Row::number);
        first.map_or_else(String::new, |first| self.show_question(first, now))
    }

    fn close(&mut self, words: &str) -> ConsoleAction {
        self.shown_question = None;
        ConsoleAction::Close(words.to_owned())
    }

    /// The row after `row`, the first after the last.
    fn next_row(&self, row: RowNumber) -> Option<RowNumber> {
        let numbers = || self.inbox.rows().map(Row::number);
        numbers()
            .find(|number| *number > row)
            .or_else(|| numbers().next())
    }

    fn show_question(&mut self, number: RowNumber, now: Instant) -> String {
        self.shown_question = Some((number, now));
        let Some(row) = self.inbox.row(number) else {
            return String::new();
        };
        let position = self
            .inbox
            .rows()
            .take_while(|row| row.number() != number)
            .count()
            + 1;
        let count = self.inbox.rows().len();
        let process = phrases::describe_process(row).map(|words| format!("  asked by {words}\n"));
        let process = process.unwrap_or_default();
        let more = if count > 1 { "   [n] next" } else { "" };
        format!(
            "\n-- terok-clearance: question {position} of {count} --\n  blocked: {what}\n{process}  \
             [a] allow: {opens}\n  [d] deny{more}   [q] back to the command\n",
            what = phrases::describe_dest(row),
            opens = phrases::describe_allow_effect(row),
        )
    }
}

fn describe_end(end: &RowEnd) -> String {
    let RowEnd::Decided(decision) = end else {
        return phrases::describe_row_end(end);
    };
    match decision.action {
        DecisionAction::Allow => "allowed".to_owned(),
        DecisionAction::Deny => "denied".to_owned(),
        DecisionAction::Dismiss => "put away".to_owned(),
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;
    use terok_clearance::client::ProtocolVersion;
    use terok_clearance::wire::clearance2::Event;

    use super::*;

    fn hub() -> HubId {
        HubId::new(Path::new("/h"))
    }

    /// Questions about these, at a hub that is there.
    fn asked(names: &[&str]) -> (InlinePrompt, Instant, Vec<ConsoleAction>) {
        let (mut ask, now) = (InlinePrompt::default(), Instant::now());
        ask.apply_event(&hub(), InboxEvent::Up(ProtocolVersion::Clearance2), now);
        let numbered = names.iter().enumerate();
        let acts = numbered
            .flat_map(|(n, name)| hear(&mut ask, n, name, now))
            .collect();
        (ask, now, acts)
    }

    /// The `n`th question, about `name`.
    fn hear(ask: &mut InlinePrompt, n: usize, name: &str, now: Instant) -> Vec<ConsoleAction> {
        let request = json!({
            "id": format!("box:{n}"), "container": "box", "dest": name,
            "address": "203.0.113.7", "port": 443, "protocol": "tcp", "domain": name,
            "scope": {"dest": name, "port": 443, "protocol": "tcp"},
            "first_seen": 1, "last_seen": 1, "count": 1,
        });
        let request = Arc::new(serde_json::from_value(request).unwrap());
        ask.apply_event(&hub(), InboxEvent::Received(Event::Pending(request)), now)
    }

    const AFTER_READING_TIME: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_question_every_key_is_the_commands() {
        let (mut ask, now, _) = asked(&[]);
        for keys in [&b"a"[..], b"d", b"\x1d", b"\x1da"] {
            assert_eq!(
                ask.handle_keys(keys, now),
                ConsoleAction::ForwardKeys,
                "{keys:?}"
            );
        }
    }

    #[test]
    fn only_the_hotkey_alone_shows_a_question() {
        let (mut ask, now, acts) = asked(&["a.example"]);
        assert_eq!(acts, [ConsoleAction::Notice(1)]);
        for keys in [
            &b"a"[..],
            b"d",
            b"\x1d\x1d",
            b"\x1da",
            b"a\x1d",
            b"\x1b]0;\x1d\x07",
        ] {
            assert_eq!(
                ask.handle_keys(keys, now),
                ConsoleAction::ForwardKeys,
                "{keys:?}"
            );
        }
        let ConsoleAction::Open(words) = ask.handle_keys(b"\x1d", now) else {
            panic!("not shown")
        };
        assert!(
            words.contains("allow: tcp port 443 of a.example"),
            "{words}"
        );
    }

    #[test]
    fn an_answer_is_one_listed_key_after_a_moment() {
        let (mut ask, now, _) = asked(&["a.example"]);
        ask.handle_keys(b"\x1d", now);
        for keys in [&b"a"[..], b"d"] {
            assert_eq!(
                ask.handle_keys(keys, now),
                ConsoleAction::Ignore,
                "too soon: {keys:?}"
            );
        }
        for keys in [
            &b"aa"[..],
            b"a\r",
            b"\x1b[A",
            b"y",
            b"\r",
            b" ",
            b"A",
            b"\x1b",
            b"",
        ] {
            assert_eq!(
                ask.handle_keys(keys, now + AFTER_READING_TIME),
                ConsoleAction::Ignore,
                "{keys:?}"
            );
        }
        let ConsoleAction::SendAnswers(answers) = ask.handle_keys(b"a", now + AFTER_READING_TIME)
        else {
            panic!("no answer")
        };
        assert_eq!(answers.len(), 1);
        assert_eq!(
            (answers[0].action, answers[0].request.dest.as_str()),
            (Action::Allow, "a.example")
        );
    }

    #[test]
    fn a_question_that_follows_has_its_own_moment() {
        let (mut ask, now, _) = asked(&["a.example", "b.example"]);
        ask.handle_keys(b"\x1d", now);
        let later = now + AFTER_READING_TIME;
        let ConsoleAction::SendAnswers(answers) = ask.handle_keys(b"d", later) else {
            panic!("no answer")
        };
        let decision = json!({
            "request": "box:0", "container": "box", "dest": "a.example", "action": "deny",
            "by": "op", "at": 2, "ok": true,
        });
        let reply = OperatorReply::Decided(serde_json::from_value(decision).unwrap());
        let acts = ask.apply_reply(&answers[0], reply, later);
        let [ConsoleAction::Print(words)] = acts.as_slice() else {
            panic!("{acts:?}")
        };
        assert!(
            words.contains("a.example: denied") && words.contains("b.example"),
            "{words}"
        );
        // The finger that is still on the key does not answer what was not read.
        assert_eq!(ask.handle_keys(b"d", later), ConsoleAction::Ignore);
    }

    #[test]
    fn a_question_that_comes_while_another_is_shown_is_told() {
        let (mut ask, now, _) = asked(&["a.example"]);
        ask.handle_keys(b"\x1d", now);
        let acts = hear(&mut ask, 1, "b.example", now);
        assert_eq!(
            acts,
            [ConsoleAction::Print(
                "  another question waits: [n] next\n".to_owned()
            )]
        );
        let ConsoleAction::Print(words) = ask.handle_keys(b"n", now) else {
            panic!("not shown")
        };
        assert!(words.contains("question 2 of 2"), "{words}");
    }

    #[test]
    fn what_leaves_a_question_opens_nothing() {
        for key in [b"q", b"\x1d"] {
            let (mut ask, now, _) = asked(&["a.example"]);
            ask.handle_keys(b"\x1d", now);
            assert!(matches!(
                ask.handle_keys(key, now + AFTER_READING_TIME),
                ConsoleAction::Close(_)
            ));
            assert_eq!(
                ask.handle_keys(b"a", now + AFTER_READING_TIME),
                ConsoleAction::ForwardKeys
            );
        }
    }

    #[test]
    fn a_flood_of_questions_is_told_once_in_a_while() {
        let names: Vec<_> = (0..100).map(|n| format!("h{n}.example")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let (_, _, acts) = asked(&names);
        assert_eq!(acts, [ConsoleAction::Notice(1)]);
    }
}

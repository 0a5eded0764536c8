// SPDX-License-Identifier: Apache-2.0
//! Commands of a prompt, from people and scripts.

use std::str::SplitWhitespace;

use serde::Deserialize;
use terok_clearance::{Action, Dest, DisplayText, RequestId};

use crate::answer_scope::{ScopeLifetime, ScopeLifetimeError, ScopeOverride};
use crate::inbox::{RowNumber, RowNumberError};

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PromptCommand {
    /// Answer these rows.
    Answer {
        action: Action,
        rows: Vec<RowNumber>,
        /// The request that the row must contain, if given by a script.
        request: Option<RequestId>,
        /// The differences from the scope that the rows show.
        scope: ScopeOverride,
    },
    List,
    /// List the rules in force.
    Rules,
    /// Revoke this rule, or the rules of the answers to this request.
    Revoke(DisplayText),
    Help,
    Quit,
    /// An empty line.
    Empty,
}

/// The reason why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PromptCommandError {
    /// The first word is not a command.
    #[error("{0:?} is not a command; type h for help")]
    Unknown(DisplayText),
    /// The first word is of another script.
    #[error("{0:?} is not a command; switch the keyboard to Latin letters")]
    OtherScript(DisplayText),
    /// The line has control characters, such as those of a terminal's reply.
    #[error("the line has more than typed characters; nothing was sent; type it again")]
    ControlCharacters,
    /// The row number is missing.
    #[error("{0} needs a row number, as in `{0} 3`")]
    MissingRow(&'static str),
    /// A row number is invalid. No row of the line was answered.
    #[error("{found:?} is not a row number; nothing was sent: {source}")]
    InvalidRow {
        found: DisplayText,
        source: RowNumberError,
    },
    /// The scope of an answer is invalid. No row of the line was answered.
    #[error("{0}; nothing was sent")]
    InvalidScope(DisplayText),
    /// `revoke` does not name one rule.
    #[error("revoke needs the name of a rule, as in `revoke r12`; rules lists them")]
    MissingRule,
    /// The line is not a valid JSON answer.
    #[error("invalid JSON answer: {0}")]
    InvalidJson(DisplayText),
}

impl PromptCommand {
    /// Parses a line; with `json`, also a JSON answer.
    pub(super) fn parse(line: &str, json: bool) -> Result<Self, PromptCommandError> {
        let line = line.trim();
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(PromptCommandError::ControlCharacters);
        }
        if json && line.starts_with('{') {
            return Self::parse_json(line);
        }
        let mut words = line.split_whitespace();
        let Some(verb) = words.next() else {
            return Ok(Self::Empty);
        };
        let (action, verb) = match verb.to_ascii_lowercase().as_str() {
            "a" | "allow" => (Action::Allow, "a"),
            "d" | "deny" => (Action::Deny, "d"),
            "l" | "list" => return Ok(Self::List),
            "rules" => return Ok(Self::Rules),
            "revoke" => {
                return match (words.next(), words.next()) {
                    (Some(rule), None) => Ok(Self::Revoke(DisplayText::new(rule))),
                    _ => Err(PromptCommandError::MissingRule),
                };
            }
            "h" | "help" | "?" => return Ok(Self::Help),
            "q" | "quit" | "exit" => return Ok(Self::Quit),
            _ if !verb.is_ascii() => {
                return Err(PromptCommandError::OtherScript(DisplayText::new(verb)));
            }
            _ => return Err(PromptCommandError::Unknown(DisplayText::new(verb))),
        };
        let (mut rows, mut scope) = (Vec::new(), ScopeOverride::default());
        while let Some(word) = words.next() {
            if !word.bytes().all(|byte| byte.is_ascii_digit()) && !rows.is_empty() {
                add_scope_word(word, &mut words, &mut scope)?;
            } else if scope.is_none() {
                rows.push(parse_row(word)?);
            } else {
                // A number behind the scope is neither a row nor a time.
                let error = format!("{word:?} has no unit; a time is 30s, 5m, 2h or 1d");
                return Err(PromptCommandError::InvalidScope(DisplayText::new(&error)));
            }
        }
        if rows.is_empty() {
            return Err(PromptCommandError::MissingRow(verb));
        }
        Ok(Self::Answer {
            action,
            rows,
            request: None,
            scope,
        })
    }

    fn parse_json(line: &str) -> Result<Self, PromptCommandError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct PromptAnswerJson {
            action: Action,
            row: u64,
            request: Option<RequestId>,
            #[serde(rename = "for")]
            lifetime: Option<String>,
            #[serde(rename = "as")]
            dest: Option<Dest>,
        }
        let invalid = |error: &dyn std::error::Error| {
            PromptCommandError::InvalidJson(DisplayText::new(&error.to_string()))
        };
        let answer: PromptAnswerJson =
            serde_json::from_str(line).map_err(|error| invalid(&error))?;
        let row = RowNumber::try_from(answer.row).map_err(|error| invalid(&error))?;
        let lifetime = answer.lifetime.map(|text| text.parse::<ScopeLifetime>());
        let lifetime = lifetime.transpose().map_err(|error| invalid(&error))?;
        Ok(Self::Answer {
            action: answer.action,
            rows: vec![row],
            request: answer.request,
            scope: ScopeOverride {
                dest: answer.dest,
                lifetime,
            },
        })
    }
}

fn parse_row(text: &str) -> Result<RowNumber, PromptCommandError> {
    text.parse()
        .map_err(|source| PromptCommandError::InvalidRow {
            found: DisplayText::new(text),
            source,
        })
}

/// Reads a word behind the row numbers: a lifetime, or `as` and a name. Each may be given once.
fn add_scope_word(
    word: &str,
    rest: &mut SplitWhitespace<'_>,
    scope: &mut ScopeOverride,
) -> Result<(), PromptCommandError> {
    let invalid = |text: &str| PromptCommandError::InvalidScope(DisplayText::new(text));
    if word.eq_ignore_ascii_case("as") {
        let name = rest.next().and_then(|name| name.parse().ok());
        let name = name.ok_or_else(|| invalid("`as` needs a name, as in `as *.example.com`"))?;
        if scope.dest.replace(name).is_some() {
            return Err(invalid("`as` is there twice"));
        }
        return Ok(());
    }
    // `for` reads well, and means nothing.
    let word = match word {
        "for" => rest.next().unwrap_or_default(),
        word => word,
    };
    let lifetime = word.parse().map_err(|error: ScopeLifetimeError| {
        PromptCommandError::InvalidScope(DisplayText::new(&error.to_string()))
    })?;
    match scope.lifetime.replace(lifetime) {
        None => Ok(()),
        Some(_) => Err(invalid("the time is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(action: Action, rows: &[u64]) -> PromptCommand {
        PromptCommand::Answer {
            action,
            rows: rows
                .iter()
                .map(|row| RowNumber::try_from(*row).unwrap())
                .collect(),
            request: None,
            scope: ScopeOverride::default(),
        }
    }

    fn scoped(rows: &[u64], dest: Option<&str>, lifetime: Option<&str>) -> PromptCommand {
        let scope = ScopeOverride {
            dest: dest.map(|name| name.parse().unwrap()),
            lifetime: lifetime.map(|text| text.parse().unwrap()),
        };
        match answer(Action::Allow, rows) {
            PromptCommand::Answer {
                action,
                rows,
                request,
                ..
            } => PromptCommand::Answer {
                action,
                rows,
                request,
                scope,
            },
            other => other,
        }
    }

    #[test]
    fn an_answer_can_have_a_name_and_a_time() {
        let check = |line: &str, expected: PromptCommand| {
            assert_eq!(PromptCommand::parse(line, false), Ok(expected), "{line:?}");
        };
        check("a 3 5m", scoped(&[3], None, Some("5m")));
        check("a 3 4 once", scoped(&[3, 4], None, Some("once")));
        check("a 3 for 1h", scoped(&[3], None, Some("1h")));
        check("a 3 run", scoped(&[3], None, Some("run")));
        check(
            "a 3 as *.example.com",
            scoped(&[3], Some("*.example.com"), None),
        );
        let both = scoped(&[3], Some("*.example.com"), Some("project"));
        check("a 3 as *.example.com project", both.clone());
        check(
            "a 3 Always as *.example.com",
            scoped(&[3], Some("*.example.com"), Some("always")),
        );
        check("a 3 project as *.example.com", both);
        check("rules", PromptCommand::Rules);
        check("revoke web:r12", PromptCommand::Revoke("web:r12".into()));
        for line in [
            "a 5m",
            "a once 3",
            "a 3 5m 4",
            "a 3 5m 1h",
            "a 3 forever",
            "a 3 0s",
            "a 3 31d",
            "a 3 as",
            "a 3 as *.a.example as *.b.example",
            "a 3 for",
            "a 3 5 m",
            "revoke",
            "revoke r1 r2",
        ] {
            assert!(PromptCommand::parse(line, false).is_err(), "{line:?}");
        }
    }

    #[test]
    fn only_exact_commands_are_accepted() {
        let check = |line: &str, expected: PromptCommand| {
            assert_eq!(PromptCommand::parse(line, false), Ok(expected), "{line:?}");
        };
        check("a 3", answer(Action::Allow, &[3]));
        check("  ALLOW   12 \r", answer(Action::Allow, &[12]));
        check("d 1 2 3", answer(Action::Deny, &[1, 2, 3]));
        check("l", PromptCommand::List);
        check("?", PromptCommand::Help);
        check("exit", PromptCommand::Quit);
        check("", PromptCommand::Empty);
        for line in [
            "a",
            "a all",
            "a *",
            "a 1 x",
            "a 1-3",
            "a3",
            "3",
            "y",
            "a -1",
            "a 0",
            "deny",
            "{\"action\":\"allow\",\"row\":1}",
        ] {
            assert!(PromptCommand::parse(line, false).is_err(), "{line:?}");
        }
    }

    /// What a terminal sends by itself, in front of, within or behind an answer.
    #[test]
    fn a_line_with_a_reply_of_the_terminal_is_no_answer() {
        for line in [
            "\x1b[?64;1ca 3",
            "\x1b]11;rgb:a\x07 a 3",
            "a\x1b[0n 3",
            "a 3\x1b[I",
            "a 3 \u{9b}0n",
            "a\u{b}3",
            "\x1b[M a 3",
        ] {
            let parsed = PromptCommand::parse(line, false);
            assert_eq!(
                parsed,
                Err(PromptCommandError::ControlCharacters),
                "{line:?}"
            );
        }
        let parsed = PromptCommand::parse("\u{444} 3", false);
        assert!(
            matches!(parsed, Err(PromptCommandError::OtherScript(_))),
            "{parsed:?}"
        );
        assert_eq!(
            PromptCommand::parse("A\t3", false),
            Ok(answer(Action::Allow, &[3]))
        );
    }

    #[test]
    fn json_answer_can_name_the_request() {
        let command = PromptCommand::parse(r#"{"action":"deny","row":7,"request":"web:9"}"#, true);
        let expected = PromptCommand::Answer {
            action: Action::Deny,
            rows: vec![RowNumber::try_from(7).unwrap()],
            request: Some("web:9".parse().unwrap()),
            scope: ScopeOverride::default(),
        };
        assert_eq!(command, Ok(expected));
        assert_eq!(
            PromptCommand::parse("a 7", true),
            Ok(answer(Action::Allow, &[7]))
        );
        assert_eq!(
            PromptCommand::parse(
                r#"{"action":"allow","row":7,"for":"5m","as":"*.example.com"}"#,
                true
            ),
            Ok(scoped(&[7], Some("*.example.com"), Some("5m")))
        );
        for line in [
            r#"{"action":"allow"}"#,
            r#"{"action":"allow","row":0}"#,
            r#"{"action":"allow","row":"all"}"#,
            r#"{"action":"allow","row":1,"dest":"x"}"#,
            r#"{"action":"maybe","row":1}"#,
            r#"{"action":"allow","row":1,"for":"forever"}"#,
            r#"{"action":"allow","row":1,"for":300}"#,
            r#"{"action":"allow","row":1,"as":""}"#,
            "{",
        ] {
            assert!(PromptCommand::parse(line, true).is_err(), "{line}");
        }
    }
}

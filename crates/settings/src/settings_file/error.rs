// SPDX-License-Identifier: Apache-2.0
//! The errors of a file, each with its place and its line.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::DisplayText;

/// The errors of a file, in the order of their lines; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsErrors {
    /// The file.
    pub path: Arc<Path>,
    /// The errors.
    pub problems: Vec<SettingsProblem>,
}

/// An error of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1 in characters.
    pub column: usize,
    /// The text of the line, cut if it is long.
    pub text: DisplayText,
    /// The error.
    pub reason: ProblemReason,
}

/// The reason of a [`SettingsProblem`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemReason {
    /// The file is no TOML.
    #[error("not TOML: {0}")]
    Syntax(DisplayText),
    /// There is no such table.
    #[error("unknown table [{name}]{}", suggest(nearest.map(|table| format!("[{table}]"))))]
    UnknownTable {
        /// The table.
        name: DisplayText,
        /// A table with a similar name.
        nearest: Option<&'static str>,
    },
    /// There is no such key in the table.
    #[error(
        "unknown key `{name}` in [{table}]{}",
        match elsewhere {
            Some(other) => format!(": it belongs in [{other}]"),
            None => suggest(nearest.map(|key| format!("`{key}`"))),
        }
    )]
    UnknownKey {
        /// The key.
        name: DisplayText,
        /// The table.
        table: &'static str,
        /// A key of the table with a similar name.
        nearest: Option<&'static str>,
        /// A table that has the key.
        elsewhere: Option<&'static str>,
    },
    /// A key stands before the first table.
    #[error("`{name}` belongs in a table: write [{table}] above it")]
    OutsideTable {
        /// The key.
        name: &'static str,
        /// The table of the key.
        table: &'static str,
    },
    /// The name of a table has a value.
    #[error("[{0}] is a table of keys, not a value")]
    NotTable(&'static str),
    /// A value has another type.
    #[error("`{key}` is {expected}, not {}", type_in_words(found))]
    WrongType {
        /// The key.
        key: &'static str,
        /// The values that the key takes.
        expected: String,
        /// The type of the value, as TOML calls it.
        found: &'static str,
    },
    /// A value is of the right type, and not one of those that the key takes.
    #[error("`{key}`: {why}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl std::error::Error for SettingsErrors {}

impl fmt::Display for SettingsErrors {
    /// Writes one line for one error, and a paragraph for each of several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [_, _, ..] = self.problems.as_slice() {
            write!(
                f,
                "{} has {} errors",
                self.path.display(),
                self.problems.len()
            )?;
            for problem in &self.problems {
                write!(f, "\n{}:{}: {problem}", problem.line, problem.column)?;
            }
            return Ok(());
        }
        for problem in &self.problems {
            let path = self.path.display();
            write!(f, "{path}:{}:{}: {problem}", problem.line, problem.column)?;
        }
        Ok(())
    }
}

impl fmt::Display for SettingsProblem {
    /// Writes the reason, and the line with a mark below the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {} | {}", self.reason, self.line, self.text)
    }
}

/// Longest line in an error message.
const MAX_SHOWN: usize = 120;

fn suggest(nearest: Option<String>) -> String {
    let question = nearest.map(|nearest| format!(": did you mean {nearest}?"));
    question.unwrap_or_default()
}

fn type_in_words(toml: &str) -> &str {
    match toml {
        "string" => "a text",
        "integer" => "a number",
        "float" => "a number with a fraction",
        "boolean" => "true or false",
        "datetime" => "a date",
        "array" => "a list",
        "array of tables" => "a list of tables",
        _ => "a table",
    }
}

/// Returns the name that `given` most likely stands for.
pub(super) fn nearest(
    given: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // Longer texts are no misspelling of a key, and the comparison is quadratic.
    if given.len() > 64 {
        return None;
    }
    let distance = |name: &&str| strsim::damerau_levenshtein(given, name);
    let close = known.filter(|name| distance(name) <= 1.max(name.len().div_euclid(3)));
    close.min_by_key(distance)
}

/// The text of a file, with the starts of its lines.
pub(super) struct SourceText<'a> {
    text: &'a str,
}

impl<'a> SourceText<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// Returns line and column of a byte, counted from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.before(offset);
        let line = before.bytes().filter(|byte| *byte == b'\n').count();
        let last = before.rsplit('\n').next().unwrap_or_default();
        (
            line.saturating_add(1),
            last.chars().count().saturating_add(1),
        )
    }

    /// Returns the problem at a byte.
    pub(super) fn problem(&self, offset: usize, reason: ProblemReason) -> SettingsProblem {
        let (line, column) = self.position(offset);
        self.problem_of_line(line, column, reason)
    }

    /// Returns the problem at a line and column.
    pub(super) fn problem_of_line(
        &self,
        line: usize,
        column: usize,
        reason: ProblemReason,
    ) -> SettingsProblem {
        let text = self.text.lines().nth(line.saturating_sub(1));
        let shown: String = text.unwrap_or_default().chars().take(MAX_SHOWN).collect();
        SettingsProblem {
            line,
            column,
            text: DisplayText::new(&shown),
            reason,
        }
    }

    /// Returns the text before a byte.
    fn before(&self, offset: usize) -> &'a str {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        self.text.get(..end).unwrap_or_default()
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A parsed file: every value with its line, or every error with its line.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::{DestPattern, DisplayText};
use toml_edit::{Document, Item, TableLike};

use crate::{AnswerLifetime, Setting, SettingKey, SettingSource, TimeSpan};

mod error;
mod value;

pub use error::{ProblemReason, SettingsErrors, SettingsProblem};

use error::SourceText;

/// Checks the text of a [`ValueKind::Text`](crate::ValueKind::Text); the error is the reason.
pub type TextCheck<'a> = &'a dyn Fn(&SettingKey, &str) -> Result<(), String>;

/// The most errors that are reported of one file.
const MAX_PROBLEMS: usize = 100;

/// A parsed file. Each value fits the kind of its key.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    path: Arc<Path>,
    entries: Vec<SettingEntry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingEntry {
    /// The key.
    pub key: SettingKey,
    /// The value.
    pub value: SettingValue,
    /// The line, counted from 1.
    pub line: usize,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Of [`ValueKind::Boolean`](crate::ValueKind::Boolean).
    Boolean(bool),
    /// Of [`ValueKind::Number`](crate::ValueKind::Number).
    Number(u32),
    /// Of a kind with one text.
    Text(String),
    /// Of a kind with several texts.
    Texts(Vec<String>),
    /// Of a kind with destinations.
    Destinations(Vec<DestPattern>),
    /// Of [`ValueKind::TimeSpan`](crate::ValueKind::TimeSpan).
    TimeSpan(TimeSpan),
    /// Of [`ValueKind::Lifetime`](crate::ValueKind::Lifetime).
    Lifetime(AnswerLifetime),
}

impl SettingsFile {
    /// Parses `text`, the contents of the file `path`, and reports the errors in it, at most 100.
    /// A file that is no TOML has only its first error.
    pub fn parse(
        path: &Path,
        text: &str,
        keys: &[SettingKey],
        check: TextCheck<'_>,
    ) -> Result<Self, SettingsErrors> {
        let source = SourceText::new(text);
        let mut parser = FileParser {
            source: &source,
            keys,
            check,
            entries: Vec::new(),
            problems: Vec::new(),
        };
        match Document::parse(text) {
            Ok(document) => parser.read_document(document.as_table()),
            Err(error) => {
                let reason = ProblemReason::Syntax(DisplayText::new(error.message()));
                let at = error.span().map_or(0, |span| span.start);
                parser.report(at, reason);
            }
        }
        let FileParser {
            mut entries,
            mut problems,
            ..
        } = parser;
        let path: Arc<Path> = path.into();
        if problems.is_empty() {
            entries.sort_by_key(|entry| entry.line);
            return Ok(Self { path, entries });
        }
        problems.sort_by_key(|(at, _)| *at);
        let problems = problems.into_iter().take(MAX_PROBLEMS);
        let problems = problems.map(|(at, reason)| source.problem(at, reason));
        Err(SettingsErrors {
            path,
            problems: problems.collect(),
        })
    }

    /// Returns a file without any value.
    pub fn empty(path: &Path) -> Self {
        Self {
            path: path.into(),
            entries: Vec::new(),
        }
    }

    /// Returns the path.
    pub const fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Returns the values in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &SettingEntry> {
        self.entries.iter()
    }

    /// Returns the value of a key.
    pub fn entry(&self, table: &str, name: &str) -> Option<&SettingEntry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.key.table == table && entry.key.name == name)
    }

    /// Returns the value of a key as a setting of the user.
    pub(crate) fn user_setting<T: FromSettingValue>(
        &self,
        table: &str,
        name: &str,
    ) -> Option<Setting<T>> {
        self.setting(table, name, |path, line| SettingSource::UserFile {
            path,
            line,
        })
    }

    /// Returns the value of a key as a setting of the organisation.
    pub(crate) fn organisation_setting<T: FromSettingValue>(
        &self,
        table: &str,
        name: &str,
    ) -> Option<Setting<T>> {
        self.setting(table, name, |path, line| SettingSource::Organisation {
            path,
            line,
        })
    }

    fn setting<T: FromSettingValue>(
        &self,
        table: &str,
        name: &str,
        source: impl FnOnce(Arc<Path>, usize) -> SettingSource,
    ) -> Option<Setting<T>> {
        let entry = self.entry(table, name)?;
        Some(Setting {
            value: T::from_value(&entry.value)?,
            source: source(Arc::clone(&self.path), entry.line),
        })
    }
}

/// A type of values.
pub(crate) trait FromSettingValue: Sized {
    /// Returns the value; `None` if it is of another kind.
    fn from_value(value: &SettingValue) -> Option<Self>;
}

/// The state of parsing one file.
struct FileParser<'a> {
    source: &'a SourceText<'a>,
    keys: &'a [SettingKey],
    check: TextCheck<'a>,
    entries: Vec<SettingEntry>,
    /// With the offset of each.
    problems: Vec<(usize, ProblemReason)>,
}

impl FileParser<'_> {
    fn read_document(&mut self, document: &dyn TableLike) {
        for (name, item) in document.iter() {
            let at = key_offset(document, name);
            let Some(table) = self.keys.iter().map(|key| key.table).find(|it| *it == name) else {
                let reason = self.unknown_table(name, item);
                self.report(at, reason);
                continue;
            };
            match item.as_table_like() {
                Some(entries) => self.read_table(table, entries),
                None => self.report(at, ProblemReason::NotTable(table)),
            }
        }
    }

    fn read_table(&mut self, table: &'static str, entries: &dyn TableLike) {
        for (name, item) in entries.iter() {
            let at = key_offset(entries, name);
            let mut known = self.keys.iter().filter(|key| key.table == table);
            let Some(key) = known.find(|key| key.name == name).copied() else {
                let reason = self.unknown_key(table, name);
                self.report(at, reason);
                continue;
            };
            let mut problems = Vec::new();
            match value::read_value(&key, item, self.check, &mut problems) {
                Some(value) if problems.is_empty() => self.entries.push(SettingEntry {
                    key,
                    value,
                    line: self.source.position(at).0,
                }),
                _ => {
                    for (within, reason) in problems {
                        self.report(within.unwrap_or(at), reason);
                    }
                }
            }
        }
    }

    fn unknown_table(&self, name: &str, item: &Item) -> ProblemReason {
        let known = self.keys.iter().find(|key| key.name == name);
        match known.filter(|_| !item.is_table_like()) {
            Some(key) => ProblemReason::OutsideTable {
                name: key.name,
                table: key.table,
            },
            None => ProblemReason::UnknownTable {
                name: DisplayText::new(name),
                nearest: error::nearest(name, self.keys.iter().map(|key| key.table)),
            },
        }
    }

    fn unknown_key(&self, table: &'static str, name: &str) -> ProblemReason {
        let own = self.keys.iter().filter(|key| key.table == table);
        let elsewhere = self.keys.iter().find(|key| key.name == name);
        ProblemReason::UnknownKey {
            name: DisplayText::new(name),
            table,
            nearest: error::nearest(name, own.map(|key| key.name)),
            elsewhere: elsewhere.map(|key| key.table),
        }
    }

    fn report(&mut self, at: usize, reason: ProblemReason) {
        self.problems.push((at, reason));
    }
}

/// Returns the problem of a whole line, counted from 1.
pub(crate) fn line_problem(text: &str, line: usize, reason: ProblemReason) -> SettingsProblem {
    SourceText::new(text).problem_of_line(line, 1, reason)
}

/// Returns the offset of a key.
fn key_offset(table: &dyn TableLike, name: &str) -> usize {
    let span = table.key(name).and_then(toml_edit::Key::span);
    span.map_or(0, |span| span.start)
}

impl fmt::Display for SettingValue {
    /// Writes the value in TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(text) => value::write_text(f, text),
            Self::Texts(texts) => value::write_list(f, texts),
            Self::Destinations(patterns) => value::write_list(f, patterns),
            Self::TimeSpan(span) => write!(f, "\"{span}\""),
            Self::Lifetime(lifetime) => write!(f, "\"{lifetime}\""),
        }
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! Values: from TOML by the kind of their key, and to TOML.

use std::fmt;
use std::path::Path;

use terok_clearance::{DestPattern, DisplayText};
use toml_edit::{Item, Value};

use super::error::nearest;
use super::{FromSettingValue, ProblemReason, SettingValue, TextCheck};
use crate::{AnswerLifetime, SettingKey, TimeSpan, ValueKind};

/// A problem with the offset of a part of the value, if that has one.
pub(super) type ValueProblem = (Option<usize>, ProblemReason);

/// Returns the value of `key`; adds what is wrong with it to `problems`.
pub(super) fn read_value(
    key: &SettingKey,
    item: &Item,
    check: TextCheck<'_>,
    problems: &mut Vec<ValueProblem>,
) -> Option<SettingValue> {
    let mut reader = ValueReader { key, problems };
    match key.kind {
        ValueKind::Boolean => match item.as_bool() {
            Some(value) => Some(SettingValue::Boolean(value)),
            None => reader.wrong_type(item),
        },
        ValueKind::Number(least) => match item.as_integer().map(u32::try_from) {
            Some(Ok(number)) if number >= least => Some(SettingValue::Number(number)),
            Some(_) => reader.invalid(start_of(item), key.kind.describe()),
            None => reader.wrong_type(item),
        },
        ValueKind::Word(words) => {
            let word = reader.text(item)?;
            reader.check_word(start_of(item), word, words);
            Some(SettingValue::Text(word.to_owned()))
        }
        ValueKind::Text => {
            let text = reader.text(item)?;
            if let Err(reason) = check(key, text) {
                return reader.invalid(start_of(item), reason);
            }
            Some(SettingValue::Text(text.to_owned()))
        }
        ValueKind::TimeSpan => {
            let parsed = reader.text(item)?.parse::<TimeSpan>();
            reader.parsed(item, parsed).map(SettingValue::TimeSpan)
        }
        ValueKind::Lifetime => {
            let parsed = reader.text(item)?.parse::<AnswerLifetime>();
            reader.parsed(item, parsed).map(SettingValue::Lifetime)
        }
        ValueKind::Command => match item.as_str() {
            Some("") => reader.invalid(start_of(item), "an empty text".to_owned()),
            Some(program) => Some(SettingValue::Texts(vec![program.to_owned()])),
            None => {
                let command = reader.texts(item)?;
                if command.first().is_none_or(String::is_empty) {
                    return reader.invalid(start_of(item), "there is no program".to_owned());
                }
                Some(SettingValue::Texts(command))
            }
        },
        ValueKind::Texts => reader.texts_checked(item, |reader, at, text| {
            if text.is_empty() {
                reader.invalid::<()>(at, "an empty text".to_owned());
            }
        }),
        ValueKind::Words(words) => reader.texts_checked(item, |reader, at, word| {
            reader.check_word(at, word, words);
        }),
        ValueKind::Paths => reader.texts_checked(item, |reader, at, path| {
            if !Path::new(path).is_absolute() || path.contains('\0') {
                reader.invalid::<()>(at, format!("{:?} is no absolute path", shown(path)));
            }
        }),
        ValueKind::Destinations | ValueKind::OpenDestinations => reader.destinations(item),
    }
}

/// The reading of one value.
struct ValueReader<'a> {
    key: &'a SettingKey,
    problems: &'a mut Vec<ValueProblem>,
}

impl ValueReader<'_> {
    fn wrong_type<T>(&mut self, item: &Item) -> Option<T> {
        self.wrong_type_at(start_of(item), item.type_name())
    }

    fn wrong_type_at<T>(&mut self, at: Option<usize>, found: &'static str) -> Option<T> {
        let reason = ProblemReason::WrongType {
            key: self.key.name,
            expected: self.key.kind.describe(),
            found,
        };
        self.problems.push((at, reason));
        None
    }

    fn invalid<T>(&mut self, at: Option<usize>, why: String) -> Option<T> {
        let reason = ProblemReason::InvalidValue {
            key: self.key.name,
            why,
        };
        self.problems.push((at, reason));
        None
    }

    fn text<'i>(&mut self, item: &'i Item) -> Option<&'i str> {
        item.as_str().or_else(|| self.wrong_type(item))
    }

    fn parsed<T, E: fmt::Display>(&mut self, item: &Item, parsed: Result<T, E>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => self.invalid(start_of(item), error.to_string()),
        }
    }

    fn texts(&mut self, item: &Item) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        self.each_text(item, |_, _, text| texts.push(text.to_owned()))?;
        Some(texts)
    }

    fn texts_checked(
        &mut self,
        item: &Item,
        check: impl Fn(&mut Self, Option<usize>, &str),
    ) -> Option<SettingValue> {
        let mut texts = Vec::new();
        self.each_text(item, |reader, at, text| {
            check(reader, at, text);
            texts.push(text.to_owned());
        })?;
        Some(SettingValue::Texts(texts))
    }

    fn destinations(&mut self, item: &Item) -> Option<SettingValue> {
        let mut patterns = Vec::new();
        self.each_text(item, |reader, at, text| match text.parse::<DestPattern>() {
            Ok(pattern) if reader.key.kind == ValueKind::OpenDestinations && pattern.is_floor() => {
                let why = format!(
                    "{pattern} is never opened (link-local, cloud metadata, multicast and \
                     reserved addresses): leave it out"
                );
                reader.invalid::<()>(at, why);
            }
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                reader.invalid::<()>(at, error.to_string());
            }
        })?;
        Some(SettingValue::Destinations(patterns))
    }

    /// Calls `visit` for each text of a list.
    fn each_text(
        &mut self,
        item: &Item,
        mut visit: impl FnMut(&mut Self, Option<usize>, &str),
    ) -> Option<()> {
        let Some(list) = item.as_array() else {
            return self.wrong_type(item);
        };
        for value in list {
            let at = value.span().map(|span| span.start);
            match value.as_str() {
                Some(text) => visit(self, at, text),
                None => {
                    self.wrong_type_at::<()>(at, type_of_element(value));
                }
            }
        }
        Some(())
    }

    fn check_word(&mut self, at: Option<usize>, word: &str, words: &[&'static str]) {
        if !words.contains(&word) {
            let suggestion = nearest(word, words.iter().copied())
                .map(|nearest| format!(": did you mean {nearest:?}?"));
            let why = format!(
                "{:?} is not one of {}{}",
                shown(word),
                words.join(", "),
                suggestion.unwrap_or_default()
            );
            self.invalid::<()>(at, why);
        }
    }
}

fn start_of(item: &Item) -> Option<usize> {
    item.span().map(|span| span.start)
}

const fn type_of_element(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Integer(_) => "integer",
        Value::Float(_) => "float",
        Value::Boolean(_) => "boolean",
        Value::Datetime(_) => "datetime",
        Value::Array(_) => "array",
        Value::InlineTable(_) => "inline table",
    }
}

fn shown(text: &str) -> DisplayText {
    DisplayText::new(text)
}

/// Writes a list of texts in TOML.
pub(super) fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, texts: &[T]) -> fmt::Result {
    f.write_str("[")?;
    for (at, text) in texts.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        write_text(f, &text.to_string())?;
    }
    f.write_str("]")
}

/// Writes a text in TOML, as a basic string that a terminal shows as it is.
pub(super) fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => write!(f, "{c}")?,
            c => write!(f, "\\U{:08X}", u32::from(c))?,
        }
    }
    f.write_str("\"")
}

impl FromSettingValue for bool {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }
}

impl FromSettingValue for u32 {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Number(value) => Some(*value),
            _ => None,
        }
    }
}

impl FromSettingValue for String {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Text(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl FromSettingValue for Vec<String> {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Texts(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl FromSettingValue for Vec<DestPattern> {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Destinations(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl FromSettingValue for TimeSpan {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::TimeSpan(value) => Some(*value),
            _ => None,
        }
    }
}

impl FromSettingValue for AnswerLifetime {
    fn from_value(value: &SettingValue) -> Option<Self> {
        match value {
            SettingValue::Lifetime(value) => Some(*value),
            _ => None,
        }
    }
}

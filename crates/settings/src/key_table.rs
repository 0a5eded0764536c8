// SPDX-License-Identifier: Apache-2.0
//! The tables of keys, which the parser, the suggestions and the example files share.

use std::path::Path;

use crate::settings_file::{SettingValue, SettingsFile};

mod organisation_keys;
mod user_keys;

pub use organisation_keys::ORGANISATION_KEYS;
pub use user_keys::USER_KEYS;

/// A key of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingKey {
    /// The table.
    pub table: &'static str,
    /// The name in the table.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: ValueKind,
    /// The default in TOML; `None`: the key is unset by default, as `unset` says.
    pub default: Option<&'static str>,
    /// What an unset key without a default means, such as `no limit`; empty with a default.
    pub unset: &'static str,
    /// A value in TOML for the example file, where the default would show nothing.
    pub example: Option<&'static str>,
    /// What the value decides, in one or more sentences.
    pub meaning: &'static str,
}

/// The values that a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of at least this.
    Number(u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A text that the caller checks.
    Text,
    /// A list of texts that are not empty.
    Texts,
    /// A list of absolute paths.
    Paths,
    /// A program, or a list of a program and its arguments.
    Command,
    /// A list of destinations.
    Destinations,
    /// A list of destinations that can be opened, hence none of the floor.
    OpenDestinations,
    /// A span of time.
    TimeSpan,
    /// How long an answer lasts.
    Lifetime,
}

impl SettingKey {
    /// Returns the key as `table.name`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// Returns the default; `None` if the key is unset by default.
    pub fn default_value(&self) -> Option<SettingValue> {
        let text = format!("[{}]\n{} = {}", self.table, self.name, self.default?);
        let parsed = SettingsFile::parse(Path::new(""), &text, &[*self], &|_, _| Ok(()));
        let file = parsed.ok()?;
        let entry = file.entry(self.table, self.name)?;
        Some(entry.value.clone())
    }

    /// Returns the value of the example file.
    pub const fn example_value(&self) -> Option<&'static str> {
        match (self.example, self.default) {
            (Some(example), _) => Some(example),
            (None, default) => default,
        }
    }
}

impl ValueKind {
    /// Returns the values in words, as an error message needs them.
    pub fn describe(self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Number(least) => format!("a whole number of at least {least}"),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Words(words) => format!("a list of {}", words.join(", ")),
            Self::Text => "a text".to_owned(),
            Self::Texts => "a list of texts".to_owned(),
            Self::Paths => "a list of absolute paths".to_owned(),
            Self::Command => "a program, or a list of a program and its arguments".to_owned(),
            Self::Destinations | Self::OpenDestinations => {
                "a list of destinations, such as [\"example.com:443\"]".to_owned()
            }
            Self::TimeSpan => "a time, such as \"5m\"".to_owned(),
            Self::Lifetime => {
                "how long an answer lasts: once, 5m, 1h, run, project or always".to_owned()
            }
        }
    }

    /// Returns `true` if a value of this kind can be this one.
    pub const fn admits(self, value: &SettingValue) -> bool {
        matches!(
            (self, value),
            (Self::Boolean, SettingValue::Boolean(_))
                | (Self::Number(_), SettingValue::Number(_))
                | (Self::Word(_) | Self::Text, SettingValue::Text(_))
                | (
                    Self::Words(_) | Self::Texts | Self::Paths | Self::Command,
                    SettingValue::Texts(_)
                )
                | (
                    Self::Destinations | Self::OpenDestinations,
                    SettingValue::Destinations(_)
                )
                | (Self::TimeSpan, SettingValue::TimeSpan(_))
                | (Self::Lifetime, SettingValue::Lifetime(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_key_is_described_once() {
        for keys in [USER_KEYS, ORGANISATION_KEYS] {
            let names: HashSet<_> = keys.iter().map(SettingKey::dotted).collect();
            assert_eq!(names.len(), keys.len());
            for key in keys {
                assert_eq!(key.default.is_some(), key.unset.is_empty(), "{key:?}");
                assert!(key.example_value().is_some(), "{key:?}");
                assert_eq!(key.default_value().is_some(), key.default.is_some());
                assert!(key.meaning.ends_with('.'), "{key:?}");
            }
            // The example file has one heading for each table.
            let tables: Vec<_> = keys.iter().map(|key| key.table).collect();
            let mut headings = tables.clone();
            headings.dedup();
            let distinct: HashSet<_> = tables.iter().collect();
            assert_eq!(headings.len(), distinct.len());
        }
    }
}

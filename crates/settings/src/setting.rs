// SPDX-License-Identifier: Apache-2.0
//! A value together with its source.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A value, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// The source of the value.
    pub source: SettingSource,
}

/// The source of a [`Setting`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// The built-in default.
    Default,
    /// A line of the user's file.
    UserFile {
        /// The file.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// A line of the organisation's file.
    Organisation {
        /// The file.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl<T> Setting<T> {
    /// Returns a default.
    pub const fn default_value(value: T) -> Self {
        Self {
            value,
            source: SettingSource::Default,
        }
    }

    /// Returns the value of the flag `name`.
    pub const fn of_flag(name: &'static str, value: T) -> Self {
        Self {
            value,
            source: SettingSource::Flag(name),
        }
    }

    /// Returns the value of the variable `name`.
    pub const fn of_variable(name: &'static str, value: T) -> Self {
        Self {
            value,
            source: SettingSource::Variable(name),
        }
    }

    /// Returns the value that counts: of the flag, else of the variable, else of the file, else the
    /// default.
    pub fn by_precedence(
        flag: Option<Self>,
        variable: Option<Self>,
        file: Option<Self>,
        default: T,
    ) -> Self {
        flag.or(variable)
            .or(file)
            .unwrap_or_else(|| Self::default_value(default))
    }

    /// Returns the setting with another value of the same source.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        Setting {
            value: change(self.value),
            source: self.source,
        }
    }

    /// Returns the setting with another value of the same source, or the error of `change`.
    pub fn try_map<U, E>(self, change: impl FnOnce(T) -> Result<U, E>) -> Result<Setting<U>, E> {
        Ok(Setting {
            value: change(self.value)?,
            source: self.source,
        })
    }
}

impl SettingSource {
    /// Returns the kind of the source in one word, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::UserFile { .. } => "user_file",
            Self::Organisation { .. } => "organisation",
            Self::Variable(_) => "variable",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::UserFile { path, line } | Self::Organisation { path, line } => {
                write!(f, "{}:{line}", path.display())
            }
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_file(value: u8) -> Setting<u8> {
        let source = SettingSource::UserFile {
            path: Path::new("/c/config.toml").into(),
            line: 3,
        };
        Setting { value, source }
    }

    proptest! {
        #[test]
        fn the_nearest_source_counts(
            flag: Option<u8>, variable: Option<u8>, file: Option<u8>, default: u8,
        ) {
            let chosen = Setting::by_precedence(
                flag.map(|value| Setting::of_flag("--x", value)),
                variable.map(|value| Setting::of_variable("X", value)),
                file.map(of_file),
                default,
            );
            let (value, kind) = match (flag, variable, file) {
                (Some(value), _, _) => (value, "flag"),
                (None, Some(value), _) => (value, "variable"),
                (None, None, Some(value)) => (value, "user_file"),
                (None, None, None) => (default, "default"),
            };
            prop_assert_eq!((chosen.value, chosen.source.kind()), (value, kind));
        }
    }

    #[test]
    fn a_source_is_named_as_a_person_looks_for_it() {
        assert_eq!(of_file(1).source.to_string(), "/c/config.toml:3");
        assert_eq!(Setting::of_flag("--hold", 1).source.to_string(), "--hold");
        assert_eq!(Setting::of_variable("X", 1).source.to_string(), "X");
        assert_eq!(Setting::default_value(1).source.to_string(), "default");
    }
}

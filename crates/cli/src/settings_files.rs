// SPDX-License-Identifier: Apache-2.0
//! The files of the configuration: where they are, and how their texts are checked.

use std::path::Path;
use std::sync::Arc;

use runner::HoldLimit;
use settings::{
    OrganisationError, OrganisationPolicy, SettingKey, UserSettings, UserSettingsError,
    read_user_settings,
};

use crate::commands::run::{MemorySize, parse_proxy};
use crate::{CommandError, UserEnvironment};

/// The organisation's file. Its place is fixed: a user who could choose it could loosen it.
pub(crate) const ORGANISATION_FILE: &str = "/etc/terok-clearance/policy.toml";

/// The user's configuration, or the reason why it cannot be used.
#[derive(Debug, Clone)]
pub struct LoadedSettings(Result<Box<UserSettings>, Arc<UserSettingsError>>);

impl LoadedSettings {
    /// Reads the user's file.
    pub(crate) fn read(environment: &UserEnvironment) -> Self {
        let read = read_user_settings(environment.config_dir(), environment.uid(), &check_text);
        Self(read.map(Box::new).map_err(Arc::new))
    }

    /// Returns a configuration without any value.
    pub(crate) fn none(environment: &UserEnvironment) -> Self {
        let path = UserSettings::path_in(environment.config_dir());
        Self(Ok(Box::new(UserSettings::empty(&path))))
    }

    /// Returns the configuration if it can be used, for what must not fail.
    pub(crate) fn usable(&self) -> Option<&UserSettings> {
        self.0.as_deref().ok()
    }

    /// Returns the configuration.
    pub(crate) fn get(&self) -> Result<&UserSettings, CommandError> {
        match &self.0 {
            Ok(settings) => Ok(settings),
            Err(error) => Err(Arc::clone(error).into()),
        }
    }
}

/// Reads the organisation's file.
pub(crate) fn read_organisation() -> Result<Option<Arc<OrganisationPolicy>>, OrganisationError> {
    let policy = OrganisationPolicy::read(Path::new(ORGANISATION_FILE))?;
    Ok(policy.map(Arc::new))
}

/// Checks a text of the user's file with the parser of the flag for the same.
pub(crate) fn check_text(key: &SettingKey, text: &str) -> Result<(), String> {
    fn checked<T, E: std::error::Error>(parsed: Result<T, E>) -> Result<(), String> {
        parsed.map(drop).map_err(|error| error.to_string())
    }
    match (key.table, key.name) {
        ("run", "hold") => checked(text.parse::<HoldLimit>()),
        ("run", "hotkey") => checked(text.parse::<::tui::Hotkey>()),
        ("run", "proxy") => checked(parse_proxy(text)),
        ("run", "memory") | ("record", "rotate_size") => checked(text.parse::<MemorySize>()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use settings::{USER_KEYS, ValueKind};

    use super::*;

    /// A text without a check would be accepted whatever it is.
    #[test]
    fn each_text_is_checked_and_its_example_and_default_are_valid() {
        for key in USER_KEYS.iter().filter(|key| key.kind == ValueKind::Text) {
            assert!(check_text(key, "\u{1}").is_err(), "{key:?}");
            for value in [key.default, key.example].into_iter().flatten() {
                assert_eq!(check_text(key, value.trim_matches('"')), Ok(()), "{key:?}");
            }
        }
    }
}

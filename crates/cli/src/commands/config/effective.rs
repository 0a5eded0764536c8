// SPDX-License-Identifier: Apache-2.0
//! The values that count without flags, each with its source.

use serde_json::{Value, json};
use settings::{
    ORGANISATION_KEYS, OrganisationPolicy, Setting, SettingEntry, SettingKey, SettingSource,
    SettingValue, SettingsFile, USER_KEYS, UserSettings,
};
use terok_clearance::DisplayText;

use crate::commands::run::{limited_hold, merged_hotkey};
use crate::settings_merge::{merged_categories, merged_color, parse_setting};
use crate::{CommandError, UserEnvironment};

/// A key with the value that counts.
#[derive(Debug)]
pub(super) struct EffectiveSetting {
    key: String,
    /// In TOML, or in words for an unset key.
    shown: String,
    /// `None` for an unset key.
    value: Option<Value>,
    source: SettingSource,
}

/// Returns the keys of the user's file with the values that count for a command without flags.
pub(super) fn user_settings(
    settings: &UserSettings,
    environment: &UserEnvironment,
    organisation: Option<&OrganisationPolicy>,
) -> Result<Vec<EffectiveSetting>, CommandError> {
    let mut rows = Vec::new();
    for key in USER_KEYS {
        let of_file = file_setting(key, &settings.file, |path, line| SettingSource::UserFile {
            path,
            line,
        });
        let other = match (key.table, key.name) {
            ("run", "hotkey") => {
                let hotkey = merged_hotkey(None, environment, settings)?;
                is_variable(&hotkey).then(|| hotkey.map(|key| text(&key.to_string())))
            }
            ("notify", "events") => {
                let kinds = merged_categories(environment, settings);
                is_variable(&kinds).then(|| kinds.map(|kinds| words(&kinds.to_string())))
            }
            ("ui", "color") => {
                let color = merged_color(None, environment, Some(settings));
                is_variable(&color).then(|| color.map(|_| text("auto")))
            }
            _ => match organisation {
                Some(organisation) => limited(key, settings, organisation)?,
                None => None,
            },
        };
        rows.push(match other {
            Some(setting) => effective(key, &setting),
            None => of_file,
        });
    }
    Ok(rows)
}

/// Returns the keys of the organisation's file.
pub(super) fn organisation_settings(
    organisation: &OrganisationPolicy,
) -> impl Iterator<Item = EffectiveSetting> {
    ORGANISATION_KEYS.iter().map(|key| {
        let row = file_setting(key, &organisation.file, |path, line| {
            SettingSource::Organisation { path, line }
        });
        EffectiveSetting {
            key: format!("organisation.{}", row.key),
            ..row
        }
    })
}

/// Returns a value that the organisation limits; `None` if it does not.
fn limited(
    key: &SettingKey,
    settings: &UserSettings,
    organisation: &OrganisationPolicy,
) -> Result<Option<Setting<SettingValue>>, CommandError> {
    let limited = match (key.table, key.name) {
        ("run", "hold") => {
            let file = parse_setting(settings.run.hold.as_ref())?;
            let hold = Setting::by_precedence(None, None, file, runner::HoldLimit::DEFAULT);
            limited_hold(hold, organisation).map(|hold| text(&hold.to_string()))
        }
        ("run", "profiles") if organisation.required_profiles.is_some() => {
            let own = settings.run.profiles.clone();
            let own = own.map_or_else(Vec::new, |profiles| profiles.value);
            let Some(required) = organisation.required_profiles.clone() else {
                return Ok(None);
            };
            required.map(|_| SettingValue::Texts(organisation.add_required_profiles(own)))
        }
        ("ask", "default_scope") => {
            let file = settings.ask.default_scope.clone();
            let scope = Setting::by_precedence(None, None, file, settings::AnswerLifetime::Run);
            organisation
                .limit_lifetime(scope)
                .map(SettingValue::Lifetime)
        }
        ("record", "enabled") => {
            let file = settings.record.enabled.clone();
            let enabled = Setting::by_precedence(None, None, file, true);
            organisation
                .limit_record(enabled)
                .map(SettingValue::Boolean)
        }
        _ => return Ok(None),
    };
    Ok(Some(limited).filter(|limited| limited.source.is_organisation()))
}

fn is_variable<T>(setting: &Setting<T>) -> bool {
    matches!(setting.source, SettingSource::Variable(_))
}

fn text(text: &str) -> SettingValue {
    SettingValue::Text(text.to_owned())
}

/// Returns a list of the words of a text.
fn words(text: &str) -> SettingValue {
    let words = text.split_whitespace().filter(|word| *word != "none");
    SettingValue::Texts(words.map(str::to_owned).collect())
}

fn file_setting(
    key: &SettingKey,
    file: &SettingsFile,
    source: impl FnOnce(std::sync::Arc<std::path::Path>, usize) -> SettingSource,
) -> EffectiveSetting {
    if let Some(SettingEntry { value, line, .. }) = file.entry(key.table, key.name) {
        let setting = Setting {
            value: value.clone(),
            source: source(file.path().clone(), *line),
        };
        return effective(key, &setting);
    }
    match key.default_value() {
        Some(value) => effective(key, &Setting::default_value(value)),
        None => EffectiveSetting {
            key: key.dotted(),
            shown: format!("({})", key.unset),
            value: None,
            source: SettingSource::Default,
        },
    }
}

fn effective(key: &SettingKey, setting: &Setting<SettingValue>) -> EffectiveSetting {
    EffectiveSetting {
        key: key.dotted(),
        shown: setting.value.to_string(),
        value: Some(to_json(&setting.value)),
        source: setting.source.clone(),
    }
}

fn to_json(value: &SettingValue) -> Value {
    match value {
        SettingValue::Boolean(value) => json!(value),
        SettingValue::Number(value) => json!(value),
        SettingValue::Text(text) => json!(text),
        SettingValue::Texts(texts) => json!(texts),
        SettingValue::Destinations(patterns) => {
            let texts: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            json!(texts)
        }
        SettingValue::TimeSpan(span) => json!(span.to_string()),
        SettingValue::Lifetime(lifetime) => json!(lifetime.to_string()),
    }
}

impl EffectiveSetting {
    /// Returns the setting as one line of JSON.
    pub(super) fn to_json_line(&self) -> String {
        let (path, line) = match &self.source {
            SettingSource::UserFile { path, line } | SettingSource::Organisation { path, line } => {
                (Some(path.display().to_string()), Some(*line))
            }
            SettingSource::Default | SettingSource::Variable(_) | SettingSource::Flag(_) => {
                (None, None)
            }
        };
        let variable = match &self.source {
            SettingSource::Variable(name) => Some(*name),
            _ => None,
        };
        let object = json!({
            "key": self.key,
            "value": self.value,
            "source": self.source.kind(),
            "path": path,
            "line": line,
            "variable": variable,
        });
        format!("{object}\n")
    }
}

/// Returns the settings as lines of key, value and source. Sources are aligned, except after long
/// values.
pub(super) fn to_table(rows: &[EffectiveSetting]) -> String {
    const VALUE_COLUMNS: usize = 48;
    let assignment = |row: &EffectiveSetting| match row.value {
        Some(_) => format!("{} = {}", row.key, row.shown),
        None => format!("{}: {}", row.key, row.shown),
    };
    let lengths = rows.iter().map(|row| assignment(row).chars().count());
    let width = lengths.filter(|length| *length <= VALUE_COLUMNS).max();
    let width = width.unwrap_or(0);
    let lines = rows.iter().map(|row| {
        let source = DisplayText::new(&row.source.to_string());
        format!("{:width$}  {source}\n", assignment(row))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings_merge::tests::user_file;

    fn rows(file: &str, variables: &[(&str, &str)], limits: Option<&str>) -> String {
        let limits = limits
            .map(|text| OrganisationPolicy::parse(Path::new("/o/policy.toml"), text).unwrap());
        let environment = UserEnvironment::of_variables(variables);
        let rows = user_settings(&user_file(file), &environment, limits.as_ref()).unwrap();
        assert_eq!(rows.len(), USER_KEYS.len());
        to_table(&rows)
    }

    #[test]
    fn each_key_has_its_value_and_its_source() {
        insta::assert_snapshot!(rows(
            "[run]\nhold = '5m'\nallow = ['a.example:443']\nhotkey = 'f7'\n[ui]\ncolor = 'never'",
            &[("TEROK_CLEARANCE_HOTKEY", "f12"), ("NO_COLOR", "1")],
            Some(
                "answers.max_hold = '1m'\nanswers.max_lifetime = '5m'\nrecord.required = true\n\
                 profiles.required = ['company']"
            ),
        ));
    }

    #[test]
    fn the_organisation_is_the_source_only_of_what_it_changes() {
        let shown = rows(
            "run.hold = '10s'\nask.default_scope = 'once'",
            &[("TEROK_CLEARANCE_NOTIFY_EVENTS", "")],
            Some("answers.max_hold = '1m'\nanswers.max_lifetime = '5m'\nrecord.required = true"),
        );
        assert!(!shown.contains("/o/policy.toml"), "{shown}");
        let line = shown.lines().find(|line| line.starts_with("notify.events"));
        let words: Vec<_> = line.unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            ["notify.events", "=", "[]", "TEROK_CLEARANCE_NOTIFY_EVENTS"]
        );
    }

    #[test]
    fn json_has_a_null_for_an_unset_key() {
        let environment = UserEnvironment::of_variables(&[]);
        let rows = user_settings(&user_file("run.pids = 9"), &environment, None).unwrap();
        let line = |key: &str| {
            let row = rows.iter().find(|row| row.key == key).unwrap();
            serde_json::from_str::<Value>(&row.to_json_line()).unwrap()
        };
        assert_eq!(
            line("run.pids"),
            json!({"key": "run.pids", "value": 9, "source": "user_file",
                "path": "/c/config.toml", "line": 1, "variable": null})
        );
        assert_eq!(line("run.memory")["value"], Value::Null);
        assert_eq!(line("run.hold")["value"], "60s");
        assert_eq!(line("run.hold")["source"], "default");
    }
}

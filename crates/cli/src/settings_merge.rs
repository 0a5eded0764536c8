// SPDX-License-Identifier: Apache-2.0
//! Merges flags, variables, the user's file and defaults: the first that has a value counts.
//!
//! The merge of `run` is in its own module, `commands::run::merged_run`.

use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum as _;
use desktop::popups::Categories;
use runner::BellChoice;
use settings::{Setting, UserSettings};

use crate::args::ColorChoice;
use crate::bell::{BellArg, BellArgs};
use crate::{CommandError, UserEnvironment};

/// The variable with the kinds of popups.
pub(crate) const NOTIFY_EVENTS_VARIABLE: &str = "TEROK_CLEARANCE_NOTIFY_EVENTS";
/// The variable with the hotkey.
pub(crate) const HOTKEY_VARIABLE: &str = "TEROK_CLEARANCE_HOTKEY";

/// Returns when to use colours. With a variable, the value is
/// [`ColorChoice::Auto`], which follows the variable.
pub(crate) fn merged_color(
    flag: Option<ColorChoice>,
    environment: &UserEnvironment,
    settings: Option<&UserSettings>,
) -> Setting<ColorChoice> {
    let variable = environment.color_variable();
    let file = settings.and_then(|settings| settings.ui.color.as_ref());
    let file = file.and_then(|color| {
        let value = ColorChoice::from_str(&color.value, false).ok()?;
        Some(color.clone().map(|_| value))
    });
    Setting::by_precedence(
        flag.map(|color| Setting::of_flag("--color", color)),
        variable.map(|name| Setting::of_variable(name, ColorChoice::Auto)),
        file,
        ColorChoice::Auto,
    )
}

/// Returns the sign of a new question.
pub(crate) fn merged_bell(
    flag: BellArgs,
    settings: &UserSettings,
) -> Result<Setting<BellChoice>, CommandError> {
    let file = parse_setting_with(settings.ask.bell.as_ref(), |text| {
        BellArg::from_str(text, false).map_err(anyhow::Error::msg)
    })?;
    let flag = flag.bell.map(|bell| Setting::of_flag("--bell", bell));
    Ok(Setting::by_precedence(flag, None, file, BellArg::Bell).map(BellArg::choice))
}

/// Returns the kinds of popups. Unknown kinds of the variable are ignored, with a warning.
pub(crate) fn merged_categories(
    environment: &UserEnvironment,
    settings: &UserSettings,
) -> Setting<Categories> {
    let variable = environment.notify_events().map(|events| {
        let (categories, unknown) = Categories::parse(events);
        for name in unknown {
            tracing::warn!(%name, "{NOTIFY_EVENTS_VARIABLE}: unknown kind of popups");
        }
        Setting::of_variable(NOTIFY_EVENTS_VARIABLE, categories)
    });
    let file = settings.notify.events.clone().map(|events| {
        events.map(|events| {
            if events.iter().any(|event| event == "all") {
                Categories::ALL
            } else {
                Categories::parse(&events.join(" ")).0
            }
        })
    });
    Setting::by_precedence(None, variable, file, Categories::default())
}

/// Parses a text of the file, which was checked when the file was read, by the parser of its flag.
pub(crate) fn parse_setting<T>(
    setting: Option<&Setting<String>>,
) -> Result<Option<Setting<T>>, CommandError>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    parse_setting_with(setting, |text| text.parse().map_err(anyhow::Error::new))
}

/// Parses a text of the file with this parser.
pub(crate) fn parse_setting_with<T>(
    setting: Option<&Setting<String>>,
    parse: impl FnOnce(&str) -> anyhow::Result<T>,
) -> Result<Option<Setting<T>>, CommandError> {
    let Some(setting) = setting.cloned() else {
        return Ok(None);
    };
    let source = setting.source.clone();
    let parsed = setting.try_map(|text| parse(&text));
    let parsed = parsed.with_context(|| format!("cannot use the value at {source}"))?;
    Ok(Some(parsed))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use clap::ValueEnum;
    use settings::{USER_KEYS, ValueKind};

    use super::*;
    use crate::settings_files::check_text;

    /// Returns the settings of a file with this text.
    pub(crate) fn user_file(text: &str) -> UserSettings {
        UserSettings::parse(Path::new("/c/config.toml"), text, &check_text).unwrap()
    }

    fn words_of(table: &str, name: &str) -> Vec<&'static str> {
        let key = USER_KEYS
            .iter()
            .find(|key| (key.table, key.name) == (table, name));
        match key.unwrap().kind {
            ValueKind::Word(words) | ValueKind::Words(words) => words.to_vec(),
            kind => panic!("{kind:?}"),
        }
    }

    /// Returns the values of a flag that the help lists.
    pub(crate) fn words_of_flag<T: ValueEnum>() -> Vec<String> {
        let values = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let shown = values.filter(|value| !value.is_hide_set());
        shown.map(|value| value.get_name().to_owned()).collect()
    }

    #[test]
    fn the_file_has_the_words_of_the_flags() {
        assert_eq!(words_of("ask", "bell"), words_of_flag::<BellArg>());
        assert_eq!(words_of("ui", "color"), words_of_flag::<ColorChoice>());
        let ui = words_of_flag::<crate::commands::run::RunUiChoice>();
        assert_eq!(words_of("run", "ui"), ui);
        for word in words_of("notify", "events") {
            let (categories, unknown) = Categories::parse(word);
            assert!(
                unknown.is_empty() && categories.to_string() != "none",
                "{word}"
            );
        }
    }

    #[test]
    fn colours_are_of_the_flag_else_the_variable_else_the_file() {
        use ColorChoice::{Always, Auto, Never};

        let file = user_file("ui.color = 'always'");
        let none = UserEnvironment::of_variables(&[]);
        let no_color = UserEnvironment::of_variables(&[("NO_COLOR", "1")]);
        let check = |flag, environment: &UserEnvironment, settings, value, source: &str| {
            let merged = merged_color(flag, environment, settings);
            assert_eq!(
                (merged.value, merged.source.to_string().as_str()),
                (value, source)
            );
        };
        check(Some(Never), &no_color, Some(&file), Never, "--color");
        check(None, &no_color, Some(&file), Auto, "NO_COLOR");
        check(None, &none, Some(&file), Always, "/c/config.toml:1");
        check(None, &none, None, Auto, "default");
        let dumb = UserEnvironment::of_variables(&[("TERM", "dumb"), ("CLICOLOR", "")]);
        check(None, &dumb, Some(&file), Auto, "TERM");
    }

    #[test]
    fn the_bell_is_of_the_flag_else_the_file() {
        let check = |flag, text: &str, expected| {
            let merged = merged_bell(BellArgs { bell: flag }, &user_file(text)).unwrap();
            assert_eq!(merged.value, expected);
        };
        check(Some(BellArg::Osc9), "ask.bell = 'off'", BellChoice::Osc9);
        check(None, "ask.bell = 'off'", BellChoice::Off);
        check(None, "", BellChoice::Bell);
    }

    #[test]
    fn the_kinds_of_popups_are_of_the_variable_else_the_file() {
        let check = |variables: &[(&str, &str)], text: &str, expected: &str| {
            let environment = UserEnvironment::of_variables(variables);
            let merged = merged_categories(&environment, &user_file(text));
            assert_eq!(merged.value.to_string(), expected);
        };
        let file = "notify.events = ['verdict', 'shield_up']";
        check(&[(NOTIFY_EVENTS_VARIABLE, "blocked")], file, "blocked");
        check(&[(NOTIFY_EVENTS_VARIABLE, "")], file, "none");
        check(&[], file, "verdict shield_up");
        check(&[], "notify.events = []", "none");
        check(&[], "", "blocked verdict");
        let all = Categories::ALL.to_string();
        check(&[], "notify.events = ['blocked', 'all']", &all);
    }
}

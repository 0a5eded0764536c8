// SPDX-License-Identifier: Apache-2.0
//! The user's file, `config.toml`.

use std::path::{Path, PathBuf};

use terok_clearance::DestPattern;

use crate::protected_file::read_user_file;
use crate::{
    AnswerLifetime, ProtectedFileError, Setting, SettingsErrors, SettingsFile, TextCheck, TimeSpan,
    USER_KEYS,
};

/// The values of the user's file. A key that the file does not have is `None`.
#[derive(Debug, Clone)]
pub struct UserSettings {
    /// The file, with every value that it has.
    pub file: SettingsFile,
    /// The table `[run]`.
    pub run: RunSettings,
    /// The table `[ask]`.
    pub ask: AskSettings,
    /// The table `[record]`.
    pub record: RecordSettings,
    /// The table `[notify]`.
    pub notify: NotifySettings,
    /// The table `[ui]`.
    pub ui: UiSettings,
}

/// The values of `[run]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSettings {
    /// Profiles whose destinations are rules from the start.
    pub profiles: Option<Setting<Vec<String>>>,
    /// Destinations that are open from the start; none of the floor.
    pub allow: Option<Setting<Vec<DestPattern>>>,
    /// Destinations that are refused without a question.
    pub deny: Option<Setting<Vec<DestPattern>>>,
    /// How long a connection waits for an answer, as the flag takes it.
    pub hold: Option<Setting<String>>,
    /// Where questions are asked, as the flag takes it.
    pub ui: Option<Setting<String>>,
    /// The key that shows the questions, as the flag takes it.
    pub hotkey: Option<Setting<String>>,
    /// Whether server names are checked.
    pub check_sni: Option<Setting<bool>>,
    /// The proxy, as the flag takes it.
    pub proxy: Option<Setting<String>>,
    /// Most processes and threads; at least 1.
    pub pids: Option<Setting<u32>>,
    /// Most memory, as the flag takes it.
    pub memory: Option<Setting<String>>,
    /// Most open files of a process; at least 16.
    pub open_files: Option<Setting<u32>>,
    /// The program that looks at each question first, and its arguments.
    pub approver: Option<Setting<Vec<String>>>,
    /// How long that program may take.
    pub approver_timeout: Option<Setting<TimeSpan>>,
}

/// The values of `[ask]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskSettings {
    /// The sign of a new question, as the flag takes it.
    pub bell: Option<Setting<String>>,
    /// How long an answer lasts by default.
    pub default_scope: Option<Setting<AnswerLifetime>>,
}

/// The values of `[record]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSettings {
    /// Whether a record is kept.
    pub enabled: Option<Setting<bool>>,
    /// The size at which the file is replaced, such as `16M`.
    pub rotate_size: Option<Setting<String>>,
    /// How many files are kept; at least 1.
    pub keep: Option<Setting<u32>>,
}

/// The values of `[notify]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// The kinds of popups.
    pub events: Option<Setting<Vec<String>>>,
}

/// The values of `[ui]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiSettings {
    /// When to use colours, as the flag takes it.
    pub color: Option<Setting<String>>,
}

/// The user's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UserSettingsError {
    /// It cannot be read, or others could have written it.
    #[error(transparent)]
    File(#[from] ProtectedFileError),
    /// It has errors.
    #[error(transparent)]
    Contents(#[from] SettingsErrors),
}

impl UserSettings {
    /// The name of the file in the directory of the configuration.
    pub const FILE_NAME: &'static str = "config.toml";

    /// Returns the path of the file in the directory of the configuration.
    pub fn path_in(config_dir: &Path) -> PathBuf {
        config_dir.join(Self::FILE_NAME)
    }

    /// Returns the settings of a file without any value.
    pub fn empty(path: &Path) -> Self {
        Self::from_file(SettingsFile::empty(path))
    }

    /// Parses `text`, the contents of the file `path`.
    pub fn parse(path: &Path, text: &str, check: TextCheck<'_>) -> Result<Self, SettingsErrors> {
        SettingsFile::parse(path, text, USER_KEYS, check).map(Self::from_file)
    }

    fn from_file(file: SettingsFile) -> Self {
        Self {
            run: RunSettings {
                profiles: file.user_setting("run", "profiles"),
                allow: file.user_setting("run", "allow"),
                deny: file.user_setting("run", "deny"),
                hold: file.user_setting("run", "hold"),
                ui: file.user_setting("run", "ui"),
                hotkey: file.user_setting("run", "hotkey"),
                check_sni: file.user_setting("run", "check_sni"),
                proxy: file.user_setting("run", "proxy"),
                pids: file.user_setting("run", "pids"),
                memory: file.user_setting("run", "memory"),
                open_files: file.user_setting("run", "open_files"),
                approver: file.user_setting("run", "approver"),
                approver_timeout: file.user_setting("run", "approver_timeout"),
            },
            ask: AskSettings {
                bell: file.user_setting("ask", "bell"),
                default_scope: file.user_setting("ask", "default_scope"),
            },
            record: RecordSettings {
                enabled: file.user_setting("record", "enabled"),
                rotate_size: file.user_setting("record", "rotate_size"),
                keep: file.user_setting("record", "keep"),
            },
            notify: NotifySettings {
                events: file.user_setting("notify", "events"),
            },
            ui: UiSettings {
                color: file.user_setting("ui", "color"),
            },
            file,
        }
    }
}

/// Reads the user's file in the directory of the configuration. A missing file has no values.
///
/// The file must belong to the user `uid` or to root and be writable by its owner alone.
pub fn read_user_settings(
    config_dir: &Path,
    uid: u32,
    check: TextCheck<'_>,
) -> Result<UserSettings, UserSettingsError> {
    let path = UserSettings::path_in(config_dir);
    Ok(match read_user_file(&path, uid)? {
        Some(text) => UserSettings::parse(&path, &text, check)?,
        None => UserSettings::empty(&path),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::example_file;

    const ACCEPT: TextCheck<'static> = &|_, _| Ok(());

    /// Every key of the example file arrives in its field: a field of another type would be empty.
    #[test]
    fn each_key_of_the_table_has_its_field() {
        let example = example_file("x", USER_KEYS);
        let text: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let parsed = UserSettings::parse(Path::new("/c/config.toml"), &text, ACCEPT).unwrap();
        let debug = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            parsed.run, parsed.ask, parsed.record, parsed.notify, parsed.ui
        );
        let filled = debug.matches("UserFile").count();
        assert_eq!(filled, USER_KEYS.len(), "{debug}");
        let hold = parsed.run.hold.unwrap();
        let line = text.lines().position(|line| line.starts_with("hold"));
        assert_eq!(hold.value, "60s");
        let expected = format!("/c/config.toml:{}", line.unwrap() + 1);
        assert_eq!(hold.source.to_string(), expected);
    }

    #[test]
    fn a_missing_file_has_no_values_and_a_bad_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let read = || read_user_settings(directory.path(), uid, ACCEPT);
        assert_eq!(read().unwrap().file.entries().count(), 0);
        let path = UserSettings::path_in(directory.path());
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
        };
        write("[run]\nhold = '5m'\n", 0o600);
        assert_eq!(read().unwrap().run.hold.unwrap().value, "5m");
        write("[run]\nholdd = '5m'\n", 0o600);
        assert!(matches!(read(), Err(UserSettingsError::Contents(_))));
        write("", 0o666);
        assert!(matches!(read(), Err(UserSettingsError::File(_))));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The user's `config.yml`.
//!
//! The file has four keys, so a part of YAML is enough: mappings and lists in block or flow form,
//! plain and quoted words, comments. Everything else is an error, which names the line: a file
//! that is not understood must not turn into defaults that allow more.

use std::path::{Path, PathBuf};

use terok_clearance::DisplayText;

use crate::shield_profiles::DEFAULT_PROFILE;
use crate::state_bundle::{StateBundleError, read_file};

/// The settings of `config.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShieldFileConfig {
    /// The profiles of containers that name none.
    pub default_profiles: Vec<String>,
    /// Verbs are recorded.
    pub is_audit_enabled: bool,
    /// The dnsmasq to use, if not the one of `PATH`.
    pub dnsmasq_path: Option<PathBuf>,
}

/// `config.yml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] StateBundleError),
    /// A line has an error.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line.
        line: usize,
        /// The error.
        problem: ShieldConfigProblem,
    },
}

/// The error in a line of `config.yml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldConfigProblem {
    /// The key is unknown.
    #[error(
        "there is no key {0:?}; the keys are mode, default_profiles, audit.enabled and dnsmasq_path"
    )]
    UnknownKey(DisplayText),
    /// The value does not fit the key.
    #[error("{key} must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// The key was given before.
    #[error("the key {0:?} is given twice")]
    Duplicate(DisplayText),
    /// The line is outside of the supported part of YAML.
    #[error("this line is not understood: write `key: value`, or `- word` below default_profiles")]
    Syntax,
}

impl Default for ShieldFileConfig {
    fn default() -> Self {
        Self {
            default_profiles: vec![DEFAULT_PROFILE.to_owned()],
            is_audit_enabled: true,
            dnsmasq_path: None,
        }
    }
}

/// The mapping that indented lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenKey {
    None,
    Profiles,
    Audit,
}

impl ShieldFileConfig {
    /// Reads `config.yml` in `directory`; a missing file has the defaults.
    pub fn read(directory: &Path) -> Result<Self, ShieldConfigError> {
        let path = directory.join("config.yml");
        let text = read_file(&path)?.unwrap_or_default();
        Self::parse(&text).map_err(|(line, problem)| ShieldConfigError::Line {
            path,
            line,
            problem,
        })
    }

    /// Parses the text of `config.yml`. An error has the number of its line.
    pub fn parse(text: &str) -> Result<Self, (usize, ShieldConfigProblem)> {
        let mut config = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let mut open = OpenKey::None;
        let mut listed: Option<Vec<String>> = None;
        let mut last = 0;
        for (at, line) in text.lines().enumerate() {
            let number = at.saturating_add(1);
            last = number;
            let wrong = |problem| (number, problem);
            let body = without_comment(line);
            let is_indented = body.starts_with(' ');
            let body = body.trim();
            if body.is_empty() || (body == "---" && seen.is_empty()) {
                continue;
            }
            if let Some(item) = body
                .strip_prefix("- ")
                .filter(|_| open == OpenKey::Profiles)
            {
                let item = word(item.trim()).ok_or_else(|| wrong(ShieldConfigProblem::Syntax))?;
                listed.get_or_insert_default().push(item);
                continue;
            }
            let (key, value) = body
                .split_once(':')
                .filter(|(_, value)| value.is_empty() || value.starts_with(' '))
                .ok_or_else(|| wrong(ShieldConfigProblem::Syntax))?;
            let value = value.trim();
            let name = match (is_indented, open) {
                (true, OpenKey::Audit) => format!("audit.{key}"),
                (true, _) => return Err(wrong(ShieldConfigProblem::Syntax)),
                (false, _) => key.to_owned(),
            };
            if seen.contains(&name) {
                return Err(wrong(ShieldConfigProblem::Duplicate(DisplayText::new(
                    &name,
                ))));
            }
            if !is_indented {
                open = OpenKey::None;
            }
            config
                .set(&name, value, &mut open, &mut listed)
                .map_err(wrong)?;
            seen.push(name);
        }
        if let Some(profiles) = listed {
            config.default_profiles = profiles;
        }
        if config.default_profiles.iter().any(String::is_empty)
            || config.default_profiles.is_empty()
        {
            return Err((last, PROFILES));
        }
        Ok(config)
    }

    fn set(
        &mut self,
        name: &str,
        value: &str,
        open: &mut OpenKey,
        listed: &mut Option<Vec<String>>,
    ) -> Result<(), ShieldConfigProblem> {
        match name {
            "mode" => match word(value).as_deref() {
                Some("auto" | "hook") => {}
                _ => {
                    return Err(ShieldConfigProblem::Value {
                        key: "mode",
                        expected: "auto or hook",
                    });
                }
            },
            "default_profiles" if value.is_empty() => {
                *open = OpenKey::Profiles;
                *listed = Some(Vec::new());
            }
            "default_profiles" => *listed = Some(flow_list(value).ok_or(PROFILES)?),
            "audit" if value.is_empty() => *open = OpenKey::Audit,
            "audit" => {
                let inner = value
                    .strip_prefix('{')
                    .and_then(|value| value.strip_suffix('}'));
                let inner = inner.ok_or(AUDIT)?.trim();
                let enabled = inner.strip_prefix("enabled:").ok_or(AUDIT)?;
                self.is_audit_enabled = boolean(enabled.trim()).ok_or(AUDIT)?;
            }
            "audit.enabled" => self.is_audit_enabled = boolean(value).ok_or(AUDIT)?,
            "dnsmasq_path" if matches!(value, "" | "null" | "~") => {}
            "dnsmasq_path" => {
                let path = word(value).ok_or(ShieldConfigProblem::Value {
                    key: "dnsmasq_path",
                    expected: "the path of a program",
                })?;
                self.dnsmasq_path = Some(path.into());
            }
            _ => return Err(ShieldConfigProblem::UnknownKey(DisplayText::new(name))),
        }
        Ok(())
    }
}

const PROFILES: ShieldConfigProblem = ShieldConfigProblem::Value {
    key: "default_profiles",
    expected: "a list of names",
};
const AUDIT: ShieldConfigProblem = ShieldConfigProblem::Value {
    key: "audit.enabled",
    expected: "true or false",
};

/// Removes a comment, which starts the line or follows a space.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(body, _)| body)
}

/// Returns a plain or quoted word; `None` for other forms of YAML.
fn word(text: &str) -> Option<String> {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            let inner = rest.strip_suffix(quote)?;
            let is_plain = !inner.contains(['"', '\'', '\\']);
            return is_plain.then(|| inner.to_owned());
        }
    }
    let is_plain = !text.is_empty()
        && !text.starts_with([
            '[', '{', '&', '*', '!', '|', '>', '%', '@', '`', '-', '?', '~',
        ])
        && !text.contains([':', ',', '[', ']', '{', '}'])
        && boolean(text).is_none()
        && text.parse::<f64>().is_err()
        && !text.eq_ignore_ascii_case("null");
    is_plain.then(|| text.to_owned())
}

fn flow_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|item| word(item.trim())).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_are_read_in_every_usual_form() {
        let check = |text: &str, profiles: &str, audit: bool, dnsmasq: Option<&str>| {
            let config = ShieldFileConfig::parse(text).unwrap();
            assert_eq!(config.default_profiles.join(" "), profiles, "{text}");
            assert_eq!(config.is_audit_enabled, audit, "{text}");
            assert_eq!(config.dnsmasq_path, dnsmasq.map(PathBuf::from), "{text}");
        };
        check("", "dev-standard", true, None);
        check("# nothing\n---\nmode: hook\n", "dev-standard", true, None);
        check(
            "mode: \"auto\" # x\ndefault_profiles: [base, 'dev-node']\n",
            "base dev-node",
            true,
            None,
        );
        check(
            "default_profiles:\n  - base\n  - mine # x\naudit:\n  enabled: false\n",
            "base mine",
            false,
            None,
        );
        check(
            "default_profiles:\n- base\ndnsmasq_path: /opt/dnsmasq\n",
            "base",
            true,
            Some("/opt/dnsmasq"),
        );
        check(
            "audit: {enabled: no}\ndnsmasq_path: null\n",
            "dev-standard",
            false,
            None,
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        let check = |text: &str, line: usize, expected: &str| {
            let (at, problem) = ShieldFileConfig::parse(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(problem.to_string().contains(expected), "{text}: {problem}");
        };
        check("mod: hook\n", 1, "there is no key \"mod\"");
        check("mode: bridge\n", 1, "auto or hook");
        check("default_profiles: []\n", 1, "a list of names");
        check("default_profiles:\nmode: hook\n", 2, "a list of names");
        check("default_profiles: base\n", 1, "a list of names");
        check("audit:\n  enabled: perhaps\n", 2, "true or false");
        check(
            "audit:\n  enable: true\n",
            2,
            "there is no key \"audit.enable\"",
        );
        check("mode: hook\nmode: hook\n", 2, "twice");
        check("  mode: hook\n", 1, "not understood");
        check("nonsense\n", 1, "not understood");
        check("default_profiles:\n  - [a]\n", 2, "not understood");
        check("default_profiles: [true]\n", 1, "a list of names");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z_]{0,16}:? ?[\\[\\]{}'\"a-z, #-]{0,12}\n){0,6}") {
            drop(ShieldFileConfig::parse(&text));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The selection of one sandbox by a name that an operator has read or given.

use std::fmt;
use std::str::FromStr;

use terok_clearance::socket::SandboxRecord;
use terok_clearance::{DisplayText, SandboxLabel};

use crate::inbox::{HubId, Row};
use crate::phrases;

/// A sandbox's name, as any of this program's commands shows it, or its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSelector(DisplayText);

/// The text names no sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox's name has 1 to {MAX_NAME_BYTES} bytes")]
pub struct SandboxSelectorError;

const MAX_NAME_BYTES: usize = 512;

/// Whether a hub serves the selected sandbox, as far as that is known without its questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HubMatch {
    /// By the id in its path, or the name that it has recorded.
    Serves,
    /// A hub of all sandboxes, or one of another program: its questions have the names.
    Unknown,
    /// A hub of another sandbox.
    ServesAnother,
}

impl FromStr for SandboxSelector {
    type Err = SandboxSelectorError;

    fn from_str(text: &str) -> Result<Self, SandboxSelectorError> {
        // Names are compared in the form in which they are shown.
        let shown = DisplayText::new(text.trim());
        if shown.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err(SandboxSelectorError);
        }
        Ok(Self(shown))
    }
}

impl fmt::Display for SandboxSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SandboxSelector {
    /// Returns `true` if `id` is the selected container: if equal, or if one id is the first 12
    /// characters of the other hexadecimal id. Readers and socket paths use the short form.
    pub(super) fn matches_id(&self, id: &str) -> bool {
        let given = self.0.as_str();
        let (short, long) = if given.len() < id.len() {
            (given, id)
        } else {
            (id, given)
        };
        let is_id = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        short == long || (short.len() == 12 && long.starts_with(short) && is_id(long))
    }

    /// Returns `true` if the row's sandbox has the name in any of the forms that are shown.
    pub(super) fn matches_row(&self, row: &Row) -> bool {
        if self.matches_id(row.container().as_str()) {
            return true;
        }
        let given = self.0.as_str();
        let label = SandboxLabel::new(row.container(), row.dossier());
        let known = ["name", "container_name"].into_iter().any(|key| {
            let name = row.dossier().get(&DisplayText::new(key));
            name.is_some_and(|name| name.as_str() == given)
        });
        let task = !label.project.is_empty() && !label.task.is_empty();
        known
            || phrases::describe_sandbox(row) == given
            || label.to_string() == given
            || (task && format!("{}/{}", label.project, label.task) == given)
    }

    /// Returns whether a hub serves the sandbox. Reads the hub's record of its sandbox.
    pub(super) fn match_hub(&self, hub: &HubId) -> HubMatch {
        let Some(id) = hub.sandbox() else {
            return HubMatch::Unknown;
        };
        if self.serves_id(id) {
            return HubMatch::Serves;
        }
        match SandboxRecord::read(hub.path()) {
            Some(record) if record.name() == Some(&self.0) => HubMatch::Serves,
            Some(_) => HubMatch::ServesAnother,
            None => HubMatch::Unknown,
        }
    }

    /// Returns `true` if the id in a hub's path is that of the selected container. The path has at
    /// most 12 characters of an id.
    pub(super) fn serves_id(&self, id: &str) -> bool {
        let given = self.0.as_str();
        given == id || given.get(..12) == Some(id)
    }
}

/// Returns the name of a hub's sandbox: the recorded one, else the id in its path.
pub(crate) fn hub_sandbox_name(hub: &HubId) -> Option<DisplayText> {
    let id = hub.sandbox()?;
    let record = SandboxRecord::read(hub.path());
    let name = record.and_then(|record| record.name().cloned());
    Some(name.unwrap_or_else(|| DisplayText::new(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> SandboxSelector {
        text.parse().unwrap()
    }

    #[test]
    fn sandbox_is_named_by_name_or_either_form_of_its_id() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let check = |given: &str, id: &str, expected: bool| {
            assert_eq!(selector(given).matches_id(id), expected);
            assert_eq!(selector(id).matches_id(given), expected);
        };
        check("web", "web", true);
        check("web", "web2", false);
        check(id, &id[..12], true);
        check(id, &id[..11], false);
        check("my-project-1", "my-project-10", false);
    }

    #[test]
    fn hub_of_one_sandbox_serves_no_other_of_the_same_id() {
        let check = |path: &str, name: &str, expected: HubMatch| {
            let hub = HubId::new(std::path::Path::new(path));
            assert_eq!(selector(name).match_hub(&hub), expected, "{path} {name}");
        };
        let web = "/nonexistent/terok/clearance/web/hub.sock";
        check(
            "/nonexistent/terok-clearance.sock",
            "web",
            HubMatch::Unknown,
        );
        check(web, "web", HubMatch::Serves);
        // Without a record, only its questions tell the name.
        check(web, "web2", HubMatch::Unknown);
        let old = "/nonexistent/terok/clearance/0123456789ab.sock";
        check(old, "0123456789abcdef", HubMatch::Serves);
    }

    #[test]
    fn any_text_but_none_may_be_a_name() {
        for name in ["web", "warp/build-42 (web)", "../x", "a b", "--x"] {
            assert_eq!(selector(name).to_string(), name);
        }
        for none in ["", " ", &"x".repeat(513)] {
            assert_eq!(none.parse::<SandboxSelector>(), Err(SandboxSelectorError));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The result of one check.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use terok_clearance::DisplayText;

/// Whether a requirement is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// The requirement is met.
    Pass,
    /// Something works less well, or not at all, that may not be wanted on this host.
    Warning,
    /// Something that is wanted on this host does not work.
    Failure,
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Warning => "warning",
            Self::Failure => "failure",
        })
    }
}

/// The purpose of a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequirementGroup {
    /// Needed by `run`.
    Commands,
    /// Needed by guarded containers.
    Containers,
    /// Needed by popups.
    Popups,
}

impl RequirementGroup {
    /// All groups, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Commands, Self::Containers, Self::Popups];

    /// Returns the heading of the group.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Commands => "To run commands",
            Self::Containers => "To guard containers",
            Self::Popups => "To show popups",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the check, which stays the same between releases.
    pub check: Cow<'static, str>,
    /// The purpose of the requirement.
    pub group: RequirementGroup,
    /// Whether the requirement is met.
    pub status: CheckStatus,
    /// What was found.
    pub found: DisplayText,
    /// The command or the change that fixes it; `None` for a pass.
    pub fix: Option<DisplayText>,
}

/// A check: its name and the purpose of its requirement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) group: RequirementGroup,
}

impl Check {
    pub(crate) const fn of_commands(name: &'static str) -> Self {
        let group = RequirementGroup::Commands;
        Self { name, group }
    }

    pub(crate) const fn of_containers(name: &'static str) -> Self {
        let group = RequirementGroup::Containers;
        Self { name, group }
    }

    pub(crate) const fn of_popups(name: &'static str) -> Self {
        let group = RequirementGroup::Popups;
        Self { name, group }
    }

    pub(crate) fn pass(self, found: &str) -> Finding {
        self.finding(CheckStatus::Pass, found, None)
    }

    pub(crate) fn warning(self, found: &str, fix: &str) -> Finding {
        self.finding(CheckStatus::Warning, found, Some(fix))
    }

    pub(crate) fn failure(self, found: &str, fix: &str) -> Finding {
        self.finding(CheckStatus::Failure, found, Some(fix))
    }

    fn finding(self, status: CheckStatus, found: &str, fix: Option<&str>) -> Finding {
        Finding {
            check: self.name.into(),
            group: self.group,
            status,
            // The names of files and the words of programs may contain anything.
            found: DisplayText::from_program_output(found),
            fix: fix.map(DisplayText::from_program_output),
        }
    }
}

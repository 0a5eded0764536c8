// SPDX-License-Identifier: Apache-2.0
//! The organisation's file, `policy.toml`: limits that no user loosens.

use std::path::Path;

use terok_clearance::DestPattern;

use crate::protected_file::read_owned_file;
use crate::settings_file::line_problem;
use crate::{
    AnswerLifetime, ORGANISATION_KEYS, ProblemReason, ProtectedFileError, Setting, SettingsErrors,
    SettingsFile, TimeSpan, pattern_covers,
};

mod limits;

pub use limits::{OrganisationRefusal, OrganisationRule};

/// The limits of the organisation. A key that the file does not have is `None` and limits nothing.
#[derive(Debug, Clone)]
pub struct OrganisationPolicy {
    /// The file, with every value that it has.
    pub file: SettingsFile,
    /// The table `[destinations]`.
    pub destinations: DestinationLimits,
    /// Profiles that each run has: `required` in `[profiles]`.
    pub required_profiles: Option<Setting<Vec<String>>>,
    /// The table `[answers]`.
    pub answers: AnswerLimits,
    /// The table `[record]`.
    pub record: RecordLimits,
}

/// The values of `[destinations]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationLimits {
    /// Destinations that no user opens.
    pub deny: Option<Setting<Vec<DestPattern>>>,
    /// The destinations outside of which nothing is opened; none of the floor.
    pub ceiling: Option<Setting<Vec<DestPattern>>>,
    /// Destinations that are open from the start; within the ceiling, none of the floor.
    pub allow: Option<Setting<Vec<DestPattern>>>,
}

/// The values of `[answers]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerLimits {
    /// The longest that an answer may last.
    pub max_lifetime: Option<Setting<AnswerLifetime>>,
    /// The longest that a connection waits for an answer.
    pub max_hold: Option<Setting<TimeSpan>>,
    /// Whether a run may let everything through to learn a profile.
    pub allow_learn: Option<Setting<bool>>,
    /// Whether a user may open everything for a time.
    pub allow_bypass: Option<Setting<bool>>,
    /// Whether a user may use rules of a file in the project.
    pub allow_trusted_project_files: Option<Setting<bool>>,
    /// Whether a program may answer.
    pub allow_approver: Option<Setting<bool>>,
}

/// The limits of `[record]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordLimits {
    /// Whether users must keep a record.
    pub required: Option<Setting<bool>>,
    /// Files to which each line is copied, with `{user}` for the user's name.
    pub copies: Option<Setting<Vec<String>>>,
}

/// The organisation's file cannot be used, so that its limits are unknown.
#[derive(Debug, thiserror::Error)]
pub enum OrganisationError {
    /// It cannot be read, or others than root could have written it.
    #[error("cannot use the organisation's file")]
    File(#[from] ProtectedFileError),
    /// It has errors.
    #[error(transparent)]
    Contents(#[from] SettingsErrors),
}

impl OrganisationPolicy {
    /// Reads the file at an absolute path; `None` if it does not exist.
    ///
    /// The file and every directory above it must belong to root and be writable by root alone,
    /// and none may be a symbolic link. A file that cannot be used is an error: its limits are
    /// unknown, and what they would limit must not happen.
    pub fn read(path: &Path) -> Result<Option<Self>, OrganisationError> {
        Self::read_below(Path::new("/"), path, 0)
    }

    fn read_below(root: &Path, path: &Path, owner: u32) -> Result<Option<Self>, OrganisationError> {
        match read_owned_file(root, path, owner)? {
            Some(text) => Ok(Some(Self::parse(path, &text)?)),
            None => Ok(None),
        }
    }

    /// Parses `text`, the contents of the file `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsErrors> {
        let file = SettingsFile::parse(path, text, ORGANISATION_KEYS, &|_, _| Ok(()))?;
        let policy = Self::from_file(file);
        let problems: Vec<_> = policy
            .allows_outside_ceiling()
            .map(|(line, pattern)| {
                let reason = ProblemReason::InvalidValue {
                    key: "allow",
                    why: format!("{pattern} is outside of `ceiling`"),
                };
                line_problem(text, line, reason)
            })
            .collect();
        if problems.is_empty() {
            return Ok(policy);
        }
        Err(SettingsErrors {
            path: path.into(),
            problems,
        })
    }

    fn allows_outside_ceiling(&self) -> impl Iterator<Item = (usize, &DestPattern)> {
        let DestinationLimits { ceiling, allow, .. } = &self.destinations;
        let line = self.file.entry("destinations", "allow");
        let line = line.map_or(1, |entry| entry.line);
        let ceiling = ceiling.as_ref().map(|ceiling| ceiling.value.as_slice());
        let allowed = allow.iter().flat_map(|allow| allow.value.iter());
        allowed
            .filter(move |pattern| {
                ceiling.is_some_and(|wide| !wide.iter().any(|wide| pattern_covers(wide, pattern)))
            })
            .map(move |pattern| (line, pattern))
    }

    fn from_file(file: SettingsFile) -> Self {
        Self {
            destinations: DestinationLimits {
                deny: file.organisation_setting("destinations", "deny"),
                ceiling: file.organisation_setting("destinations", "ceiling"),
                allow: file.organisation_setting("destinations", "allow"),
            },
            required_profiles: file.organisation_setting("profiles", "required"),
            answers: AnswerLimits {
                max_lifetime: file.organisation_setting("answers", "max_lifetime"),
                max_hold: file.organisation_setting("answers", "max_hold"),
                allow_learn: file.organisation_setting("answers", "allow_learn"),
                allow_bypass: file.organisation_setting("answers", "allow_bypass"),
                allow_trusted_project_files: file
                    .organisation_setting("answers", "allow_trusted_project_files"),
                allow_approver: file.organisation_setting("answers", "allow_approver"),
            },
            record: RecordLimits {
                required: file.organisation_setting("record", "required"),
                copies: file.organisation_setting("record", "copies"),
            },
            file,
        }
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! The limits of the organisation, applied to what a user requests.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use terok_clearance::DestPattern;

use super::OrganisationPolicy;
use crate::{AnswerLifetime, Setting, SettingSource, pattern_covers};

/// The organisation does not permit a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrganisationRefusal {
    /// A destination is not within the ceiling.
    #[error("your organisation does not permit {dest}: it is outside of {rule}")]
    OutsideCeiling {
        /// The destination.
        dest: DestPattern,
        /// The ceiling.
        rule: OrganisationRule,
    },
    /// A destination is denied.
    #[error("your organisation does not permit {dest}: {by} stands in {rule}")]
    Denied {
        /// The destination.
        dest: DestPattern,
        /// The denied destination that covers it.
        by: DestPattern,
        /// The denied destinations.
        rule: OrganisationRule,
    },
    /// A way to open destinations is forbidden.
    #[error("your organisation does not permit {what}: {rule} is false")]
    Forbidden {
        /// What is forbidden, in words.
        what: &'static str,
        /// The rule.
        rule: OrganisationRule,
    },
}

/// A key of the organisation's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationRule {
    /// The file.
    pub path: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
    /// The table.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
}

impl fmt::Display for OrganisationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            table,
            key,
        } = self;
        write!(f, "`{key}` of [{table}] ({}:{line})", path.display())
    }
}

impl OrganisationPolicy {
    /// Returns a refusal if a rule may not open what `dest` covers: it is not within one pattern
    /// of the ceiling, or within a denied one. A pattern that is denied in part is permitted,
    /// because the denies of the organisation come before it.
    pub fn check_allowed(&self, dest: &DestPattern) -> Result<(), OrganisationRefusal> {
        let covers = |wide: &&DestPattern| pattern_covers(wide, dest);
        let denied = self.destinations.deny.as_ref();
        if let Some(by) = denied.and_then(|denied| denied.value.iter().find(covers)) {
            return Err(OrganisationRefusal::Denied {
                dest: dest.clone(),
                by: by.clone(),
                rule: self.rule("destinations", "deny"),
            });
        }
        let ceiling = self.destinations.ceiling.as_ref();
        if ceiling.is_some_and(|ceiling| !ceiling.value.iter().any(|wide| covers(&wide))) {
            return Err(OrganisationRefusal::OutsideCeiling {
                dest: dest.clone(),
                rule: self.rule("destinations", "ceiling"),
            });
        }
        Ok(())
    }

    /// Returns the time that a connection waits: the requested one, or the limit if that is
    /// shorter. `None` is a wait without end.
    pub fn limit_hold(&self, requested: Setting<Option<Duration>>) -> Setting<Option<Duration>> {
        match &self.answers.max_hold {
            Some(limit) if requested.value.is_none_or(|it| it > limit.value.duration()) => {
                limit.clone().map(|limit| Some(limit.duration()))
            }
            _ => requested,
        }
    }

    /// Returns how long an answer lasts: as requested, or the limit if that is shorter.
    pub fn limit_lifetime(&self, requested: Setting<AnswerLifetime>) -> Setting<AnswerLifetime> {
        match &self.answers.max_lifetime {
            Some(limit) if requested.value > limit.value => limit.clone(),
            _ => requested,
        }
    }

    /// Returns whether a record is kept: as requested, or always if the organisation requires it.
    pub fn limit_record(&self, enabled: Setting<bool>) -> Setting<bool> {
        match &self.record.required {
            Some(required) if required.value && !enabled.value => required.clone(),
            _ => enabled,
        }
    }

    /// Returns the profiles of a run: the required ones, then the requested ones, each once.
    pub fn add_required_profiles(&self, requested: Vec<String>) -> Vec<String> {
        let required = self.required_profiles.iter();
        let required = required.flat_map(|profiles| profiles.value.iter().cloned());
        let mut profiles: Vec<String> = Vec::new();
        for profile in required.chain(requested) {
            if !profiles.contains(&profile) {
                profiles.push(profile);
            }
        }
        profiles
    }

    /// Returns a refusal if a run may not let everything through to learn a profile.
    pub fn check_learn(&self) -> Result<(), OrganisationRefusal> {
        let permitted = self.answers.allow_learn.as_ref();
        self.check(permitted, "allow_learn", "learning")
    }

    /// Returns a refusal if a user may not open everything for a time.
    pub fn check_bypass(&self) -> Result<(), OrganisationRefusal> {
        let permitted = self.answers.allow_bypass.as_ref();
        self.check(permitted, "allow_bypass", "a bypass")
    }

    /// Returns a refusal if a user may not use rules of a file in the project.
    pub fn check_trusted_project_file(&self) -> Result<(), OrganisationRefusal> {
        let permitted = self.answers.allow_trusted_project_files.as_ref();
        let what = "rules of a file in the project";
        self.check(permitted, "allow_trusted_project_files", what)
    }

    /// Returns a refusal if a program may not answer.
    pub fn check_approver(&self) -> Result<(), OrganisationRefusal> {
        let permitted = self.answers.allow_approver.as_ref();
        self.check(permitted, "allow_approver", "answers by a program")
    }

    /// Returns the files to which the record of the user with this name is copied. A name that
    /// would lead to another directory is no part of a path.
    pub fn record_copies(&self, user: &str) -> Vec<PathBuf> {
        let user = match user {
            "" | "." | ".." => "_".to_owned(),
            user => user.replace(['/', '\0'], "_"),
        };
        let copies = self.record.copies.iter();
        let copies = copies.flat_map(|copies| copies.value.iter());
        copies
            .map(|path| PathBuf::from(path.replace("{user}", &user)))
            .collect()
    }

    fn check(
        &self,
        permitted: Option<&Setting<bool>>,
        key: &'static str,
        what: &'static str,
    ) -> Result<(), OrganisationRefusal> {
        if permitted.is_none_or(|permitted| permitted.value) {
            return Ok(());
        }
        let rule = self.rule("answers", key);
        Err(OrganisationRefusal::Forbidden { what, rule })
    }

    fn rule(&self, table: &'static str, key: &'static str) -> OrganisationRule {
        OrganisationRule {
            path: Arc::clone(self.file.path()),
            line: self.file.entry(table, key).map_or(1, |entry| entry.line),
            table,
            key,
        }
    }
}

impl SettingSource {
    /// Returns `true` if the organisation decided.
    pub const fn is_organisation(&self) -> bool {
        matches!(self, Self::Organisation { .. })
    }
}

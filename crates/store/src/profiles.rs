// SPDX-License-Identifier: Apache-2.0
//! Profiles: those of the operator, and the bundled ones.

use std::collections::BTreeSet;
use std::path::PathBuf;

use policy::{ProfileName, RuleFile, bundled_profile, bundled_profile_names};

use crate::private_dir::PrivateDir;
use crate::project_path::RULES_ENDING;
use crate::rule_store::{PROFILES_DIR, read_rules};
use crate::{RuleStore, RuleStoreError};

/// The ending of terok-shield's profiles.
const TEXT_ENDING: &str = ".txt";

/// Where a profile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileOrigin {
    /// A file of the operator.
    Own {
        /// The file.
        path: PathBuf,
        /// Whether a bundled profile has the same name, which the file replaces.
        replaces_bundled: bool,
    },
    /// The program.
    Bundled,
}

/// A profile with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedProfile {
    /// The name.
    pub name: ProfileName,
    /// Where it comes from.
    pub origin: ProfileOrigin,
    /// The rules.
    pub file: RuleFile,
}

/// A profile in a list.
#[derive(Debug)]
pub struct ProfileEntry {
    /// The name.
    pub name: ProfileName,
    /// The profile, or the reason why it cannot be used.
    pub loaded: Result<LoadedProfile, RuleStoreError>,
}

impl LoadedProfile {
    /// Returns a bundled profile, also if one of the operator replaces it.
    pub fn bundled(name: &ProfileName) -> Option<Self> {
        // Every bundled profile is a valid file, which a test ensures.
        let file = RuleFile::parse(bundled_profile(name)?.as_bytes()).ok()?;
        Some(Self {
            name: name.clone(),
            origin: ProfileOrigin::Bundled,
            file,
        })
    }
}

impl RuleStore {
    /// Loads a profile. The operator's file replaces a bundled profile of the same name, also if
    /// the file cannot be used.
    pub fn load_profile(&self, name: &ProfileName) -> Result<LoadedProfile, RuleStoreError> {
        let directory = self.open_directory(&[PROFILES_DIR])?;
        self.load_profile_in(directory.as_ref(), name)
    }

    /// Lists the bundled profiles and those of the operator, ordered by name.
    ///
    /// Files whose names are no names of profiles are left out.
    pub fn list_profiles(&self) -> Result<Vec<ProfileEntry>, RuleStoreError> {
        let directory = self.open_directory(&[PROFILES_DIR])?;
        let mut names: BTreeSet<ProfileName> = bundled_profile_names().collect();
        if let Some(directory) = &directory {
            for name in directory.names()? {
                let stem = name
                    .strip_suffix(RULES_ENDING)
                    .or_else(|| name.strip_suffix(TEXT_ENDING));
                names.extend(stem.and_then(|stem| stem.parse().ok()));
            }
        }
        let entries = names.into_iter().map(|name| {
            let loaded = self.load_profile_in(directory.as_ref(), &name);
            ProfileEntry { name, loaded }
        });
        Ok(entries.collect())
    }

    fn load_profile_in(
        &self,
        directory: Option<&PrivateDir>,
        name: &ProfileName,
    ) -> Result<LoadedProfile, RuleStoreError> {
        if let Some(directory) = directory {
            let rules = format!("{name}{RULES_ENDING}");
            let text = format!("{name}{TEXT_ENDING}");
            let own = match (directory.has_entry(&rules)?, directory.has_entry(&text)?) {
                (true, true) => {
                    return Err(RuleStoreError::TwoProfiles {
                        name: name.clone(),
                        rules: directory.entry_path(&rules),
                        text: directory.entry_path(&text),
                    });
                }
                (true, false) => Some(rules),
                (false, true) => Some(text),
                (false, false) => None,
            };
            if let Some(own) = own
                && let Some(file) = read_rules(directory, &own)?
            {
                return Ok(LoadedProfile {
                    name: name.clone(),
                    origin: ProfileOrigin::Own {
                        path: directory.entry_path(&own),
                        replaces_bundled: bundled_profile(name).is_some(),
                    },
                    file,
                });
            }
        }
        LoadedProfile::bundled(name).ok_or_else(|| RuleStoreError::NoProfile {
            name: name.clone(),
            directory: self.profiles_dir(),
        })
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Profiles: named lists of destinations. A profile of the user replaces a bundled one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use terok_clearance::DisplayText;

use crate::policy_entry::{PolicyLineError, PolicySign, parse_policy};
use crate::state_bundle::{StateBundleError, read_file};

/// The profiles of this program, by their names.
const BUNDLED: [(&str, &str); 6] = [
    ("base", include_str!("../profiles/base.txt")),
    ("dev-node", include_str!("../profiles/dev-node.txt")),
    ("dev-python", include_str!("../profiles/dev-python.txt")),
    ("dev-standard", include_str!("../profiles/dev-standard.txt")),
    ("krun_guest", include_str!("../profiles/krun_guest.txt")),
    ("nvidia-hpc", include_str!("../profiles/nvidia-hpc.txt")),
];

/// The profile that is used if none is named.
pub(crate) const DEFAULT_PROFILE: &str = "dev-standard";

/// The profiles of a user.
#[derive(Debug, Clone)]
pub struct ShieldProfiles {
    directory: PathBuf,
}

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldProfileError {
    /// The name is no file name.
    #[error("Unsafe name: {0:?}")]
    Name(DisplayText),
    /// There is no such profile.
    #[error("Profile not found: '{0}'")]
    NotFound(String),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] StateBundleError),
    /// The file has an error.
    #[error("profile '{name}'")]
    Line {
        /// The profile.
        name: String,
        /// The error.
        #[source]
        source: PolicyLineError,
    },
    /// The directory cannot be read.
    #[error("cannot read {}", directory.display())]
    List {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl ShieldProfiles {
    /// Creates the profiles of `directory` and of this program.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Returns the names of all profiles, sorted.
    pub fn list(&self) -> Result<Vec<String>, ShieldProfileError> {
        let mut names: BTreeSet<_> = BUNDLED.map(|(name, _)| name.to_owned()).into();
        let unreadable = |source| ShieldProfileError::List {
            directory: self.directory.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.directory) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(names.into_iter().collect());
            }
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            let name = name.to_string_lossy();
            names.extend(name.strip_suffix(".txt").map(str::to_owned));
        }
        Ok(names.into_iter().collect())
    }

    /// Returns the allowed targets of the named profiles, each once.
    pub fn compose(&self, names: &[String]) -> Result<Vec<String>, ShieldProfileError> {
        let mut targets: Vec<String> = Vec::new();
        for name in names {
            let text = self.read(name)?;
            let entries = parse_policy(&text).map_err(|source| ShieldProfileError::Line {
                name: name.clone(),
                source,
            })?;
            for entry in entries {
                if entry.sign == PolicySign::Allow && !targets.contains(&entry.target) {
                    targets.push(entry.target);
                }
            }
        }
        Ok(targets)
    }

    fn read(&self, name: &str) -> Result<String, ShieldProfileError> {
        if !is_profile_name(name) {
            return Err(ShieldProfileError::Name(DisplayText::new(name)));
        }
        let path = self.directory.join(Path::new(&format!("{name}.txt")));
        if let Some(text) = read_file(&path)? {
            return Ok(text);
        }
        let bundled = BUNDLED.iter().find(|(bundled, _)| *bundled == name);
        bundled
            .map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| ShieldProfileError::NotFound(name.to_owned()))
    }
}

/// Returns `true` for letters, digits, `.`, `_` and `-`, with a letter or digit first.
fn is_profile_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_the_user_replaces_a_bundled_one() {
        let place = tempfile::tempdir().unwrap();
        let profiles = ShieldProfiles::new(place.path());
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let bundled = profiles.list().unwrap();
        assert_eq!(
            bundled,
            names(&[
                "base",
                "dev-node",
                "dev-python",
                "dev-standard",
                "krun_guest",
                "nvidia-hpc"
            ])
        );
        for name in &bundled {
            assert!(
                !profiles
                    .compose(std::slice::from_ref(name))
                    .unwrap()
                    .is_empty(),
                "{name}"
            );
        }
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write("mine.txt", "+b.example\n-c.example\n+a.example # first\n");
        write("base.txt", "+a.example\n+d.example\n");
        write("note.md", "");
        assert!(profiles.list().unwrap().contains(&"mine".to_owned()));
        let composed = profiles.compose(&names(&["mine", "base"])).unwrap();
        assert_eq!(composed, names(&["b.example", "a.example", "d.example"]));
        write("wrong.txt", "a.example\n");
        let error = profiles.compose(&names(&["wrong"])).unwrap_err();
        assert!(matches!(error, ShieldProfileError::Line { .. }));
        let missing = profiles.compose(&names(&["nothing"])).unwrap_err();
        assert_eq!(missing.to_string(), "Profile not found: 'nothing'");
        for unsafe_name in ["../mine", "", ".mine", "a/b"] {
            let error = profiles.compose(&names(&[unsafe_name])).unwrap_err();
            assert!(
                matches!(error, ShieldProfileError::Name(_)),
                "{unsafe_name}"
            );
        }
        let nowhere = ShieldProfiles::new("/nonexistent");
        assert_eq!(nowhere.list().unwrap(), bundled);
    }
}

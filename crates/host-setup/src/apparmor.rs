// SPDX-License-Identifier: Apache-2.0
//! The `AppArmor` profile for hosts that restrict user namespaces of users.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file name and the name of the profile.
pub const APPARMOR_PROFILE: &str = "terok-clearance";

const RESTRICTION: &str = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Returns `true` if users get no user namespaces without a profile. `root` is the root directory
/// of the machine.
pub fn restricts_user_namespaces(root: &Path) -> bool {
    let value = std::fs::read_to_string(root.join(RESTRICTION));
    value.is_ok_and(|value| value.trim() == "1")
}

/// Returns a profile that gives `program` user namespaces and restricts nothing.
pub fn apparmor_profile(program: &str) -> String {
    let mut pattern = String::new();
    for c in program.chars() {
        // Characters of patterns, and those that end a quoted text.
        if matches!(
            c,
            '*' | '?' | '[' | ']' | '{' | '}' | '^' | '"' | '\\' | '@'
        ) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    format!(
        "# SPDX-License-Identifier: Apache-2.0\n\
         # Written by `terok-clearance setup`: user namespaces for its sandboxes.\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\n\
         profile {APPARMOR_PROFILE} \"{pattern}\" flags=(unconfined) {{\n\
         \x20 userns,\n\n\
         \x20 include if exists <local/{APPARMOR_PROFILE}>\n\
         }}\n"
    )
}

/// The program that loads profiles.
#[derive(Debug, Clone)]
pub(crate) struct ApparmorParser {
    program: PathBuf,
}

impl ApparmorParser {
    pub(crate) const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Loads a profile, or replaces the loaded one.
    pub(crate) fn load(&self, profile: &Path) -> Result<(), String> {
        self.call("--replace", profile)
    }

    /// Removes a loaded profile.
    pub(crate) fn unload(&self, profile: &Path) -> Result<(), String> {
        self.call("--remove", profile)
    }

    fn call(&self, option: &str, profile: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        let command = command.arg(option).arg(profile).stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(message.trim().replace('\n', "; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_names_the_program_and_no_pattern() {
        let profile = apparmor_profile("/opt/a b/{x}*\"/terok-clearance");
        let line = "profile terok-clearance \"/opt/a b/\\{x\\}\\*\\\"/terok-clearance\" \
                    flags=(unconfined) {";
        assert!(profile.lines().any(|one| one == line), "{profile}");
        assert!(profile.contains("\n  userns,\n"));
    }

    #[test]
    fn the_restriction_is_read() {
        let root = tempfile::tempdir().unwrap();
        assert!(!restricts_user_namespaces(root.path()));
        std::fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        for (text, expected) in [("1\n", true), ("0\n", false)] {
            std::fs::write(root.path().join(RESTRICTION), text).unwrap();
            assert_eq!(restricts_user_namespaces(root.path()), expected);
        }
    }
}

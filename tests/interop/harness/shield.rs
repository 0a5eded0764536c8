// SPDX-License-Identifier: Apache-2.0
//! A `terok-shield` that records what it is asked and answers as it is told: the pairings end
//! where it begins. `shield_cli.rs` has the real one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The program; it tells by files beside it.
#[derive(Debug)]
pub(crate) struct Shield(PathBuf);

impl Shield {
    /// Puts it into `directory`, where it succeeds until it is told otherwise.
    pub(crate) fn within(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let program = directory.join("terok-shield");
        let script = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$0.asked\"\n. \"$0.told\"\n";
        make(&program, script);
        let shield = Self(program);
        shield.succeeds();
        shield
    }

    /// Puts a program into `directory` that runs this one.
    pub(crate) fn leading_to(&self, directory: &Path) {
        make(
            &directory.join("terok-shield"),
            &format!("#!/bin/sh\nexec '{}' \"$@\"\n", self.path()),
        );
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Lets it take every order from now on.
    pub(crate) fn succeeds(&self) {
        self.does("exit 0");
    }

    /// Lets it do this, in the language of the shell, from now on.
    pub(crate) fn does(&self, script: &str) {
        std::fs::write(self.beside("told"), script).unwrap();
    }

    /// Returns what it was asked so far, the arguments of each call in a line.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.beside("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.0.with_extension(what)
    }
}

fn make(program: &Path, script: &str) {
    std::fs::write(program, script).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program, executable).unwrap();
}

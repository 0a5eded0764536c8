// SPDX-License-Identifier: Apache-2.0
//! The directories of a hook, which runs in the user namespace of a container engine and may have
//! an empty environment.

use std::path::{Path, PathBuf};

use super::{UserEnvironment, default_runtime_dir};

/// The runtime directory of the machine's own services.
const MACHINE_RUNTIME_DIR: &str = "/run";

/// The runtime directories that a hook uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDirs {
    /// The directory with the start socket.
    pub start: PathBuf,
    /// The directory with the sockets of the hubs.
    pub hubs: PathBuf,
}

impl UserEnvironment {
    /// Returns the directories of a hook of the container engine's operator: of the user who is
    /// root in the engine's user namespace.
    pub fn hook_dirs(&self) -> HookDirs {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let uid = outer_uid(&map, self.uid);
        self.hook_dirs_of(uid, Path::new("/run/user"))
    }

    fn hook_dirs_of(&self, uid: u32, users: &Path) -> HookDirs {
        if uid == 0 {
            // The variable may be that of the user who became root.
            return HookDirs {
                start: MACHINE_RUNTIME_DIR.into(),
                hubs: default_runtime_dir(0, users),
            };
        }
        let is_set = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
            name == "XDG_RUNTIME_DIR" && Path::new(value).is_absolute()
        };
        let own = if self.variables.iter().any(is_set) {
            self.runtime_dir.clone()
        } else {
            default_runtime_dir(uid, users)
        };
        HookDirs {
            start: own.clone(),
            hubs: own,
        }
    }
}

/// Returns the user outside of the own user namespace who is `uid` inside, by a map of user ids,
/// `user_namespaces(7)`.
fn outer_uid(map: &str, uid: u32) -> u32 {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some((next()?, next()?, next()?))
    });
    let mut found = ranges.filter_map(|(inside, outside, length)| {
        let offset = uid.checked_sub(inside).filter(|offset| *offset < length)?;
        outside.checked_add(offset)
    });
    found.next().unwrap_or(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_an_engine_is_its_operator() {
        assert_eq!(outer_uid("0 1000 1\n1 100000 65536\n", 0), 1000);
        assert_eq!(outer_uid("0 1000 1\n1 100000 65536\n", 5), 100_004);
        assert_eq!(outer_uid("         0          0 4294967295\n", 0), 0);
        assert_eq!(outer_uid("", 7), 7);
    }

    #[test]
    fn a_hook_without_environment_finds_the_directories_of_its_operator() {
        let machine = tempfile::tempdir().unwrap();
        let users = machine.path();
        std::fs::create_dir(users.join("1000")).unwrap();
        let dirs = |variables: &[(&str, &str)], uid| {
            UserEnvironment::of_variables(variables).hook_dirs_of(uid, users)
        };
        let own = users.join("1000");
        assert_eq!(dirs(&[], 1000).start, own);
        assert_eq!(dirs(&[], 1000).hubs, own);
        let set = dirs(&[("XDG_RUNTIME_DIR", "/r/1")], 1000);
        assert_eq!(set.start, Path::new("/r/1"));
        let root = dirs(&[("XDG_RUNTIME_DIR", "/r/1")], 0);
        assert_eq!(root.start, Path::new("/run"));
        assert_eq!(root.hubs, users.join("0"));
    }
}

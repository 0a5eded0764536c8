// SPDX-License-Identifier: Apache-2.0
//! The users and groups of a sandbox.
//!
//! An ordinary user may map one id, its own. Root maps every id that it has, unchanged, so that
//! package managers can change to users of their own: the outer namespace's root is the sandbox's
//! first process, the inner namespace's the workload.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::ProcessHandle;

/// User and group of the operator, in the supervisor's user namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct OperatorIds {
    user: u32,
    group: u32,
    keeps_all: bool,
}

impl OperatorIds {
    /// Returns those of the calling process. With `root_keeps_ids`, root with the rights for that
    /// maps all of its ids.
    pub(super) fn current(root_keeps_ids: bool) -> Self {
        Self {
            user: geteuid().as_raw(),
            group: getegid().as_raw(),
            keeps_all: root_keeps_ids && geteuid().is_root() && may_map_all_ids(),
        }
    }

    /// Writes the maps of the outer namespace, whose root is the operator.
    pub(super) fn map_outer(self, process: &ProcessHandle) -> io::Result<()> {
        if self.keeps_all {
            return write_all_ids(process);
        }
        write_single_ids(process, (0, self.user), (0, self.group))
    }

    /// Writes the maps of the inner namespace, in which the operator has the ids of outside. To be
    /// called by the outer namespace's root.
    pub(super) fn map_inner(self, process: &ProcessHandle) -> io::Result<()> {
        if self.keeps_all {
            return write_all_ids(process);
        }
        write_single_ids(process, (self.user, 0), (self.group, 0))
    }

    /// Returns `true` if the sandbox has all ids of root.
    pub(super) const fn keeps_all(self) -> bool {
        self.keeps_all
    }
}

/// Maps every id of the caller to itself.
fn write_all_ids(process: &ProcessHandle) -> io::Result<()> {
    let read = |name| fs::read_to_string(format!("/proc/self/{name}"));
    let (users, groups) = (read("uid_map")?, read("gid_map")?);
    let file = |name| format!("/proc/{}/{name}", process.pid());
    fs::write(file("uid_map"), identity_map(&users))?;
    fs::write(file("gid_map"), identity_map(&groups))
}

/// Returns `true` if the caller has the rights for that, unlike root of many containers.
fn may_map_all_ids() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP;
    capabilities(None).is_ok_and(|own| own.effective.contains(needed))
}

/// One user, one group, no others ever. Pairs are ids inside and outside.
fn write_single_ids(
    process: &ProcessHandle,
    (user, outer_user): (u32, u32),
    (group, outer_group): (u32, u32),
) -> io::Result<()> {
    let file = |name| format!("/proc/{}/{name}", process.pid());
    fs::write(file("setgroups"), "deny")?;
    fs::write(file("uid_map"), format!("{user} {outer_user} 1"))?;
    fs::write(file("gid_map"), format!("{group} {outer_group} 1"))
}

/// Returns the map of all ids of `own_map`, `user_namespaces(7)`, to themselves.
fn identity_map(own_map: &str) -> String {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace();
        let first = numbers.next()?;
        let length = numbers.nth(1)?;
        Some(format!("{first} {first} {length}\n"))
    };
    own_map.lines().filter_map(line).collect()
}

/// Returns `true` for the machine's root user, also inside a user namespace: the kernel's settings
/// are its files. It may change them without a capability.
pub fn is_machine_root() -> bool {
    fs::metadata("/proc/sys/kernel").map_or_else(
        |_unreadable| geteuid().is_root(),
        |settings| settings.uid() == geteuid().as_raw(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_mapped_to_itself() {
        let check = |map: &str, expected: &str| assert_eq!(identity_map(map), expected);
        check("         0          0 4294967295\n", "0 0 4294967295\n");
        check("0 1000 1\n1 100000 65536\n", "0 0 1\n1 1 65536\n");
        check("", "");
    }
}

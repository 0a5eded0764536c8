// SPDX-License-Identifier: Apache-2.0
//! The control group of a sandbox, `cgroups(7)`.
//!
//! A workload can create a control group namespace and mount the hierarchy in it: it then sees the
//! group that it is in, and writes it with the operator's rights. In the caller's group it could
//! end or freeze the supervisor. So the sandbox gets a group of its own, where the caller's group
//! belongs to the operator.
//!
//! `terok-clearance-PID` below the caller's group has the limits, and its only child `sandbox` the
//! processes: the namespace of the sandbox begins there, so that limits are out of its reach. The
//! sandbox never leaves the caller's group, whose limits hold for it too.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::SandboxLimits;
use super::limits::{process_limit, read_number};
use super::mountinfo;
use crate::ProcessHandle;

/// Begin of the names of control groups.
const NAME: &str = "terok-clearance-";

/// The directory of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CgroupPath {
    directory: PathBuf,
    /// The mount point of its hierarchy.
    root: PathBuf,
}

impl CgroupPath {
    /// Returns the calling process's group in the unified hierarchy (version 2), if it is mounted.
    pub(super) fn own() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let mounts = mountinfo::parse(&mounts);
        mounts.iter().rev().find_map(|mount| {
            let below = Path::new(path).strip_prefix(mount.root()).ok()?;
            let directory = mount.mount_point.join(below);
            (mount.fs_type == "cgroup2" && directory.is_dir()).then(|| Self {
                directory,
                root: mount.mount_point.clone(),
            })
        })
    }

    /// Returns the smallest limit of processes of this group and its ancestors.
    pub(super) fn process_limit(&self) -> Option<u64> {
        let groups = self.directory.ancestors();
        let groups = groups.take_while(|group| group.starts_with(&self.root));
        groups
            .filter_map(|group| read_number(&group.join("pids.max")))
            .min()
    }

    /// Returns `true` if the calling user can change the group, also by mounting the hierarchy.
    fn is_writable(&self) -> bool {
        fs::metadata(&self.directory).map_or(true, |found| found.uid() == geteuid().as_raw())
            || access(&self.directory, Access::WRITE_OK).is_ok()
            || access(self.directory.join("cgroup.procs"), Access::WRITE_OK).is_ok()
    }
}

/// The limits that a control group enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EnforcedLimits {
    pub(super) processes: bool,
    pub(super) memory: bool,
}

/// The control group of a sandbox. It is removed on drop, when the sandbox has no processes.
#[derive(Debug)]
pub(crate) struct SandboxCgroup {
    directory: PathBuf,
    enforced: EnforcedLimits,
    /// The group that this process moved into, to divide its former one.
    supervisor: Option<PathBuf>,
}

impl SandboxCgroup {
    /// Creates the group, if the caller's group belongs to the operator, with the limits that the
    /// kernel permits there.
    pub(super) fn create(limits: &SandboxLimits) -> Option<Self> {
        let own = CgroupPath::own()?;
        let parent = &own.directory;
        // Moving a process needs the right to write here, too.
        access(parent.join("cgroup.procs"), Access::WRITE_OK).ok()?;
        remove_abandoned(parent);
        let name = format!("{NAME}{}", std::process::id());
        let mut group = Self {
            directory: parent.join(&name),
            enforced: EnforcedLimits::default(),
            supervisor: None,
        };
        let wanted = limits.processes.is_some() || limits.memory_bytes.is_some();
        if wanted && let Err(error) = group.divide(&own, &name) {
            tracing::debug!(%error, "the caller's control group cannot be divided");
        }
        let made =
            fs::create_dir(&group.directory).and_then(|()| fs::create_dir(group.process_dir()));
        if let Err(error) = made {
            tracing::debug!(%error, "the sandbox has no control group of its own");
            return None;
        }
        let set = |file: &str, value: u64| {
            fs::write(group.directory.join(file), value.to_string()).is_ok()
        };
        group.enforced = EnforcedLimits {
            processes: set("pids.max", process_limit(limits)),
            memory: limits
                .memory_bytes
                .is_some_and(|bytes| set("memory.max", bytes)),
        };
        Some(group)
    }

    /// Enables the controllers of the limits in the caller's group. Only the root group may have
    /// processes then: this process, if it is alone, moves into a child.
    fn divide(&mut self, own: &CgroupPath, name: &str) -> io::Result<()> {
        let read = |file: &str| fs::read_to_string(own.directory.join(file));
        let (available, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
        let has = |list: &str, name: &str| list.split_whitespace().any(|listed| listed == name);
        let missing = ["pids", "memory"].into_iter();
        let missing = missing.filter(|name| has(&available, name) && !has(&enabled, name));
        let missing: Vec<_> = missing.map(|name| format!("+{name}")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // The root group of the hierarchy has no type.
        if own.directory.join("cgroup.type").exists() {
            let processes = read("cgroup.procs")?;
            if processes.trim() != std::process::id().to_string() {
                return Err(io::Error::other("other processes are in it"));
            }
            let supervisor = own.directory.join(format!("{name}-supervisor"));
            fs::create_dir(&supervisor)?;
            self.supervisor = Some(supervisor.clone());
            fs::write(supervisor.join("cgroup.procs"), "0")?;
        }
        fs::write(
            own.directory.join("cgroup.subtree_control"),
            missing.join(" "),
        )
    }

    /// Moves a process into the group.
    pub(super) fn admit(&self, process: &ProcessHandle) -> io::Result<()> {
        let pid = process.pid().to_string();
        fs::write(self.process_dir().join("cgroup.procs"), pid)
    }

    /// Returns the limits that the group enforces.
    pub(super) const fn enforced(&self) -> EnforcedLimits {
        self.enforced
    }

    fn process_dir(&self) -> PathBuf {
        self.directory.join("sandbox")
    }
}

impl Drop for SandboxCgroup {
    fn drop(&mut self) {
        remove_group(&self.directory);
        // The group of this process stays until this process has left it: with the next start.
    }
}

/// Removes a group without processes, and its child; others stay.
fn remove_group(directory: &Path) {
    for directory in [directory.join("sandbox"), directory.to_owned()] {
        if let Err(error) = fs::remove_dir(&directory) {
            let directory = directory.display();
            tracing::debug!(%directory, %error, "a control group stays");
        }
    }
}

/// Removes groups of processes that were killed. A group with processes cannot be removed.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(NAME)) else {
            continue;
        };
        let pid = pid.trim_end_matches("-supervisor");
        if !Path::new("/proc").join(pid).exists() {
            remove_group(&entry.path());
        }
    }
}

/// Returns `true` if a workload outside of a group of its own could change groups of the caller by
/// mounting their hierarchy. Hierarchies of version 1 have no groups of their own for sandboxes.
pub(super) fn exposes_caller(own_group: Option<&SandboxCgroup>) -> bool {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else {
        return true;
    };
    let has_old = groups.lines().any(|line| !line.starts_with("0::"));
    let is_root = geteuid().is_root();
    // Groups of version 1 belong to root, except for those that systemd delegates.
    let old_ones_exposed = has_old && (is_root || old_group_is_writable(&groups));
    let new_one_exposed =
        own_group.is_none() && CgroupPath::own().is_none_or(|own| own.is_writable());
    old_ones_exposed || new_one_exposed
}

fn old_group_is_writable(groups: &str) -> bool {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else {
        return true;
    };
    let mounts = mountinfo::parse(&mounts);
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut directories = paths.flat_map(|path| {
        let old = mounts.iter().filter(|mount| mount.fs_type == "cgroup");
        old.filter_map(move |mount| {
            let below = Path::new(path).strip_prefix(mount.root()).ok()?;
            Some((mount.mount_point.join(below), mount.mount_point.clone()))
        })
    });
    directories
        .any(|(directory, root)| directory.is_dir() && CgroupPath { directory, root }.is_writable())
}

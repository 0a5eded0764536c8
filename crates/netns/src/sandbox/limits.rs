// SPDX-License-Identifier: Apache-2.0
//! Limits of a workload, so that it cannot use up what all processes of its user share.
//!
//! Three tools: the limits of a user namespace (`namespaces(7)`, `/proc/sys/user`), resource limits
//! (`getrlimit(2)`), four of which count per user namespace since Linux 5.14, and the control group
//! of the sandbox, where the caller's can be divided.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cgroup::{CgroupPath, SandboxCgroup};
use super::id_maps::is_machine_root;
use super::init_channel::InitFault;

/// The limits of a sandbox. `None`: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Maximum number of processes and threads. The default leaves the operator half of what the
    /// operator has, and is at most 4,096.
    pub processes: Option<u32>,
    /// Maximum memory in bytes: of all processes if the caller's control group can be divided,
    /// else of the writable private memory of each one. The default is no limit.
    pub memory_bytes: Option<u64>,
    /// Maximum number of open files of a process. The default is at most 768, so
    /// that the workload alone cannot use up the descriptors in flight; none for the machine's
    /// root.
    pub open_files: Option<u32>,
}

/// Open files of a workload by default.
///
/// A process cannot pass descriptors on while those in flight of its user are more than its own
/// limit of open files, 1,024 by default. A message has up to 253: with a limit of 768, a workload
/// alone cannot take the others' last one.
const DEFAULT_OPEN_FILES: u64 = 768;
/// Processes of a workload by default, at most.
const DEFAULT_PROCESSES: u64 = 4_096;

/// The limits to apply, computed outside of the sandbox.
#[derive(Debug, Default)]
pub(super) struct LimitPlan {
    /// Files of `/proc/sys/user`, with their values.
    namespace: Vec<(&'static str, u64)>,
    /// Limits that the user namespace of the workload takes over from its creator.
    inherited: Vec<(Resource, u64)>,
    /// Limits of each process of the workload.
    of_each_process: Vec<(Resource, u64)>,
    /// The highest process id of the sandbox.
    max_pid: Option<u64>,
}

/// Returns `true` if nothing on this machine can limit the processes: those of its root are limited
/// by a control group, or by the highest process id.
pub(super) fn lacks_process_limit(cgroup: Option<&SandboxCgroup>) -> bool {
    is_machine_root()
        && !has_own_max_pid()
        && !cgroup.is_some_and(|group| group.enforced().processes)
}

/// Plans the limits. `cgroup` enforces some of them already.
pub(super) fn plan_limits(limits: &SandboxLimits, cgroup: Option<&SandboxCgroup>) -> LimitPlan {
    let processes = process_limit(limits);
    let limited = cgroup.map(SandboxCgroup::enforced).unwrap_or_default();
    let half = |resource| Some((resource, getrlimit(resource).current? / 2));
    let shared = [Resource::Sigpending, Resource::Msgqueue, Resource::Memlock];
    let mut inherited: Vec<_> = shared.into_iter().filter_map(half).collect();
    inherited.push((Resource::Nproc, processes));
    let mut of_each_process = Vec::new();
    match limits.open_files {
        Some(files) => of_each_process.push((Resource::Nofile, files.into())),
        None if is_machine_root() => {}
        None => of_each_process.push((Resource::Nofile, DEFAULT_OPEN_FILES)),
    }
    if let Some(bytes) = limits.memory_bytes.filter(|_| !limited.memory) {
        of_each_process.push((Resource::Data, bytes));
    }
    // The kernel does not limit the number of root's processes.
    let needs_max_pid = is_machine_root() && !limited.processes && has_own_max_pid();
    LimitPlan {
        namespace: plan_namespace_limits(),
        inherited,
        of_each_process,
        max_pid: needs_max_pid.then(|| processes.saturating_add(RESERVED_PIDS)),
    }
}

/// Numbers that the kernel does not give again, once the highest process id was reached.
const RESERVED_PIDS: u64 = 300;

/// Returns the maximum number of processes.
pub(super) fn process_limit(limits: &SandboxLimits) -> u64 {
    if let Some(processes) = limits.processes {
        return processes.into();
    }
    let of_user = getrlimit(Resource::Nproc).current;
    let of_machine = ["kernel/threads-max", "kernel/pid_max"];
    let of_machine = of_machine.map(|name| read_number(&Path::new("/proc/sys").join(name)));
    let of_cgroup = CgroupPath::own().and_then(|own| own.process_limit());
    let known = of_machine.into_iter().chain([of_user, of_cgroup]);
    let least = known.flatten().min().unwrap_or(DEFAULT_PROCESSES);
    (least / 2).clamp(1, DEFAULT_PROCESSES)
}

/// The limits of a user namespace, with the part of the caller's that the sandbox gets.
const NAMESPACE_LIMITS: [(&str, u64); 12] = [
    ("max_inotify_instances", 4),
    ("max_fanotify_groups", 4),
    ("max_inotify_watches", 2),
    ("max_fanotify_marks", 2),
    ("max_user_namespaces", 2),
    ("max_pid_namespaces", 2),
    ("max_net_namespaces", 2),
    ("max_mnt_namespaces", 2),
    ("max_ipc_namespaces", 2),
    ("max_uts_namespaces", 2),
    ("max_cgroup_namespaces", 2),
    ("max_time_namespaces", 2),
];

/// The file of the first user namespace's limit, which a nested one does not show.
const GLOBAL_INOTIFY_INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

fn plan_namespace_limits() -> Vec<(&'static str, u64)> {
    let part = |(name, divisor): (&'static str, u64)| {
        let mut limit = read_number(&Path::new(USER_LIMITS).join(name))?;
        if name == "max_inotify_instances" {
            limit = limit.min(read_number(GLOBAL_INOTIFY_INSTANCES.as_ref()).unwrap_or(limit));
        }
        Some((name, limit / divisor))
    };
    NAMESPACE_LIMITS.into_iter().filter_map(part).collect()
}

/// The directory with the limits of the opener's user namespace.
const USER_LIMITS: &str = "/proc/sys/user";

impl LimitPlan {
    /// Permits no control group namespaces: such a namespace makes the caller's control group
    /// writable by mounting it.
    pub(super) fn forbid_cgroup_namespaces(&mut self) {
        for (name, limit) in &mut self.namespace {
            if *name == "max_cgroup_namespaces" {
                *limit = 0;
            }
        }
    }

    /// Applies the limits of the user namespace and of its process ids. To be called by its root,
    /// while `/proc` is new and writable.
    pub(super) fn apply_to_namespaces(&self) -> Result<(), InitFault> {
        for (name, limit) in &self.namespace {
            let path = Path::new(USER_LIMITS).join(name);
            fs::write(&path, limit.to_string())
                .map_err(InitFault::at_step(format!("limiting {}", path.display())))?;
        }
        if let Some(max_pid) = self.max_pid {
            fs::write("/proc/sys/kernel/pid_max", max_pid.to_string())
                .map_err(InitFault::at_step("limiting the number of processes"))?;
        }
        Ok(())
    }

    /// Applies the limits that count per user namespace, before the workload's is created.
    pub(super) fn apply_inherited(&self) -> Result<(), InitFault> {
        self.inherited.iter().try_for_each(lower_limit)
    }

    /// Applies the limits of each process, in the workload.
    pub(super) fn apply_to_process(&self) -> Result<(), InitFault> {
        self.of_each_process.iter().try_for_each(lower_limit)
    }
}

/// Lowers a resource limit for good.
fn lower_limit((resource, limit): &(Resource, u64)) -> Result<(), InitFault> {
    let present = getrlimit(*resource);
    let lower = |value: Option<u64>| Some(value.map_or(*limit, |value| value.min(*limit)));
    let lowered = Rlimit {
        current: lower(present.current),
        maximum: lower(present.maximum),
    };
    setrlimit(*resource, lowered).map_err(InitFault::at_step(format!(
        "setting the limit {resource:?}"
    )))
}

/// Returns `true` if the highest process id is a setting of each process id namespace (Linux 6.14).
/// Before, it is the machine's.
fn has_own_max_pid() -> bool {
    let uname = rustix::system::uname();
    uname
        .release()
        .to_str()
        .is_ok_and(|release| parse_release(release) >= Some((6, 14)))
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn read_number(path: &Path) -> Option<u64> {
    let read: io::Result<String> = fs::read_to_string(path);
    read.ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_a_kernel_is_compared_by_numbers() {
        let check = |release, expected| assert_eq!(parse_release(release), expected, "{release}");
        check("6.18.44-fc", Some((6, 18)));
        check("6.9", Some((6, 9)));
        check("5.14.0-503.el9.x86_64", Some((5, 14)));
        check("nonsense", None);
        assert!(parse_release("6.9") < Some((6, 14)));
    }

    #[test]
    fn the_operator_keeps_at_least_half_of_the_processes() {
        let default = process_limit(&SandboxLimits::default());
        assert!((1..=DEFAULT_PROCESSES).contains(&default), "{default}");
        if let Some(all) = getrlimit(Resource::Nproc).current {
            assert!(default <= all / 2);
        }
        let limits = SandboxLimits {
            processes: Some(7),
            ..SandboxLimits::default()
        };
        assert_eq!(process_limit(&limits), 7);
    }

    #[test]
    fn the_sandbox_gets_a_part_of_each_namespace_limit() {
        let all = read_number("/proc/sys/user/max_inotify_instances".as_ref()).unwrap();
        let plan = plan_namespace_limits();
        assert!(
            plan.iter()
                .any(|(name, limit)| *name == "max_inotify_instances" && *limit <= all / 4)
        );
    }
}

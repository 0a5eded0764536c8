// SPDX-License-Identifier: Apache-2.0
//! Builds the file system view of a sandbox.
//!
//! Runs in the init process, in a mount namespace outside the workload's control: neither the
//! workload nor a user namespace below it can unmount, move or look under these mounts (the kernel
//! locks inherited mounts).

use std::fs::{self, DirBuilder, File};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind,
    mount_bind_recursive, mount_change, move_mount, open_tree,
};

use super::init_channel::InitFault;
use super::limits::LimitPlan;
use super::mount_plan::{MountPlan, SharedSocket, set_mode};
use super::owned_copies::OwnedCopy;
use crate::sys::restrict_mount;

/// What the view is built from.
#[derive(Clone, Copy, Debug)]
pub(super) struct MountInputs<'a> {
    pub(super) plan: &'a MountPlan,
    pub(super) limits: &'a LimitPlan,
    pub(super) resolvers: &'a [IpAddr],
    pub(super) search_domains: &'a [String],
    /// A sandbox inside the sandbox may mount a new `/proc`.
    pub(super) may_nest: bool,
}

/// Builds the complete view.
pub(super) fn build_mounts(inputs: &MountInputs<'_>) -> Result<(), InitFault> {
    let plan = inputs.plan;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(InitFault::at_step("making the mounts private"))?;

    // Cloned before device files are disabled and paths are covered.
    let nodes = DEVICE_NODES
        .into_iter()
        .filter_map(|name| Some((name, clone_mount_tree(Path::new("/dev"), name)?)));
    let nodes: Vec<_> = nodes.collect();
    let cgroups = clone_mount_tree(Path::new("/sys/fs"), "cgroup");
    let no_devices = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
    restrict_at(Path::new("/"), no_devices, true)?;
    let kept = plan
        .kept_paths
        .iter()
        .filter_map(|path| Some((path, clone_mount_tree(path, "")?)));
    let kept: Vec<_> = kept.collect();
    let sockets = plan
        .shared_sockets
        .iter()
        .filter_map(|SharedSocket { path, .. }| Some((path, clone_mount_tree(path, "")?)));
    let sockets: Vec<_> = sockets.collect();
    let placed = plan.placed_socket.as_ref().map(|(socket, shown_at)| {
        let tree = clone_mount_tree(&socket.path, "");
        let missing = InitFault::at_step(format!("finding {}", socket.path.display()));
        Ok((tree.ok_or_else(|| missing(Errno::NOENT))?, shown_at))
    });
    let placed = placed.transpose()?;

    mount_dev(&nodes)?;
    mount_proc(inputs.may_nest, inputs.limits)?;
    mount_sys(cgroups)?;
    for path in &plan.fresh_dirs {
        mount_tmpfs(path, 0o755, MountFlags::empty()).map_err(hide_fault(path))?;
        let lock = path.join("lock");
        fs::create_dir(&lock).map_err(InitFault::at_step("creating the lock directory"))?;
        set_mode(&lock, 0o1777).map_err(InitFault::at_step("creating the lock directory"))?;
    }
    for (path, tree) in kept {
        create_directory(path)?;
        attach_mount_tree(&tree, path)?;
    }
    for path in &plan.pinned_dirs {
        mount_bind_recursive(path, path)
            .map_err(InitFault::at_step(format!("pinning {}", path.display())))?;
    }
    for path in &plan.read_only_files {
        mount_bind(path, path)
            .map_err(InitFault::at_step(format!("protecting {}", path.display())))?;
        restrict_at(path, MOUNT_ATTR_RDONLY, false)?;
    }
    for path in &plan.protected_dirs {
        mount_tmpfs(path, 0o500, MountFlags::empty()).map_err(hide_fault(path))?;
    }
    for (path, mode) in &plan.tmpfs_dirs {
        ignore_missing(mount_tmpfs(path, *mode, MountFlags::empty())).map_err(hide_fault(path))?;
    }
    for path in &plan.masked_files {
        mask_file(path)?;
    }
    for (path, tree) in sockets {
        show_socket(path, &tree)?;
    }
    for path in &plan.protected_dirs {
        restrict_at(path, MOUNT_ATTR_RDONLY, false)?;
    }
    if let Some((tree, shown_at)) = &placed {
        place_socket(tree, shown_at)?;
    }
    write_resolv_conf(plan, inputs.resolvers, inputs.search_domains)?;
    write_hosts()?;
    plan.owned_copies.iter().try_for_each(OwnedCopy::lay)
}

/// Shows a socket in a directory that was replaced; elsewhere it is in its place.
fn show_socket(path: &Path, tree: &OwnedFd) -> Result<(), InitFault> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), create_directory)?;
    File::create(path).map_err(InitFault::at_step(format!("creating {}", path.display())))?;
    attach_mount_tree(tree, path)
}

/// Shows a socket at `path`, in a read-only file system of its own.
fn place_socket(tree: &OwnedFd, path: &Path) -> Result<(), InitFault> {
    let directory = path.parent().unwrap_or(path);
    create_directory(directory)?;
    mount_tmpfs(directory, 0o500, MountFlags::empty()).map_err(hide_fault(directory))?;
    File::create(path).map_err(InitFault::at_step(format!("creating {}", path.display())))?;
    attach_mount_tree(tree, path)?;
    restrict_at(directory, MOUNT_ATTR_RDONLY, true)
}

/// The device files that programs expect. None gives access to a device.
const DEVICE_NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn mount_dev(nodes: &[(&str, OwnedFd)]) -> Result<(), InitFault> {
    let dev = Path::new("/dev");
    mount_tmpfs(dev, 0o755, MountFlags::NOEXEC).map_err(hide_fault(dev))?;
    for (name, tree) in nodes {
        let path = dev.join(name);
        File::create(&path).map_err(InitFault::at_step(format!("creating {}", path.display())))?;
        attach_mount_tree(tree, &path)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))
            .map_err(InitFault::at_step(format!("linking /dev/{name}")))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name))
            .map_err(InitFault::at_step(format!("creating /dev/{name}")))?;
    }
    mount_tmpfs(&dev.join("shm"), 0o1777, MountFlags::empty())
        .map_err(InitFault::at_step("mounting /dev/shm"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        flags,
        Some(c"newinstance,ptmxmode=0666,mode=0620"),
    )
    .map_err(InitFault::at_step("mounting /dev/pts"))
}

/// The step at which a masked `/proc` shows; [`super::SandboxBuildError`] explains it.
pub(crate) const MOUNT_PROC_STEP: &str = "mounting /proc";

/// Files of `/proc` with information about the whole machine.
const MASKED_PROC_FILES: [&str; 6] = [
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "timer_list",
    "timer_stats",
];

/// Mounts a new `/proc` with the sandbox's processes only, and makes the rest of it read-only: the
/// other files configure the kernel for root of any user namespace.
///
/// The kernel permits a new `/proc` in a nested namespace only where a complete one is mounted, so
/// that nothing hidden shows. With `may_nest` there is one, below the visible one and out of reach.
/// What it lacks is the protection of the kernel's settings, which only the machine's root can
/// change.
fn mount_proc(may_nest: bool, limits: &LimitPlan) -> Result<(), InitFault> {
    let proc = Path::new("/proc");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if may_nest {
        mount("proc", proc.join("sys"), "proc", flags, None)
            .map_err(InitFault::at_step(MOUNT_PROC_STEP))?;
    }
    mount("proc", proc, "proc", flags, None).map_err(InitFault::at_step(MOUNT_PROC_STEP))?;
    limits.apply_to_namespaces()?;
    let reading = || InitFault::at_step::<std::io::Error>("reading /proc");
    for entry in fs::read_dir(proc).map_err(reading())? {
        let entry = entry.map_err(reading())?;
        let name = entry.file_name();
        if name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue; // a process
        }
        let about = entry.metadata().map_err(reading())?;
        let writable = about.is_file() && about.permissions().mode() & 0o222 != 0;
        if !about.is_dir() && !writable {
            continue; // a link into a process, or a file to read
        }
        let path = entry.path();
        let step = format!("protecting {}", path.display());
        mount_bind(&path, &path).map_err(InitFault::at_step(step))?;
        restrict_at(&path, MOUNT_ATTR_RDONLY, false)?;
    }
    for path in MASKED_PROC_FILES.into_iter().map(|name| proc.join(name)) {
        if path.exists() {
            mask_file(&path)?;
        }
    }
    Ok(())
}

/// Mounts a new `/sys` with the sandbox's network instead of the host's. Where the kernel refuses
/// (parts of the host's are masked), the old one stays. Both are read-only.
fn mount_sys(cgroups: Option<OwnedFd>) -> Result<(), InitFault> {
    let sys = Path::new("/sys");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    if mount("sysfs", sys, "sysfs", flags, None).is_ok()
        && let Some(cgroups) = cgroups
    {
        attach_mount_tree(&cgroups, Path::new("/sys/fs/cgroup"))?;
    }
    if sys.exists() {
        restrict_at(sys, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, true)
    } else {
        Ok(())
    }
}

fn write_resolv_conf(
    plan: &MountPlan,
    resolvers: &[IpAddr],
    search_domains: &[String],
) -> Result<(), InitFault> {
    let Some(path) = &plan.resolv_conf else {
        tracing::warn!("/etc/resolv.conf is missing: names are not resolved in the sandbox");
        return Ok(());
    };
    let failed = || format!("writing the resolver into {}", path.display());
    let mut text = String::from("# written by terok-clearance for this sandbox\n");
    text.extend(
        resolvers
            .iter()
            .map(|resolver| format!("nameserver {resolver}\n")),
    );
    if !search_domains.is_empty() {
        text.extend(["search ", &search_domains.join(" "), "\n"]);
    }
    if plan.fresh_dirs.iter().any(|dir| path.starts_with(dir)) {
        path.parent().map_or(Ok(()), create_directory)?;
        return fs::write(path, text).map_err(InitFault::at_step(failed()));
    }
    let file = Path::new("/run/terok-resolv.conf");
    fs::write(file, text).map_err(InitFault::at_step(failed()))?;
    mount_bind(file, path).map_err(InitFault::at_step(failed()))?;
    restrict_at(path, MOUNT_ATTR_RDONLY, false)
}

/// The host's names, `hosts(5)`.
const HOSTS_FILE: &str = "/etc/hosts";

/// Covers the hosts file with its lines about loopback. A name with another address must be asked
/// of the sandbox's name server: a connection to the address would not tell the name.
fn write_hosts() -> Result<(), InitFault> {
    let failed = || format!("writing the names of the sandbox over {HOSTS_FILE}");
    let Ok(host_names) = fs::read(HOSTS_FILE) else {
        return Ok(()); // none to cover
    };
    let host_names = String::from_utf8_lossy(&host_names);
    let is_loopback = |line: &&str| {
        let address = line.split_whitespace().next();
        address.is_some_and(|text| text.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
    };
    let mut text = String::from("# written by terok-clearance for this sandbox\n");
    for line in host_names.lines().filter(is_loopback) {
        text.push_str(line);
        text.push('\n');
    }
    let file = Path::new("/run/terok-hosts");
    fs::write(file, text).map_err(InitFault::at_step(failed()))?;
    mount_bind(file, HOSTS_FILE).map_err(InitFault::at_step(failed()))?;
    restrict_at(Path::new(HOSTS_FILE), MOUNT_ATTR_RDONLY, false)
}

/// Mounts an empty file system at `path`, owned by the operator.
fn mount_tmpfs(path: &Path, mode: u32, flags: MountFlags) -> rustix::io::Result<()> {
    let options = match mode {
        0o1777 => c"mode=1777",
        0o755 => c"mode=755",
        0o500 => c"mode=500,size=4k",
        _ => c"mode=700",
    };
    mount(
        "tmpfs",
        path,
        "tmpfs",
        flags | MountFlags::NOSUID | MountFlags::NODEV,
        Some(options),
    )
}

/// Covers a file with `/dev/null`, read-only.
fn mask_file(path: &Path) -> Result<(), InitFault> {
    ignore_missing(mount_bind("/dev/null", path))
        .map_err(hide_fault(path))
        .and_then(|placed| match placed {
            Some(()) => restrict_at(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, false),
            None => Ok(()),
        })
}

/// Returns `None` if the path is gone, or if the parent process may not access it: the workload of
/// the same user has fewer rights.
fn ignore_missing(done: rustix::io::Result<()>) -> rustix::io::Result<Option<()>> {
    match done {
        Ok(()) => Ok(Some(())),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    }
}

fn hide_fault(path: &Path) -> impl FnOnce(Errno) -> InitFault {
    InitFault::at_step(format!("hiding {}", path.display()))
}

pub(super) fn restrict_at(path: &Path, attributes: u64, recursive: bool) -> Result<(), InitFault> {
    restrict_mount(path, attributes, recursive).map_err(InitFault::at_step(format!(
        "restricting {}",
        path.display()
    )))
}

/// Clones the mount tree at `parent/name`, if it exists.
fn clone_mount_tree(parent: &Path, name: &str) -> Option<OwnedFd> {
    let path: PathBuf = if name.is_empty() {
        parent.to_owned()
    } else {
        parent.join(name)
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).ok()
}

/// Attaches a cloned mount tree at `path`.
fn attach_mount_tree(tree: &OwnedFd, path: &Path) -> Result<(), InitFault> {
    move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(InitFault::at_step(format!("mounting {}", path.display())))
}

fn create_directory(path: &Path) -> Result<(), InitFault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(InitFault::at_step(format!("creating {}", path.display())))
}

// SPDX-License-Identifier: Apache-2.0
//! Gives the sandbox its view of the file system.
//!
//! It runs in the sandbox's first process, in a mount namespace that the workload has no say over:
//! what is mounted here cannot be unmounted, moved or looked under by it, nor by a user namespace
//! that it makes (the kernel locks the mounts that such a one inherits).

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

use super::channel::Fault;
use super::survey::{Layout, set_mode};
use crate::sys::restrict_mount;

/// Builds the whole view.
pub(crate) fn build(layout: &Layout, resolvers: &[IpAddr]) -> Result<(), Fault> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(Fault::at("cutting the mounts off from the host's"))?;

    // Taken up before everything loses its device files and its old place.
    let nodes = NODES
        .into_iter()
        .filter_map(|name| Some((name, copy(Path::new("/dev"), name)?)));
    let nodes: Vec<_> = nodes.collect();
    let cgroups = copy(Path::new("/sys/fs"), "cgroup");
    let no_devices = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
    restrict(Path::new("/"), no_devices, true)?;
    let kept = layout
        .kept
        .iter()
        .filter_map(|path| Some((path, copy(path, "")?)));
    let kept: Vec<_> = kept.collect();

    dev(&nodes)?;
    proc()?;
    sys(cgroups)?;
    for path in &layout.pinned {
        mount_bind_recursive(path, path)
            .map_err(Fault::at(format!("pinning {}", path.display())))?;
    }
    for path in &layout.withheld {
        tmpfs(path, 0o500, MountFlags::RDONLY).map_err(hiding(path))?;
    }
    for (path, mode) in &layout.emptied {
        lenient(tmpfs(path, *mode, MountFlags::empty())).map_err(hiding(path))?;
    }
    for path in &layout.blanked {
        blank(path)?;
    }
    for path in &layout.fresh {
        tmpfs(path, 0o755, MountFlags::empty()).map_err(hiding(path))?;
        let lock = path.join("lock");
        fs::create_dir(&lock).map_err(Fault::at("making a directory for locks"))?;
        set_mode(&lock, 0o1777).map_err(Fault::at("making a directory for locks"))?;
    }
    for (path, tree) in kept {
        directory(path)?;
        put(&tree, path)?;
    }
    resolv_conf(layout, resolvers)
}

/// The device files that a program may expect, none of which leads to a device.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn dev(nodes: &[(&str, OwnedFd)]) -> Result<(), Fault> {
    let dev = Path::new("/dev");
    tmpfs(dev, 0o755, MountFlags::NOEXEC).map_err(hiding(dev))?;
    for (name, tree) in nodes {
        let path = dev.join(name);
        File::create(&path).map_err(Fault::at(format!("making {}", path.display())))?;
        put(tree, &path)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).map_err(Fault::at(format!("linking /dev/{name}")))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).map_err(Fault::at(format!("making /dev/{name}")))?;
    }
    tmpfs(&dev.join("shm"), 0o1777, MountFlags::empty()).map_err(Fault::at("mounting /dev/shm"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        flags,
        Some(c"newinstance,ptmxmode=0666,mode=0620"),
    )
    .map_err(Fault::at("mounting /dev/pts"))
}

/// The step at which a masked `/proc` shows, so that the error can say what that means.
pub(crate) const MOUNTING_PROC: &str = "mounting /proc";

/// Files of `/proc` that tell about all of the machine.
const PROC_BLANKED: [&str; 6] = [
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "timer_list",
    "timer_stats",
];

/// A new `/proc` with the sandbox's processes only, in which nothing but processes can be written:
/// for root the rest of it configures the kernel, whatever the user namespace.
fn proc() -> Result<(), Fault> {
    let proc = Path::new("/proc");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", proc, "proc", flags, None).map_err(Fault::at(MOUNTING_PROC))?;
    let reading = || Fault::at::<std::io::Error>("reading /proc");
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
        mount_bind(&path, &path).map_err(Fault::at(step))?;
        restrict(&path, MOUNT_ATTR_RDONLY, false)?;
    }
    for path in PROC_BLANKED.into_iter().map(|name| proc.join(name)) {
        if path.exists() {
            blank(&path)?;
        }
    }
    Ok(())
}

/// A new `/sys` shows the sandbox's network, not the host's. Where the kernel does not allow one
/// (some of the host's is hidden from us already), the old one stays; read-only they are both.
fn sys(cgroups: Option<OwnedFd>) -> Result<(), Fault> {
    let sys = Path::new("/sys");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    if mount("sysfs", sys, "sysfs", flags, None).is_ok()
        && let Some(cgroups) = cgroups
    {
        put(&cgroups, Path::new("/sys/fs/cgroup"))?;
    }
    if sys.exists() {
        restrict(sys, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, true)
    } else {
        Ok(())
    }
}

fn resolv_conf(layout: &Layout, resolvers: &[IpAddr]) -> Result<(), Fault> {
    let Some(path) = &layout.resolv else {
        tracing::warn!("no /etc/resolv.conf: names are not resolved in the sandbox");
        return Ok(());
    };
    let failed = || format!("writing the resolver into {}", path.display());
    let mut text = String::from("# written by terok-clearance for this sandbox\n");
    text.extend(
        resolvers
            .iter()
            .map(|resolver| format!("nameserver {resolver}\n")),
    );
    if layout.fresh.iter().any(|fresh| path.starts_with(fresh)) {
        path.parent().map_or(Ok(()), directory)?;
        return fs::write(path, text).map_err(Fault::at(failed()));
    }
    let file = Path::new("/run/terok-resolv.conf");
    fs::write(file, text).map_err(Fault::at(failed()))?;
    mount_bind(file, path).map_err(Fault::at(failed()))?;
    restrict(path, MOUNT_ATTR_RDONLY, false)
}

/// Puts an empty file system at `path`, owned by the operator, as all that the sandbox makes.
fn tmpfs(path: &Path, mode: u32, flags: MountFlags) -> rustix::io::Result<()> {
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

/// Puts `/dev/null` in the place of a file, read-only.
fn blank(path: &Path) -> Result<(), Fault> {
    lenient(mount_bind("/dev/null", path))
        .map_err(hiding(path))
        .and_then(|placed| match placed {
            Some(()) => restrict(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, false),
            None => Ok(()),
        })
}

/// Takes it for done when the path is gone (by itself, or with what was hidden above it), or when
/// we may not get there: the workload, of the same user and with fewer rights, may not either.
fn lenient(done: rustix::io::Result<()>) -> rustix::io::Result<Option<()>> {
    match done {
        Ok(()) => Ok(Some(())),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    }
}

fn hiding(path: &Path) -> impl FnOnce(Errno) -> Fault {
    Fault::at(format!("hiding {}", path.display()))
}

fn restrict(path: &Path, attributes: u64, recursive: bool) -> Result<(), Fault> {
    restrict_mount(path, attributes, recursive)
        .map_err(Fault::at(format!("restricting {}", path.display())))
}

/// Takes up a copy of the mount tree at `parent/name`, if that is there.
fn copy(parent: &Path, name: &str) -> Option<OwnedFd> {
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

/// Puts a tree that was taken up into its place.
fn put(tree: &OwnedFd, path: &Path) -> Result<(), Fault> {
    move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(Fault::at(
        format!("putting {} into its place", path.display()),
    ))
}

fn directory(path: &Path) -> Result<(), Fault> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(Fault::at(format!("making {}", path.display())))
}

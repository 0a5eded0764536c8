// SPDX-License-Identifier: Apache-2.0
//! Looks at the machine, before the sandbox is built, for what the workload is not to see.
//!
//! The files stay as they are, so everything behind which somebody listens has to be found: paths
//! are resolved here, on the operator's side, since the sandbox's own view changes while it is
//! built.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::SandboxSpec;
use super::mountinfo::{self, MountinfoEntry};

/// What the sandbox's file system is to look like: absolute paths without symbolic links.
#[derive(Debug, Default)]
pub(crate) struct MountPlan {
    /// Directories that are to be mount points, parents first, so that they cannot be renamed.
    pub(crate) pinned_dirs: BTreeSet<PathBuf>,
    /// Directories to be replaced by empty ones that nobody can write.
    pub(crate) protected_dirs: BTreeSet<PathBuf>,
    /// Directories to be replaced by empty ones, with their mode.
    pub(crate) tmpfs_dirs: Vec<(PathBuf, u32)>,
    /// Everything else that is to be hidden: sockets and other files.
    pub(crate) masked_files: BTreeSet<PathBuf>,
    /// Directories whose contents are to be replaced by a few kept things (`/run`).
    pub(crate) fresh: Vec<PathBuf>,
    /// What is kept of them.
    pub(crate) kept_paths: Vec<PathBuf>,
    /// The file that names the resolvers, and whether it is there already.
    pub(crate) resolv_conf: Option<PathBuf>,
}

/// Where system-wide sockets are; all of it is replaced.
const RUN_DIR: &str = "/run";
/// Kept of it: NixOS keeps its programs, libraries and drivers there, and nothing that listens.
const KEPT_RUN_PATHS: [&str; 4] = [
    "/run/current-system",
    "/run/booted-system",
    "/run/wrappers",
    "/run/opengl-driver",
];
/// Sockets of graphical sessions, in directories that everybody shares.
const SHARED_SOCKET_DIRS: [&str; 4] = [
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
    "/tmp/.XIM-unix",
    "/tmp/.font-unix",
];
/// File systems that are doors to the kernel or to other namespaces, wherever they are mounted.
const KERNEL_FILESYSTEMS: [&str; 17] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Returns what is to be done for `blueprint` on this machine, and makes the directories that it
/// withholds if they are missing, so that the workload cannot make them first.
pub(crate) fn plan_mounts(blueprint: &SandboxSpec) -> io::Result<MountPlan> {
    let mut layout = MountPlan {
        fresh: vec![PathBuf::from(RUN_DIR)],
        ..MountPlan::default()
    };
    let old_run = Path::new("/var/run");
    if old_run.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        layout.fresh.push(old_run.to_owned());
    }
    layout.kept_paths = KEPT_RUN_PATHS
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect();
    layout.resolv_conf = find_resolv_conf();

    for directory in &blueprint.protected_paths {
        create_private_dir(directory);
        let Ok(real) = directory.canonicalize() else {
            continue;
        };
        if layout.is_replaced(&real) {
            continue;
        }
        // The way to it, as it is written and as it is: neither may be renamed.
        for place in [directory.as_path(), &real] {
            let parent = place.parent().and_then(|parent| parent.canonicalize().ok());
            let way = parent.iter().flat_map(|parent| parent.ancestors());
            layout.pinned_dirs.extend(
                way.filter(|path| *path != Path::new("/"))
                    .map(Path::to_owned),
            );
        }
        layout.protected_dirs.insert(real);
    }
    for directory in &blueprint.tmpfs_paths {
        create_private_dir(directory);
    }
    let shared = SHARED_SOCKET_DIRS.into_iter().map(PathBuf::from);
    for path in blueprint
        .tmpfs_paths
        .iter()
        .cloned()
        .chain(blueprint.masked_paths.clone())
        .chain(shared)
    {
        layout.hide(&path);
    }
    for path in parse_bound_sockets(&fs::read_to_string("/proc/net/unix")?) {
        layout.hide(&path);
    }
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    for mount in mounts
        .iter()
        .filter(|mount| KERNEL_FILESYSTEMS.contains(&mount.fs_type.as_str()))
    {
        layout.hide(&mount.mount_point);
    }
    layout.hide_aliases(&mounts);
    Ok(layout)
}

impl MountPlan {
    /// Whether `path` is gone anyway, with the whole tree that it is in.
    fn is_replaced(&self, path: &Path) -> bool {
        let trees = ["/dev", "/proc", "/sys"].into_iter().map(Path::new);
        let own = self
            .fresh
            .iter()
            .chain(&self.protected_dirs)
            .map(PathBuf::as_path);
        trees.chain(own).any(|tree| path.starts_with(tree))
    }

    /// Hides what can be found at a second path, too.
    fn hide_aliases(&mut self, mounts: &[MountinfoEntry]) {
        let aliases = |path: &PathBuf| mountinfo::find_aliases(mounts, path);
        let ours: Vec<_> = self.protected_dirs.iter().flat_map(aliases).collect();
        let ours = ours.iter().filter_map(|alias| alias.canonicalize().ok());
        let ours: Vec<_> = ours
            .filter(|alias| alias.is_dir() && !self.is_replaced(alias))
            .collect();
        self.protected_dirs.extend(ours);

        let emptied = self.tmpfs_dirs.iter().map(|(path, _)| path);
        // A file system that is mounted somewhere below what is replaced is gone with it.
        let below = mounts.iter().map(|mount| &mount.mount_point);
        let below = below.filter(|point| self.fresh.iter().any(|fresh| point.starts_with(fresh)));
        let hidden = emptied
            .chain(&self.masked_files)
            .chain(&self.fresh)
            .chain(below);
        let others: BTreeSet<_> = hidden.flat_map(aliases).collect();
        for alias in others {
            self.hide(&alias);
        }
    }

    fn hide(&mut self, path: &Path) {
        if self.is_replaced(path) {
            return;
        }
        // What cannot be looked at now, the workload cannot reach either: it has fewer rights.
        let Ok(real) = path.canonicalize() else {
            return;
        };
        let Ok(there) = real.metadata() else { return };
        if self.is_replaced(&real) {
            return;
        }
        if there.is_dir() {
            let mode = there.permissions().mode() & 0o7777;
            if self.tmpfs_dirs.iter().all(|(known, _)| *known != real) {
                self.tmpfs_dirs.push((real, mode));
            }
        } else {
            self.masked_files.insert(real);
        }
    }
}

/// Makes a directory, readable by its owner alone. Where that fails it fails for the workload, too.
fn create_private_dir(directory: &Path) {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    if let Err(error) = made {
        tracing::debug!(directory = %directory.display(), %error, "not there and not made");
    }
}

/// The file that `/etc/resolv.conf` stands for. It may be missing behind a dangling link.
fn find_resolv_conf() -> Option<PathBuf> {
    let path = Path::new("/etc/resolv.conf");
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    let target = Path::new("/etc").join(path.read_link().ok()?);
    let mut plain = PathBuf::new();
    for component in target.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    let plain = match plain.strip_prefix("/var") {
        Ok(rest) if rest.starts_with("run") => Path::new("/").join(rest),
        _ => plain,
    };
    plain.starts_with(RUN_DIR).then_some(plain)
}

/// The paths in `/proc/net/unix`: sockets bound in the file system. A name that was given relative
/// to some directory cannot be found by it and is left out.
fn parse_bound_sockets(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        // Num: RefCount Protocol Flags Type St Inode Path; the path may hold blanks
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_start().split_once(' ')?.1;
        }
        rest.starts_with('/').then(|| PathBuf::from(rest))
    };
    table.lines().skip(1).filter_map(path).collect()
}

/// Sets the mode of what stands at `path`.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_bound_in_the_file_system_are_found() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 22211 /tmp/ssh-x/agent.1\n\
            0000000000000000: 00000002 00000000 00010000 0005 01   712 /srv/a b/c\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 20001\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 20002 @/tmp/.X11-unix/X0\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 20003 relative.sock\n";
        let found: Vec<_> = parse_bound_sockets(table).into_iter().collect();
        assert_eq!(
            found,
            [Path::new("/srv/a b/c"), Path::new("/tmp/ssh-x/agent.1")]
        );
    }

    #[test]
    fn a_withheld_directory_is_made_and_the_way_to_it_pinned() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let config = home.join(".config/terok-clearance");
        let blueprint = SandboxSpec {
            protected_paths: vec![config.clone()],
            ..SandboxSpec::default()
        };
        let layout = plan_mounts(&blueprint).unwrap();
        assert_eq!(
            config.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(layout.protected_dirs.contains(&config));
        assert!(
            layout.pinned_dirs.contains(&home)
                && layout.pinned_dirs.contains(&home.join(".config"))
        );
        assert!(
            !layout.pinned_dirs.contains(Path::new("/")) && !layout.pinned_dirs.contains(&config)
        );
    }

    #[test]
    fn both_ways_to_a_linked_directory_are_pinned() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("dotfiles/config")).unwrap();
        std::os::unix::fs::symlink("dotfiles/config", home.join(".config")).unwrap();
        let config = home.join(".config/terok-clearance");
        let blueprint = SandboxSpec {
            protected_paths: vec![config],
            ..SandboxSpec::default()
        };
        let layout = plan_mounts(&blueprint).unwrap();
        assert!(
            layout
                .protected_dirs
                .contains(&home.join("dotfiles/config/terok-clearance"))
        );
        assert!(layout.pinned_dirs.contains(&home.join("dotfiles/config")));
    }

    #[test]
    fn a_socket_and_a_directory_are_hidden_each_in_its_way() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        let socket = here.join("engine.sock");
        let listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let shared = here.join("shared");
        fs::create_dir(&shared).unwrap();
        set_mode(&shared, 0o1777).unwrap();
        let blueprint = SandboxSpec {
            masked_paths: vec![shared.clone()],
            ..SandboxSpec::default()
        };
        let layout = plan_mounts(&blueprint).unwrap();
        assert!(
            layout.masked_files.contains(&socket),
            "found without being named"
        );
        assert!(layout.tmpfs_dirs.contains(&(shared, 0o1777)));
        drop(listening);
    }
}

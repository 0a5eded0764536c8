// SPDX-License-Identifier: Apache-2.0
//! Plans, before a sandbox is built, the paths to hide from the workload.
//!
//! All sockets with a listener on the operator's side must be found: the files themselves stay.
//! Paths are resolved on the operator's side, because the sandbox's own view changes while it is
//! built.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};

use super::SandboxSpec;
use super::mountinfo::{self, MountinfoEntry};
use super::owned_copies::OwnedCopy;

/// The planned file system of a sandbox: absolute paths without symbolic links.
#[derive(Debug, Default)]
pub(crate) struct MountPlan {
    /// Directories to become mount points, parents first, so that they cannot be renamed.
    pub(crate) pinned_dirs: BTreeSet<PathBuf>,
    /// Directories to replace by empty, unwritable ones.
    pub(crate) protected_dirs: BTreeSet<PathBuf>,
    /// Directories to replace by empty ones, with their mode.
    pub(crate) tmpfs_dirs: Vec<(PathBuf, u32)>,
    /// Other paths to hide: sockets and files.
    pub(crate) masked_files: BTreeSet<PathBuf>,
    /// Programs to protect against changes.
    pub(crate) read_only_files: BTreeSet<PathBuf>,
    /// Copies of files, to lay over them.
    pub(super) owned_copies: Vec<OwnedCopy>,
    /// Directories to replace, except for their `kept_paths` (`/run`).
    pub(crate) fresh_dirs: Vec<PathBuf>,
    /// The parts of `fresh_dirs` to keep.
    pub(crate) kept_paths: Vec<PathBuf>,
    /// The file behind `/etc/resolv.conf`; it may be missing.
    pub(crate) resolv_conf: Option<PathBuf>,
}

/// The directory of system-wide sockets, replaced as a whole.
const RUN_DIR: &str = "/run";
/// Kept parts: NixOS has its programs, libraries and drivers there, and no sockets.
const KEPT_RUN_PATHS: [&str; 4] = [
    "/run/current-system",
    "/run/booted-system",
    "/run/wrappers",
    "/run/opengl-driver",
];
/// Sockets of graphical sessions in world-writable directories.
const SHARED_SOCKET_DIRS: [&str; 4] = [
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
    "/tmp/.XIM-unix",
    "/tmp/.font-unix",
];
/// File systems with access to the kernel or to other namespaces, hidden at every mount point.
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

/// Plans the mounts for `spec` on this machine. Creates missing protected directories, so that the
/// workload cannot create them first.
pub(crate) fn plan_mounts(spec: &SandboxSpec) -> io::Result<MountPlan> {
    let mut plan = MountPlan {
        fresh_dirs: vec![PathBuf::from(RUN_DIR)],
        ..MountPlan::default()
    };
    let var_run = Path::new("/var/run");
    if var_run.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        plan.fresh_dirs.push(var_run.to_owned());
    }
    plan.kept_paths = KEPT_RUN_PATHS
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect();
    plan.resolv_conf = find_resolv_conf();

    for directory in &spec.protected_paths {
        create_private_dir(directory);
        let Ok(real) = directory.canonicalize() else {
            continue;
        };
        if plan.is_replaced(&real) {
            continue;
        }
        // Both the written and the resolved path, so that neither can be renamed.
        for path in [directory.as_path(), &real] {
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
            let ancestors = parent.iter().flat_map(|parent| parent.ancestors());
            plan.pinned_dirs.extend(
                ancestors
                    .filter(|path| *path != Path::new("/"))
                    .map(Path::to_owned),
            );
        }
        plan.protected_dirs.insert(real);
    }
    for program in &spec.read_only_programs {
        plan.protect_program(program);
    }
    plan.owned_copies = OwnedCopy::read_all(&spec.owned_files);
    for directory in &spec.tmpfs_paths {
        create_private_dir(directory);
    }
    let shared = SHARED_SOCKET_DIRS.into_iter().map(PathBuf::from);
    for path in spec
        .tmpfs_paths
        .iter()
        .cloned()
        .chain(spec.masked_paths.clone())
        .chain(shared)
    {
        plan.hide(&path);
    }
    for path in parse_bound_sockets(&fs::read_to_string("/proc/net/unix")?) {
        plan.hide(&path);
    }
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    for mount in mounts
        .iter()
        .filter(|mount| KERNEL_FILESYSTEMS.contains(&mount.fs_type.as_str()))
    {
        plan.hide(&mount.mount_point);
    }
    plan.hide_aliases(&mounts);
    Ok(plan)
}

impl MountPlan {
    /// Returns `true` if the tree that contains `path` is replaced as a whole.
    fn is_replaced(&self, path: &Path) -> bool {
        let trees = ["/dev", "/proc", "/sys"].into_iter().map(Path::new);
        let own = self
            .fresh_dirs
            .iter()
            .chain(&self.protected_dirs)
            .map(PathBuf::as_path);
        trees.chain(own).any(|tree| path.starts_with(tree))
    }

    /// Protects a program against changes, and the directories of its path against being renamed,
    /// where the operator could change them.
    fn protect_program(&mut self, program: &Path) {
        let Ok(real) = program.canonicalize() else {
            return;
        };
        if self.is_replaced(&real) {
            return;
        }
        let is_writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
        let mut is_protected = is_writable(&real);
        for directory in real.ancestors().skip(1) {
            if directory.parent().is_some_and(is_writable) {
                self.pinned_dirs.insert(directory.to_owned());
            }
            is_protected |= is_writable(directory);
        }
        if is_protected {
            self.read_only_files.insert(real);
        }
    }

    /// Hides every path at which a second mount shows hidden files.
    fn hide_aliases(&mut self, mounts: &[MountinfoEntry]) {
        let aliases = |path: &PathBuf| mountinfo::find_aliases(mounts, path);
        let ours: Vec<_> = self.protected_dirs.iter().flat_map(aliases).collect();
        let ours = ours.iter().filter_map(|alias| alias.canonicalize().ok());
        let ours: Vec<_> = ours
            .filter(|alias| alias.is_dir() && !self.is_replaced(alias))
            .collect();
        self.protected_dirs.extend(ours);

        let emptied = self.tmpfs_dirs.iter().map(|(path, _)| path);
        // A file system mounted below a replaced directory disappears with it.
        let below = mounts.iter().map(|mount| &mount.mount_point);
        let below = below.filter(|point| self.fresh_dirs.iter().any(|dir| point.starts_with(dir)));
        let hidden = emptied
            .chain(&self.masked_files)
            .chain(&self.fresh_dirs)
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
        // Paths out of reach here are out of the workload's reach too: it has fewer rights.
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

/// Creates a directory for its owner alone. A failure here implies a failure for the workload.
fn create_private_dir(directory: &Path) {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    if let Err(error) = made {
        let directory = directory.display();
        tracing::debug!(%directory, %error, "a protected directory could not be created");
    }
}

/// Returns the target of `/etc/resolv.conf`, even of a dangling link.
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

/// Returns the absolute socket paths of `/proc/net/unix`. Relative names cannot be resolved and are
/// left out.
fn parse_bound_sockets(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        // Num: RefCount Protocol Flags Type St Inode Path; the path may contain blanks
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_start().split_once(' ')?.1;
        }
        rest.starts_with('/').then(|| PathBuf::from(rest))
    };
    table.lines().skip(1).filter_map(path).collect()
}

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
    fn a_protected_directory_is_created_and_its_parents_pinned() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let config = home.join(".config/terok-clearance");
        let spec = SandboxSpec {
            protected_paths: vec![config.clone()],
            ..SandboxSpec::default()
        };
        let plan = plan_mounts(&spec).unwrap();
        assert_eq!(
            config.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(plan.protected_dirs.contains(&config));
        assert!(
            plan.pinned_dirs.contains(&home) && plan.pinned_dirs.contains(&home.join(".config"))
        );
        assert!(!plan.pinned_dirs.contains(Path::new("/")) && !plan.pinned_dirs.contains(&config));
    }

    #[test]
    fn both_paths_to_a_linked_directory_are_pinned() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("dotfiles/config")).unwrap();
        std::os::unix::fs::symlink("dotfiles/config", home.join(".config")).unwrap();
        let config = home.join(".config/terok-clearance");
        let spec = SandboxSpec {
            protected_paths: vec![config],
            ..SandboxSpec::default()
        };
        let plan = plan_mounts(&spec).unwrap();
        assert!(
            plan.protected_dirs
                .contains(&home.join("dotfiles/config/terok-clearance"))
        );
        assert!(plan.pinned_dirs.contains(&home.join("dotfiles/config")));
    }

    #[test]
    fn sockets_are_masked_and_directories_emptied() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        let socket = here.join("engine.sock");
        let listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let shared = here.join("shared");
        fs::create_dir(&shared).unwrap();
        set_mode(&shared, 0o1777).unwrap();
        let spec = SandboxSpec {
            masked_paths: vec![shared.clone()],
            ..SandboxSpec::default()
        };
        let plan = plan_mounts(&spec).unwrap();
        assert!(
            plan.masked_files.contains(&socket),
            "found without being listed"
        );
        assert!(plan.tmpfs_dirs.contains(&(shared, 0o1777)));
        drop(listening);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Plans, before a sandbox is built, the paths to hide from the workload.
//!
//! Sockets need not be found: those of the operator's side are out of the workload's reach at any
//! path, see [`super::socket_broker`]. Paths are resolved on the operator's side, because the
//! sandbox's own view changes while it is built.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, CWD, FileType, Mode, OFlags, access, fstat, openat};
use rustix::io::Errno;

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
    /// Other paths to hide.
    pub(crate) masked_files: BTreeSet<PathBuf>,
    /// Programs to protect against changes.
    pub(crate) read_only_files: BTreeSet<PathBuf>,
    /// Copies of files, to lay over them.
    pub(super) owned_copies: Vec<OwnedCopy>,
    /// Directories to replace, except for their `kept_paths` (`/run`).
    pub(crate) fresh_dirs: Vec<PathBuf>,
    /// The parts of `fresh_dirs` to keep.
    pub(crate) kept_paths: Vec<PathBuf>,
    /// The sockets to keep.
    pub(crate) shared_sockets: Vec<SharedSocket>,
    /// The socket at another path inside, and that path.
    pub(crate) placed_socket: Option<(SharedSocket, PathBuf)>,
    /// The file behind `/etc/resolv.conf`; it may be missing.
    pub(crate) resolv_conf: Option<PathBuf>,
}

/// A socket of the operator's side that the workload may connect to.
#[derive(Debug)]
pub(crate) struct SharedSocket {
    pub(crate) path: PathBuf,
    /// The open file: a later one at the same path is another socket.
    pub(crate) file: OwnedFd,
}

/// The directory of the state of running services, replaced as a whole.
const RUN_DIR: &str = "/run";
/// Kept parts: NixOS has its programs, libraries and drivers there.
const KEPT_RUN_PATHS: [&str; 4] = [
    "/run/current-system",
    "/run/booted-system",
    "/run/wrappers",
    "/run/opengl-driver",
];
/// Sockets of graphical sessions in world-writable directories, emptied so that a display server
/// can start inside.
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
pub(crate) fn plan_mounts(
    spec: &SandboxSpec,
    shared_sockets: Vec<SharedSocket>,
) -> io::Result<MountPlan> {
    let mut plan = MountPlan {
        shared_sockets,
        fresh_dirs: vec![PathBuf::from(RUN_DIR)],
        ..MountPlan::default()
    };
    let var_run = Path::new("/var/run");
    if var_run.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        plan.fresh_dirs.push(var_run.to_owned());
    }
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    let real = |path: &PathBuf| path.canonicalize().ok();
    let kept_working_dir = real(&spec.workload.directory).and_then(|directory| {
        let protected: Vec<_> = spec.protected_paths.iter().filter_map(real).collect();
        find_kept_working_dir(&directory, &protected, &mounts)
    });
    plan.kept_paths = KEPT_RUN_PATHS
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .chain(kept_working_dir)
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
    for path in spec.tmpfs_paths.iter().cloned().chain(shared) {
        // In a directory that everybody may write to, a link may lead anywhere: home, say.
        if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            plan.hide(&path);
        }
    }
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
    /// Returns the open files of the sockets of the operator's side that the workload may connect
    /// to.
    pub(super) fn socket_files(&self) -> impl Iterator<Item = &OwnedFd> {
        let placed = self.placed_socket.iter().map(|(socket, _)| socket);
        self.shared_sockets
            .iter()
            .chain(placed)
            .map(|socket| &socket.file)
    }

    /// Returns `true` if the tree that contains `path` is replaced as a whole.
    fn is_replaced(&self, path: &Path) -> bool {
        if self.kept_paths.iter().any(|kept| path.starts_with(kept)) {
            return false;
        }
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

/// Returns the part of `/run` to keep for a working directory there: its mount, such as a disk
/// below `/run/media`, else the directory alone. `None` for a working directory elsewhere, for one
/// whose sight would show the state of running services, and within protected directories.
fn find_kept_working_dir(
    directory: &Path,
    protected: &[PathBuf],
    mounts: &[MountinfoEntry],
) -> Option<PathBuf> {
    let names: Vec<_> = directory.strip_prefix(RUN_DIR).ok()?.iter().collect();
    let is_of_all = match names.as_slice() {
        [] => true,
        [first, rest @ ..] => *first == "user" && rest.len() < 2,
    };
    let is_near = |path: &PathBuf| directory.starts_with(path) || path.starts_with(directory);
    if is_of_all || protected.iter().any(is_near) {
        return None;
    }
    let holds = mounts
        .iter()
        .filter(|mount| directory.starts_with(&mount.mount_point));
    let holder = holds.max_by_key(|mount| mount.mount_point.components().count())?;
    let is_disk = holder.fs_type != "tmpfs" && holder.mount_point.starts_with(RUN_DIR);
    Some(if is_disk && holder.mount_point != Path::new(RUN_DIR) {
        holder.mount_point.clone()
    } else {
        directory.to_owned()
    })
}

/// Opens a socket to share; `ENOTSOCK` for another file.
pub(crate) fn open_shared_socket(path: &Path) -> io::Result<SharedSocket> {
    let path = path.canonicalize()?;
    let file = openat(
        CWD,
        &path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(Errno::NOTSOCK.into());
    }
    Ok(SharedSocket { path, file })
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protected_directory_is_created_and_its_parents_pinned() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let config = home.join(".config/terok-clearance");
        let spec = SandboxSpec {
            protected_paths: vec![config.clone()],
            ..SandboxSpec::default()
        };
        let plan = plan_mounts(&spec, Vec::new()).unwrap();
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
        let plan = plan_mounts(&spec, Vec::new()).unwrap();
        assert!(
            plan.protected_dirs
                .contains(&home.join("dotfiles/config/terok-clearance"))
        );
        assert!(plan.pinned_dirs.contains(&home.join("dotfiles/config")));
    }

    #[test]
    fn directories_are_emptied_but_not_through_a_link() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        let [shared, home, planted] = ["shared", "home", "planted"].map(|name| here.join(name));
        fs::create_dir(&shared).unwrap();
        set_mode(&shared, 0o1777).unwrap();
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink(&home, &planted).unwrap();
        let spec = SandboxSpec {
            tmpfs_paths: vec![shared.clone(), planted],
            ..SandboxSpec::default()
        };
        let plan = plan_mounts(&spec, Vec::new()).unwrap();
        assert!(plan.tmpfs_dirs.contains(&(shared, 0o1777)));
        let emptied = plan.tmpfs_dirs.iter().map(|(path, _)| path);
        assert!(!emptied.into_iter().any(|path| *path == home));
        assert!(!plan.masked_files.contains(&home));
    }

    #[test]
    fn only_a_socket_can_be_shared() {
        let here = tempfile::tempdir().unwrap();
        let [socket, file] = ["socket", "file"].map(|name| here.path().join(name));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(
            open_shared_socket(&socket).unwrap().path,
            socket.canonicalize().unwrap()
        );
        let errno = |path: &Path| open_shared_socket(path).unwrap_err().raw_os_error();
        assert_eq!(errno(&file), Some(libc::ENOTSOCK));
        assert_eq!(errno(here.path()), Some(libc::ENOTSOCK));
        assert_eq!(errno(&here.path().join("missing")), Some(libc::ENOENT));
    }

    #[test]
    fn the_part_of_run_with_the_working_directory_is_kept() {
        let mounts = mountinfo::parse(
            "20 1 0:20 / / rw - ext4 d rw\n\
             21 20 0:21 / /run rw - tmpfs t rw\n\
             22 21 8:1 / /run/media/op/disk rw - ext4 e rw\n",
        );
        let protected = [PathBuf::from("/run/user/1/own"), PathBuf::from("/run/own")];
        for (directory, expected) in [
            ("/", None),
            ("/usr", None),
            ("/run", None),
            ("/run/user", None),
            ("/run/user/1", None),
            ("/run/own", None),
            ("/run/own/below", None),
            ("/run/user/1/work", Some("/run/user/1/work")),
            ("/run/media", Some("/run/media")),
            ("/run/media/op", Some("/run/media/op")),
            ("/run/media/op/disk", Some("/run/media/op/disk")),
            ("/run/media/op/disk/a/b", Some("/run/media/op/disk")),
        ] {
            assert_eq!(
                find_kept_working_dir(Path::new(directory), &protected, &mounts),
                expected.map(PathBuf::from),
                "{directory}"
            );
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Parses `/proc/self/mountinfo` to find further paths to the same files.
//!
//! Hiding a directory at one path is not enough if its file system is mounted twice: ostree's
//! `/sysroot`, a chroot with a bind mount of `/run`, a btrfs subvolume beside its parent.

use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountinfoEntry {
    /// The file system, as `major:minor`.
    device: String,
    /// The directory of the file system shown at the mount point.
    root: PathBuf,
    pub(super) mount_point: PathBuf,
    pub(super) fs_type: String,
}

impl MountinfoEntry {
    /// Returns the directory of the file system that is shown at the mount point.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// Returns the mounts of `mountinfo`, in its order.
pub(super) fn parse(mountinfo: &str) -> Vec<MountinfoEntry> {
    mountinfo.lines().filter_map(parse_line).collect()
}

/// `ID PARENT DEVICE ROOT POINT OPTIONS [OPTIONAL…] - TYPE SOURCE OPTIONS`, see proc(5).
fn parse_line(line: &str) -> Option<MountinfoEntry> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    Some(MountinfoEntry {
        device: fields.next()?.to_owned(),
        root: unescape(fields.next()?),
        mount_point: unescape(fields.next()?),
        fs_type: after.split(' ').next()?.to_owned(),
    })
}

/// Decodes the octal escapes of blank, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let plain = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    });
    PathBuf::from(plain)
}

/// Returns the other paths to `path` (absolute, without links) or to files below it, including
/// paths covered by later mounts.
pub(super) fn find_aliases(mounts: &[MountinfoEntry], path: &Path) -> Vec<PathBuf> {
    let holds = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point));
    // The last of the longest prefixes: later mounts are on top.
    let Some(holder) = holds.max_by_key(|mount| mount.mount_point.components().count()) else {
        return Vec::new();
    };
    let Ok(below) = path.strip_prefix(&holder.mount_point) else {
        return Vec::new();
    };
    let inner = join_nonempty(&holder.root, below);
    let same = mounts.iter().filter(|mount| mount.device == holder.device);
    let found = same.filter_map(|mount| match inner.strip_prefix(&mount.root) {
        Ok(below) => Some(join_nonempty(&mount.mount_point, below)),
        Err(_) => mount
            .root
            .starts_with(&inner)
            .then(|| mount.mount_point.clone()),
    });
    found.filter(|alias| alias != path).collect()
}

/// As `Path::join`, but without a trailing slash for an empty `below`.
fn join_nonempty(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        path.to_owned()
    } else {
        path.join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        23 22 8:1 /home /srv/my\\040home rw - ext4 /dev/sda1 rw\n\
        24 22 0:21 / /run rw - tmpfs tmpfs rw\n\
        25 24 0:22 / /run/user/1000 rw - tmpfs tmpfs rw\n\
        26 22 0:21 / /srv/chroot/run rw - tmpfs tmpfs rw\n\
        27 22 0:22 /terok /srv/terok rw - tmpfs tmpfs rw\n\
        28 22 0:23 / /srv/chroot/proc rw master:1 shared:2 - proc proc rw\n";

    #[test]
    fn every_mount_is_read() {
        let mounts = parse(MACHINE);
        assert_eq!(mounts.len(), 7);
        assert_eq!(mounts[1].mount_point, Path::new("/srv/my home"));
        assert_eq!(
            (mounts[6].fs_type.as_str(), &*mounts[6].mount_point),
            ("proc", Path::new("/srv/chroot/proc"))
        );
        assert_eq!(parse("nonsense\n\n1 2 3\n"), []);
    }

    #[test]
    fn a_directory_mounted_twice_has_an_alias() {
        let check = |path: &str, expected: &[&str]| {
            let found = find_aliases(&parse(MACHINE), Path::new(path));
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected, "{path}");
        };
        check("/home/op/.config", &["/srv/my home/op/.config"]);
        check("/srv/my home/op", &["/home/op"]);
        check("/etc", &[]);
        check("/run", &["/srv/chroot/run"]);
        check("/run/x.sock", &["/srv/chroot/run/x.sock"]);
        // Only a part is mounted elsewhere.
        check("/run/user/1000", &["/srv/terok"]);
        check("/run/user/1000/terok/clearance", &["/srv/terok/clearance"]);
        check("/run/user/1000/bus", &[]);
    }
}

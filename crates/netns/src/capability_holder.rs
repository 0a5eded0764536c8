// SPDX-License-Identifier: Apache-2.0
//! Finds the processes that can go around the firewall of their own network namespace.
//!
//! `CAP_NET_RAW` sends frames past nftables (`AF_PACKET`), and `CAP_NET_ADMIN` changes the rules.
//! Either counts only over the user namespace that owns the network namespace: a process in a
//! descendant of it is root over its own namespaces and has neither over this one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;

use crate::{ProcessHandle, sys};

/// Maximum bytes read of a file below `/proc`.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Maximum depth of user namespaces, one more than the kernel allows.
const MAX_USERNS_DEPTH: usize = 34;

/// A process that can go around the firewall of its network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityHolder {
    /// The process id, as the caller sees it.
    pub pid: u32,
    /// The name of the process, chosen by the process.
    pub name: String,
    /// The capability.
    pub capability: NetworkCapability,
    /// How the process has the capability.
    pub access: CapabilityAccess,
}

/// A capability that goes around a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCapability {
    /// `CAP_NET_ADMIN`.
    Admin,
    /// `CAP_NET_RAW`.
    Raw,
}

impl fmt::Display for NetworkCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "CAP_NET_ADMIN",
            Self::Raw => "CAP_NET_RAW",
        })
    }
}

/// How a process has a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityAccess {
    /// In its effective or permitted set, or as the owner of the user namespace.
    Held,
    /// By executing a program.
    Obtainable,
}

/// Returns the first process in the network namespace of `target` with `CAP_NET_RAW` or
/// `CAP_NET_ADMIN` over it, in the order of process ids; `None` if there is none. The caller's own
/// process does not count.
///
/// Of a container that is not started, only what it will have counts ([`is_runtime_init`]): check
/// again once its program runs.
///
/// A process that the caller may not inspect is skipped. Such a process belongs to another user,
/// not to a sandbox of the caller: the owner of a user namespace may inspect the processes in it
/// and in its descendants.
pub fn find_capability_holder(target: &ProcessHandle) -> io::Result<Option<CapabilityHolder>> {
    let target_ns = Path::new("/proc")
        .join(target.pid().to_string())
        .join("ns/net");
    let netns = OwnedFd::from(File::open(&target_ns)?);
    if !target.is_alive() {
        return Err(Errno::SRCH.into()); // the number may have been reused
    }
    let netns_id = NamespaceId::of(&File::from(netns.try_clone()?).metadata()?);
    let owner = sys::owning_user_namespace(netns.as_fd())?;
    let scan = CapabilityScan {
        netns: netns_id,
        owner_uid: sys::user_namespace_owner(owner.as_fd())?,
        userns: NamespaceId::of(&File::from(owner).metadata()?),
    };
    let own_pid = std::process::id();
    for pid in numbered_entries(Path::new("/proc"))? {
        if pid == own_pid {
            continue;
        }
        if let Some(found) = scan.check_process(pid)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The name of runc's process in a container that was created and not started.
const RUNC_INIT_NAME: &str = "runc:[2:INIT]";
/// Where runc is installed. Its process in a container executes this file, or a copy in memory.
const RUNC_PROGRAMS: [&str; 4] = [
    "/usr/sbin/runc",
    "/usr/bin/runc",
    "/usr/local/sbin/runc",
    "/usr/local/bin/runc",
];

/// Returns `true` if the process is runc, in a container that is not started (`podman init`).
///
/// Its first thread has the capabilities of the container already; the others keep those of runc
/// until the container's program takes their place. No file of the container is executed before.
pub fn is_runtime_init(process: &ProcessHandle) -> bool {
    is_runc_init(&Path::new("/proc").join(process.pid().to_string()))
}

fn is_runc_init(process: &Path) -> bool {
    let is_named =
        read_limited(&process.join("comm")).is_ok_and(|name| name.trim_end() == RUNC_INIT_NAME);
    // The name is chosen by the process; the contents of its program are not.
    is_named
        && RUNC_PROGRAMS
            .iter()
            .any(|program| is_same_file(&process.join("exe"), Path::new(program)).unwrap_or(false))
}

fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    if fs::metadata(one)?.len() != fs::metadata(other)?.len() {
        return Ok(false);
    }
    Ok(fs::read(one)? == fs::read(other)?)
}

/// The identity of a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
struct NamespaceId(u64, u64);

impl NamespaceId {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// What processes are compared with.
struct CapabilityScan {
    netns: NamespaceId,
    /// The user namespace that owns the network namespace.
    userns: NamespaceId,
    /// The owner of that user namespace: has every capability over it from the parent namespace.
    owner_uid: u32,
}

impl CapabilityScan {
    /// Checks each thread: namespaces and capabilities belong to threads, and a process lives on
    /// when its first thread has ended.
    fn check_process(&self, pid: u32) -> io::Result<Option<CapabilityHolder>> {
        let process = Path::new("/proc").join(pid.to_string());
        let Some(threads) = skip_absent(numbered_entries(&process.join("task")))? else {
            return Ok(None);
        };
        let first_only = is_runc_init(&process);
        for thread in threads {
            if first_only && thread != pid {
                continue;
            }
            let thread = process.join("task").join(thread.to_string());
            if let Some((capability, access)) = self.check_thread(&thread)? {
                let name = skip_absent(read_limited(&process.join("comm")))?.unwrap_or_default();
                return Ok(Some(CapabilityHolder {
                    pid,
                    name: name.trim_end().to_owned(),
                    capability,
                    access,
                }));
            }
        }
        Ok(None)
    }

    fn check_thread(
        &self,
        thread: &Path,
    ) -> io::Result<Option<(NetworkCapability, CapabilityAccess)>> {
        let netns = skip_absent(fs::metadata(thread.join("ns/net")))?;
        if netns.is_none_or(|netns| NamespaceId::of(&netns) != self.netns) {
            return Ok(None);
        }
        let Some(userns) = skip_absent(File::open(thread.join("ns/user")))? else {
            return Ok(None);
        };
        let place = self.locate(userns)?;
        if place == UsernsPlace::Descendant {
            return Ok(None);
        }
        let Some(status) = skip_absent(read_limited(&thread.join("status")))? else {
            return Ok(None);
        };
        let credentials = ThreadCredentials::parse(&status).ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidData,
                format!("{} is not readable", thread.join("status").display()),
            )
        })?;
        if place == UsernsPlace::Outside && credentials.effective_uid == self.owner_uid {
            return Ok(Some((NetworkCapability::Admin, CapabilityAccess::Held)));
        }
        Ok(credentials.network_capability())
    }

    fn locate(&self, userns: File) -> io::Result<UsernsPlace> {
        if NamespaceId::of(&userns.metadata()?) == self.userns {
            return Ok(UsernsPlace::Owning);
        }
        let mut userns = OwnedFd::from(userns);
        for _ in 0..MAX_USERNS_DEPTH {
            userns = match sys::parent_user_namespace(userns.as_fd()) {
                Ok(parent) => parent,
                // The parent is none of the caller's own namespaces.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
                Err(error) => return Err(error),
            };
            if NamespaceId::of(&File::from(userns.try_clone()?).metadata()?) == self.userns {
                return Ok(UsernsPlace::Descendant);
            }
        }
        Ok(UsernsPlace::Outside)
    }
}

/// The place of a user namespace, seen from the one that owns the network namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UsernsPlace {
    Owning,
    Descendant,
    /// An ancestor, or one whose place is unknown: capabilities count.
    Outside,
}

/// The capability sets of a thread, as bit masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ThreadCredentials {
    effective_uid: u32,
    held: u64,
    obtainable: u64,
    no_new_privileges: bool,
}

impl ThreadCredentials {
    /// Parses `/proc/PID/status`. The kernel escapes newlines of the name, so that no process can
    /// add lines.
    fn parse(status: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .collect();
        let mask = |name| u64::from_str_radix(fields.get(name)?.trim(), 16).ok();
        let uids = fields.get("Uid")?;
        Some(Self {
            effective_uid: uids.split_ascii_whitespace().nth(1)?.parse().ok()?,
            held: mask("CapEff")? | mask("CapPrm")?,
            obtainable: mask("CapBnd")? | mask("CapInh")?,
            no_new_privileges: fields
                .get("NoNewPrivs")
                .is_some_and(|set| set.trim() == "1"),
        })
    }

    /// Returns a capability that the thread has or can obtain.
    ///
    /// A permitted capability is effective after one system call. Without either, executing a
    /// program obtains what the bounding set contains: as root any program, as another user a
    /// program that is setuid root (`sudo`) or has file capabilities (`ping`), and with the
    /// inheritable set one whose file has the same. The files come from the container's image,
    /// which is as untrusted as the program, so the user id makes no difference. Only
    /// `no_new_privs`, which is never unset, keeps an execution from adding capabilities.
    fn network_capability(self) -> Option<(NetworkCapability, CapabilityAccess)> {
        const NET_ADMIN: u64 = 1 << 12;
        const NET_RAW: u64 = 1 << 13;
        let find = |set: u64| {
            let candidates = [
                (NET_RAW, NetworkCapability::Raw),
                (NET_ADMIN, NetworkCapability::Admin),
            ];
            let mut found = candidates.into_iter().filter(|(bit, _)| set & bit != 0);
            found.next().map(|(_, capability)| capability)
        };
        if let Some(capability) = find(self.held) {
            return Some((capability, CapabilityAccess::Held));
        }
        let capability = find(self.obtainable).filter(|_| !self.no_new_privileges)?;
        Some((capability, CapabilityAccess::Obtainable))
    }
}

/// Returns the names in a directory that are numbers, in their order.
fn numbered_entries(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns `None` for a process that has ended or that the caller may not inspect.
fn skip_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CapabilityAccess::{Held, Obtainable};
    use NetworkCapability::{Admin, Raw};

    fn status(sets: [&str; 4], no_new_privileges: &str) -> String {
        let [inheritable, permitted, effective, bounding] = sets;
        format!(
            "Name:\tsh\\nCapEff: 0\nUid:\t0\t1000\t0\t0\nCapInh:\t{inheritable}\n\
             CapPrm:\t{permitted}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\n\
             CapAmb:\t0000000000000000\n{no_new_privileges}Seccomp:\t2\n"
        )
    }

    #[test]
    fn a_capability_counts_if_it_is_held_or_can_be_obtained() {
        const NONE: &str = "0000000000000000";
        const RAW: &str = "0000000000002000";
        const ADMIN: &str = "0000000000001000";
        const PODMAN: &str = "00000000800405fb";
        const DOCKER: &str = "00000000a80425fb";
        const ALL: &str = "000001ffffffffff";
        const SET: &str = "NoNewPrivs:\t1\n";
        const UNSET: &str = "NoNewPrivs:\t0\n";
        let check = |sets, no_new_privileges, expected| {
            let text = status(sets, no_new_privileges);
            let credentials = ThreadCredentials::parse(&text).unwrap();
            assert_eq!(credentials.network_capability(), expected, "{sets:?}");
            assert_eq!(credentials.effective_uid, 1000);
        };
        // Root in the default containers of podman and docker, and a user in the latter.
        check([NONE, PODMAN, PODMAN, PODMAN], UNSET, None);
        check([NONE, DOCKER, DOCKER, DOCKER], UNSET, Some((Raw, Held)));
        check([NONE, NONE, NONE, DOCKER], UNSET, Some((Raw, Obtainable)));
        check([NONE, NONE, NONE, DOCKER], "", Some((Raw, Obtainable)));
        check([NONE, NONE, NONE, DOCKER], SET, None);
        check([NONE, NONE, NONE, ALL], SET, None);
        check([NONE, NONE, NONE, NONE], UNSET, None);
        check([ADMIN, NONE, NONE, NONE], UNSET, Some((Admin, Obtainable)));
        check([ADMIN, NONE, NONE, NONE], SET, None);
        check([NONE, ADMIN, NONE, NONE], SET, Some((Admin, Held)));
        check([NONE, NONE, RAW, NONE], SET, Some((Raw, Held)));
        check([NONE, ALL, ALL, ALL], SET, Some((Raw, Held)));
    }

    #[test]
    fn an_incomplete_status_is_refused() {
        let text = status(["0", "0", "0", "0"], "");
        assert!(ThreadCredentials::parse(&text).is_some());
        for missing in ["Uid", "CapInh", "CapPrm", "CapEff:\t", "CapBnd"] {
            let text = text.replace(missing, "Other");
            assert_eq!(ThreadCredentials::parse(&text), None, "without {missing}");
        }
        assert_eq!(ThreadCredentials::parse(""), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Decides by a peer's namespaces whether it is one of the operator's own processes.
//!
//! A process of a sandbox has the operator's user id, as seen from outside, and reaches every
//! socket whose path it sees. What it cannot change is where it lives: its user namespace, its
//! process id namespace and its root directory. Accepted is a peer in the same place as the
//! listener's process:
//!
//! - **User namespace**: the listener's own, or an ancestor of it. Device and inode of
//!   `/proc/PID/ns/user` identify it. The kernel hides those of an ancestor; its map of user ids is
//!   visible, and is larger than ours: a descendant's never is.
//! - **Process ids**: those of `/proc` (`NSpid` in `/proc/PID/status` has one number). A container
//!   of root has the user namespace of root.
//! - **Root directory**: the listener's own, for a container that shares process ids.
//!
//! The readers that podman's hooks start live in podman's user namespace, a child of the
//! operator's. Their listener accepts such a one as well ([`PeerScope::HostAndEngines`]): it is
//! that namespace's root, with `CAP_SYS_ADMIN` there, and neither `no_new_privs` nor a system call
//! filter binds it more than the listener. A sandbox's processes have at least one of these.
//!
//! A peer that has ended, or cannot be read, is refused: nothing tells where it lived. A program
//! that writes one line and ends at once should wait until the listener closes the connection, or
//! has read the line.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::PeerCredentials;

/// The places whose processes a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerScope {
    /// Where the listener's process lives.
    Host,
    /// Also the user namespaces of container engines: for the readers that their hooks start.
    HostAndEngines,
}

/// The reason for refusing a peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerRefusal {
    /// The peer is another user's process.
    #[error("it is of another user (uid {0})")]
    OtherUser(u32),
    /// The peer has ended, or its credentials cannot be read.
    #[error("it has ended")]
    Ended,
    /// The peer has other process ids.
    #[error("its process id is not of the process id namespace of /proc")]
    OtherPids,
    /// The peer lives in another user namespace.
    #[error("it lives in another user namespace, as in a sandbox or container")]
    OtherUserNamespace,
    /// The peer has another root directory.
    #[error("it has another root directory, as in a container")]
    OtherRoot,
    /// The peer's namespaces are unknown.
    #[error("its namespaces cannot be read")]
    Unreadable(#[source] io::Error),
}

/// Device and inode of a file.
type FileId = (u64, u64);

/// Where the calling process lives.
#[derive(Debug)]
pub(super) struct OwnNamespaces {
    user: FileId,
    root: FileId,
    user_ids: u64,
    status: PeerStatus,
}

impl OwnNamespaces {
    /// Reads them. Fails if `/proc` is missing or is that of another process id namespace.
    pub(super) fn read() -> io::Result<Self> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let shown = fs::read_link("/proc/self")?;
        let status = PeerStatus::read("self")?;
        if shown.as_os_str() != own.to_string().as_str() || status.pids != 1 {
            let text = "/proc shows the processes of another process id namespace";
            return Err(io::Error::new(ErrorKind::Unsupported, text));
        }
        Ok(Self {
            user: file_id("self", "ns/user")?,
            root: file_id("self", "root")?,
            user_ids: longest_id_range(&read_uid_map("self")?),
            status,
        })
    }

    /// Checks the process at the other end of `stream`, whose process id is `pid`.
    pub(super) fn check_peer(
        &self,
        stream: impl AsFd,
        pid: i32,
        scope: PeerScope,
    ) -> Result<(), PeerRefusal> {
        let process = open_peer(stream, pid)?;
        let judged = self.check_process(pid, scope);
        // The files above were those of the peer if it has not ended since: its pid was not reused.
        if has_ended(&process) {
            return Err(PeerRefusal::Ended);
        }
        judged
    }

    fn check_process(&self, pid: i32, scope: PeerScope) -> Result<(), PeerRefusal> {
        let pid = pid.to_string();
        let status = PeerStatus::read(&pid).map_err(PeerRefusal::Unreadable)?;
        if status.pids != 1 {
            return Err(PeerRefusal::OtherPids);
        }
        let user = match file_id(&pid, "ns/user") {
            Ok(user) => user,
            Err(error) => {
                let map = read_uid_map(&pid).map_err(PeerRefusal::Unreadable)?;
                return if longest_id_range(&map) > self.user_ids {
                    Ok(()) // an ancestor
                } else {
                    Err(PeerRefusal::Unreadable(error))
                };
            }
        };
        if user != self.user {
            let map = read_uid_map(&pid).map_err(PeerRefusal::Unreadable)?;
            let is_engine = maps_root(&map) && status.is_of_engine(&self.status);
            if scope != PeerScope::HostAndEngines || !is_engine {
                return Err(PeerRefusal::OtherUserNamespace);
            }
        }
        if file_id(&pid, "root").map_err(PeerRefusal::Unreadable)? != self.root {
            return Err(PeerRefusal::OtherRoot);
        }
        Ok(())
    }
}

/// Accepts a process of the caller's user as the client of `stream`, also the hook of a container
/// engine, and returns its credentials.
///
/// For a connection that another program has accepted, such as systemd. The rules are those of
/// [`SameUserListener::accept_engine_hooks`](super::SameUserListener::accept_engine_hooks): no
/// process of a sandbox or container is accepted.
pub fn check_hook_peer(stream: &UnixStream) -> Result<PeerCredentials, PeerRefusal> {
    let peer = PeerCredentials::from_stream(stream).map_err(|_gone| PeerRefusal::Ended)?;
    if !peer.is_same_user() {
        return Err(PeerRefusal::OtherUser(peer.uid));
    }
    let own = OwnNamespaces::read().map_err(PeerRefusal::Unreadable)?;
    own.check_peer(stream, peer.pid, PeerScope::HostAndEngines)?;
    Ok(peer)
}

/// Opens the process that connected.
///
/// Before Linux 6.5 the kernel tells its number only: a process that connects and ends can then be
/// mistaken for one that got its number before the connection was accepted.
fn open_peer(stream: impl AsFd, pid: i32) -> Result<OwnedFd, PeerRefusal> {
    match getsockopt(&stream, sockopt::PeerPidfd) {
        Ok(process) => return Ok(process),
        Err(nix::errno::Errno::ENOPROTOOPT) => {}
        Err(_gone) => return Err(PeerRefusal::Ended),
    }
    // 0: the peer is outside of the own process id namespace.
    let pid = Pid::from_raw(pid).ok_or(PeerRefusal::OtherPids)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|_gone| PeerRefusal::Ended)
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

/// What `/proc/PID/status` tells everybody about a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PeerStatus {
    /// Process ids from that of `/proc` to its own namespace's; 1 without nested namespaces.
    pids: usize,
    effective_capabilities: u64,
    no_new_privs: u32,
    seccomp_filters: u32,
}

impl PeerStatus {
    fn read(pid: &str) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let field = |name| {
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            let mut values = fields.filter_map(|(known, value)| (known == name).then_some(value));
            values.next().map(str::trim)
        };
        let number = |name| field(name).and_then(|text| text.parse().ok());
        // A kernel without process id namespaces has no such line.
        let pids = field("NSpid").map_or(1, |pids| pids.split_whitespace().count());
        let capabilities = field("CapEff").and_then(|text| u64::from_str_radix(text, 16).ok());
        Self {
            pids,
            effective_capabilities: capabilities.unwrap_or(0),
            no_new_privs: number("NoNewPrivs").unwrap_or(0),
            // Before Linux 5.9 there is only the mode, 2 with filters.
            seccomp_filters: number("Seccomp_filters")
                .or_else(|| number("Seccomp"))
                .unwrap_or(0),
        }
    }

    /// Returns `true` for the rights of a container engine, and what a sandbox drops.
    const fn is_of_engine(&self, listener: &Self) -> bool {
        self.effective_capabilities & CAP_SYS_ADMIN != 0
            && self.no_new_privs <= listener.no_new_privs
            && self.seccomp_filters <= listener.seccomp_filters
    }
}

/// The capability number 21, `capabilities(7)`.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Returns `true` if a map of user ids has the id 0 inside.
fn maps_root(map: &str) -> bool {
    map.lines()
        .any(|line| line.split_whitespace().next() == Some("0"))
}

fn file_id(pid: &str, name: &str) -> io::Result<FileId> {
    let found = fs::metadata(format!("/proc/{pid}/{name}"))?;
    Ok((found.dev(), found.ino()))
}

fn read_uid_map(pid: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/uid_map"))
}

/// Returns the length of the longest range in a map of user ids, `user_namespaces(7)`.
///
/// Every range of a descendant lies within one of its ancestor's.
fn longest_id_range(map: &str) -> u64 {
    let lengths = map.lines().filter_map(|line| {
        let length = line.split_whitespace().nth(2)?;
        length.parse().ok()
    });
    lengths.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_range_counts() {
        let check = |map: &str, expected| assert_eq!(longest_id_range(map), expected, "{map}");
        check("         0          0 4294967295\n", 4_294_967_295);
        check("0 1000 1\n1 100000 65536\n", 65_536);
        check("0 1000 1\n", 1);
        check("", 0);
        check("nonsense", 0);
    }

    #[test]
    fn a_status_is_parsed() {
        let text = "Name:\tx\nNSpid:\t12\t1\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t1\n\
            Seccomp:\t2\nSeccomp_filters:\t3\n";
        let expected = PeerStatus {
            pids: 2,
            effective_capabilities: 0x01ff_ffff_ffff,
            no_new_privs: 1,
            seccomp_filters: 3,
        };
        assert_eq!(PeerStatus::parse(text), expected);
        assert_eq!(PeerStatus::parse("").pids, 1);
        assert!(maps_root("0 1000 1\n") && !maps_root("1000 0 1\n") && !maps_root(""));
    }

    #[test]
    fn the_own_process_is_accepted_in_both_scopes() {
        let own = OwnNamespaces::read().unwrap();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        for scope in [PeerScope::Host, PeerScope::HostAndEngines] {
            own.check_process(pid, scope).unwrap();
        }
    }

    #[test]
    fn a_process_without_files_is_refused() {
        let own = OwnNamespaces::read().unwrap();
        for pid in [0, -1, i32::MAX] {
            let refused = own.check_process(pid, PeerScope::HostAndEngines);
            assert!(matches!(refused, Err(PeerRefusal::Unreadable(_))), "{pid}");
        }
    }
}

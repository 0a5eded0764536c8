// SPDX-License-Identifier: Apache-2.0
//! Finds the process that owns a packet log group. The kernel allows one socket per group and
//! network namespace, and reports only `EPERM` to others.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use terok_clearance::DisplayText;

/// The owner of a log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NflogOwner {
    /// The netlink address of the socket.
    pub port_id: u32,
    /// The process with the open socket, if visible: processes of other users and of outer pid
    /// namespaces are not.
    pub process: Option<NflogOwnerProcess>,
}

/// The process that owns a log group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NflogOwnerProcess {
    /// The process id.
    pub pid: u32,
    /// The command line, with blanks between the arguments.
    pub command_line: DisplayText,
}

/// `NETLINK_NETFILTER`.
const NETLINK_NETFILTER: &str = "12";

/// Returns the owner of log group `group` in the network namespace of process `of`, or of the
/// caller; `None` if the group is free.
///
/// Errors: the kernel's list of listeners requires root over the namespace.
pub fn find_nflog_owner(group: u16, of: Option<u32>) -> io::Result<Option<NflogOwner>> {
    let net = match of {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/net")),
        None => PathBuf::from("/proc/thread-self/net"),
    };
    let listeners = fs::read_to_string(net.join("netfilter/nfnetlink_log"))?;
    let Some(port) = find_group_port_id(&listeners, group) else {
        return Ok(None);
    };
    let sockets = fs::read_to_string(net.join("netlink"))?;
    let process = find_socket_inode(&sockets, port)
        .and_then(|inode| find_socket_process(Path::new("/proc"), inode));
    Ok(Some(NflogOwner {
        port_id: port,
        process,
    }))
}

impl fmt::Display for NflogOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(NflogOwnerProcess {
                pid,
                command_line: command,
            }) => write!(f, "process {pid} ({command})"),
            None => write!(f, "a process that is not visible from here"),
        }
    }
}

/// Finds the port of a group in rows of: group, port, waiting, copy mode, copy range, timeout,
/// references.
fn find_group_port_id(table: &str, group: u16) -> Option<u32> {
    let group = group.to_string();
    let mut rows = table.lines().map(str::split_ascii_whitespace);
    let mut row = rows.find(|row| row.clone().next() == Some(&group))?;
    row.nth(1)?.parse().ok()
}

/// Finds the inode of the netfilter socket with a port in rows of: address, protocol, port, …,
/// inode.
fn find_socket_inode(table: &str, port: u32) -> Option<u64> {
    let port = port.to_string();
    let mut rows = table.lines().map(str::split_ascii_whitespace);
    let row = rows.find(|row| {
        let mut columns = row.clone().skip(1);
        columns.next() == Some(NETLINK_NETFILTER) && columns.next() == Some(&port)
    })?;
    row.last()?.parse().ok()
}

/// Finds a process that has the socket open.
fn find_socket_process(proc: &Path, inode: u64) -> Option<NflogOwnerProcess> {
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let processes = fs::read_dir(proc).ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let open = fs::read_dir(proc.join(pid.to_string()).join("fd"));
        let mut open = open.into_iter().flatten().flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == socket))
    })?;
    let command = fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(NflogOwnerProcess {
        pid,
        command_line: DisplayText::new(command.trim_end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_parsed() {
        let log = "    2   4711     0 2    64      0  1\n  100 4242424242     0 2 65535   100  2\n";
        assert_eq!(find_group_port_id(log, 100), Some(4_242_424_242));
        assert_eq!(find_group_port_id(log, 2), Some(4711));
        assert_eq!(find_group_port_id(log, 10), None);
        let netlink = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            00000000a1b2c3d4 0   4711       00000000 0        0        0     2        0        11\n\
            00000000a1b2c3d5 12  4711       00000000 0        0        0     2        0        22\n\
            00000000a1b2c3d6 12  4242424242 00000000 0        0        0     2        0        33\n";
        assert_eq!(find_socket_inode(netlink, 4711), Some(22));
        assert_eq!(find_socket_inode(netlink, 4_242_424_242), Some(33));
        assert_eq!(find_socket_inode(netlink, 5), None);
        for garbled in ["", "100", "100 x", "\u{0}"] {
            assert_eq!(
                (
                    find_group_port_id(garbled, 100),
                    find_socket_inode(garbled, 1)
                ),
                (None, None)
            );
        }
    }

    #[test]
    fn the_process_of_a_socket_is_found() {
        let (ours, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&ours).unwrap().st_ino;
        let found = find_socket_process(Path::new("/proc"), inode).unwrap();
        assert_eq!(found.pid, std::process::id());
        assert!(!found.command_line.is_empty());
        assert_eq!(find_socket_process(Path::new("/proc"), u64::MAX), None);
    }
}

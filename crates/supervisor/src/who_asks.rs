// SPDX-License-Identifier: Apache-2.0
//! Finds the process that asks, while its connection waits, or the process of a connection.
//!
//! The search reads files of processes of the sandbox, and a workload can make such a read take
//! forever. It runs in a thread of its own: at worst, no question tells its process any more.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use netns::{SandboxProcesses, SearchRoot};
use reader::socket_owner::{ProcessDescription, ProcessScan, SocketDiag, SocketHolders};
use terok_clearance::{ParentProcess, Process, Protocol, RequestId};

/// Maximum searches that wait; the process of a further question is not searched for.
const MAX_WAITING_SEARCHES: usize = 64;

/// Starts searches for the processes that ask.
#[derive(Debug)]
pub(crate) struct WhoAsks(Option<SyncSender<ProcessSearch>>);

/// What a process is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SearchSubject {
    /// A question, by its id.
    Question(RequestId),
    /// A connection, by its number.
    Connection(u64),
}

#[derive(Debug)]
struct ProcessSearch {
    subject: SearchSubject,
    protocol: Protocol,
    client: SocketAddr,
    remote: SocketAddr,
}

impl WhoAsks {
    /// Starts the thread. `diag` is a `NETLINK_SOCK_DIAG` socket of the sandbox's network
    /// namespace, and `found` is called in the thread. Without the thread, no process is found.
    pub(crate) fn start(
        diag: OwnedFd,
        processes: SandboxProcesses,
        found: impl Fn(SearchSubject, Process) + Send + 'static,
    ) -> Self {
        let (searches, waiting) = sync_channel(MAX_WAITING_SEARCHES);
        let started = SocketDiag::new(diag).and_then(|diag| {
            std::thread::Builder::new()
                .name("who-asks".to_owned())
                .spawn(move || search_processes(diag, &processes, &waiting, found))
        });
        match started {
            Ok(_) => Self(Some(searches)),
            Err(error) => {
                tracing::warn!(%error, "questions will not tell which process asks");
                Self(None)
            }
        }
    }

    /// Searches for the process behind a question or a connection.
    pub(crate) fn search(
        &self,
        subject: SearchSubject,
        protocol: Protocol,
        client: SocketAddr,
        remote: SocketAddr,
    ) {
        let search = ProcessSearch {
            subject,
            protocol,
            client,
            remote,
        };
        if let Some(searches) = &self.0 {
            // A full queue loses the search, as documented for its size.
            drop(searches.try_send(search));
        }
    }
}

/// Runs searches until the sender is dropped.
fn search_processes(
    mut diag: SocketDiag,
    processes: &SandboxProcesses,
    waiting: &Receiver<ProcessSearch>,
    found: impl Fn(SearchSubject, Process),
) {
    while let Ok(search) = waiting.recv() {
        let ProcessSearch {
            subject,
            protocol,
            client,
            remote,
        } = search;
        match diag.find_socket(protocol, client, remote) {
            Ok(Some(socket)) => {
                let roots = processes.search_roots().into_iter();
                let scans: Vec<_> = roots.map(scan_of).collect();
                let holders = ProcessScan::find_holders_of(&scans, socket.inode);
                if let Some(process) = describe(holders, socket.uid) {
                    found(subject, process);
                }
            }
            Ok(None) => {} // it was closed meanwhile
            Err(error) => tracing::debug!(%error, "the socket of a question was not found"),
        }
    }
}

const fn scan_of(root: SearchRoot) -> ProcessScan {
    if root.is_socket_broker {
        ProcessScan::below(root.pid)
    } else {
        ProcessScan::new(root.pid)
    }
}

/// Returns the first holder, with the number of the others; `None` if none is known.
fn describe(holders: SocketHolders, socket_uid: u32) -> Option<Process> {
    let others = holders.holders.len().saturating_sub(1);
    let ProcessDescription {
        pid,
        uid,
        name,
        command,
        directory,
        parents,
    } = holders.holders.into_iter().next()?;
    let parents = parents.into_iter();
    Some(Process {
        pid,
        uid: uid.unwrap_or(socket_uid),
        name,
        command,
        directory,
        parents: parents
            .map(|(pid, name)| ParentProcess { pid, name })
            .collect(),
        other_holders: u32::try_from(others).unwrap_or(u32::MAX),
    })
}

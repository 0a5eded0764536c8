// SPDX-License-Identifier: Apache-2.0
//! The processes whose lives together are the life of a sandbox: one, or one for each container of
//! a pod.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{NetnsRef, ProcessHandle};

/// The processes of a sandbox. All are in its network namespace; the end of the last one is the end
/// of the sandbox. Clones share the list.
#[derive(Debug, Clone)]
pub struct SandboxProcesses {
    shared: Arc<SharedProcesses>,
}

#[derive(Debug)]
struct SharedProcesses {
    /// The pid of the process that was named first.
    first_pid: u32,
    /// The first process connects sockets of the others on their behalf.
    has_socket_broker: bool,
    state: Mutex<ProcessesState>,
}

#[derive(Debug)]
struct ProcessesState {
    /// Those that ended are removed with the next addition.
    members: Vec<Arc<ProcessHandle>>,
    has_ended: bool,
}

/// A process below which the holders of a sandbox's sockets are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchRoot {
    /// The process id.
    pub pid: u32,
    /// The process connects sockets of others on their behalf, and asks for none itself.
    pub is_socket_broker: bool,
}

impl SandboxProcesses {
    /// Creates the list of one process.
    pub fn new(first: ProcessHandle) -> Self {
        Self::with_first(first, false)
    }

    /// Creates the list of a sandbox whose first process connects sockets of the others on their
    /// behalf, as that of [`crate::sandbox`] does.
    pub fn below_socket_broker(init: ProcessHandle) -> Self {
        Self::with_first(init, true)
    }

    fn with_first(first: ProcessHandle, has_socket_broker: bool) -> Self {
        Self {
            shared: Arc::new(SharedProcesses {
                first_pid: first.pid(),
                has_socket_broker,
                state: Mutex::new(ProcessesState {
                    members: vec![Arc::new(first)],
                    has_ended: false,
                }),
            }),
        }
    }

    /// Adds a process. Returns `false` if the sandbox has ended: its last process has, and
    /// [`wait_for_all_exits`](Self::wait_for_all_exits) has returned.
    #[must_use]
    pub fn add(&self, process: ProcessHandle) -> bool {
        let mut state = self.lock();
        if !state.has_ended {
            state.members.retain(|member| member.is_alive());
            state.members.push(Arc::new(process));
        }
        !state.has_ended
    }

    /// Returns the pid of the process that was named first, also if it has ended.
    pub fn first_pid(&self) -> u32 {
        self.shared.first_pid
    }

    /// Returns the first process that is alive.
    pub fn first_alive(&self) -> Option<Arc<ProcessHandle>> {
        let state = self.lock();
        let alive = state.members.iter().find(|member| member.is_alive());
        alive.cloned()
    }

    /// Returns the processes that are alive, as roots of a search.
    pub fn search_roots(&self) -> Vec<SearchRoot> {
        let state = self.lock();
        let alive = state.members.iter().filter(|member| member.is_alive());
        let roots = alive.map(|member| SearchRoot {
            pid: member.pid(),
            is_socket_broker: self.shared.has_socket_broker
                && member.pid() == self.shared.first_pid,
        });
        roots.collect()
    }

    /// Returns a reference to the sandbox's network namespace, resolved on every use from a process
    /// that is alive; the namespace is not kept alive.
    pub fn netns_ref(&self) -> NetnsRef {
        NetnsRef::OfProcesses(self.clone())
    }

    /// Resolves when the last process has ended, also the last one that was added meanwhile.
    /// Cancel safe.
    pub async fn wait_for_all_exits(&self) -> io::Result<()> {
        loop {
            let alive = {
                let mut state = self.lock();
                let alive = state.members.iter().find(|member| member.is_alive());
                let alive = alive.cloned();
                state.has_ended = alive.is_none();
                alive
            };
            match alive {
                Some(process) => process.wait_for_exit().await?,
                None => return Ok(()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProcessesState> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ProcessHandle> for SandboxProcesses {
    fn from(first: ProcessHandle) -> Self {
        Self::new(first)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that ends with the drop of its standard input.
    fn waiting() -> (Child, ProcessHandle) {
        let mut command = Command::new("cat");
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let process = ProcessHandle::open(child.id()).unwrap();
        (child, process)
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_last_process_is_the_end_of_the_sandbox() {
        let (first, process) = waiting();
        let first_pid = first.id();
        let processes = SandboxProcesses::from(process);
        let mut all_exits = std::pin::pin!(processes.wait_for_all_exits());
        let (second, process) = waiting();
        let second_pid = second.id();
        tokio::select! {
            biased;
            ended = &mut all_exits => panic!("{ended:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(processes.add(process));
        end(first);
        assert_eq!(processes.first_pid(), first_pid);
        assert_eq!(processes.first_alive().unwrap().pid(), second_pid);
        let roots = processes.search_roots();
        assert_eq!(
            roots,
            [SearchRoot {
                pid: second_pid,
                is_socket_broker: false
            }]
        );
        tokio::select! {
            biased;
            ended = &mut all_exits => panic!("one process is alive: {ended:?}"),
            () = std::future::ready(()) => {}
        }
        end(second);
        all_exits.await.unwrap();
        assert!(processes.first_alive().is_none());
        assert!(processes.search_roots().is_empty());
        let (late, process) = waiting();
        assert!(!processes.add(process), "the sandbox has ended");
        end(late);
    }

    #[test]
    fn the_first_process_alone_is_a_socket_broker() {
        let (first, process) = waiting();
        let processes = SandboxProcesses::below_socket_broker(process);
        let (second, process) = waiting();
        assert!(processes.add(process));
        let brokers = processes
            .search_roots()
            .into_iter()
            .map(|root| root.is_socket_broker);
        assert_eq!(brokers.collect::<Vec<_>>(), [true, false]);
        end(first);
        end(second);
    }
}

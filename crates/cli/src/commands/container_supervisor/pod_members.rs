// SPDX-License-Identifier: Apache-2.0
//! The containers of a pod, which share a network namespace and its supervisor.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use containers::{ContainerProcess, StartConnection, StartReply, StartRequest, annotation_keys};
use netns::{ProcessHandle, SandboxProcesses};
use terok_clearance::socket::{ConnectionAcceptor, SameUserListener, SocketBindError, bind};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::kept_files::keep_process;

/// Maximum time until the socket of the former supervisor is free: a container that starts just now
/// may have taken it, and is refused.
const REBIND_TIMEOUT: Duration = Duration::from_secs(10);
const REBIND_INTERVAL: Duration = Duration::from_millis(20);

/// Returns the inode of a process's network namespace, which identifies it.
pub(super) fn netns_inode(process: &ProcessHandle) -> io::Result<u64> {
    let found = std::fs::metadata(format!("/proc/{}/ns/net", process.pid()))?;
    if !process.is_alive() {
        return Err(rustix::io::Errno::SRCH.into()); // the number may have been reused
    }
    Ok(found.ino())
}

/// Binds the socket of a former supervisor.
pub(super) async fn bind_again(path: &Path) -> anyhow::Result<SameUserListener> {
    let start = Instant::now();
    loop {
        match bind(path) {
            Err(SocketBindError::InUse { .. }) if start.elapsed() < REBIND_TIMEOUT => {
                sleep(REBIND_INTERVAL).await;
            }
            bound => return Ok(bound?),
        }
    }
}

/// The containers of one network namespace.
#[derive(Debug)]
pub(super) struct PodMembers {
    first: StartRequest,
    processes: SandboxProcesses,
}

impl PodMembers {
    pub(super) const fn new(first: StartRequest, processes: SandboxProcesses) -> Self {
        Self { first, processes }
    }

    /// Adds the containers that are announced at `listener`; never returns.
    pub(super) async fn serve(&self, listener: SameUserListener) {
        let mut acceptor = ConnectionAcceptor::new(listener);
        loop {
            let (stream, _) = acceptor.accept().await;
            self.add(stream).await;
        }
    }

    async fn add(&self, stream: UnixStream) {
        let (connection, request) = match StartConnection::receive(stream).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "a further container of the network was not announced");
                return;
            }
        };
        let id = request.id.clone();
        let reply = match self.admit(&request) {
            Ok(()) => {
                tracing::info!(container = %id, "guarding a further container of the network");
                StartReply::Ready
            }
            Err(error) => {
                tracing::warn!(container = %id, "the container is refused: {error:#}");
                StartReply::Refused(format!("{error:#}"))
            }
        };
        if let Err(error) = connection.reply(&reply).await {
            tracing::warn!(%error, container = %id, "the hook is gone");
        }
    }

    fn admit(&self, request: &StartRequest) -> anyhow::Result<()> {
        let container = ContainerProcess::find(request)?;
        let first = self.processes.first_alive();
        let own = first.as_deref().map(netns_inode).transpose()?;
        if own != Some(container.netns_inode) {
            anyhow::bail!("the network of the container has ended: start the container again");
        }
        if request.network != self.first.network {
            anyhow::bail!(
                "the other containers of the pod have the annotation {}={}, and all share one way \
                 out",
                annotation_keys::NETWORK,
                self.first.network.as_str(),
            );
        }
        let policy = |of: &StartRequest| of.annotations.get(annotation_keys::POLICY).cloned();
        let asked = policy(request);
        if asked.is_some() && asked != policy(&self.first) {
            anyhow::bail!(
                "the first container of the pod was started with other options, and all share one \
                 set of rules: give them to that one"
            );
        }
        let kept = container.process.try_clone()?;
        if !self.processes.add(container.process) {
            anyhow::bail!("the network of the container has ended: start the container again");
        }
        keep_process(&kept);
        Ok(())
    }
}

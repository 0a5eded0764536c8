// SPDX-License-Identifier: Apache-2.0
//! `container-supervisor`: the supervisor of one network namespace, started for the hook of a
//! container.
//!
//! systemd starts one process for each connection to the start socket, in the operator's own user
//! namespace. The first container of a network namespace gets its way out here; a further one (of a
//! pod) is passed on to the process that guards the namespace. After a failure systemd starts the
//! process again with the descriptors that it keeps: the gateway, the processes of the containers,
//! and the first request.

mod container_identity;
mod container_rules;
mod dialed;
mod filtered;
mod kept_files;
mod listener;
mod pod_members;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;

use anyhow::Context as _;
use containers::{
    ContainerNetwork, ContainerProcess, NetworkClaim, StartConnection, StartReply, StartRequest,
    claim_network, claim_path,
};
use netns::SandboxProcesses;
use runner::raise_open_files_limit;
use supervisor::{SupervisorExit, SupervisorServeError};
use terok_clearance::error_chain;
use terok_clearance::socket::SameUserListener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::service_manager::{PassedFiles, report_ready};
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

use kept_files::KeptContainers;
use pod_members::PodMembers;

/// The description of the command.
pub const ABOUT: &str = "Supervise a container that a hook announces.

systemd starts this command (unit clearance-supervisor@.service, which `terok-clearance setup` \
installs) for each connection of a hook. Without systemd, `--listen` waits for hooks and starts \
one process for each container; `terok-clearance podman` does that.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen for hooks, and start a process for each; ends some time after the last container
    #[arg(long)]
    listen: bool,
}

/// The name of the descriptor with a hook's connection, `systemd.socket(5)`.
const CONNECTION_FILE: &str = "connection";

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if args.listen {
        return listener::perform(context);
    }
    let mut passed = PassedFiles::take_over().context("cannot take over descriptors")?;
    let kept = KeptContainers::take(&mut passed).context("cannot take the container over again")?;
    let status = block_on(async {
        raise_open_files_limit();
        if let Some(kept) = kept {
            return resume(kept, context).await;
        }
        let stream = match passed.take(CONNECTION_FILE) {
            Some(stream) => stream,
            None => rustix::io::dup(rustix::stdio::stdin()).context("cannot use standard input")?,
        };
        begin(stream, context).await
    })?;
    // For systemd, a process that ends without having been ready has failed, and is started again.
    report_ready("no container").context("cannot notify the service manager")?;
    Ok(status)
}

/// A container whose way out is in place.
struct GuardedNetwork {
    /// The request of the first container.
    request: StartRequest,
    /// The processes of all containers.
    processes: SandboxProcesses,
    /// Further containers of the network namespace are announced here.
    joins: SameUserListener,
}

/// Supervises a container that starts.
async fn begin(stream: OwnedFd, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let (connection, request) = match receive(stream).await {
        Ok(received) => received,
        Err(error) => {
            tracing::warn!("refused: {error:#}");
            return Ok(CommandStatus::OK);
        }
    };
    let id = request.id.clone();
    let refuse = |error: anyhow::Error| {
        tracing::warn!(container = %id, "the container is refused: {error:#}");
        StartReply::Refused(format!("{error:#}"))
    };
    let claimed = claim(request, context).await;
    let network = match claimed {
        Ok(ClaimedNetwork::Own(network)) => *network,
        Ok(ClaimedNetwork::Other(reply)) => {
            answer(connection, &reply).await;
            return Ok(CommandStatus::OK);
        }
        Err(error) => {
            answer(connection, &refuse(error)).await;
            return Ok(CommandStatus::OK);
        }
    };
    let started = match network.request.network {
        ContainerNetwork::Dialed => dialed::start(&network, None, context),
        ContainerNetwork::Filtered => filtered::start(&network, None, context).await,
    };
    let guard = match started {
        Ok(guard) => guard,
        Err(error) => {
            answer(connection, &refuse(error)).await;
            remove_socket_directories(&network.request, context);
            return Ok(CommandStatus::OK);
        }
    };
    if !answer(connection, &StartReply::Ready).await {
        // The hook is gone, and the runtime does not start the container.
        drop(guard);
        remove_socket_directories(&network.request, context);
        return Ok(CommandStatus::OK);
    }
    serve(network, guard).await
}

/// Removes the directories of a hub that has not served.
fn remove_socket_directories(request: &StartRequest, context: &CommandContext) {
    let runtime_dir = context.environment.runtime_dir();
    for kind in ["clearance", "events"] {
        let directory = runtime_dir
            .join("terok")
            .join(kind)
            .join(request.id.short());
        drop(std::fs::remove_dir(directory)); // missing, or not empty: of another process
    }
}

/// Supervises containers whose former supervisor has failed.
async fn resume(
    kept: KeptContainers,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let KeptContainers {
        request,
        processes,
        state,
    } = kept;
    let id = &request.id;
    let Some(first) = processes.first_alive() else {
        tracing::info!(container = %id, "the container has ended meanwhile");
        return Ok(CommandStatus::OK);
    };
    tracing::warn!(container = %id, "the former supervisor failed; taking its container over");
    let runtime_dir = context.environment.hook_dirs().start;
    let inode = pod_members::netns_inode(&first).context("cannot find the container's network")?;
    let joins = pod_members::bind_again(&claim_path(&runtime_dir, inode)).await?;
    let network = GuardedNetwork {
        request,
        processes,
        joins,
    };
    let guard = match network.request.network {
        ContainerNetwork::Dialed => dialed::start(&network, Some(state), context)?,
        ContainerNetwork::Filtered => filtered::start(&network, Some(state), context).await?,
    };
    serve(network, guard).await
}

async fn receive(stream: OwnedFd) -> anyhow::Result<(StartConnection, StartRequest)> {
    let stream = BlockingStream::from(stream);
    stream.set_nonblocking(true)?;
    Ok(StartConnection::receive(UnixStream::from_std(stream)?).await?)
}

/// The network namespace of a container that starts.
enum ClaimedNetwork {
    /// It is this process's to guard.
    Own(Box<GuardedNetwork>),
    /// Another process guards it, and has replied.
    Other(StartReply),
}

/// Finds the container and claims its network namespace.
async fn claim(request: StartRequest, context: &CommandContext) -> anyhow::Result<ClaimedNetwork> {
    let container = ContainerProcess::find(&request)?;
    let runtime_dir = context.environment.hook_dirs().start;
    let path = claim_path(&runtime_dir, container.netns_inode);
    let joins = match claim_network(&path, &request).await? {
        NetworkClaim::Owned(joins) => *joins,
        NetworkClaim::Joined(reply) => return Ok(ClaimedNetwork::Other(reply)),
    };
    container.check_unconnected()?;
    Ok(ClaimedNetwork::Own(Box::new(GuardedNetwork {
        request,
        processes: SandboxProcesses::new(container.process),
        joins,
    })))
}

/// Sends the reply; returns `false` if the hook is gone.
async fn answer(connection: StartConnection, reply: &StartReply) -> bool {
    let sent = connection.reply(reply).await;
    if let Err(error) = &sent {
        tracing::warn!(%error, "the hook is gone");
    }
    sent.is_ok()
}

/// The supervisor of either way out, ready to serve.
type Guard = Box<
    dyn FnOnce(
        CancellationToken,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<SupervisorExit, SupervisorServeError>>>,
    >,
>;

/// Serves until the last container of the network namespace has ended, or until a signal.
async fn serve(network: GuardedNetwork, guard: Guard) -> Result<CommandStatus, CommandError> {
    let GuardedNetwork {
        request,
        processes,
        joins,
    } = network;
    let mut signals = StopSignals::catch()?;
    let status = format!("guarding container {}", request.id.short());
    report_ready(&status).context("cannot notify the service manager")?;
    tracing::info!(container = %request.id, network = request.network.as_str(), "guarding");
    // Each record of the log names the container.
    let log_context = tracing::error_span!("sandbox", container = %request.id);
    let members = PodMembers::new(request, processes);
    let stop = CancellationToken::new();
    let serving = guard(stop.clone()).instrument(log_context);
    let mut serving = std::pin::pin!(serving);
    let (ended, status) = tokio::select! {
        ended = &mut serving => (ended, CommandStatus::OK),
        () = members.serve(joins) => return Ok(CommandStatus::OK),
        status = signals.wait_and_cancel(&stop) => (serving.await, status),
    };
    match ended.context("cannot guard the container any longer")? {
        SupervisorExit::SandboxEnded => Ok(CommandStatus::OK),
        SupervisorExit::Stopped => Ok(status),
    }
}

/// Logs that a part of the guard is missing, which changes nothing of what passes.
fn warn_missing(part: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error = %error_chain(error), "{part}");
}

/// Keeps `file` with the service manager.
fn keep(name: &str, file: &impl std::os::fd::AsFd) {
    if let Err(error) = crate::service_manager::keep_file(name, file.as_fd()) {
        warn_missing("the container cannot be taken over after a failure", &error);
    }
}

/// The directory for the sockets of hubs.
fn private_runtime_dir(context: &CommandContext) -> anyhow::Result<&Path> {
    let directory = context.environment.private_runtime_dir();
    directory.map_err(|error| anyhow::Error::new(io::Error::other(error)))
}

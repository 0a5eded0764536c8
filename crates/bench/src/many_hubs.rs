// SPDX-License-Identifier: Apache-2.0
//! Many sandboxes, each with a separate running hub, that ask questions on command.

use std::net::IpAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hub::{Hub, HubOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{
    BlockedPacket, ContainerId, Dossier, NetworkZone, Protocol, SandboxEvent, ShieldState,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::measured_program::NoopEnforcer;

/// The hubs. A thread of this process serves the hubs until this value is dropped.
#[derive(Debug)]
pub(crate) struct ManyHubs {
    directory: TempDir,
    commands: mpsc::Sender<LoadCommand>,
    stop: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// A command to the sandboxes.
#[derive(Debug)]
enum LoadCommand {
    /// Ask this number of questions, one sandbox after the other, at this interval.
    Ask(u32, Duration),
    /// Withdraw all questions.
    WithdrawAll,
    /// Send an acknowledgement once all earlier commands are done.
    Acknowledge(std::sync::mpsc::Sender<()>),
}

impl ManyHubs {
    /// Serves this number of hubs, and waits until all accept connections.
    pub(crate) fn serve(hubs: u32) -> anyhow::Result<Self> {
        // A file system in memory, like a user's runtime directory.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            TempDir::with_prefix_in("clearance-bench", memory)
        } else {
            TempDir::with_prefix("clearance-bench")
        };
        let directory = directory.context("making a directory")?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(directory.path(), private)
            .context("making a directory private")?;
        raise_fd_limit();
        let (orders, taken) = mpsc::channel(2);
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let (place, halt) = (RuntimeDir::new(directory.path()), stop.clone());
        let thread = std::thread::spawn(move || serve(&place, hubs, taken, &halt, &tell));
        let crowd = Self {
            directory,
            commands: orders,
            stop,
            thread: Some(thread),
        };
        match told.recv() {
            Ok(()) => Ok(crowd),
            Err(_) => crowd
                .shut_down()
                .and_then(|()| bail!("the hubs did not start")),
        }
    }

    /// Returns the runtime directory that contains the hubs' sockets.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts asking questions, one sandbox after the other, a question every `pause`.
    pub(crate) fn ask_questions(&self, questions: u32, pause: Duration) -> anyhow::Result<()> {
        self.send_command(LoadCommand::Ask(questions, pause))
    }

    /// Waits until all commands are done.
    pub(crate) fn wait_until_done(&self) -> anyhow::Result<()> {
        let (tell, told) = std::sync::mpsc::channel();
        self.send_command(LoadCommand::Acknowledge(tell))?;
        told.recv().context("the hubs failed")
    }

    /// Withdraws all questions.
    pub(crate) fn withdraw_all(&self) -> anyhow::Result<()> {
        self.send_command(LoadCommand::WithdrawAll)
    }

    fn send_command(&self, order: LoadCommand) -> anyhow::Result<()> {
        self.commands
            .try_send(order)
            .context("sending a command to the hubs")
    }

    /// Ends the hubs. Returns an error if a hub failed.
    pub(crate) fn shut_down(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(served)) => served,
            _ => bail!("the thread of the hubs panicked"),
        }
    }
}

impl Drop for ManyHubs {
    fn drop(&mut self) {
        self.stop.cancel();
        // A failure was noticed before, as a missing event.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Raises the limit of open files: each hub needs a descriptor in this process and in the user
/// interface, which inherits the limit.
/// Raises the limit of open files as far as permitted.
pub(crate) fn raise_fd_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    drop(setrlimit(Resource::Nofile, all).context("raising the limit of open files"));
}

fn serve(
    place: &RuntimeDir,
    hubs: u32,
    mut orders: mpsc::Receiver<LoadCommand>,
    stop: &CancellationToken,
    ready: &std::sync::mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let mut crowd = Vec::new();
        for number in 0..hubs {
            let container: ContainerId = format!("sandbox{number}").parse()?;
            let listener = socket::bind(&place.sandbox_sockets(&container, SocketLayout::D).hub)?;
            let hub = Hub::new(NoopEnforcer, HubOptions::default());
            tasks.spawn(hub::serve(hub.clone(), listener, stop.clone()));
            crowd.push((container, hub));
        }
        ready
            .send(())
            .context("reporting that the hubs are ready")?;
        let work = async {
            let mut asked = 0_u32;
            while let Some(order) = orders.recv().await {
                match order {
                    LoadCommand::Ask(questions, pause) => {
                        let mut clock = tokio::time::interval(pause);
                        let mut asking = crowd.iter().cycle();
                        for (container, hub) in asking.by_ref().take(questions.try_into()?) {
                            clock.tick().await;
                            hub.report(SandboxEvent::Blocked(blocked_packet(container, asked)?));
                            asked = asked.wrapping_add(1);
                        }
                    }
                    // Fails if the caller no longer waits.
                    LoadCommand::Acknowledge(tell) => drop(tell.send(())),
                    LoadCommand::WithdrawAll => {
                        for (container, hub) in &crowd {
                            hub.report(SandboxEvent::Shield {
                                container: container.clone(),
                                state: ShieldState::Down,
                                dossier: Dossier::default(),
                            });
                        }
                    }
                }
            }
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            done = work => done?,
        }
        while let Some(served) = tasks.join_next().await {
            served.context("a hub panicked")?.context("serving a hub")?;
        }
        Ok(())
    })
}

/// Returns the report of a dropped packet of a sandbox.
pub(crate) fn blocked_packet(
    container: &ContainerId,
    number: u32,
) -> anyhow::Result<BlockedPacket> {
    Ok(BlockedPacket {
        container: container.clone(),
        request: format!("{container}:{number}").parse()?,
        address: IpAddr::from(number.to_be_bytes()).into(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(format!("host{number}.example").parse()?),
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    })
}

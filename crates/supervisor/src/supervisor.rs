// SPDX-License-Identifier: Apache-2.0
//! The parts of one sandbox, put together.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use hub::Hub;
use netns::{EnterError, NetnsRef, ProcessHandle, SocketSpec};
use reader::{NflogReader, PacketClassifier, first_request_number};
use shield::{NftShield, Policy};
use terok_clearance::socket::{SameUserListener, SocketBindError, SocketLayout, bind};
use terok_clearance::{
    ContainerId, DisplayText, DomainName, Dossier, SandboxEvent, Target, varlink,
};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::reader_sink::SupervisorSink;
use crate::resolver::resolve_names;
use crate::shield_enforcer::{ShieldEnforcer, allow_dest, error_chain, std_now};
use crate::{SupervisorConfig, TraceObserver};

/// One sandbox's reader, hub and shield: the ruleset is in force and the sockets are bound.
#[derive(Debug)]
pub struct Supervisor {
    container: ContainerId,
    dossier: Dossier,
    process: ProcessHandle,
    firewall: ShieldEnforcer,
    reader: NflogReader,
    hub: SameUserListener,
    ingester: SameUserListener,
}

/// Why a supervisor could not start. What was in force before is then in force still, or the
/// default-deny ruleset is.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorStartError {
    /// The sandbox's network namespace could not be entered.
    #[error("the sandbox's network namespace could not be entered")]
    Enter(#[from] EnterError),
    /// The ruleset is not in force.
    #[error("the ruleset could not be put in force")]
    Shield(#[from] shield::ShieldError),
    /// What is allowed from the start could not be opened.
    #[error("{dest} could not be allowed")]
    Allow {
        /// The destination.
        dest: Target,
        /// Why.
        #[source]
        source: shield::ShieldOrderError,
    },
    /// The packet log could not be listened to.
    #[error("the packet log could not be listened to")]
    Reader(#[from] reader::nflog::NflogBindError),
    /// What was asked before could not be asked again.
    #[error("what was asked before could not be asked again")]
    FlushAsked(#[source] shield::ShieldOrderError),
    /// A socket could not be bound.
    #[error("a socket for operators or readers could not be bound")]
    Bind(#[from] SocketBindError),
}

/// Why a supervisor ended before its sandbox did. The ruleset stays in force.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorServeError {
    /// The packet log can no longer be read.
    #[error("the packet log can no longer be read")]
    Reader(#[from] reader::ReaderRunError),
    /// The sandbox's end could not be waited for.
    #[error("the sandbox's end could not be waited for")]
    WatchProcess(#[source] io::Error),
    /// The clearance socket is no longer served.
    #[error("the clearance socket is no longer served")]
    Hub(#[from] varlink::VarlinkServeError),
    /// The ingester socket is no longer served.
    #[error("the ingester socket is no longer served")]
    Ingester(#[from] hub::ingest::IngestError),
    /// A task panicked: something is wrong with the program itself.
    #[error("a task panicked: {0}")]
    Panicked(DisplayText),
}

/// Why a supervisor ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorExit {
    /// The sandbox ended.
    SandboxEnded,
    /// It was told to stop; the sandbox stays under its ruleset.
    Stopped,
}

impl Supervisor {
    /// Puts the policy in force in the sandbox's network namespace, or takes over a ruleset of
    /// ours that is in force there, verifies it, listens to the packet log, and binds both
    /// sockets. Returns when all of this is done; questions wait in the kernel until
    /// [`serve`](Self::serve).
    ///
    /// Call it within a tokio runtime of one thread.
    pub fn start(config: SupervisorConfig) -> Result<Self, SupervisorStartError> {
        let SupervisorConfig {
            container,
            dossier,
            process,
            policy,
            allowed_dests: allowed,
            runtime_dir: runtime,
        } = config;
        let place = NetnsRef::OfProcess(process);
        let opened = place.open_sockets(&[SocketSpec::Netfilter; 4])?;
        let (Ok([orders, others, questions, answers]), NetnsRef::OfProcess(process)) =
            (<[_; 4]>::try_from(opened), place)
        else {
            return Err(EnterError::BadReply.into());
        };

        let mut shield = attach_or_engage([orders, others], &policy)?;
        for opening in allowed {
            allow_dest(&mut shield, &opening).map_err(|source| SupervisorStartError::Allow {
                dest: opening.target,
                source,
            })?;
        }

        let sockets = reader::NflogSockets::bind(questions, answers)?;
        // What was asked before this reader listened was not heard, or only by one that is gone.
        shield
            .flush_asked(std_now())
            .map_err(SupervisorStartError::FlushAsked)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the edge: the reader's first number"
        )]
        let first = first_request_number(SystemTime::now());
        let facts = PacketClassifier::new(container.clone(), Arc::clone(&dossier), first);

        let paths = runtime.sandbox_sockets(&container, SocketLayout::D);
        Ok(Self {
            hub: bind(&paths.hub)?,
            ingester: bind(&paths.ingester)?,
            firewall: ShieldEnforcer::new(shield),
            reader: NflogReader::new(sockets, facts),
            container,
            dossier,
            process,
        })
    }

    /// Has `observer` called at each step of a packet's way.
    #[must_use]
    pub fn with_observer(self, observer: TraceObserver) -> Self {
        self.firewall.set_observer(observer);
        self
    }

    /// Returns the path of the socket where operators subscribe and answer.
    pub fn hub_path(&self) -> &Path {
        self.hub.path()
    }

    /// Returns the path of the socket that takes events from other readers.
    pub fn ingester_path(&self) -> &Path {
        self.ingester.path()
    }

    /// Asks `resolver`, through the sandbox's network, for the addresses of `names`, and opens
    /// those of names that are allowed. Returns the names about which it said nothing for some
    /// seconds: they open when the sandbox has looked them up.
    ///
    /// To be called when the network is connected and before anything runs in the sandbox.
    pub async fn resolve_names(
        &self,
        resolver: IpAddr,
        names: &[DomainName],
    ) -> io::Result<Vec<DomainName>> {
        let place = NetnsRef::OfProcess(self.process.try_clone()?);
        resolve_names(&place, &self.firewall, resolver, names).await
    }

    /// Asks and enforces until the sandbox ends or `stop` is cancelled.
    ///
    /// When the sandbox has ended its sockets close first, so that its namespaces are free; then
    /// operators are told (`container_exited`), what is on its way to them is delivered, and the
    /// sockets' files go.
    pub async fn serve(
        self,
        stop: CancellationToken,
    ) -> Result<SupervisorExit, SupervisorServeError> {
        let Self {
            container,
            dossier,
            process,
            firewall,
            reader,
            hub: clearance,
            ingester,
        } = self;
        let options = hub::HubOptions {
            single_sandbox: true,
            ..hub::HubOptions::default()
        };
        let hub = Hub::new(firewall.clone(), options);
        hub.report(SandboxEvent::ContainerStarted {
            container: container.clone(),
            dossier: Arc::clone(&dossier),
        });
        let mut feed = SupervisorSink {
            hub: Arc::clone(&hub),
            firewall: firewall.clone(),
        };

        let directories = [&clearance, &ingester].map(|of| of.path().parent().map(PathBuf::from));

        let drain = CancellationToken::new();
        let mut servers: JoinSet<Result<(), SupervisorServeError>> = JoinSet::new();
        servers.spawn({
            let served = hub::serve(Arc::clone(&hub), clearance, drain.clone());
            async { Ok(served.await?) }
        });
        servers.spawn({
            let taken = hub::ingest::ingest(Arc::clone(&hub), ingester, drain.clone());
            async { Ok(taken.await?) }
        });

        let ended = {
            // Dropped at the end of this block, and its sockets with it.
            let mut reading = std::pin::pin!(reader.run(&mut feed, stop.clone()));
            loop {
                tokio::select! {
                    biased;
                    ended = process.wait_for_exit() => {
                        break ended.map(|()| SupervisorExit::SandboxEnded).map_err(SupervisorServeError::WatchProcess);
                    }
                    read = &mut reading => break read.map(|()| SupervisorExit::Stopped).map_err(Into::into),
                    Some(server) = servers.join_next() => {
                        if let Err(error) = join_result(server) {
                            break Err(error);
                        }
                    }
                }
            }
        };
        firewall.close_shield();
        if matches!(ended, Ok(SupervisorExit::SandboxEnded)) {
            tracing::info!(%container, "the sandbox ended");
            hub.report(SandboxEvent::ContainerExited {
                container,
                reason: DisplayText::new("eof"),
                dossier,
            });
        }
        drain.cancel();
        while let Some(server) = servers.join_next().await {
            join_result(server)?;
        }
        if matches!(ended, Ok(SupervisorExit::SandboxEnded)) {
            // Only if they are empty: another sandbox's sockets may be in them.
            for directory in directories.into_iter().flatten() {
                drop(std::fs::remove_dir(directory));
            }
        }
        ended
    }
}

/// Takes over the ruleset that is in force if it is the one of `policy`, with its orders, and
/// otherwise puts it in force anew, without any.
fn attach_or_engage(
    sockets: [OwnedFd; 2],
    policy: &Policy,
) -> Result<NftShield, shield::ShieldError> {
    let [first, second] = sockets;
    NftShield::attach(first, policy, std_now()).or_else(|error| {
        tracing::debug!(error = error_chain(&error), "no ruleset to take over");
        NftShield::engage(second, policy)
    })
}

/// Makes one result of a server's end.
fn join_result(
    server: Result<Result<(), SupervisorServeError>, JoinError>,
) -> Result<(), SupervisorServeError> {
    server.unwrap_or_else(|panic| {
        Err(SupervisorServeError::Panicked(DisplayText::new(
            &panic.to_string(),
        )))
    })
}

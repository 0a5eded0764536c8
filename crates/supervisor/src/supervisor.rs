// SPDX-License-Identifier: Apache-2.0
//! Starts and serves the components of one sandbox.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use egress::publish::SandboxSockets;
use hub::HubDescription;
use names::DnsResolver;
use netns::{
    CapabilityAccess, CapabilityHolder, EnterError, NetnsRef, NetworkCapability, SandboxProcesses,
    SocketSpec, find_capability_holder,
};
use reader::socket_owner::SocketDiag;
use reader::{NflogReader, PacketClassifier, first_request_number};
use shield::{NftShield, Policy, PolicyError};
use terok_clearance::socket::SocketBindError;
use terok_clearance::wire::clearance2::HubStatus;
use terok_clearance::{DisplayText, Dossier, Target, Timestamp, error_chain, varlink};
use tokio_util::sync::CancellationToken;

use crate::boot_clock::{BootAlarm, boot_id};
use crate::hold_switch::switch_hold;
use crate::name_server::NameServerSockets;
use crate::reader_sink::SupervisorSink;
use crate::sandbox_lookup::SandboxLookupSockets;
use crate::sandbox_service::SandboxService;
use crate::served_names::{ServedNames, WantedNames};
use crate::shield_enforcer::{ShieldEnforcer, std_now};
use crate::state_journal::OpenedJournal;
use crate::who_asks::{SearchSubject, WhoAsks};
use crate::{
    DossierSource, FilteredPolicy, NameAccess, NameServerBindError, NameServerConfig,
    SandboxLookup, StateNotRestored, SupervisorConfig, TraceObserver,
};

/// One sandbox's reader, hub and shield, with the ruleset in force and the sockets bound.
#[derive(Debug)]
pub struct Supervisor {
    firewall: ShieldEnforcer,
    alarm: BootAlarm,
    name_server: Option<(NameServerSockets, WantedNames)>,
    /// Two sockets for the list of the sandbox's sockets.
    who_asks: OwnedFd,
    connecting: OwnedFd,
    reader: NflogReader,
    dossier: DossierSource,
    service: SandboxService,
    capability_holder: Option<FirewallBypass>,
    journal: Option<OpenedJournal>,
}

/// A process of a sandbox that can go around the firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallBypass {
    /// The process id.
    pub pid: u32,
    /// The name of the process, which the process chose.
    pub name: DisplayText,
    /// The capability over the network namespace.
    pub capability: NetworkCapability,
    /// How the process has the capability.
    pub access: CapabilityAccess,
}

impl From<CapabilityHolder> for FirewallBypass {
    fn from(holder: CapabilityHolder) -> Self {
        let CapabilityHolder {
            pid,
            name,
            capability,
            access,
        } = holder;
        Self {
            pid,
            name: DisplayText::new(&name),
            capability,
            access,
        }
    }
}

impl fmt::Display for FirewallBypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            name,
            capability,
            access,
        } = self;
        let verb = match access {
            CapabilityAccess::Held => "has",
            CapabilityAccess::Obtainable => "can obtain",
        };
        write!(f, "process {pid} ({name}) {verb} {capability}")
    }
}

/// The supervisor could not start. The previous ruleset stays in force, or the default-deny one is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorStartError {
    /// The sandbox's network namespace could not be entered.
    #[error("the sandbox's network namespace could not be entered")]
    Enter(#[from] EnterError),
    /// The sandbox's process could not be followed.
    #[error("the sandbox's process could not be followed")]
    Process(#[source] io::Error),
    /// The capabilities of the sandbox's processes are unknown.
    #[error("the capabilities of the sandbox's processes could not be read")]
    ReadCapabilities(#[source] io::Error),
    /// A process of the sandbox can go around the firewall.
    #[error("{0} over that namespace, and with it goes around the firewall")]
    Capability(FirewallBypass),
    /// The ruleset is not in force.
    #[error("the ruleset could not be applied")]
    Shield(#[from] shield::ShieldError),
    /// A destination could not be allowed from the start.
    #[error("{dest} could not be allowed: {reason}")]
    Allow {
        /// The destination.
        dest: Target,
        /// The cause.
        reason: DisplayText,
    },
    /// A rule could not be added.
    #[error("a rule could not be added: {0}")]
    Rule(DisplayText),
    /// The resolvers are not usable.
    #[error("the resolvers are not usable")]
    Resolvers(#[from] PolicyError),
    /// The name server inside the sandbox could not be started.
    #[error("the name server of the sandbox could not be started")]
    NameServer(#[from] NameServerBindError),
    /// The orders of an earlier supervisor on names could not be changed.
    #[error("the rules of an earlier supervisor could not be changed")]
    RestoreNames(#[source] shield::ShieldOrderError),
    /// The packet log could not be opened.
    #[error("the packet log could not be opened")]
    Reader(#[from] reader::nflog::NflogBindError),
    /// The memory of earlier questions could not be cleared.
    #[error("the memory of earlier questions could not be cleared")]
    FlushAsked(#[source] shield::ShieldOrderError),
    /// The alarm for the ends of rules could not be made.
    #[error("the alarm for the ends of rules could not be made")]
    Alarm(#[source] io::Error),
    /// A socket could not be bound.
    #[error("a socket for operators or readers could not be bound")]
    Bind(#[from] SocketBindError),
}

/// The supervisor failed while its sandbox was running. The ruleset stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorServeError {
    /// Reading the packet log failed.
    #[error("the packet log can no longer be read")]
    Reader(#[from] reader::ReaderRunError),
    /// The name server inside the sandbox failed.
    #[error("the sandbox's name server failed")]
    NameServer(#[source] io::Error),
    /// The packet log of the gateway failed.
    #[error("the packet log of the gateway can no longer be read")]
    PacketLog(#[source] io::Error),
    /// The engine of the gateway failed.
    #[error("connections can no longer be made")]
    Egress(#[from] egress::EgressError),
    /// The alarm for the ends of rules failed.
    #[error("rules can no longer be ended in time")]
    Alarm(#[source] io::Error),
    /// A published port failed.
    #[error(transparent)]
    Publish(#[from] egress::publish::PublishPanicked),
    /// The end of the sandbox could not be observed.
    #[error("waiting for the end of the sandbox failed")]
    WatchProcess(#[source] io::Error),
    /// The server of the clearance socket failed.
    #[error("the clearance socket is no longer served")]
    Hub(#[from] varlink::VarlinkServeError),
    /// The server of the socket inside the sandbox failed.
    #[error("requests of the sandbox are no longer served")]
    Requests(#[source] varlink::VarlinkServeError),
    /// The server of the ingester socket failed.
    #[error("the ingester socket is no longer served")]
    Ingester(#[from] hub::ingest::IngestError),
    /// A task panicked, which indicates a bug.
    #[error("a task panicked: {0}")]
    Panicked(DisplayText),
}

/// The regular end of a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorExit {
    /// The sandbox ended.
    SandboxEnded,
    /// The supervisor was stopped; the sandbox remains under its ruleset.
    Stopped,
}

impl Supervisor {
    /// Applies the policy in the sandbox's network namespace (or attaches to the project's own
    /// ruleset there), verifies it, opens the packet log, and binds both sockets. Returns when all
    /// of this is done; questions wait in the kernel until [`serve`](Self::serve).
    ///
    /// Refuses a sandbox with a process that can go around the firewall, unless
    /// [`SupervisorConfig::allow_capabilities`] is set. A process that enters the namespace later
    /// (`podman exec --cap-add`) is not looked at.
    ///
    /// Requires a single-threaded tokio runtime.
    pub fn start(config: SupervisorConfig) -> Result<Self, SupervisorStartError> {
        let SupervisorConfig {
            container,
            dossier,
            processes,
            names,
            allowed_dests,
            hold,
            allow_capabilities,
            runtime_dir: runtime,
            journal,
        } = config;
        let capability_holder = check_capabilities(&processes, allow_capabilities)?;
        let netns = processes.netns_ref();
        let opened = netns.open_sockets(&[
            SocketSpec::Netfilter,
            SocketSpec::Netfilter,
            SocketSpec::Netfilter,
            SocketSpec::Netfilter,
            SocketSpec::SockDiag,
            SocketSpec::SockDiag,
            SocketSpec::SockDiag,
        ])?;
        let policy = names.policy()?;
        let journal = journal.map(|journal| journal.open(&container, &boot_id()));
        // Before the rules: a lookup that is redirected must find the name server.
        let (name_server, mut served) = match names {
            NameAccess::Resolvers(_) => (None, None),
            NameAccess::Server(config) => {
                let lookup = sandbox_lookup(&config, processes.netns_ref());
                let (served, wanted) = ServedNames::new(config.stand_in_key, lookup);
                let sockets = NameServerSockets::bind(&netns)?;
                (Some((sockets, wanted)), Some(served))
            }
        };
        let Ok(
            [
                orders,
                others,
                questions,
                answers,
                who_asks,
                connecting,
                ending,
            ],
        ) = <[_; 7]>::try_from(opened)
        else {
            return Err(EnterError::BadReply.into());
        };

        let mut shield = attach_or_engage([orders, others], &policy)?;
        if let Some(served) = &mut served {
            restore_names(&mut shield, served)?;
            if let Some(opened) = &journal {
                served.journal_names(opened);
            }
        }

        let sockets = reader::NflogSockets::bind(questions, answers)?;
        // Earlier questions were lost or belong to a reader that is gone.
        shield
            .flush_asked(std_now())
            .map_err(SupervisorStartError::FlushAsked)?;
        let first = first_request_number(Timestamp::now());
        let classifier = PacketClassifier::new(container.clone(), Dossier::default(), first);

        let ending = SocketDiag::new(ending)
            .inspect_err(|error| tracing::warn!(%error, "sockets are not ended with their rules"))
            .ok();
        let firewall = ShieldEnforcer::new(shield, hold, served, ending, journal.as_ref())
            .map_err(|error| SupervisorStartError::Shield(error.into()))?;
        for dest in allowed_dests {
            if let Err(reason) = firewall.allow(&dest) {
                let dest = dest.target;
                return Err(SupervisorStartError::Allow { dest, reason });
            }
        }
        Ok(Self {
            firewall,
            alarm: BootAlarm::new().map_err(SupervisorStartError::Alarm)?,
            name_server,
            who_asks,
            connecting,
            reader: NflogReader::new(sockets, classifier),
            service: SandboxService::bind(container, dossier.clone(), processes, &runtime)?,
            dossier,
            capability_holder,
            journal,
        })
    }

    /// Returns the reason why the state of the earlier supervisor is not used, if there was one.
    pub fn state_not_restored(&self) -> Option<&StateNotRestored> {
        self.journal.as_ref()?.lost.as_ref()
    }

    /// Returns a process of the sandbox that could go around the firewall at the start. `None`
    /// unless [`SupervisorConfig::allow_capabilities`] is set.
    pub const fn capability_holder(&self) -> Option<&FirewallBypass> {
        self.capability_holder.as_ref()
    }

    /// Calls `observer` at each step of a packet's processing.
    #[must_use]
    pub fn with_observer(self, observer: TraceObserver) -> Self {
        self.firewall.set_observer(observer);
        self
    }

    /// Lets connections wait from the start, until an operator comes, for at most the time for
    /// which they wait after the last operator has left: the first connection of a sandbox comes
    /// before the operators have found its hub.
    #[must_use]
    pub fn expecting_operator(self) -> Self {
        self.firewall.hold_connections(true);
        self
    }

    /// Adds rules from the start: those of options, profiles and the organisation.
    pub fn with_policy(self, policy: FilteredPolicy) -> Result<Self, SupervisorStartError> {
        self.firewall
            .add_policy(policy)
            .map_err(SupervisorStartError::Rule)?;
        Ok(self)
    }

    /// Returns the path of the socket for operators.
    pub fn hub_path(&self) -> &Path {
        self.service.hub_path()
    }

    /// Returns the path of the socket for events from other readers.
    pub fn ingester_path(&self) -> &Path {
        self.service.ingester_path()
    }

    /// Serves questions and answers until the sandbox ends or `stop` is cancelled.
    ///
    /// After the sandbox's end, its sockets close first to release the namespaces; then operators
    /// are notified (`container_exited`), queued events are delivered, and the socket files are
    /// removed.
    pub async fn serve(
        self,
        stop: CancellationToken,
    ) -> Result<SupervisorExit, SupervisorServeError> {
        let Self {
            firewall,
            alarm,
            name_server,
            who_asks,
            connecting,
            reader,
            dossier,
            service,
            capability_holder: _,
            journal,
        } = self;
        firewall.end_connections_without_rule();
        let earlier = journal.map(|opened| {
            opened.to_questions(|question| firewall.still_asks(question), dossier.read())
        });
        let hub = SandboxService::create_hub(firewall.clone(), earlier);
        hub.describe(HubDescription {
            way: HubStatus::FILTERED,
            published: Vec::new(),
        });
        let mut sink = SupervisorSink {
            hub: Arc::clone(&hub),
            firewall: firewall.clone(),
            dossier,
            who_asks: {
                let processes = service.processes().clone();
                let hub = Arc::clone(&hub);
                WhoAsks::start(who_asks, processes, move |subject, process| {
                    if let SearchSubject::Question(request) = subject {
                        hub.set_process(&request, Arc::new(process));
                    }
                })
            },
        };
        let connecting = SocketDiag::new(connecting)
            .inspect_err(|error| tracing::warn!(%error, "waiting connections are not counted"))
            .ok();
        let counted_hub = Arc::clone(&hub);
        let serving_names = {
            let firewall = firewall.clone();
            async {
                match name_server {
                    Some((sockets, wanted)) => sockets.serve(firewall, wanted).await,
                    None => std::future::pending().await,
                }
            }
        };
        let reading = async {
            tokio::select! {
                error = serving_names => Err(SupervisorServeError::NameServer(error)),
                read = reader.run(&mut sink, stop) => Ok(read?),
                never = switch_hold(&firewall, &counted_hub, connecting) => match never {},
                Err(error) = firewall.follow_ends(alarm) => Err(SupervisorServeError::Alarm(error)),
            }
        };
        service
            .serve(hub, reading, || firewall.close_shield())
            .await
    }
}

/// Returns a process that can go around the firewall, or refuses it.
fn check_capabilities(
    processes: &SandboxProcesses,
    allow_capabilities: bool,
) -> Result<Option<FirewallBypass>, SupervisorStartError> {
    let found = match processes.first_alive() {
        Some(process) => find_capability_holder(&process),
        None => return Err(EnterError::ProcessEnded.into()),
    };
    match found {
        Ok(None) => Ok(None),
        Ok(Some(holder)) if allow_capabilities => Ok(Some(holder.into())),
        Ok(Some(holder)) => Err(SupervisorStartError::Capability(holder.into())),
        Err(error) if allow_capabilities => {
            tracing::debug!(%error, "the capabilities of the sandbox's processes are unknown");
            Ok(None)
        }
        Err(error) => Err(SupervisorStartError::ReadCapabilities(error)),
    }
}

/// Returns the lookups of a sandbox's allowed names.
fn sandbox_lookup(config: &NameServerConfig, netns: NetnsRef) -> SandboxLookup {
    if config.resolvers.is_empty() {
        return config.lookup.clone();
    }
    let sockets = SandboxLookupSockets(SandboxSockets::new(netns));
    let resolvers = config.resolvers.iter().copied();
    SandboxLookup::new(DnsResolver::new(resolvers, sockets))
}

/// Gives the names of the orders of an earlier supervisor their stand-ins. An order whose stand-in
/// is taken ends.
fn restore_names(
    shield: &mut NftShield,
    served: &mut ServedNames,
) -> Result<(), SupervisorStartError> {
    let ordered: Vec<_> = shield
        .ordered_stand_ins()
        .map(|(stand_in, name)| (stand_in, name.clone()))
        .collect();
    for (stand_in, name) in ordered {
        if !served.restore_ordered(&name, stand_in) {
            tracing::warn!(%name, "the rule for a name ends: its stand-in address is taken");
            shield
                .forget(&Target::Address(stand_in.into()), std_now())
                .map_err(SupervisorStartError::RestoreNames)?;
        }
    }
    Ok(())
}

/// Attaches to the existing ruleset and its orders if it matches `policy`; otherwise engages a new
/// one without orders.
fn attach_or_engage(
    sockets: [OwnedFd; 2],
    policy: &Policy,
) -> Result<NftShield, shield::ShieldError> {
    let [first, second] = sockets;
    NftShield::attach(first, policy, std_now()).or_else(|error| {
        tracing::debug!(error = %error_chain(&error), "no ruleset to attach to");
        NftShield::engage(second, policy)
    })
}

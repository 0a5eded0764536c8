// SPDX-License-Identifier: Apache-2.0
//! The supervisor of a sandbox without a connection of its own: every connection is dialed for it.

mod agent_requests;
mod approver;
mod kept;
mod question_sink;
mod refusal_log;
mod rules;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use egress::dial::DialSockets;
use egress::publish::{PublishError, PublishSpec, PublishedPort, PublishedPorts, SandboxSockets};
use egress::{
    EgressConfig, EgressEngine, GatewaySockets, GatewaySocketsError, HoldLimit, LoopbackDns,
    ProxySettings,
};
use hub::{Hub, HubDescription};
use names::{ForwarderConfig, NameLookup, StandInKey};
use netns::gateway::GatewayNetns;
use netns::{EnterError, SandboxProcesses, SocketSpec};
use reader::PacketLog;
use reader::nflog::NflogBindError;
use terok_clearance::nflog::{HELD_CONNECTIONS_GROUP, OTHER_PACKETS_GROUP};
use terok_clearance::socket::{RuntimeDir, SandboxListener, SandboxSocket, SocketBindError};
use terok_clearance::varlink::serve_sandbox;
use terok_clearance::wire::clearance2::HubStatus;
use terok_clearance::{ContainerId, DisplayText, DomainName, Process};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::boot_clock::{BootAlarm, boot_id};
use crate::sandbox_service::SandboxService;
use crate::state_journal::OpenedJournal;
use crate::who_asks::{SearchSubject, WhoAsks};
use crate::{
    DossierSource, StateJournal, StateNotRestored, SupervisorExit, SupervisorServeError,
    TraceEvent, TraceObserver,
};

use agent_requests::RequestService;
use approver::{ApproverQueue, ApproverService, approver_queue};
use question_sink::{QuestionIdentity, QuestionSink};
use rules::DialedRules;

pub use approver::ApproverConfig;
pub use kept::{DialedPolicy, EarlierAnswer, KeptAnswers, KeptPlace, KeptRule, LongestAnswer};

/// Maximum packets handled before other events get their turn.
const PACKETS_PER_TURN: usize = 64;

/// The configuration of a supervisor that dials for its sandbox.
#[derive(Debug)]
pub struct DialedConfig<N, D> {
    /// The sandbox's id; its first twelve characters name the sockets.
    pub container: ContainerId,
    /// Context for operators, part of every question.
    pub dossier: DossierSource,
    /// Processes in the sandbox's network namespace. The end of the last one is the end of the
    /// supervisor.
    pub processes: SandboxProcesses,
    /// The gateway of the sandbox; `None` for a sandbox without any connection.
    pub gateway: Option<GatewayNetns>,
    /// The sandbox has no configured resolver: its programs send queries to `127.0.0.1`.
    pub asks_loopback: bool,
    /// The rules at the start, and the limits of answers.
    pub policy: DialedPolicy,
    /// The socket at which programs in the sandbox ask. The first of `processes` is then the first
    /// one of the sandbox, and a child that the caller does not reap before the supervisor has
    /// ended.
    pub requests: Option<SandboxSocket>,
    /// The program that gets each question before a person does.
    pub approver: Option<ApproverConfig>,
    /// Notified when a file of kept answers may have changed.
    pub kept_changed: Arc<Notify>,
    /// The operator's runtime directory, with the sockets of the hubs.
    pub runtime_dir: RuntimeDir,
    /// The ports of the sandbox that are published on the host.
    pub published: Vec<PublishSpec>,
    /// The time that connections wait for an answer.
    pub hold: HoldLimit,
    /// Connections to names are checked for the server name that they ask for.
    pub check_server_names: bool,
    /// An operator's user interface is about to connect: connections of the first seconds wait.
    pub expects_operator: bool,
    /// The proxy of the operator's network.
    pub proxy: Option<ProxySettings>,
    /// The lookup of allowed names.
    pub lookup: N,
    /// The sockets outside.
    pub sockets: D,
    /// Names that do not exist for the sandbox, besides the usual ones.
    pub absent_names: Vec<DomainName>,
    /// The key of the stand-in addresses: the same key gives a name the same address.
    pub stand_in_key: StandInKey,
    /// What a supervisor of this sandbox finds after this one was killed, and what this one finds
    /// of an earlier one.
    pub journal: Option<StateJournal>,
}

/// A supervisor that dials could not start. The sandbox has no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialedStartError {
    /// The sandbox's network namespace could not be entered.
    #[error("the sandbox's network namespace could not be entered")]
    Enter(#[from] EnterError),
    /// The sockets of the gateway are missing.
    #[error(transparent)]
    Sockets(#[from] GatewaySocketsError),
    /// The ruleset of the gateway is not in force.
    #[error("the rules of the gateway could not be loaded")]
    Rules(#[from] shield::ShieldError),
    /// The packet log could not be opened.
    #[error("the packet log of the gateway could not be opened")]
    PacketLog(#[from] NflogBindError),
    /// There are too many rules at the start.
    #[error("the rules could not be stored")]
    Allow(#[from] policy::RuleTableFull),
    /// A file of kept answers could not be read.
    #[error("{0}")]
    Kept(DisplayText),
    /// The alarm for the ends of rules could not be created.
    #[error("the alarm for the ends of rules could not be created")]
    Alarm(#[source] io::Error),
    /// A port could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The socket for programs in the sandbox could not be listened at.
    #[error("the socket for requests of the sandbox could not be listened at")]
    Requests(#[source] io::Error),
    /// An approver is not permitted.
    #[error("the organisation's policy does not permit an approver")]
    ApproverForbidden,
    /// A socket for operators or readers could not be bound.
    #[error("a socket for operators or readers could not be bound")]
    Bind(#[from] SocketBindError),
}

/// One sandbox's gateway, hub and engine, ready to serve.
#[derive(Debug)]
pub struct DialedSupervisor<N, D> {
    service: SandboxService,
    rules: DialedRules,
    alarm: BootAlarm,
    requests: Option<SandboxListener>,
    approver: Option<ApproverConfig>,
    /// The gateway, and two sockets for the list of the sandbox's sockets.
    gateway: Option<(OpenGateway, [OwnedFd; 2])>,
    published: PublishedPorts,
    inside: SandboxSockets,
    container: ContainerId,
    dossier: DossierSource,
    hold: HoldLimit,
    check_server_names: bool,
    expects_operator: bool,
    proxy: Option<ProxySettings>,
    lookup: N,
    sockets: D,
    forwarder: ForwarderConfig,
    journal: Option<OpenedJournal>,
}

#[derive(Debug)]
struct OpenGateway {
    egress: egress::EgressSockets,
    held_log: PacketLog,
    other_log: PacketLog,
}

impl<N: NameLookup, D: DialSockets> DialedSupervisor<N, D> {
    /// Opens the sockets of the gateway, loads and verifies its rules, and binds the published
    /// ports and the sockets for operators and readers. Connections wait until
    /// [`serve`](Self::serve).
    ///
    /// Requires a tokio runtime.
    pub fn start(config: DialedConfig<N, D>) -> Result<Self, DialedStartError> {
        let DialedConfig {
            container,
            dossier,
            processes,
            gateway,
            asks_loopback,
            policy,
            requests,
            approver,
            kept_changed,
            runtime_dir,
            published,
            hold,
            check_server_names,
            expects_operator,
            proxy,
            lookup,
            sockets,
            absent_names,
            stand_in_key,
            journal,
        } = config;
        let journal = journal.map(|journal| journal.open(&container, &boot_id()));
        let mut forwarder = ForwarderConfig::new(stand_in_key);
        if let Some(opened) = &journal {
            forwarder.earlier = opened.earlier_names();
            forwarder.observer = Some(opened.name_observer());
        }
        forwarder.absent_names.extend(absent_names);
        let gateway = gateway
            .as_ref()
            .map(|gateway| OpenGateway::open(gateway, &processes, asks_loopback))
            .transpose()?;
        if policy.forbids_approver && approver.is_some() {
            return Err(DialedStartError::ApproverForbidden);
        }
        let init = i32::try_from(processes.first_pid()).unwrap_or(0); // 0: no peer
        let requests = requests.map(|socket| socket.listen(init)).transpose();
        let requests = requests.map_err(DialedStartError::Requests)?;
        let rules = DialedRules::new(policy, kept_changed, journal.as_ref())?;
        rules.load_kept().map_err(DialedStartError::Kept)?;
        Ok(Self {
            published: PublishedPorts::bind(&published)?,
            inside: SandboxSockets::new(processes.netns_ref()),
            service: SandboxService::bind(
                container.clone(),
                dossier.clone(),
                processes,
                &runtime_dir,
            )?,
            rules,
            alarm: BootAlarm::new().map_err(DialedStartError::Alarm)?,
            requests,
            approver,
            gateway,
            container,
            dossier,
            hold,
            check_server_names,
            // The one who was there is about to come back.
            expects_operator: expects_operator || journal.as_ref().is_some_and(|j| j.is_restart),
            proxy,
            lookup,
            sockets,
            forwarder,
            journal,
        })
    }

    /// Calls `observer` at each question, answer, connection and notice.
    #[must_use]
    pub fn with_observer(self, observer: TraceObserver) -> Self {
        self.rules.set_observer(observer);
        self
    }

    /// Returns the reason why the state of the earlier supervisor is not used, if there was one.
    pub fn state_not_restored(&self) -> Option<&StateNotRestored> {
        self.journal.as_ref()?.lost.as_ref()
    }

    /// Returns the path of the socket for operators.
    pub fn hub_path(&self) -> &Path {
        self.service.hub_path()
    }

    /// Returns the published ports.
    pub fn published(&self) -> impl Iterator<Item = &PublishedPort> {
        self.published.ports()
    }

    /// Serves questions, answers and connections until the sandbox ends or `stop` is cancelled.
    /// The end of the returned future ends every connection of the sandbox.
    pub async fn serve(
        self,
        stop: CancellationToken,
    ) -> Result<SupervisorExit, SupervisorServeError> {
        let Self {
            service,
            rules,
            alarm,
            requests,
            approver,
            gateway,
            published,
            inside,
            container,
            dossier,
            hold,
            check_server_names,
            expects_operator,
            proxy,
            lookup,
            sockets,
            forwarder,
            journal,
        } = self;
        let earlier = journal.as_ref().map(|opened| {
            opened.to_questions(|question| rules.still_asks(question), dossier.read())
        });
        let hub = SandboxService::create_hub(rules.clone(), earlier);
        hub.describe(HubDescription {
            way: HubStatus::DIALED,
            published: published.ports().map(describe_port).collect(),
        });
        let (ends, files) = (rules.clone(), rules.clone());
        let last = rules.clone();
        let processes = service.processes().clone();
        let approver = approver.map(|config| approver_queue(config, Arc::clone(&hub)));
        let (approver_queue, approver) = approver.unzip();
        let (queries, ahead) = mpsc::channel(agent_requests::MAX_WAITING_QUERIES);
        let engine = gateway.is_some().then_some(queries);
        let asking = RequestService::new(Arc::clone(&hub), rules.clone(), engine);
        let gateway = gateway.map(|(gateway, [who_asks, sockets_inside])| {
            let found = report_process(Arc::clone(&hub), rules.clone());
            let who_asks = WhoAsks::start(who_asks, processes, found);
            let identity = QuestionIdentity { container, dossier };
            let config = EgressConfig {
                policy: Arc::new(rules.clone()),
                rules_changed: rules.changed(),
                lookup: Arc::new(lookup),
                sockets: Arc::new(sockets),
                proxy,
                forwarder,
                hold,
                check_server_names,
                answerers: hub.answerers(),
                approver: approver_queue.as_ref().map(ApproverQueue::deciding),
                ahead: Some(ahead),
                expects_operator,
                connections: rules.connections(),
                sink: QuestionSink::new(
                    Arc::clone(&hub),
                    rules,
                    identity,
                    who_asks,
                    approver_queue,
                    sockets_inside,
                    journal.as_ref(),
                ),
            };
            Box::pin(gateway.run(config))
        });
        // Boxed: a `run` holds this future in its own.
        let requests = Box::pin(async {
            match requests {
                Some(listener) => {
                    let limits = agent_requests::LIMITS;
                    serve_sandbox(listener, Arc::new(asking), limits, stop.clone()).await
                }
                None => std::future::pending().await,
            }
        });
        let approver = or_pending(approver.map(ApproverService::serve));
        let work = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ended = or_pending(gateway) => ended,
                Err(error) = ends.follow_ends(alarm) => Err(SupervisorServeError::Alarm(error)),
                () = files.follow_kept() => Ok(()),
                Err(error) = requests => Err(SupervisorServeError::Requests(error)),
                Err(panic) = approver => Err(SupervisorServeError::Panicked(panic)),
                Err(error) = published.serve(Arc::new(inside)) => Err(error.into()),
            }
        };
        let served = service.serve(hub, work, || {}).await;
        last.report_last_connections();
        served
    }
}

/// Returns a published port as `127.0.0.1:8080 -> 80/tcp`.
fn describe_port(port: &PublishedPort) -> DisplayText {
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    DisplayText::new(&format!("{addresses} -> {}/{}", port.port, port.protocol))
}

/// Waits for a future; forever without one.
async fn or_pending<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Returns what to do with a process that was found.
fn report_process(
    hub: Arc<Hub<DialedRules>>,
    rules: DialedRules,
) -> impl Fn(SearchSubject, Process) {
    move |subject, process| match subject {
        SearchSubject::Question(request) => hub.set_process(&request, Arc::new(process)),
        SearchSubject::Connection(connection) => {
            let process = &process;
            rules.emit_trace(TraceEvent::ProcessFound {
                connection,
                process,
            });
        }
    }
}

impl OpenGateway {
    /// Opens a gateway and two sockets for the list of the sandbox's sockets.
    fn open(
        gateway: &GatewayNetns,
        processes: &SandboxProcesses,
        asks_loopback: bool,
    ) -> Result<(Self, [OwnedFd; 2]), DialedStartError> {
        let sandbox_diag = processes
            .netns_ref()
            .open_sockets(&[SocketSpec::SockDiag; 2])?;
        let Ok(sandbox_diag) = <[_; 2]>::try_from(sandbox_diag) else {
            return Err(EnterError::BadReply.into());
        };
        let GatewaySockets {
            rules,
            held_log,
            other_log,
            egress,
        } = GatewaySockets::open(gateway)?;
        // Before the rules: no packet may be logged to a group without a listener.
        let held_log = PacketLog::bind(held_log, HELD_CONNECTIONS_GROUP)?;
        let other_log = PacketLog::bind(other_log, OTHER_PACKETS_GROUP)?;
        shield::engage_gateway(rules, gateway.has_ipv6())?;
        let loopback = asks_loopback.then(|| LoopbackDns::bind(&processes.netns_ref()));
        let opened = Self {
            egress: egress.with_loopback(loopback.transpose()?),
            held_log,
            other_log,
        };
        Ok((opened, sandbox_diag))
    }

    /// Runs the engine until it fails.
    async fn run<P, N, D, S>(
        self,
        config: EgressConfig<P, N, D, S>,
    ) -> Result<(), SupervisorServeError>
    where
        P: egress::EgressPolicy,
        N: NameLookup,
        D: DialSockets,
        S: egress::EgressSink,
    {
        let Self {
            egress,
            mut held_log,
            mut other_log,
        } = self;
        let mut engine = EgressEngine::new(egress, config);
        loop {
            tokio::select! {
                received = held_log.receive() => {
                    received.map_err(SupervisorServeError::PacketLog)?;
                    let mut has_more = false;
                    for _ in 0..PACKETS_PER_TURN {
                        held_log.packets().for_each(|at| engine.handle_connection_request(at));
                        let more = held_log.receive_ready();
                        has_more = more.map_err(SupervisorServeError::PacketLog)?;
                        if !has_more {
                            break;
                        }
                    }
                    if has_more {
                        held_log.packets().for_each(|at| engine.handle_connection_request(at));
                        // Other tasks of the thread must run even in a flood.
                        tokio::task::yield_now().await;
                    }
                }
                received = other_log.receive() => {
                    received.map_err(SupervisorServeError::PacketLog)?;
                    other_log.packets().for_each(|packet| engine.handle_other_packet(packet));
                }
                stepped = engine.step() => stepped?,
            }
        }
    }
}

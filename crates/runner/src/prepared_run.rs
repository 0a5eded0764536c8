// SPDX-License-Identifier: Apache-2.0
//! The set-up of a run: sandbox, firewall, network, user interfaces, command.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use names::{HostResolver, read_host_labels, read_search_domains};
use netns::gateway::GatewayNetns;
use netns::sandbox::{RunningSandbox, Sandbox};
use netns::{ProcessHandle, SandboxProcesses};
use record::AuditSandbox;
use store::{ProjectPath, RuleFileWatch, RuleStore};
use supervisor::{
    DialedConfig, DialedStartError, DialedSupervisor, HostSockets, TraceEvent, TraceObserver,
};
use terok_clearance::socket::{RuntimeDir, SandboxSocket};
use terok_clearance::{ContainerId, DisplayText, DomainName, Dossier, Timestamp};
use tokio::sync::{Notify, mpsc};

use crate::controlling_tty::ControllingTty;
use crate::earlier_answers::read_earlier_answers;
use crate::frontend::RunFrontend;
use crate::learnt_dests::LearntRecorder;
use crate::open_files::raise_open_files_limit;
use crate::run_record::RunRecord;
use crate::sandbox_spec::build_sandbox_spec;
use crate::session::{RunEvent, RunSession, RunSupervisor};
use crate::signals::RunSignals;
use crate::stand_in_key::load_stand_in_key;
use crate::stream_relay::StreamPipes;
use crate::summary::SummaryRecorder;
use crate::{NetworkChoice, PopupChoice, RunConfig, RunError, RunOutcome, RunReporter};

/// Maximum notices that wait for the terminal; further ones are in the log only.
const MAX_WAITING_NOTICES: usize = 64;

/// The directory in the runtime directory for the sockets of sandboxes that are being built.
const REQUESTS_DIR: &str = "terok/requests";

/// A sandbox with its gateway, without rules or command.
#[derive(Debug)]
pub struct PreparedRun {
    config: RunConfig,
    tty: Option<ControllingTty>,
    streams: StreamPipes,
    sandbox: Sandbox,
    gateway: Option<GatewayNetns>,
    requests: SandboxSocket,
}

impl PreparedRun {
    /// Finds the terminal, and builds the sandbox and its gateway.
    ///
    /// Forks, and so must be called before the process has threads or a tokio runtime.
    pub fn build(config: RunConfig) -> Result<Self, RunError> {
        let (tty, terminal) = ControllingTty::find()?.unzip();
        let (streams, replaced) =
            StreamPipes::replace_sockets().map_err(RunError::ReplaceStreams)?;
        let requests = SandboxSocket::bind(&config.runtime_dir.join(REQUESTS_DIR));
        let mut requests = requests.map_err(RunError::BindRequests)?;
        let spec = build_sandbox_spec(&config, terminal, replaced, &requests)?;
        let sandbox = Sandbox::build(&spec).map_err(RunError::BuildSandbox)?;
        requests.hide();
        let gateway = match config.network {
            NetworkChoice::None => None,
            NetworkChoice::Dialed => {
                let gateway = GatewayNetns::build(sandbox.init_process());
                Some(gateway.map_err(RunError::BuildGateway)?)
            }
        };
        Ok(Self {
            config,
            tty,
            streams,
            sandbox,
            gateway,
            requests,
        })
    }

    /// Loads the rules of the gateway, starts the command and serves the command until the end,
    /// when nothing of the sandbox is left.
    ///
    /// Requires a single-threaded tokio runtime.
    pub async fn run(self, reporter: &dyn RunReporter) -> Result<RunOutcome, RunError> {
        let Self {
            config,
            tty,
            streams,
            sandbox,
            gateway,
            requests,
        } = self;
        let mut signals = RunSignals::catch().map_err(RunError::CatchSignals)?;
        let process = sandbox.init_process().try_clone();
        let process = process.map_err(RunError::OpenSandbox)?;
        // The command keeps the old limit: the init process of its sandbox exists already.
        raise_open_files_limit();
        let (notices, events) = mpsc::channel(MAX_WAITING_NOTICES);
        let is_connected = gateway.is_some();
        let container = random_container_id()?;
        let dossier = build_dossier(config.name.as_deref(), &config.command);
        let observers = RunObservers {
            recorder: SummaryRecorder::default(),
            learnt: LearntRecorder::default(),
            record: RunRecord::begin(
                &config,
                audit_sandbox(&config, &container, &dossier),
                &notices,
            )?,
        };
        let kept_changed = Arc::default();
        let kept = config.rules.kept.as_ref();
        let rule_files = kept.and_then(|kept| watch_rule_files(&kept.store));
        let identity = SandboxIdentity { container, dossier };
        let inside = SandboxParts {
            process,
            gateway,
            requests,
        };
        let supervisor = start_supervisor(&config, identity, inside, &kept_changed)?
            .with_observer(observers.observer(notices));
        let frontend = tokio::select! {
            biased;
            signal = signals.next_terminating() => return Ok(RunOutcome::Interrupted { signal }),
            frontend = RunFrontend::select(&config) => frontend?,
        };
        let streams = streams.start().map_err(RunError::ReplaceStreams)?;
        let running = start_command(sandbox, &config.command)?;
        let session = RunSession {
            running,
            signals,
            tty,
            streams,
            shared_sockets: config.shared_sockets,
            is_connected,
            rules: config.rules,
            rule_files,
            kept_changed,
            events,
            frontend,
            recorder: observers.recorder,
            learnt: observers.learnt,
            record: observers.record,
            reporter,
        };
        Box::pin(session.run_until_exit(supervisor)).await
    }
}

/// What receives the events of the supervisor.
struct RunObservers {
    recorder: SummaryRecorder,
    learnt: LearntRecorder,
    record: RunRecord,
}

impl RunObservers {
    /// Returns the observer. A notice for which `notices` has no room is in the log only.
    fn observer(&self, notices: mpsc::Sender<RunEvent>) -> TraceObserver {
        let Self {
            recorder,
            learnt,
            record,
        } = self;
        let (recorder, learnt, record) = (recorder.clone(), learnt.clone(), record.clone());
        Box::new(move |event| {
            recorder.observe(&event);
            learnt.observe(&event);
            record.observe(&event);
            let event = match event {
                TraceEvent::Notice(notice) => RunEvent::Egress(notice.clone()),
                TraceEvent::KeptUnreadable(reason) => RunEvent::KeptUnreadable(reason.clone()),
                _ => return,
            };
            drop(notices.try_send(event));
        })
    }
}

/// The sandbox, as every question names it.
struct SandboxIdentity {
    container: ContainerId,
    dossier: Dossier,
}

/// The ends of the sandbox that the supervisor serves.
struct SandboxParts {
    process: ProcessHandle,
    gateway: Option<GatewayNetns>,
    requests: SandboxSocket,
}

/// Returns the sandbox, as the record names it.
fn audit_sandbox(config: &RunConfig, container: &ContainerId, dossier: &Dossier) -> AuditSandbox {
    let kept = config.rules.kept.as_ref();
    AuditSandbox {
        name: dossier.get(&DisplayText::new("name")).cloned(),
        project: kept
            .and_then(|kept| kept.project.as_ref())
            .map(ProjectPath::display_text),
        // The id is new with each run.
        run: None,
        ..AuditSandbox::new(container.clone())
    }
}

/// Returns the watch on the rule files; `None` if changes cannot be noticed.
fn watch_rule_files(store: &RuleStore) -> Option<RuleFileWatch> {
    RuleFileWatch::new(store.config_dir())
        .inspect_err(|error| tracing::warn!(%error, "changes of the rule files are not noticed"))
        .ok()
}

fn start_supervisor(
    config: &RunConfig,
    identity: SandboxIdentity,
    inside: SandboxParts,
    kept_changed: &Arc<Notify>,
) -> Result<RunSupervisor, RunError> {
    let SandboxParts {
        process,
        gateway,
        requests,
    } = inside;
    let uid = rustix::process::geteuid().as_raw();
    let by = DisplayText::new(&format!("uid {uid}"));
    let mut policy = config.rules.to_policy(Timestamp::now(), &by);
    let kept = config.rules.kept.as_ref();
    let project = kept.and_then(|kept| kept.project.as_ref());
    if let (Some(project), Some(_)) = (project, &gateway) {
        let own = config.state_dir.join(record::FILE_NAME);
        let first = config.records.first();
        let record = first.map_or(own, |record| record.path.clone());
        policy.earlier = read_earlier_answers(&record, project);
    }
    let supervisor = DialedSupervisor::start(DialedConfig {
        container: identity.container,
        dossier: identity.dossier.into(),
        processes: SandboxProcesses::below_socket_broker(process),
        gateway,
        asks_loopback: false,
        policy,
        requests: Some(requests),
        approver: config.approver.clone(),
        kept_changed: Arc::clone(kept_changed),
        runtime_dir: RuntimeDir::new(&config.runtime_dir),
        published: config.published.clone(),
        hold: config.hold,
        check_server_names: config.check_server_names,
        expects_operator: config.screen.is_some() || !matches!(config.popups, PopupChoice::Off),
        proxy: config.proxy.clone(),
        lookup: HostResolver::new(&config.hosts_file, &config.resolv_conf),
        sockets: HostSockets,
        absent_names: shadowed_names(&config.hosts_file, &config.resolv_conf),
        stand_in_key: load_stand_in_key(&config.state_dir).map_err(RunError::RandomId)?,
        journal: None,
    });
    supervisor.map_err(|error| match error {
        DialedStartError::Publish(error) => RunError::Publish(error),
        error => RunError::StartSupervisor(error),
    })
}

/// Returns the names that a search domain makes of the names of one label in the host's hosts file.
///
/// The sandbox has no such hosts file, so that its programs append search domains first. Each of
/// these names would have a stand-in address, and the one of the hosts file would never be tried.
fn shadowed_names(hosts_file: &Path, resolv_conf: &Path) -> Vec<DomainName> {
    let domains = read_search_domains(resolv_conf);
    let labels = read_host_labels(hosts_file);
    let append = |label: &DomainName| {
        let label = label.clone();
        domains
            .iter()
            .filter_map(move |domain| format!("{label}.{domain}").parse().ok())
    };
    labels.iter().flat_map(append).collect()
}

fn start_command(sandbox: Sandbox, command: &[OsString]) -> Result<RunningSandbox, RunError> {
    sandbox.start().map_err(|source| {
        let program = command.first().map(OsString::as_os_str).unwrap_or_default();
        RunError::StartCommand {
            program: DisplayText::new(&program.to_string_lossy()),
            source,
        }
    })
}

/// Returns a new id of twelve hexadecimal digits, the length of ids in socket names.
fn random_container_id() -> Result<ContainerId, RunError> {
    let random = || -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let digits = format!(
        "{:016x}",
        u64::from_ne_bytes(random().map_err(RunError::RandomId)?)
    );
    Ok(digits.get(..12).unwrap_or_default().parse()?)
}

/// Returns the description of the sandbox in questions.
fn build_dossier(name: Option<&str>, command: &[OsString]) -> Dossier {
    let program = command
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .unwrap_or_default();
    let name = name.map_or_else(|| program.to_string_lossy().into_owned(), str::to_owned);
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let entry = |key: &str, value: &str| (DisplayText::new(key), DisplayText::name(value));
    Dossier::new([entry("name", &name), entry("command", &words.join(" "))].into())
}

// SPDX-License-Identifier: Apache-2.0
//! The set-up of a run: sandbox, firewall, network, user interfaces, command.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use names::{HostResolver, read_host_labels, read_search_domains};
use netns::ProcessHandle;
use netns::gateway::GatewayNetns;
use netns::sandbox::{RunningSandbox, Sandbox};
use policy::{RuleOrigin, RuleSpec, RuleTerm};
use supervisor::{DialedConfig, DialedPolicy, DialedStartError, DialedSupervisor, HostSockets};
use terok_clearance::socket::{RuntimeDir, SandboxSocket};
use terok_clearance::{Action, ContainerId, DisplayText, DomainName, Dossier, Timestamp};
use tokio::sync::mpsc;

use crate::controlling_tty::ControllingTty;
use crate::frontend::RunFrontend;
use crate::open_files::raise_open_files_limit;
use crate::sandbox_spec::build_sandbox_spec;
use crate::session::{RunSession, RunSupervisor};
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
        let recorder = SummaryRecorder::default();
        let (notices, egress_notices) = mpsc::channel(MAX_WAITING_NOTICES);
        let is_connected = gateway.is_some();
        let supervisor = start_supervisor(&config, process, gateway, requests)?
            .with_observer(recorder.observer(notices));
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
            egress_notices,
            frontend,
            recorder,
            reporter,
        };
        Box::pin(session.run_until_exit(supervisor)).await
    }
}

fn start_supervisor(
    config: &RunConfig,
    process: ProcessHandle,
    gateway: Option<GatewayNetns>,
    requests: SandboxSocket,
) -> Result<RunSupervisor, RunError> {
    let supervisor = DialedSupervisor::start(DialedConfig {
        container: random_container_id()?,
        dossier: build_dossier(config.name.as_deref(), &config.command),
        process,
        gateway,
        policy: start_policy(config),
        requests: Some(requests),
        approver: config.approver.clone(),
        kept_changed: Arc::default(),
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
    });
    supervisor.map_err(|error| match error {
        DialedStartError::Publish(error) => RunError::Publish(error),
        error => RunError::StartSupervisor(error),
    })
}

/// Returns the rules of the sandbox at its start.
fn start_policy(config: &RunConfig) -> DialedPolicy {
    let since = Timestamp::now();
    let rules = config.allowed.iter().map(|pattern| RuleSpec {
        pattern: pattern.clone(),
        action: Action::Allow,
        term: RuleTerm::Run,
        origin: RuleOrigin::Flag,
        by: DisplayText::default(),
        since,
    });
    DialedPolicy {
        rules: rules.collect(),
        allows_bypass: true,
        ..DialedPolicy::default()
    }
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

// SPDX-License-Identifier: Apache-2.0
//! The set-up of a run: sandbox, firewall, network, user interfaces, command.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;

use netns::ProcessHandle;
use netns::sandbox::{RunningSandbox, Sandbox};
use shield::Policy;
use supervisor::{AllowedDest, Supervisor, SupervisorConfig};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DisplayText, DomainName, Dossier, Target};

use crate::controlling_tty::ControllingTty;
use crate::frontend::RunFrontend;
use crate::network_helper::NetworkHelper;
use crate::sandbox_spec::build_sandbox_spec;
use crate::session::RunSession;
use crate::signals::RunSignals;
use crate::summary::SummaryRecorder;
use crate::{RunConfig, RunError, RunNotice, RunOutcome, RunReporter};

/// A sandbox without firewall, connection or command.
#[derive(Debug)]
pub struct PreparedRun {
    config: RunConfig,
    helper: Option<NetworkHelper>,
    tty: Option<ControllingTty>,
    sandbox: Sandbox,
}

impl PreparedRun {
    /// Finds the network helper and the terminal, and builds the sandbox.
    ///
    /// Forks, and so must be called before the process has threads or a tokio runtime.
    pub fn build(config: RunConfig) -> Result<Self, RunError> {
        let helper = NetworkHelper::find(config.network, config.search_path.as_deref())?;
        let resolver = helper.as_ref().map(NetworkHelper::resolver);
        let (tty, terminal) = ControllingTty::find()?.unzip();
        let spec = build_sandbox_spec(&config, resolver, terminal)?;
        let sandbox = Sandbox::build(&spec).map_err(RunError::BuildSandbox)?;
        Ok(Self {
            config,
            helper,
            tty,
            sandbox,
        })
    }

    /// Loads the firewall, connects the network, starts the command and serves the command until
    /// the end, when nothing of the sandbox is left.
    ///
    /// Requires a single-threaded tokio runtime.
    pub async fn run(self, reporter: &dyn RunReporter) -> Result<RunOutcome, RunError> {
        let Self {
            config,
            helper,
            tty,
            sandbox,
        } = self;
        let mut signals = RunSignals::catch().map_err(RunError::CatchSignals)?;
        let resolver = helper.as_ref().map(NetworkHelper::resolver);
        let process = sandbox.init_process().try_clone();
        let process = process.map_err(RunError::OpenSandbox)?;
        let recorder = SummaryRecorder::default();
        let supervisor = Supervisor::start(supervisor_config(&config, process, resolver)?)
            .map_err(RunError::StartSupervisor)?
            .with_observer(recorder.observer());
        let netns = sandbox.netns_ref().map_err(RunError::OpenSandbox)?;
        let interrupted = |signal| Ok(RunOutcome::Interrupted { signal });
        let connection = match &helper {
            None => None,
            Some(helper) => tokio::select! {
                biased;
                signal = signals.next_terminating() => return interrupted(signal),
                connected = helper.connect(sandbox.init_process(), &netns) => Some(connected?),
            },
        };
        let allowed = &config.allowed_dests;
        if let Some(resolver) = resolver.filter(|_| connection.is_some()) {
            tokio::select! {
                biased;
                signal = signals.next_terminating() => return interrupted(signal),
                unresolved = resolve_allowed_names(&supervisor, resolver, allowed) => {
                    for name in unresolved? {
                        if let Some(text) = reporter.message(&RunNotice::NameNotResolved(&name)) {
                            reporter.print(&text);
                        }
                    }
                }
            }
        }
        let frontend = tokio::select! {
            biased;
            signal = signals.next_terminating() => return interrupted(signal),
            frontend = RunFrontend::select(&config) => frontend?,
        };
        let running = start_command(sandbox, &config.command)?;
        let session = RunSession {
            running,
            signals,
            tty,
            connection,
            frontend,
            recorder,
            reporter,
        };
        session.run_until_exit(supervisor).await
    }
}

fn supervisor_config(
    config: &RunConfig,
    process: ProcessHandle,
    resolver: Option<IpAddr>,
) -> Result<SupervisorConfig, RunError> {
    Ok(SupervisorConfig {
        container: random_container_id()?,
        dossier: build_dossier(config.name.as_deref(), &config.command),
        process,
        policy: Policy::new(resolver).map_err(RunError::MakePolicy)?,
        allowed_dests: config.allowed_dests.clone(),
        runtime_dir: RuntimeDir::new(&config.runtime_dir),
    })
}

/// Looks up the allowed names, so that the command's first packet to each name passes. Returns the
/// names without an answer of the resolver.
async fn resolve_allowed_names(
    supervisor: &Supervisor,
    resolver: IpAddr,
    allowed: &[AllowedDest],
) -> Result<Vec<DomainName>, RunError> {
    let names: Vec<_> = allowed
        .iter()
        .filter_map(|dest| match &dest.target {
            Target::Name(name) => Some(name.clone()),
            Target::Address(_) => None,
        })
        .collect();
    let unresolved = supervisor.resolve_names(resolver, &names).await;
    unresolved.map_err(RunError::ResolveNames)
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
    let entry = |key: &str, value: &str| (DisplayText::new(key), DisplayText::new(value));
    Dossier::new([entry("name", &name), entry("command", &words.join(" "))].into())
}

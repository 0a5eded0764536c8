// SPDX-License-Identifier: Apache-2.0
//! The stages of a demo: prepared, started, run.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use names::StandInKey;
use netns::SandboxProcesses;
use netns::gateway::{GATEWAY_V4, GatewayNetns};
use netns::sandbox::{Sandbox, SandboxSpec, WorkloadSpec};
use supervisor::{DialedConfig, DialedPolicy, DossierSource, HoldLimit};
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DisplayText, error_chain};
use tokio::time::timeout;

use crate::answers::{AnswerSource, DemoAnswers};
use crate::clock::now_us;
use crate::demo_operator::DemoOperator;
use crate::error::{DemoError, DemoPartError};
use crate::inspector::NetworkInspector;
use crate::internet_sockets::{InternetLookup, InternetSockets};
use crate::outcome::DemoOutcome;
use crate::output::DemoOutput;
use crate::processes::{
    InternetProcess, SupervisorThread, WORKLOAD_PART, WorkloadPipes, WorkloadProcess,
};
use crate::protocol::WorkloadMessage;
use crate::report::DemoStep;
use crate::scenario::DemoScenario;
use crate::{WORKLOAD_COMMAND, topology};

/// Prefix of the name of the directory with the demo's sockets.
pub(crate) const DIRECTORY_PREFIX: &str = "terok-demo-";
/// The key of the stand-in addresses, which are the same in every demo.
const STAND_IN_KEY: [u8; 16] = *b"terok-clearance\0";
/// Maximum time for removing popups at the end.
const UI_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A demo with an empty sandbox.
#[derive(Debug)]
pub struct PreparedDemo {
    sandbox: Sandbox,
    gateway: GatewayNetns,
    pipes: WorkloadPipes,
    directory: TempDir,
}

impl PreparedDemo {
    /// Builds the sandbox and its gateway. `program` is the path of this program, which the sandbox
    /// runs as well.
    ///
    /// Forks, and must therefore be called before the process has threads.
    pub fn build(program: &Path, output: DemoOutput<'_>) -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new()
            .prefix(DIRECTORY_PREFIX)
            .tempdir_in("/tmp")
            .map_err(DemoError::CreateDirectory)?;
        let began_at = now_us();
        let (pipes, stdio) = WorkloadPipes::new().map_err(DemoError::CreatePipes)?;
        let spec = sandbox_spec(program, directory.path(), stdio);
        let sandbox = Sandbox::build(&spec).map_err(DemoError::BuildSandbox)?;
        let gateway = GatewayNetns::build(sandbox.init_process());
        let gateway = gateway.map_err(DemoError::BuildGateway)?;
        output.report(&DemoStep::Sandbox {
            pid: sandbox.init_process().pid(),
            took_us: now_us() - began_at,
        })?;
        Ok(Self {
            sandbox,
            gateway,
            pipes,
            directory,
        })
    }

    /// Starts the simulated internet, loads and verifies the firewall, and starts the hub.
    ///
    /// Must be called within a tokio runtime.
    pub async fn start(self, output: DemoOutput<'_>) -> Result<StartedDemo, DemoError> {
        let Self {
            directory,
            pipes,
            gateway,
            sandbox,
        } = self;
        let began_at = now_us();
        let init = sandbox.init_process();
        let (internet, without_v6) = InternetProcess::start(init, directory.path()).await?;
        let sockets = InternetSockets::open(internet.netns_ref()?, without_v6.is_none());
        let sockets = sockets.map_err(DemoError::EnterInternet)?;
        output.report(&DemoStep::Internet {
            pid: internet.pid(),
            hosts: topology::HOSTS.len(),
            without_v6: without_v6.clone(),
            took_us: now_us() - began_at,
        })?;

        let began_at = now_us();
        let container: ContainerId = "demo".parse()?;
        let inspector = NetworkInspector::new(&sandbox, &gateway)?;
        let supervisor = SupervisorThread::start(DialedConfig {
            container: container.clone(),
            dossier: DossierSource::default(),
            processes: SandboxProcesses::below_socket_broker(
                init.try_clone().map_err(DemoError::OpenSandbox)?,
            ),
            gateway: Some(gateway),
            asks_loopback: false,
            policy: DialedPolicy::default(),
            requests: None,
            approver: None,
            kept_changed: Arc::default(),
            runtime_dir: RuntimeDir::new(directory.path()),
            // The demo ends the wait if no answer comes.
            hold: HoldLimit::Forever,
            expects_operator: true,
            absent_names: Vec::new(),
            published: Vec::new(),
            check_server_names: false,
            proxy: None,
            lookup: InternetLookup(sockets.clone()),
            sockets,
            stand_in_key: StandInKey::new(STAND_IN_KEY),
            journal: None,
        })
        .await?;
        inspector.verify_rules()?;
        let links = inspector.list_links()?;
        if let Some(problem) = links.problems().pop() {
            return Err(DemoError::UnexpectedLinks(problem));
        }
        output.report(&DemoStep::Firewall {
            resolver: GATEWAY_V4.into(),
            verified: true,
            sandbox_links: links.sandbox,
            gateway_links: links.gateway,
            socket: DisplayText::new(&supervisor.hub().to_string_lossy()),
            took_us: now_us() - began_at,
        })?;
        Ok(StartedDemo {
            sandbox,
            pipes,
            internet,
            inspector,
            supervisor,
            container,
            without_v6,
            directory,
        })
    }
}

/// A demo with a loaded firewall, before the start of the program in the sandbox.
///
/// Dropping the demo ends the sandbox, the simulated internet and the supervisor.
#[derive(Debug)]
pub struct StartedDemo {
    // Fields are dropped in this order: the innermost part first.
    sandbox: Sandbox,
    pipes: WorkloadPipes,
    internet: InternetProcess,
    inspector: NetworkInspector,
    supervisor: SupervisorThread,
    container: ContainerId,
    without_v6: Option<DisplayText>,
    directory: TempDir,
}

impl StartedDemo {
    /// Returns the hub's socket, where user interfaces connect.
    pub fn hub_socket(&self) -> &Path {
        self.supervisor.hub()
    }

    /// Starts the program in the sandbox, fetches each host, and takes everything down.
    ///
    /// Dropping the future stops the demo; `outcome` keeps the observations made so far.
    pub async fn run(
        self,
        answers: DemoAnswers,
        output: DemoOutput<'_>,
        outcome: &mut DemoOutcome,
    ) -> Result<(), DemoError> {
        // Locals are dropped in reverse order: the directory with the sockets comes last.
        let Self {
            directory: _directory,
            without_v6,
            container,
            supervisor,
            inspector,
            internet,
            pipes,
            sandbox,
        } = self;
        let operator = DemoOperator::connect(supervisor.hub()).await?;
        let began_at = now_us();
        let running = sandbox.start().map_err(DemoError::StartWorkload)?;
        let mut workload = WorkloadProcess::new(running, pipes)?;
        let WorkloadMessage::Ready(confinement) = workload.next_message().await? else {
            return Err(DemoPartError::of(WORKLOAD_PART)(
                DemoPartError::UnexpectedMessage,
            ));
        };
        output.report(&DemoStep::Program {
            confinement,
            took_us: now_us() - began_at,
        })?;

        let mut scenario = DemoScenario {
            output,
            operator,
            answers: AnswerSource::from(answers),
            workload: &mut workload,
            supervisor: &supervisor,
            container,
            without_v6,
            outcome,
        };
        let ran = scenario.run().await;
        // A desktop that does not respond keeps its popups.
        drop(timeout(UI_CLOSE_TIMEOUT, scenario.answers.close()).await);
        drop(scenario);
        ran?;

        outcome.problems.extend(find_changes(&inspector));

        // The innermost part first; each part reports an abnormal end.
        drop(workload);
        let trace = supervisor.trace().clone();
        supervisor.close().await?;
        outcome.add_trace(&trace);
        outcome.add_arrivals(&internet.close().await?);
        Ok(())
    }
}

/// Returns what is no longer as before the start of the program: the gateway's rules, the links.
fn find_changes(inspector: &NetworkInspector) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = inspector.verify_rules() {
        problems.push(error_chain(&error).to_string());
    }
    match inspector.list_links() {
        Ok(links) => problems.extend(links.problems()),
        Err(error) => problems.push(error_chain(&error).to_string()),
    }
    problems
}

fn sandbox_spec(program: &Path, runtime: &Path, stdio: [Option<Arc<OwnedFd>>; 3]) -> SandboxSpec {
    SandboxSpec {
        workload: WorkloadSpec {
            program: program.into(),
            arguments: vec![WORKLOAD_COMMAND.into()],
            environment: Vec::new(),
            directory: "/".into(),
            stdio,
        },
        protected_paths: vec![runtime.to_owned()],
        resolvers: vec![GATEWAY_V4.into()],
        ..SandboxSpec::default()
    }
}

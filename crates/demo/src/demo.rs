// SPDX-License-Identifier: Apache-2.0
//! The stages of a demo: prepared, started, run.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netns::sandbox::{Sandbox, SandboxSpec, WorkloadSpec};
use shield::Policy;
use supervisor::SupervisorConfig;
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DisplayText, Dossier};
use tokio::time::timeout;

use crate::answers::{AnswerSource, DemoAnswers};
use crate::clock::now_us;
use crate::error::{DemoError, DemoPartError};
use crate::outcome::DemoOutcome;
use crate::output::DemoOutput;
use crate::processes::{
    InternetProcess, RulesetInspector, SupervisorThread, WORKLOAD_PART, WorkloadPipes,
    WorkloadProcess,
};
use crate::protocol::WorkloadMessage;
use crate::report::DemoStep;
use crate::scenario::{DemoOperator, DemoScenario};
use crate::{WORKLOAD_COMMAND, topology};

/// Prefix of the name of the directory with the demo's sockets.
pub(crate) const DIRECTORY_PREFIX: &str = "terok-demo-";
/// Maximum time for removing popups at the end.
const UI_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A demo with an empty sandbox.
#[derive(Debug)]
pub struct PreparedDemo {
    sandbox: Sandbox,
    pipes: WorkloadPipes,
    directory: TempDir,
}

impl PreparedDemo {
    /// Builds the sandbox. `program` is the path of this program, which also runs in the sandbox.
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
        output.report(&DemoStep::Sandbox {
            pid: sandbox.init_process().pid(),
            took_us: now_us() - began_at,
        })?;
        Ok(Self {
            sandbox,
            pipes,
            directory,
        })
    }

    /// Loads and verifies the firewall, starts the hub and connects the simulated internet.
    ///
    /// Must be called within a tokio runtime.
    pub async fn start(self, output: DemoOutput<'_>) -> Result<StartedDemo, DemoError> {
        let Self {
            directory,
            pipes,
            sandbox,
        } = self;
        let began_at = now_us();
        let container: ContainerId = "demo".parse()?;
        let policy = Policy::new([topology::RESOLVER_ADDRESS]).map_err(DemoError::MakePolicy)?;
        let netns = sandbox.netns_ref().map_err(DemoError::OpenSandbox)?;
        let init = sandbox.init_process();
        let supervisor = SupervisorThread::start(SupervisorConfig {
            container: container.clone(),
            dossier: Dossier::default(),
            process: init.try_clone().map_err(DemoError::OpenSandbox)?,
            policy: policy.clone(),
            allowed_dests: Vec::new(),
            runtime_dir: RuntimeDir::new(directory.path()),
        })
        .await?;
        let inspector = RulesetInspector::attach(&netns, &policy)?;
        output.report(&DemoStep::Firewall {
            resolver: topology::RESOLVER_ADDRESS,
            verified: true,
            socket: DisplayText::new(&supervisor.hub().to_string_lossy()),
            took_us: now_us() - began_at,
        })?;

        let began_at = now_us();
        let (internet, without_v6) = InternetProcess::start(init, directory.path()).await?;
        output.report(&DemoStep::Internet {
            hosts: topology::HOSTS.len(),
            without_v6: without_v6.clone(),
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
    inspector: RulesetInspector,
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
            mut inspector,
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
            inspector: &mut inspector,
            container,
            without_v6,
            outcome,
        };
        let ran = scenario.run().await;
        // A desktop that does not respond keeps its popups.
        drop(timeout(UI_CLOSE_TIMEOUT, scenario.answers.close()).await);
        drop(scenario);
        ran?;

        // The innermost part first; each part reports an abnormal end.
        drop(workload);
        supervisor.close().await?;
        let reached = internet.close().await?;
        for observation in &mut outcome.observations {
            observation.connection_count = observation
                .host
                .map(|host| reached.get(&host).copied().unwrap_or(0));
        }
        Ok(())
    }
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
        resolvers: vec![topology::RESOLVER_ADDRESS],
        ..SandboxSpec::default()
    }
}

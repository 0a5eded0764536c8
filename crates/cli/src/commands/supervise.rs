// SPDX-License-Identifier: Apache-2.0
//! `supervise`: guards an existing network namespace.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use netns::ProcessHandle;
use shield::Policy;
use supervisor::{
    HoldLimit, SandboxResolvers, Supervisor, SupervisorConfig, SupervisorExit,
    find_sandbox_resolvers,
};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, Dossier, Target};
use tokio_util::sync::CancellationToken;

use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Process in the network namespace, such as a container's first; supervision ends with it
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// Name of the sandbox in questions; its first 12 characters name the sockets
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    name: ContainerId,
    /// Resolver that the sandbox may use, and whose answers give addresses names; repeat for more
    /// [default: from the /etc/resolv.conf of the process]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Address or host name that is allowed from the start; repeat for more
    #[arg(long, value_name = "DEST")]
    allow: Vec<Target>,
    /// How long a TCP connection waits for an answer while an operator is connected: 30s, 5m,
    /// forever, or 0 to refuse it at once
    #[arg(long, value_name = "TIME", default_value_t = HoldLimit::DEFAULT)]
    hold: HoldLimit,
    /// Start although a process can go around the firewall (`CAP_NET_RAW`, `CAP_NET_ADMIN`)
    #[arg(long)]
    allow_capabilities: bool,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let Args {
        pid,
        name,
        dns,
        allow,
        hold,
        allow_capabilities,
    } = args;
    let process = ProcessHandle::open(pid).with_context(|| format!("cannot find process {pid}"))?;
    let resolvers = if dns.is_empty() {
        find_resolvers(&process, context)?
    } else {
        dns
    };
    let policy = Policy::new(resolvers).context("--dns is not usable")?;
    let resolvers = policy.resolvers().to_vec();
    let config = SupervisorConfig {
        container: name,
        dossier: Dossier::default(),
        process,
        policy,
        allowed_dests: allow.into_iter().map(Into::into).collect(),
        hold,
        allow_capabilities,
        runtime_dir: RuntimeDir::new(context.environment.private_runtime_dir()?),
    };
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let supervisor =
            Supervisor::start(config).map_err(|source| CommandError::Supervise { pid, source })?;
        if let Some(holder) = supervisor.capability_holder() {
            context.output.print_error_line(&format!(
                "warning: {holder} over its network namespace: it can send and receive past the \
                 firewall or remove it, without a question and without a trace"
            ));
        }
        let hub = supervisor.hub_path().display();
        if context.json {
            let ingester = supervisor.ingester_path();
            let ready = serde_json::json!({
                "step": "ready",
                "pid": pid,
                "hub": supervisor.hub_path(),
                "ingester": ingester,
                "resolvers": resolvers,
            });
            context.output.print_line(&ready.to_string())?;
        } else {
            context
                .output
                .print_line(&format!("guarding process {pid}: questions at {hub}"))?;
        }
        let stop = CancellationToken::new();
        let mut serving = std::pin::pin!(supervisor.serve(stop.clone()));
        let (ended, status) = tokio::select! {
            ended = &mut serving => (ended, CommandStatus::OK),
            status = signals.wait_and_cancel(&stop) => (serving.await, status),
        };
        match ended.context("cannot guard the sandbox any longer")? {
            SupervisorExit::SandboxEnded => Ok(CommandStatus::OK),
            SupervisorExit::Stopped => Ok(status),
        }
    })
}

/// The lists of this machine's resolvers: that of the C library, and the one behind the local
/// resolver of systemd.
const HOST_RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Finds the resolvers of the process, and says which ones are used.
fn find_resolvers(
    process: &ProcessHandle,
    context: &CommandContext,
) -> Result<Vec<IpAddr>, CommandError> {
    let warn = |text: &str| context.output.print_error_line(&format!("warning: {text}"));
    let found = match find_sandbox_resolvers(process, &HOST_RESOLV_CONF.map(Path::new)) {
        Ok(found) => found,
        Err(error) => {
            warn(&format!(
                "cannot read the sandbox's /etc/resolv.conf: {error}"
            ));
            SandboxResolvers::default()
        }
    };
    for (address, reason) in &found.refused {
        warn(&format!(
            "the resolver {address} of the sandbox's /etc/resolv.conf is not used: {reason}"
        ));
    }
    if found.usable.is_empty() {
        warn(
            "no resolver is known: lookups at other hosts are refused, and questions show \
             addresses without names; `--dns ADDRESS` names one",
        );
    } else if !context.json {
        let list: Vec<_> = found.usable.iter().map(ToString::to_string).collect();
        context.output.print_line(&format!(
            "resolver from the sandbox's /etc/resolv.conf: {}",
            list.join(", ")
        ))?;
    }
    Ok(found.usable)
}

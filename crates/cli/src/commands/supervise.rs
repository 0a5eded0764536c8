// SPDX-License-Identifier: Apache-2.0
//! `supervise`: guards an existing network namespace.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use names::HostResolver;
use netns::{ProcessHandle, find_capability_holder, is_runtime_init};
use policy::ProfileName;
use record::{AuditSandbox, AuditSandboxEnd, AuditSandboxStart};
use runner::{RecordConfig, SandboxAudit, load_stand_in_key};
use settings::Setting;
use shield::Policy;
use supervisor::{
    AllowedDest, DossierSource, FirewallBypass, HoldLimit, NameAccess, NameServerConfig,
    SandboxLookup, SandboxResolvers, Supervisor, SupervisorConfig, SupervisorExit,
    SupervisorServeError, SupervisorStartError, find_sandbox_resolvers,
};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{ContainerId, DestPattern, DisplayText};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::run::{
    HOSTS_FILE, RECORD_INCOMPLETE, RESOLV_CONF, describe_record_notice, is_record_required,
    limited_hold, merged_records, read_filtered_policy,
};
use crate::settings_files::read_organisation;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  podman create --name web --cap-drop NET_RAW,NET_ADMIN IMAGE
  podman init web
  terok-clearance supervise --name web --pid \"$(podman inspect -f '{{.State.Pid}}' web)\" &
  podman start --attach web
  terok-clearance supervise --pid 1234 --allow pypi.org --allow files.pythonhosted.org:443

The rules stay in force when this program ends; started again, it takes over the answers given so \
far. docs/supervise.md explains names, options and messages.

Exit status:
  0    the process ended
  1    the namespace could not be guarded, or not any longer
  130  ended by Ctrl-C")]
pub struct Args {
    /// Process in the network namespace, such as a container's first; supervision ends with it
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// Name of the sandbox in questions; its first 12 characters name the sockets
    #[arg(long, value_name = "NAME", default_value = "sandbox")]
    name: ContainerId,
    /// Resolver at which allowed names are looked up; repeat for more [default: from the
    /// /etc/resolv.conf of the process]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Name or address that is allowed from the start, with an optional port and protocol
    /// (`example.org:443/tcp`); repeat for more
    #[arg(long, value_name = "DEST")]
    allow: Vec<AllowedDest>,
    /// Refuse without a question, before anything that allows it: NAME, *.NAME, ADDRESS or
    /// NETWORK/BITS, with a port and protocol; repeat for more
    #[arg(long, value_name = "DEST")]
    deny: Vec<DestPattern>,
    /// Allow what a profile lists, and deny what it denies (`terok-clearance profile list`); repeat
    /// for more
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    profile: Vec<ProfileName>,
    /// How long a TCP connection waits for an answer while an operator is connected: 30s, 5m,
    /// forever, or 0 to refuse it at once
    #[arg(long, value_name = "TIME", default_value_t = HoldLimit::DEFAULT)]
    hold: HoldLimit,
    /// Keep no record
    #[arg(long)]
    no_record: bool,
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
        deny,
        profile,
        hold,
        no_record,
        allow_capabilities,
    } = args;
    if runner::is_inside_sandbox() {
        return Err(CommandError::InsideSandbox);
    }
    let records = SuperviseRecords::merged(no_record, &name, &profile, context)?;
    let policy = read_filtered_policy(&allow, &deny, &profile, context)?;
    let hold = match read_organisation()? {
        Some(organisation) => limited_hold(Setting::of_flag("--hold", hold), &organisation).value,
        None => hold,
    };
    let process = ProcessHandle::open(pid);
    let process = process.map_err(|source| CommandError::NoProcess { pid, source })?;
    let name_server = name_server(dns, &process, context)?;
    let resolvers = name_server.resolvers.clone();
    let started = process.try_clone().context("cannot refer to the process")?;
    // Each record of the log names the sandbox.
    let log_context = tracing::error_span!("sandbox", container = %name);
    let config = SupervisorConfig {
        container: name,
        dossier: DossierSource::default(),
        processes: process.into(),
        names: NameAccess::Server(name_server),
        allowed_dests: Vec::new(),
        hold,
        allow_capabilities,
        runtime_dir: RuntimeDir::new(context.environment.private_runtime_dir()?),
        journal: None,
    };
    let work = async {
        let mut signals = StopSignals::catch()?;
        let supervisor =
            Supervisor::start(config).and_then(|supervisor| supervisor.with_policy(policy));
        let supervisor = supervisor.map_err(|source| CommandError::Supervise { pid, source })?;
        let audit = begin_record(records, context)?;
        let observed = audit.clone();
        let supervisor = supervisor.with_observer(Box::new(move |event| observed.observe(&event)));
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
            bypass = check_after_start(&started), if !allow_capabilities => {
                stop.cancel();
                drop(serving.await);
                let source = SupervisorStartError::Capability(bypass);
                return Err(CommandError::Supervise { pid, source });
            }
            status = signals.wait_and_cancel(&stop) => (serving.await, status),
        };
        end_record(audit, &ended, context);
        match ended.context("cannot guard the sandbox any longer")? {
            SupervisorExit::SandboxEnded => Ok(CommandStatus::OK),
            SupervisorExit::Stopped => Ok(status),
        }
    };
    block_on(work.instrument(log_context))
}

/// The records of a sandbox.
struct SuperviseRecords {
    records: Vec<RecordConfig>,
    is_required: bool,
    sandbox: AuditSandbox,
    profiles: Vec<DisplayText>,
}

impl SuperviseRecords {
    fn merged(
        no_record: bool,
        name: &ContainerId,
        profiles: &[ProfileName],
        context: &CommandContext,
    ) -> Result<Self, CommandError> {
        let organisation = read_organisation()?;
        let organisation = organisation.as_deref();
        let settings = context.settings.get()?;
        Ok(Self {
            records: merged_records(no_record, &context.environment, settings, organisation)?,
            is_required: is_record_required(organisation),
            sandbox: AuditSandbox::new(name.clone()),
            profiles: {
                let names = profiles.iter().map(|name| DisplayText::new(name.as_str()));
                names.collect()
            },
        })
    }
}

/// Opens the records, and records the start of the sandbox.
fn begin_record(
    records: SuperviseRecords,
    context: &CommandContext,
) -> Result<SandboxAudit, CommandError> {
    let SuperviseRecords {
        records,
        is_required,
        sandbox,
        profiles,
    } = records;
    let output = context.output;
    let audit = SandboxAudit::open(&records, is_required, sandbox, move |notice| {
        output.print_error_line(&format!("warning: {}", describe_record_notice(&notice)));
    });
    let audit = audit.context("cannot guard the sandbox any longer")?;
    audit.start(AuditSandboxStart {
        network: "filtered".into(),
        learn: false,
        profiles,
        command: None,
    });
    Ok(audit)
}

/// Records how the supervision ended.
fn end_record(
    audit: SandboxAudit,
    ended: &Result<SupervisorExit, SupervisorServeError>,
    context: &CommandContext,
) {
    let end = match ended {
        Ok(SupervisorExit::SandboxEnded) => Some(AuditSandboxEnd {
            status: None,
            reason: None,
        }),
        Ok(SupervisorExit::Stopped) => {
            audit.note("the supervisor was stopped; the rules stay in force");
            None
        }
        Err(error) => {
            audit.note(&format!("the supervisor failed: {error}"));
            None
        }
    };
    if !audit.finish(end) {
        let warning = format!("warning: {RECORD_INCOMPLETE}");
        context.output.print_error_line(&warning);
    }
}

/// How often a container that is not started is looked at: nothing reports the start.
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until the container's program runs in a container that was not started, and returns a
/// process that can go around the firewall; waits forever without one.
async fn check_after_start(process: &ProcessHandle) -> FirewallBypass {
    if is_runtime_init(process) {
        while is_runtime_init(process) {
            tokio::time::sleep(START_POLL_INTERVAL).await;
        }
        match find_capability_holder(process) {
            Ok(Some(holder)) => return holder.into(),
            Ok(None) => tracing::info!("the container was started"),
            Err(error) => tracing::warn!(%error, "the capabilities of the container are unknown"),
        }
    }
    std::future::pending().await
}

/// Returns the name server of the sandbox. Without resolvers by option, it asks those of the
/// process.
fn name_server(
    dns: Vec<IpAddr>,
    process: &ProcessHandle,
    context: &CommandContext,
) -> Result<NameServerConfig, CommandError> {
    let resolvers = if dns.is_empty() {
        find_resolvers(process, context)?
    } else {
        let policy = Policy::with_name_server(dns).context("--dns is not usable")?;
        policy.resolvers().to_vec()
    };
    let stand_in_key = load_stand_in_key(context.environment.state_dir())
        .context("cannot make a key for the addresses of names")?;
    Ok(NameServerConfig {
        resolvers,
        lookup: SandboxLookup::new(HostResolver::new(HOSTS_FILE, RESOLV_CONF)),
        stand_in_key,
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
        warn("this machine looks allowed names up: the sandbox has no usable resolver");
    } else if !context.json {
        let list: Vec<_> = found.usable.iter().map(ToString::to_string).collect();
        context.output.print_line(&format!(
            "allowed names are looked up at {}, from the sandbox's /etc/resolv.conf",
            list.join(", ")
        ))?;
    }
    Ok(found.usable)
}

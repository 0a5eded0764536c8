// SPDX-License-Identifier: Apache-2.0
//! The filtered way of a container: a connection of its own, which is made after the rules.

use anyhow::Context as _;
use containers::{Uplink, UplinkProgram, annotation_keys};
use names::HostResolver;
use runner::load_stand_in_key;
use supervisor::{
    NameAccess, NameServerConfig, SandboxLookup, StateJournal, Supervisor, SupervisorConfig,
};
use terok_clearance::socket::RuntimeDir;

use super::container_identity::SupervisedContainer;
use super::container_rules::{
    begin_record, end_record, given_rules, hold_limit, read_filtered_rules, read_policy,
};
use super::kept_files::{KeptState, keep_container};
use super::{Guard, GuardedNetwork, private_runtime_dir};
use crate::CommandContext;
use crate::commands::run::{HOSTS_FILE, RESOLV_CONF};

/// Loads the rules, and then makes the connection.
pub(super) async fn start(
    network: &GuardedNetwork,
    kept: Option<KeptState>,
    context: &CommandContext,
) -> anyhow::Result<Guard> {
    let GuardedNetwork {
        request, processes, ..
    } = network;
    let environment = &context.environment;
    let given = read_policy(request, context)?;
    if !given.publish.is_empty() {
        anyhow::bail!(
            "ports of a container with a connection of its own cannot be published: start it with \
             {}={}",
            annotation_keys::NETWORK,
            annotation_keys::NETWORK_DIALED,
        );
    }
    let identity = SupervisedContainer::find(request, given.name.clone());
    let policy = read_filtered_rules(&given_rules(&given), context)?;
    let audit = begin_record(network, &identity, Vec::new(), context)?;
    let observed = audit.clone();
    let journal = if let Some(kept) = kept {
        kept.journal
    } else {
        let kept = KeptState {
            journal: StateJournal::create().context("cannot create the state")?,
            gateway: None,
        };
        keep_container(request, processes, &kept).context("cannot keep the container")?;
        kept.journal
    };
    let supervisor = Supervisor::start(SupervisorConfig {
        journal: Some(journal),
        container: request.id.clone(),
        dossier: identity.dossier_source(),
        processes: processes.clone(),
        names: NameAccess::Server(NameServerConfig {
            // The lookups of allowed names are made outside: the container has no resolver.
            resolvers: Vec::new(),
            lookup: SandboxLookup::new(HostResolver::new(HOSTS_FILE, RESOLV_CONF)),
            stand_in_key: load_stand_in_key(environment.state_dir())
                .context("cannot make a key for the addresses of names")?,
        }),
        allowed_dests: Vec::new(),
        hold: hold_limit(given.hold)?,
        // The hook has read the capabilities that the container will have. At the moment its
        // process has those of the runtime.
        allow_capabilities: true,
        runtime_dir: RuntimeDir::new(private_runtime_dir(context)?),
    });
    let supervisor = supervisor.and_then(|supervisor| supervisor.with_policy(policy));
    let supervisor = supervisor.context("cannot guard the container")?;
    let supervisor = supervisor.expecting_operator();
    let supervisor = supervisor.with_observer(Box::new(move |event| observed.observe(&event)));
    // Only now, behind the rules.
    let program = UplinkProgram::find(|name| environment.find_protected_program(name))?;
    let process = processes.first_alive().context("the container has ended")?;
    let mut uplink = Uplink::start(&program, &process).await?;
    Ok(Box::new(move |stop| {
        Box::pin(async move {
            let serving = supervisor.serve(stop.clone());
            let mut serving = std::pin::pin!(serving);
            let ended = tokio::select! {
                ended = &mut serving => ended,
                () = uplink.wait() => {
                    tracing::warn!("the program that connects the container has ended");
                    serving.await
                }
            };
            end_record(audit, &ended);
            ended
        })
    }))
}

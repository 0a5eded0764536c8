// SPDX-License-Identifier: Apache-2.0
//! The dialed way of a container: its only link ends in a gateway, and this process makes each
//! allowed connection.

use std::sync::Arc;

use anyhow::Context as _;
use names::HostResolver;
use netns::gateway::GatewayNetns;
use runner::load_stand_in_key;
use supervisor::{DialedConfig, DialedSupervisor, HostSockets, StateJournal};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::{DisplayText, Timestamp};

use super::container_identity::SupervisedContainer;
use super::container_rules::{begin_record, end_record, given_rules, hold_limit, read_policy};
use super::kept_files::{KeptState, keep_container};
use super::{Guard, GuardedNetwork, private_runtime_dir};
use crate::CommandContext;
use crate::commands::run::{HOSTS_FILE, RESOLV_CONF, proxy_of_environment, read_container_rules};

/// Builds the gateway, or takes over that of a former process with its state, and loads its rules.
pub(super) fn start(
    network: &GuardedNetwork,
    kept: Option<KeptState>,
    context: &CommandContext,
) -> anyhow::Result<Guard> {
    let GuardedNetwork {
        request, processes, ..
    } = network;
    let KeptState { journal, gateway } = if let Some(kept) = kept {
        kept
    } else {
        let process = processes.first_alive().context("the container has ended")?;
        let gateway = GatewayNetns::build(&process).context("cannot build the gateway")?;
        let kept = KeptState {
            gateway: Some(gateway),
            journal: StateJournal::create().context("cannot create the state")?,
        };
        keep_container(request, processes, &kept).context("cannot keep the container")?;
        kept
    };
    let gateway = gateway.context("the gateway of the container was not kept")?;
    let environment = &context.environment;
    let given = read_policy(request, context)?;
    let identity = SupervisedContainer::find(request, given.name.clone());
    let rules = read_container_rules(&given_rules(&given), context)?;
    let audit = begin_record(network, &identity, rules.profiles.clone(), context)?;
    let by = format!("uid {}", environment.uid());
    let observed = audit.clone();
    let supervisor = DialedSupervisor::start(DialedConfig {
        container: request.id.clone(),
        dossier: identity.dossier_source(),
        processes: processes.clone(),
        gateway: Some(gateway),
        journal: Some(journal),
        asks_loopback: request.asks_loopback,
        policy: rules.to_policy(Timestamp::now(), &DisplayText::new(&by)),
        requests: None,
        approver: None,
        kept_changed: Arc::default(),
        runtime_dir: RuntimeDir::new(private_runtime_dir(context)?),
        published: given.publish.clone(),
        hold: hold_limit(given.hold)?,
        check_server_names: given.checks_server_names,
        expects_operator: true,
        proxy: proxy_of_environment(environment)?,
        lookup: HostResolver::new(HOSTS_FILE, RESOLV_CONF),
        sockets: HostSockets,
        absent_names: Vec::new(),
        stand_in_key: load_stand_in_key(environment.state_dir())
            .context("cannot make a key for the addresses of names")?,
    });
    let supervisor = supervisor.context("cannot guard the container")?;
    if let Some(lost) = supervisor.state_not_restored() {
        tracing::warn!("{lost}");
    }
    let supervisor = supervisor.with_observer(Box::new(move |event| observed.observe(&event)));
    Ok(Box::new(move |stop| {
        Box::pin(async move {
            let ended = supervisor.serve(stop).await;
            end_record(audit, &ended);
            ended
        })
    }))
}

// SPDX-License-Identifier: Apache-2.0
//! The verbs of `terok-shield`: the firewall of containers that its hooks prepare.
//!
//! State directories, policy files, table and sets are those of the Python shield, so that either
//! program can manage what the other one prepared. The rules are loaded and listed with `nft`,
//! inside the network namespace of the container: one transaction for each change, and the result
//! is verified.

mod audit_log;
mod container_dnsmasq;
mod container_shield;
mod containers_conf;
mod dns_tier;
mod effective_policy;
mod element_plan;
mod environment_check;
mod file_config;
mod host_lookup;
mod hub_report;
mod launch;
mod namespace_firewall;
mod oci_hook;
mod ordered_json;
mod podman_host;
mod policy_entry;
mod posture;
mod program_runner;
mod resolve_cache;
mod ruleset_text;
mod shield_address;
mod shield_container;
mod shield_error;
mod shield_profiles;
mod state_bundle;
mod table_listing;
mod watch;

use std::io;
use std::path::Path;

pub use container_dnsmasq::DnsmasqError;
pub use container_shield::{ChangedAddresses, ContainerRules, ContainerShield, ShieldHost};
pub use containers_conf::ContainersConfPaths;
pub use dns_tier::DnsTier;
pub use effective_policy::EffectivePolicy;
pub use environment_check::EnvironmentReport;
pub use file_config::{ShieldConfigError, ShieldConfigProblem, ShieldFileConfig};
pub use launch::{
    ContainerLaunch, LaunchError, PreparedLaunch, check_podman_arguments, find_podman,
    quote_for_shell,
};
pub use namespace_firewall::FirewallError;
pub use oci_hook::{OciHookError, OciHookRole, OciHookStage, install_oci_hooks, run_oci_hook};
pub use podman_host::PodmanHost;
pub use policy_entry::{PolicyEntry, PolicyLineError, PolicySign, parse_policy, render_policy};
pub use posture::{PostureFault, ShieldPosture};
pub use program_runner::{ProgramError, ProgramRunner};
pub use ruleset_text::{RulesetValues, quarantine_ruleset};
pub use shield_address::{ShieldAddress, ShieldAddressError};
pub use shield_container::{
    FindContainerError, FullContainerId, FullContainerIdError, ShieldContainerName,
    ShieldContainerNameError, state_below,
};
pub use shield_error::ShieldVerbError;
pub use shield_profiles::{ShieldProfileError, ShieldProfiles};
pub use state_bundle::{BUNDLE_VERSION, PolicyTier, StateBundle, StateBundleError};
pub use watch::watch_container;

/// Returns the last `count` lines of a container's record, or of all below `root`, as the verb
/// `logs` prints them.
pub fn read_logs(
    root: &Path,
    container: Option<&ShieldContainerName>,
    count: usize,
) -> io::Result<Vec<String>> {
    let events = match container {
        Some(container) => {
            let bundle = state_below(root, container.as_str());
            audit_log::tail_events(&bundle.audit(), count)?
        }
        None => audit_log::tail_all_events(root, count)?,
    };
    Ok(events
        .iter()
        .map(ordered_json::OrderedJson::to_spaced)
        .collect())
}

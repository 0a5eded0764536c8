// SPDX-License-Identifier: Apache-2.0
//! Tries the kernel out: a sandbox, its gateway with rules, a packet in the log.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use netns::gateway::GatewayNetns;
use netns::sandbox::{Sandbox, SandboxSpec, WorkloadSpec, WorkloadStartError};
use netns::{NetnsRef, SocketSpec};
use reader::PacketLog;
use shield::{NftShield, Policy, engage_gateway};
use terok_clearance::error_chain;
use terok_clearance::nflog::{HELD_CONNECTIONS_GROUP, OTHER_PACKETS_GROUP};
use tokio::time::timeout;

use crate::finding::{Check, Finding};

/// The command of this program that prints the findings of [`probe_kernel`] as JSON.
pub const PROBE_COMMAND: &str = "doctor-probe";

/// The longest time from a packet to its copy in the log: normally below a millisecond.
const LOG_TIMEOUT: Duration = Duration::from_millis(700);
/// A documentation address (RFC 5737): no packet leaves the gateway.
const PROBE_DEST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 443);
/// A program that does not exist: the kernel looks for it after all restrictions of the workload
/// are in force.
const NO_PROGRAM: &str = "/nonexistent/program";
/// Where each feature of the kernel is named.
const REQUIREMENTS: &str = "docs/requirements.md names the features of the kernel";

pub(crate) const USER_NAMESPACES: Check = Check::of_commands("user-namespaces");
pub(crate) const VETH: Check = Check::of_commands("virtual-links");
pub(crate) const NFTABLES: Check = Check::of_commands("nftables");
pub(crate) const PACKET_LOG: Check = Check::of_commands("packet-log");
pub(crate) const SYSTEM_CALLS: Check = Check::of_commands("system-call-filter");
pub(crate) const FILTERED_RULES: Check = Check::of_containers("filtered-rules");

/// The checks of the probe in their order: each needs the ones before it.
pub(crate) const PROBED_CHECKS: [Check; 6] = [
    USER_NAMESPACES,
    VETH,
    NFTABLES,
    PACKET_LOG,
    FILTERED_RULES,
    SYSTEM_CALLS,
];

/// Builds a sandbox and its gateway as `run` does, and takes both down again.
///
/// Forks, and hence must be called before the process has threads or a tokio runtime.
pub fn probe_kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(failed) = probe(&mut findings) {
        let name = failed.check.clone();
        findings.push(failed);
        let rest = PROBED_CHECKS.iter().skip(findings.len());
        let rest = rest.map(|check| {
            let found = format!("not checked, because {name} failed");
            check.warning(&found, &format!("fix {name} first"))
        });
        findings.extend(rest.collect::<Vec<_>>());
    }
    findings
}

/// Adds the findings until the first failure, which it returns.
fn probe(findings: &mut Vec<Finding>) -> Result<(), Finding> {
    let spec = SandboxSpec {
        workload: WorkloadSpec {
            program: NO_PROGRAM.into(),
            directory: PathBuf::from("/"),
            ..WorkloadSpec::default()
        },
        ..SandboxSpec::default()
    };
    let sandbox = Sandbox::build(&spec).map_err(|error| {
        let advice = error.advice().unwrap_or(REQUIREMENTS);
        USER_NAMESPACES.failure(error_chain(&error).as_str(), advice)
    })?;
    findings.push(USER_NAMESPACES.pass("a sandbox was built"));

    let gateway = GatewayNetns::build(sandbox.init_process())
        .map_err(|error| VETH.failure(error_chain(&error).as_str(), &load_modules("veth")))?;
    findings.push(VETH.pass(if gateway.has_ipv6() {
        "a sandbox was connected with its gateway"
    } else {
        "a sandbox was connected with its gateway; this kernel has IPv6 disabled"
    }));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| NFTABLES.failure(&error.to_string(), "close programs, and try again"))?;
    let inside = sandbox.netns_ref().map_err(|error| {
        NFTABLES.failure(
            &format!("the sandbox cannot be entered: {error}"),
            REQUIREMENTS,
        )
    })?;
    runtime.block_on(probe_rules(&inside, &gateway, findings))?;

    match sandbox.start() {
        Err(WorkloadStartError::NotFound(_)) | Ok(_) => {
            let found = "calls of a workload are filtered and reported (seccomp)";
            findings.push(SYSTEM_CALLS.pass(found));
            Ok(())
        }
        Err(error) => {
            let advice = match &error {
                WorkloadStartError::Sandbox(error) => error.advice(),
                _ => None,
            };
            let found = error_chain(&error);
            Err(SYSTEM_CALLS.failure(found.as_str(), advice.unwrap_or(REQUIREMENTS)))
        }
    }
}

/// Loads the rules of both ways, and waits for a packet of the sandbox in the log.
async fn probe_rules(
    inside: &NetnsRef,
    gateway: &GatewayNetns,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let nft_fix = load_modules("nf_tables nft_log nft_limit nft_tproxy");
    let nft_failed =
        |error: &dyn std::error::Error| NFTABLES.failure(error_chain(error).as_str(), &nft_fix);
    let log_fix = load_modules("nfnetlink_log nf_log_syslog");
    let log_failed = |found: &str| PACKET_LOG.failure(found, &log_fix);
    let outside = gateway.netns_ref().map_err(|error| nft_failed(&error))?;
    let sockets = outside.open_sockets(&[SocketSpec::Netfilter; 3]);
    let sockets = sockets.map_err(|error| nft_failed(&error))?;
    let Ok([rules, held, other]) = <[OwnedFd; 3]>::try_from(sockets) else {
        return Err(NFTABLES.failure("a socket of the gateway is missing", REQUIREMENTS));
    };
    // Before the rules, as in `run`: no packet is logged to a group without a listener.
    let bound = PacketLog::bind(held, HELD_CONNECTIONS_GROUP)
        .and_then(|log| Ok((log, PacketLog::bind(other, OTHER_PACKETS_GROUP)?)));
    let engaged = engage_gateway(rules, gateway.has_ipv6());
    engaged.map_err(|error| nft_failed(&error))?;
    findings.push(NFTABLES.pass("the rules of a gateway were loaded and verified"));

    let (mut log, _other) = bound.map_err(|error| log_failed(error_chain(&error).as_str()))?;
    let dialing = inside.open_socket(SocketSpec::Tcp4);
    let dialing = dialing.map_err(|error| log_failed(error_chain(&error).as_str()))?;
    let begun = rustix::io::ioctl_fionbio(&dialing, true)
        .and_then(|()| rustix::net::connect(&dialing, &PROBE_DEST));
    match begun {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(log_failed(&format!("a packet cannot be sent: {error}"))),
    }
    match timeout(LOG_TIMEOUT, log.receive()).await {
        Ok(Ok(())) => findings.push(PACKET_LOG.pass("a packet of the sandbox was logged (NFLOG)")),
        Ok(Err(error)) => return Err(log_failed(&format!("the log cannot be read: {error}"))),
        Err(_) => return Err(log_failed("a packet of the sandbox was not logged (NFLOG)")),
    }
    findings.push(probe_filtered_rules(inside));
    Ok(())
}

/// Loads the rules of the filtered way in the sandbox's namespace.
fn probe_filtered_rules(inside: &NetnsRef) -> Finding {
    let fix = load_modules("nft_reject_inet nft_ct nft_redir nft_chain_nat nf_conntrack_netlink");
    let failed =
        |error: &dyn std::error::Error| FILTERED_RULES.warning(error_chain(error).as_str(), &fix);
    let socket = match inside.open_socket(SocketSpec::Netfilter) {
        Ok(socket) => socket,
        Err(error) => return failed(&error),
    };
    let policy = match Policy::with_name_server([]) {
        Ok(policy) => policy,
        Err(error) => return failed(&error),
    };
    match NftShield::engage(socket, &policy) {
        Ok(_shield) => FILTERED_RULES.pass("the rules of the filtered way were loaded"),
        Err(error) => failed(&error),
    }
}

/// Returns the command that loads modules of the kernel.
fn load_modules(modules: &str) -> String {
    format!("as root: modprobe -a {modules}; {REQUIREMENTS}")
}

// SPDX-License-Identifier: Apache-2.0
//! Tests of the search for processes that can go around the firewall of their network namespace.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use netns::{
    CapabilityAccess, CapabilityHolder, NetworkCapability, ProcessHandle, find_capability_holder,
};
use shield::Policy;
use supervisor::{
    DossierSource, HoldLimit, NameAccess, Supervisor, SupervisorConfig, SupervisorStartError,
};
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use test_support::namespaces::{NamespaceHolder, require_private_namespaces};

const WITHOUT: &str = "setpriv --bounding-set=-net_raw,-net_admin --inh-caps=-net_raw,-net_admin";
/// A user other than root, without any capability in force; the bounding set is as before.
const UNPRIVILEGED: &str = "setpriv --inh-caps=-all --ambient-caps=-all --securebits=+noroot";

/// Starts a process in a network namespace of its own that runs `sh` by `wrapper`.
fn start(wrapper: &str) -> NamespaceHolder {
    require_private_namespaces();
    let script = format!("exec {wrapper} sh -c 'echo ready; read end'");
    NamespaceHolder::start_script(&["--net"], &script)
}

fn find(holder: &NamespaceHolder) -> Option<CapabilityHolder> {
    let process = ProcessHandle::open(holder.pid()).unwrap();
    find_capability_holder(&process).unwrap()
}

#[test]
fn capabilities_count_in_force_and_by_execution() {
    use CapabilityAccess::{Held, Obtainable};
    use NetworkCapability::{Admin, Raw};
    let check = |wrapper: &str, expected| {
        let holder = start(wrapper);
        let found = find(&holder);
        if let Some(found) = &found {
            assert_eq!((found.pid, found.name.as_str()), (holder.pid(), "sh"));
        }
        let found = found.map(|found| (found.capability, found.access));
        assert_eq!(found, expected, "{wrapper}");
    };
    check("env", Some((Raw, Held)));
    check(WITHOUT, None);
    check(
        "setpriv --bounding-set=-net_raw --inh-caps=-net_raw",
        Some((Admin, Held)),
    );
    check(UNPRIVILEGED, Some((Raw, Obtainable)));
    check(&format!("{UNPRIVILEGED} --no-new-privs"), None);
    // Root over a user namespace of its own, not over this network namespace.
    check("unshare --user --map-root-user --", None);
}

#[test]
fn every_thread_of_every_process_in_the_namespace_counts() {
    let holder = start(WITHOUT);
    assert_eq!(find(&holder), None);
    // One that entered later, and whose first thread has ended.
    let code = "import ctypes, os, threading, sys\n\
                def stay():\n\
                \x20print('ready', flush=True)\n\
                \x20sys.stdin.read()\n\
                threading.Thread(target=stay).start()\n\
                ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)";
    let script = format!(
        "exec nsenter --net -t {} -- python3 -c \"{code}\"",
        holder.pid()
    );
    let other = NamespaceHolder::start_script(&[], &script);
    let found = find(&holder).unwrap();
    assert_eq!(found.name, "python3");
    assert_eq!(found.access, CapabilityAccess::Held);
    drop(other);
    assert_eq!(find(&holder), None);
}

/// Case: a frame sent by `AF_PACKET` passes the firewall both ways.
#[tokio::test]
async fn a_supervisor_refuses_a_sandbox_that_can_go_around_it() {
    let runtime = TempDir::new().unwrap();
    let start_supervisor = |holder: &NamespaceHolder, allow_capabilities| {
        Supervisor::start(SupervisorConfig {
            container: "box".parse().unwrap(),
            dossier: DossierSource::default(),
            processes: ProcessHandle::open(holder.pid()).unwrap().into(),
            names: NameAccess::Resolvers(Policy::new([]).unwrap()),
            allowed_dests: Vec::new(),
            hold: HoldLimit::Refuse,
            allow_capabilities,
            runtime_dir: RuntimeDir::new(runtime.path()),
            journal: None,
        })
    };
    let able = start("env");
    let error = start_supervisor(&able, false).unwrap_err();
    let SupervisorStartError::Capability(bypass) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        bypass.to_string(),
        format!("process {} (sh) has CAP_NET_RAW", able.pid())
    );
    let rules = able
        .command("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    assert!(
        rules.status.success() && rules.stdout.is_empty(),
        "{rules:?}"
    );

    let supervisor = start_supervisor(&able, true).unwrap();
    assert_eq!(supervisor.capability_holder().unwrap().pid, able.pid());
    drop(supervisor);

    let unable = start(WITHOUT);
    let supervisor = start_supervisor(&unable, false).unwrap();
    assert_eq!(supervisor.capability_holder(), None);
    let refused = Command::new("nsenter")
        .args(["--net", "-t", &unable.pid().to_string(), "--"])
        .args(WITHOUT.split(' '))
        .args(["python3", "-c", "import socket; socket.socket(17, 3)"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("PermissionError"), "{error}");
}

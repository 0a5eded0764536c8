// SPDX-License-Identifier: Apache-2.0
//! Our reader enters a container's namespaces by itself, where theirs runs `podman unshare nsenter`.

use ::reader::nflog::{NflogOptions, NflogSocket};
use netns::{NetnsRef as Namespace, SocketSpec};
use serde_json::Value;
use test_support::namespaces::add_dead_end_uplink;

use super::network::{self, connect};
use super::{hook, start, stop};
use crate::harness::{Place, Running, Side, Stack};

/// A container: user and network namespaces of its own, and a program that knocks when it is told.
const CONTAINER: &str = r#"
ip link set lo up
ip link add out0 type veth peer name in0
ip address add 192.0.2.2/24 dev out0
ip link set in0 up
ip link set out0 up
ip route add default via 192.0.2.1 dev out0
nft -f "$1" && echo ready
while read -r host; do timeout 1 bash -c "echo x >/dev/udp/$host/443"; done
"#;

#[tokio::test]
async fn a_container_is_entered_by_the_process_that_podman_names() {
    add_dead_end_uplink();
    let place = Place::new();
    let mut rules = place.script(Stack::V0_8_1, "ruleset.py", &[]);
    let rules = rules.output().await.unwrap();
    let file = place.path().join("rules.nft");
    std::fs::write(&file, rules.stdout).unwrap();
    let mut command = place.command("/usr/bin/unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--net",
        "bash",
        "-c",
        CONTAINER,
        "bash",
    ]);
    command.arg(&file);
    let mut container = Running::start(&mut command);
    assert_eq!(container.line().await, "ready");

    let pid = container.pid().as_raw_nonzero();
    hook::podman(&place, &format!("echo {pid}"));
    let mut command = place.reader(Side::Ours, &["--emit=json"]);
    hook::outside(&place, &mut command);
    let mut reader = Running::start(&mut command);
    assert_eq!(reader.json().await["type"], "container_started");
    assert_eq!(
        ::reader::find_nflog_owner(100, None).unwrap(),
        None,
        "it is not here"
    );
    let there = ::reader::find_nflog_owner(100, Some(pid.unsigned_abs().get())).unwrap();
    let process = there.expect("a listener").process.expect("our reader");
    assert_eq!(
        process.pid,
        reader.pid().as_raw_nonzero().unsigned_abs().get()
    );
    container.say("203.0.113.7").await;
    let event: Value = reader.json().await;
    assert_eq!(event["dest"], "203.0.113.7", "{event}");

    // A second one is told who reads there.
    let mut second = place.reader(Side::Ours, &["--emit=json"]);
    hook::outside(&place, &mut second);
    let refused = Running::start(&mut second).end().await;
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    let hint = format!("it is process {} (", process.pid);
    assert!(refused.errors.contains(&hint), "{refused:?}");

    // The container ends, and its reader with it; theirs would keep its network alive.
    container.end().await;
    let exited = reader.json().await;
    assert_eq!(exited["type"], "container_exited");
    assert_eq!(exited["reason"], "eof");
    assert!(reader.end().await.status.success());
}

#[tokio::test]
async fn somebody_else_may_have_the_log_group_of_our_answers() {
    add_dead_end_uplink();
    let place = Place::new();
    network::shield(&place, Stack::V0_8_1).await;
    let socket = Namespace::Current
        .open_socket(SocketSpec::Netfilter)
        .unwrap();
    let _other = NflogSocket::bind(socket, NflogOptions::ANSWERS).unwrap();
    let mut reader = start(&mut place.reader(Side::Ours, &["--emit=json"])).await;
    reader.line().await;
    connect("203.0.113.7:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.7");
    stop(reader).await;
}

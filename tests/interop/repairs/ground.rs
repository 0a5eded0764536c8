// SPDX-License-Identifier: Apache-2.0
//! What the tests with real packets stand on: a way out that leads nowhere, and readers.

use std::net::UdpSocket;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use super::{CONTAINER, STACK, Whose};
use crate::harness::{Place, Running};

/// What a sandbox's firewall does to a packet, as far as a reader sees it.
pub(super) const RULES: &str = "table inet terok_shield {
    chain output {
        type filter hook output priority filter; policy accept;
        ip daddr 203.0.113.0/24 log prefix \"TEROK_SHIELD_BLOCKED: \" group 100
        ip daddr 203.0.113.0/24 drop
    }
}";

/// Runs a program, these words for its arguments, with this input.
pub(super) async fn run(place: &Place, program: &str, words: &str, input: &str) {
    let mut command = place.command(program);
    command.args(words.split(' ')).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success(), "{program} {words}");
}

/// Gives this test's network namespace a way out that leads nowhere.
pub(super) async fn way_out(place: &Place) {
    for words in [
        "link set lo up",
        "link add out0 type veth peer name in0",
        "address add 192.0.2.2/24 dev out0",
        "link set in0 up",
        "link set out0 up",
        "route add default via 192.0.2.1 dev out0",
    ] {
        run(place, "ip", words, "").await;
    }
}

/// Sends a packet to an address.
pub(super) fn send(address: &str) {
    let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
    // A packet that the rules drop is sent, for all that its sender is told, or refused.
    drop(socket.send_to(b"x", (address, 443)));
}

/// Starts a reader of this test's network namespace, theirs or ours.
pub(super) async fn reader(place: &Place, whose: Whose, emit: &[&str]) -> Running {
    let state = place.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let mut reader = match whose {
        Whose::Ours => place.ours(&["reader"]),
        Whose::Theirs => {
            let script = "import terok_shield, pathlib; \
                print(pathlib.Path(terok_shield.__file__).parent / 'resources' / 'nflog_reader.py')";
            let mut python = place.command(STACK.program("python"));
            let path = Running::start(python.args(["-c", script])).line().await;
            let mut reader = place.command(STACK.program("python"));
            reader.arg(path);
            reader
        }
    };
    reader
        .arg(state)
        .arg(CONTAINER)
        .args(emit)
        .env("_TEROK_SHIELD_NFLOG_NSENTER", "1");
    Running::start(&mut reader)
}

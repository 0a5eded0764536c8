// SPDX-License-Identifier: Apache-2.0
//! A single packet is asked about at once: their reader leaves it to the kernel, which collects
//! reports for a second before it hands them over.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{CONTAINER, STACK};
use crate::harness::{Place, Running};

const PACKETS: u8 = 5;

/// What a sandbox's firewall does to a packet, as far as a reader sees it.
const RULES: &str = "table inet terok_shield {
    chain output {
        type filter hook output priority filter; policy accept;
        ip daddr 203.0.113.0/24 log prefix \"TEROK_SHIELD_BLOCKED: \" group 100
        ip daddr 203.0.113.0/24 drop
    }
}";

async fn run(place: &Place, program: &str, words: &str, input: &str) {
    let mut command = place.command(program);
    command.args(words.split(' ')).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    assert!(child.wait().await.unwrap().success(), "{program} {words}");
}

/// Gives this test's network namespace a way out that leads nowhere.
async fn way_out(place: &Place) {
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

/// Sends one packet after another, each to an address of its own when the one before was told of,
/// and returns the median of the times from packet to line.
async fn median(reader: &mut Running) -> Duration {
    let mut times = Vec::new();
    for n in 1..=PACKETS {
        let address = format!("203.0.113.{n}");
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        let sent = Instant::now();
        // A packet that the rules drop is sent, for all that its sender is told, or refused.
        drop(socket.send_to(b"x", (address.as_str(), 443)));
        loop {
            let line: Value = reader.json().await;
            if line["dest"] == address.as_str() || line["address"] == address.as_str() {
                break;
            }
        }
        times.push(sent.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_single_packet_waits_a_second_there_and_not_here() {
    let place = Place::new();
    way_out(&place).await;
    let theirs = {
        run(&place, "nft", "-f -", RULES).await;
        let script = "import terok_shield, pathlib; \
            print(pathlib.Path(terok_shield.__file__).parent / 'resources' / 'nflog_reader.py')";
        let mut python = place.command(STACK.program("python"));
        let path = Running::start(python.args(["-c", script])).line().await;
        let state = place.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let mut reader = place.command(STACK.program("python"));
        reader
            .args([&path, state.to_str().unwrap(), CONTAINER, "--emit=json"])
            .env("_TEROK_SHIELD_NFLOG_NSENTER", "1");
        let mut reader = Running::start(&mut reader);
        assert_eq!(reader.json().await["type"], json!("container_started"));
        let median = median(&mut reader).await;
        reader.signal(rustix::process::Signal::TERM);
        reader.end().await;
        run(&place, "nft", "delete table inet terok_shield", "").await;
        median
    };
    let ours = {
        let sandbox = Running::start(&mut place.command("cat"));
        let pid = sandbox.pid().as_raw_nonzero().to_string();
        let args = ["--json", "supervise", "--pid", &pid, "--name", CONTAINER];
        let mut guard = Running::start(&mut place.ours(&args));
        let ready = guard.json().await;
        let hub = ready["hub"].as_str().expect("its socket");
        let mut prompt = place.ours(&["--json", "clearance", "--socket", hub]);
        let mut prompt = Running::start(&mut prompt);
        prompt.until(r#""event":"ready""#).await;
        prompt.line().await;
        median(&mut prompt).await
    };
    println!("from packet to line: theirs {theirs:?}, ours {ours:?}");
    assert!(theirs > Duration::from_millis(500), "theirs {theirs:?}");
    assert!(ours * 3 < theirs, "ours {ours:?}, theirs {theirs:?}");
}

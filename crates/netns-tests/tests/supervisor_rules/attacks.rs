// SPDX-License-Identifier: Apache-2.0
//! Workloads that keep using a connection after its rule was revoked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use netns_tests::guarded::Operator;
use netns_tests::internet::Internet;
use terok_clearance::DecisionAction;

use super::{SERVER, allow, describe_all, revoke, rules, stand_in, start};

/// A program whose socket the kernel does not find by its addresses, because it is bound to an
/// interface. Each line of input makes it send a byte and report what came back.
struct BoundProgram {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const BOUND_CODE: &str = r"
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == 'tcp' else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'out0')
s.settimeout(1.5)
there = (sys.argv[2], 443)
if kind == socket.SOCK_STREAM:
    s.connect(there)
    s.recv(6)
print('ready', flush=True)
for line in sys.stdin:
    try:
        s.sendto(b'secret', there) if kind == socket.SOCK_DGRAM else s.send(b'secret')
        print(len(s.recv(16)), flush=True)
    except OSError as error:
        print('error', flush=True)
";

impl BoundProgram {
    fn start(protocol: &str, at: &str) -> Self {
        let mut command = Command::new("python3");
        let command = command.args(["-c", BOUND_CODE, protocol, at]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self {
            child,
            input,
            output,
        };
        assert_eq!(program.line(), "ready");
        program
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn send(&mut self) -> String {
        self.input.write_all(b"\n").unwrap();
        self.line()
    }
}

impl Drop for BoundProgram {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Counts the packets with content that reach the server from now on.
fn count_content(internet: &Internet) {
    let table = "table inet content { chain arriving { type filter hook prerouting priority raw; \
        ip daddr 203.0.113.7 tcp dport 443 ip length > 60 counter\n\
        ip daddr 203.0.113.7 udp dport 443 counter\n}\n}";
    let status = internet.command("nft").arg(table).status().unwrap();
    assert!(status.success());
}

fn content(internet: &Internet) -> Vec<u64> {
    let listing = internet
        .command("nft")
        .args(["list", "table", "inet", "content"])
        .output()
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let counts = listing.lines().filter_map(|line| {
        let (_, count) = line.split_once("counter packets ")?;
        count.split(' ').next()?.parse().ok()
    });
    counts.collect()
}

#[tokio::test]
async fn no_byte_passes_over_a_connection_after_its_rule_was_revoked() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    allow(&mut operator, at, 443, |_| None).await;
    let opening = tokio::task::spawn_blocking(move || {
        let mut program = BoundProgram::start("tcp", at);
        assert_eq!(program.send(), "6");
        program
    });
    let mut program = opening.await.unwrap();
    count_content(&guarded.internet);
    assert_eq!(revoke(&operator, "r1").await.ended, 1);
    let sending = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            assert_eq!(program.send(), "error");
        }
    });
    sending.await.unwrap();
    assert_eq!(content(&guarded.internet), [0, 0]);
}

#[tokio::test]
async fn no_datagram_passes_over_a_flow_after_its_rule_was_revoked() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let starting = tokio::task::spawn_blocking(|| {
        let mut program = BoundProgram::start("udp", SERVER);
        assert_eq!(program.send(), "error");
        program
    });
    let mut program = starting.await.unwrap();
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow).await;
    assert_eq!(program.send(), "6");
    count_content(&guarded.internet);
    assert_eq!(
        describe_all(&rules(&operator).await),
        ["r1 allow 203.0.113.7:443/udp decision 1"]
    );
    assert_eq!(revoke(&operator, "r1").await.ended, 1);
    let sending = tokio::task::spawn_blocking(move || assert_eq!(program.send(), "error"));
    sending.await.unwrap();
    assert_eq!(content(&guarded.internet), [0, 0]);
}

// SPDX-License-Identifier: Apache-2.0
//! A sandbox's network, which is this test's own, behind the firewall of a Python release.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Place, Stack};

/// Gives the test's network namespace a way out that leads nowhere.
pub(super) fn set_up() {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let all = map.split_ascii_whitespace().nth(2) == Some("4294967295");
    assert!(
        !all,
        "this test changes firewalls: run it by `./check interop`"
    );
    for line in [
        "link set lo up",
        "link add out0 type veth peer name in0",
        "address add 192.0.2.2/24 dev out0",
        "address add 2001:db8::2/64 dev out0 nodad",
        "link set in0 up",
        "link set out0 up",
        "route add default via 192.0.2.1 dev out0",
        "-6 route add default via 2001:db8::1 dev out0",
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "ip {line}");
    }
}

/// Raises the shield of `stack`: it allows nothing yet.
pub(super) async fn shield(place: &Place, stack: Stack) {
    let rules = place
        .script(stack, "ruleset.py", &[])
        .output()
        .await
        .unwrap();
    assert!(rules.status.success(), "{rules:?}");
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = nft.stdin.take().unwrap();
    input.write_all(b"flush ruleset\n").unwrap();
    input.write_all(&rules.stdout).unwrap();
    drop(input);
    assert!(nft.wait().unwrap().success());
}

/// Tries to reach `to` with one packet.
///
/// The shield refuses it at once, but by an ICMP message that the kernel cannot hand to a socket
/// in the middle of its `connect`: only the second packet, a second later, would be an error.
pub(super) fn connect(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let tried = TcpStream::connect_timeout(&to, Duration::from_millis(1));
    assert!(tried.is_err(), "the shield lets {to} pass");
}

/// Sends a datagram to `to`, which comes to nothing.
pub(super) fn send(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // That it was refused may show already now.
    drop(socket.send_to(b"x", to));
}

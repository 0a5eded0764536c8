// SPDX-License-Identifier: Apache-2.0
//! A sandbox's network, which is this test's own, behind the firewall of a Python release.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use test_support::namespaces::load_rules;

use crate::harness::{Place, Stack};

/// Raises the shield of `stack`: it allows nothing yet.
pub(super) async fn shield(place: &Place, stack: Stack) {
    let rules = place
        .script(stack, "ruleset.py", &[])
        .output()
        .await
        .unwrap();
    assert!(rules.status.success(), "{rules:?}");
    load_rules(&[b"flush ruleset\n", rules.stdout.as_slice()].concat());
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

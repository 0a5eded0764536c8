// SPDX-License-Identifier: Apache-2.0
//! Tests of the addresses that are dialed.

use super::*;
use crate::test_parts::open_dialer;

const HOSTS: [(&str, &[&str]); 5] = [
    ("localhost", &["127.0.0.1", "::1"]),
    ("proxy.test", &["203.0.113.9"]),
    ("alias.test", &["203.0.113.9"]),
    ("both.test", &["203.0.113.9", "203.0.113.10"]),
    ("mapped.test", &["::ffff:203.0.113.9"]),
];

/// Returns the addresses that would be dialed for `host` at `port` beside a proxy, or the refusal.
async fn candidates(proxy: &str, host: &str, port: u16) -> String {
    let proxy = ProxySettings::explicit(proxy).unwrap();
    let dialer = open_dialer(&HOSTS, Some(proxy));
    let dest = PacketDest {
        host: match host.parse() {
            Ok(address) => PacketHost::Address(address),
            Err(_) => PacketHost::Name(host.parse().unwrap()),
        },
        port,
        protocol: Protocol::TCP,
    };
    match dialer.candidates(&dest).await {
        Ok(found) => {
            let found: Vec<_> = found.iter().map(|found| found.ip().to_string()).collect();
            found.join(" ")
        }
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[tokio::test]
async fn a_proxy_is_not_dialed_under_another_name_or_address() {
    const REFUSED: &str = "OperatorProxy";
    let local = "http://localhost:3128";
    let named = "socks5://proxy.test:3128";
    for (proxy, host, port, expected) in [
        (local, "host.internal", 3128, REFUSED),
        (local, "127.0.0.1", 3128, REFUSED),
        (local, "127.0.0.2", 3128, REFUSED),
        (local, "host.internal", 8080, "127.0.0.1 ::1"),
        (local, "alias.test", 3128, "203.0.113.9"),
        (named, "203.0.113.9", 3128, REFUSED),
        (named, "alias.test", 3128, REFUSED),
        (named, "mapped.test", 3128, REFUSED),
        (named, "both.test", 3128, "203.0.113.10"),
        (named, "alias.test", 443, "203.0.113.9"),
        (named, "host.internal", 3128, "127.0.0.1 ::1"),
        ("203.0.113.9:3128", "alias.test", 3128, REFUSED),
    ] {
        let found = candidates(proxy, host, port).await;
        assert_eq!(found, expected, "{host}:{port} beside {proxy}");
    }
    // Without the addresses of the proxy, no other destination at its port can be told from it.
    let found = candidates("http://gone.test:3128", "alias.test", 3128).await;
    assert_eq!(found, "NotFound(NotFound)");
}

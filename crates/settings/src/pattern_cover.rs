// SPDX-License-Identifier: Apache-2.0
//! Whether one pattern covers all of another.

use terok_clearance::{DestPattern, HostPattern};

/// Returns `true` if `wide` covers every destination that `narrow` covers, as far as the patterns
/// themselves show it: a name never covers an address, nor an address a name.
pub fn pattern_covers(wide: &DestPattern, narrow: &DestPattern) -> bool {
    let ports = match (wide.ports(), narrow.ports()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide.low() <= narrow.low() && narrow.high() <= wide.high(),
    };
    let protocol = wide
        .protocol()
        .is_none_or(|own| narrow.protocol() == Some(own));
    ports && protocol && covers_host(wide.host(), narrow.host())
}

fn covers_host(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Name(wide), HostPattern::Name(narrow)) => wide == narrow,
        (HostPattern::Subdomains(parent), HostPattern::Name(name)) => name.is_below(parent),
        (HostPattern::Subdomains(wide), HostPattern::Subdomains(narrow)) => {
            wide == narrow || narrow.is_below(wide)
        }
        (HostPattern::Address(wide), HostPattern::Address(narrow)) => wide == narrow,
        (HostPattern::Network(network), HostPattern::Address(address)) => {
            network.contains(*address)
        }
        (HostPattern::Network(wide), HostPattern::Network(narrow)) => {
            wide.length() <= narrow.length() && wide.contains(narrow.network())
        }
        (HostPattern::Name(_) | HostPattern::Address(_), _)
        | (HostPattern::Subdomains(_), HostPattern::Address(_) | HostPattern::Network(_))
        | (HostPattern::Network(_), HostPattern::Name(_) | HostPattern::Subdomains(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terok_clearance::{PacketDest, PacketHost, Protocol};

    use super::*;

    fn covers(wide: &str, narrow: &str) -> bool {
        pattern_covers(&wide.parse().unwrap(), &narrow.parse().unwrap())
    }

    #[test]
    fn the_wider_pattern_covers_host_ports_and_protocol() {
        for (wide, narrow) in [
            ("a.example", "a.example:443/tcp"),
            ("*.example", "a.example"),
            ("*.example", "*.a.example:80"),
            ("10.0.0.0/8", "10.1.0.0/16:1-9"),
            ("10.0.0.0/8", "10.1.2.3/udp"),
            ("2001:db8::/32", "2001:db8::1"),
            ("a.example:1-100", "a.example:5-100"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
            assert!(covers(wide, wide) && !covers(narrow, wide));
        }
        for (wide, narrow) in [
            ("*.example", "example"),
            ("*.a.example", "*.example"),
            ("10.1.0.0/16", "10.0.0.0/8"),
            ("0.0.0.0/0", "2001:db8::1"),
            ("0.0.0.0/0", "a.example"),
            ("a.example/tcp", "a.example"),
            ("a.example:443", "a.example"),
            ("a.example:443", "a.example/icmp"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    fn patterns() -> impl Strategy<Value = DestPattern> {
        let host = prop::sample::select(vec![
            "a.example",
            "b.a.example",
            "*.example",
            "*.a.example",
            "10.0.0.1",
            "10.0.0.0/8",
            "10.0.0.0/31",
            "0.0.0.0/0",
            "[2001:db8::1]",
            "[2001:db8::/32]",
        ]);
        let ports = prop::sample::select(vec!["", ":1", ":1-2", ":2-3", "/tcp", ":1/udp"]);
        (host, ports).prop_map(|(host, ports)| {
            let text = format!("{host}{ports}");
            let bare = text.replace(['[', ']'], "");
            text.parse().or_else(|_| bare.parse()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn what_the_narrow_pattern_matches_the_wide_one_matches(
            wide in patterns(), narrow in patterns(), port in 1_u16..5, tcp: bool,
            host in prop::sample::select(vec![
                "a.example", "b.a.example", "c.example", "10.0.0.1", "10.0.0.2", "2001:db8::1",
            ]),
        ) {
            let host = host.parse().map_or_else(
                |_| PacketHost::Name(host.parse().unwrap()),
                PacketHost::Address,
            );
            let protocol = if tcp { Protocol::TCP } else { Protocol::UDP };
            let packet = PacketDest { host, port, protocol };
            if pattern_covers(&wide, &narrow) && narrow.matches(&packet) {
                prop_assert!(wide.matches(&packet));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The zone of an address that would be dialed from the host, outside the sandbox.
//!
//! The classes of [`address_class`](crate::address_class) describe a packet inside the sandbox,
//! where loopback is the sandbox itself. A dial starts on the host: loopback is a service of the
//! host, which a person may open, like the host's own addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::address_class::{AddressClass, AddressRange, IpFamily, floor_ranges, stand_in_range};
use crate::{IpPrefix, NetworkZone};

/// The zone of an address, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DestZone {
    /// The internet.
    Public,
    /// A private range: the networks behind the host.
    LocalNetwork,
    /// The host itself: loopback or one of its addresses.
    ThisHost,
    /// Never opened: link-local, cloud metadata, multicast, reserved, stand-in. Never part of a
    /// question.
    Floor,
}

impl DestZone {
    /// Returns the zone as every interface spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::LocalNetwork => "local-network",
            Self::ThisHost => "this-host",
            Self::Floor => "floor",
        }
    }
}

impl DestZone {
    /// Returns the zone as a question tells it. Questions are never about the floor, which counts
    /// as an address of this host: no wider rule covers either.
    pub const fn question_zone(self) -> NetworkZone {
        match self {
            Self::Public => NetworkZone::Public,
            Self::LocalNetwork => NetworkZone::LocalNetwork,
            Self::ThisHost | Self::Floor => NetworkZone::ThisHost,
        }
    }
}

impl From<NetworkZone> for DestZone {
    fn from(zone: NetworkZone) -> Self {
        match zone {
            NetworkZone::Public => Self::Public,
            NetworkZone::LocalNetwork => Self::LocalNetwork,
            NetworkZone::ThisHost => Self::ThisHost,
        }
    }
}

impl fmt::Display for DestZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Returns the zone of an address that would be dialed from this host.
///
/// `is_host_address` tells whether an address belongs to the host, for example by its routes. An
/// IPv6 address that embeds an IPv4 address has the zone of the IPv4 address. The floor stays
/// closed on the host's own addresses: a metadata service may run on the host.
pub fn classify_destination(ip: IpAddr, is_host_address: impl Fn(IpAddr) -> bool) -> DestZone {
    match ip {
        IpAddr::V4(v4) => classify_plain(v4.into(), &is_host_address),
        IpAddr::V6(v6) => classify_v6(v6, &is_host_address),
    }
}

fn classify_v6(ip: Ipv6Addr, is_host_address: &impl Fn(IpAddr) -> bool) -> DestZone {
    let plain = classify_plain(ip.into(), is_host_address);
    let embedded = match embedded_ipv4(ip) {
        EmbeddedIpv4::None => return plain,
        EmbeddedIpv4::Exact(v4) => classify_plain(v4.into(), is_host_address),
        // The translator belongs to the operator's network, whatever it leads to.
        EmbeddedIpv4::LocalNat64(readings) => readings
            .into_iter()
            .filter(|v4| is_unicast(*v4))
            .map(|v4| classify_plain(v4.into(), is_host_address))
            .fold(DestZone::LocalNetwork, Ord::max),
    };
    if plain == DestZone::ThisHost {
        embedded.max(plain)
    } else {
        embedded
    }
}

/// Returns the IPv4 addresses that an IPv6 address may lead to: mapped, translated, NAT64, 6to4.
///
/// Several for local-use NAT64, where only the operator knows the prefix's length.
pub fn embedded_ipv4_addresses(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let embedded = match ip {
        IpAddr::V4(_) => EmbeddedIpv4::None,
        IpAddr::V6(v6) => embedded_ipv4(v6),
    };
    let (exact, readings) = match embedded {
        EmbeddedIpv4::None => (None, None),
        EmbeddedIpv4::Exact(v4) => (Some(v4), None),
        EmbeddedIpv4::LocalNat64(readings) => (None, Some(readings)),
    };
    exact.into_iter().chain(readings.into_iter().flatten())
}

/// Returns `true` if every address of a network is in [`DestZone::Floor`].
pub(crate) fn is_floor_network(network: IpPrefix) -> bool {
    let network = embedded_network(network).unwrap_or(network);
    let (first, last) = (network.network(), network.last_address());
    if first.is_loopback() || network.contains(Ipv6Addr::LOCALHOST.into()) {
        return false;
    }
    let covers = |range: &AddressRange| range.contains(first) && range.contains(last);
    let floor = floor_ranges(IpFamily::of(first));
    floor.iter().any(covers) || covers(&stand_in_range())
}

/// Returns the IPv4 network that all addresses of an IPv6 network lead to, each to its own. The
/// reading as a /96 decides about local-use NAT64: the other ones can only restrict more.
fn embedded_network(network: IpPrefix) -> Option<IpPrefix> {
    let IpAddr::V6(first) = network.network() else {
        return None;
    };
    let (v4, embedded_at) = match (embedded_ipv4(first), first.segments()) {
        (EmbeddedIpv4::Exact(v4), [0x2002, ..]) => (v4, 16),
        (EmbeddedIpv4::Exact(v4), _) => (v4, 96),
        (EmbeddedIpv4::LocalNat64([.., tail]), _) if is_unicast(tail) => (tail, 96),
        (EmbeddedIpv4::None | EmbeddedIpv4::LocalNat64(_), _) => return None,
    };
    let length = network.length().checked_sub(embedded_at)?;
    Some(IpPrefix::containing(v4.into(), length))
}

/// Classifies an address without a look at an embedded one.
fn classify_plain(ip: IpAddr, is_host_address: &impl Fn(IpAddr) -> bool) -> DestZone {
    if ip.is_loopback() {
        return DestZone::ThisHost;
    }
    if stand_in_range().contains(ip) {
        return DestZone::Floor;
    }
    match AddressClass::classify(ip) {
        AddressClass::Floor => DestZone::Floor,
        _ if is_host_address(ip) => DestZone::ThisHost,
        AddressClass::Private => DestZone::LocalNetwork,
        AddressClass::Public => DestZone::Public,
    }
}

/// An IPv4 address inside an IPv6 address.
enum EmbeddedIpv4 {
    None,
    Exact(Ipv4Addr),
    /// A prefix of `64:ff9b:1::/48`, whose length only the operator knows: the address for each
    /// length of RFC 6052.
    LocalNat64([Ipv4Addr; 4]),
}

fn embedded_ipv4(ip: Ipv6Addr) -> EmbeddedIpv4 {
    let [
        _,
        _,
        _,
        _,
        _,
        _,
        b6,
        b7,
        _,
        b9,
        b10,
        b11,
        b12,
        b13,
        b14,
        b15,
    ] = ip.octets();
    let tail = Ipv4Addr::new(b12, b13, b14, b15);
    match ip.segments() {
        // IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => EmbeddedIpv4::Exact(tail),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            EmbeddedIpv4::Exact(Ipv4Addr::new(a, b, c, d))
        }
        // Local-use NAT64 (RFC 8215): /48, /56, /64 and /96, without byte 8.
        [0x64, 0xff9b, 1, ..] => EmbeddedIpv4::LocalNat64([
            Ipv4Addr::new(b6, b7, b9, b10),
            Ipv4Addr::new(b7, b9, b10, b11),
            Ipv4Addr::new(b9, b10, b11, b12),
            tail,
        ]),
        _ => EmbeddedIpv4::None,
    }
}

/// Returns `true` for an address that a translator can send packets to. The other readings of a
/// translated address are not the intended one.
const fn is_unicast(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [1..=223, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_addresses;

    #[track_caller]
    fn check(zone: DestZone, addresses: &[&str]) {
        let host: [IpAddr; 4] = [
            "192.168.1.10".parse().unwrap(),
            "203.0.113.10".parse().unwrap(),
            "2001:db8::10".parse().unwrap(),
            "169.254.169.254".parse().unwrap(),
        ];
        for text in addresses {
            let ip = text.parse().unwrap();
            assert_eq!(
                classify_destination(ip, |ip| host.contains(&ip)),
                zone,
                "of {text}"
            );
        }
    }

    #[test]
    fn the_internet_is_public_in_every_representation() {
        check(DestZone::Public, &test_addresses::PUBLIC);
        check(
            DestZone::Public,
            &["::ffff:203.0.113.7", "::ffff:0:203.0.113.7"],
        );
    }

    #[test]
    fn private_ranges_are_the_local_network_in_every_representation() {
        check(DestZone::LocalNetwork, &test_addresses::PRIVATE);
        check(
            DestZone::LocalNetwork,
            &["::ffff:10.0.0.1", "::ffff:0:10.0.0.1"],
        );
        // The operator's own translator, with an address of the internet for /96 and for /48.
        check(
            DestZone::LocalNetwork,
            &[
                "64:ff9b:1::203.0.113.7",
                "64:ff9b:1:cb00:71:700::",
                "64:ff9b:1:fffe::10.0.0.1",
                "64:ff9b:1::1",
            ],
        );
    }

    #[test]
    fn loopback_and_the_hosts_own_addresses_are_this_host() {
        check(
            DestZone::ThisHost,
            &[
                "127.0.0.1",
                "127.255.255.255",
                "::1",
                "192.168.1.10",
                "203.0.113.10",
                "2001:db8::10",
                "::ffff:127.0.0.1",
                "::ffff:0:127.0.0.1",
                "::ffff:192.168.1.10",
                "64:ff9b::127.0.0.1",
                "64:ff9b::203.0.113.10",
                "64:ff9b:1::127.0.0.1",
                "64:ff9b:1:7f00:0:100::",
                "64:ff9b:1:ff7f:0:1::",
                "64:ff9b:1:0:7f:0:100::",
                "2002:7f00:1::",
                "2002:c0a8:10a::1",
            ],
        );
    }

    #[test]
    fn the_floor_is_closed_in_every_representation_and_on_the_host() {
        check(DestZone::Floor, &test_addresses::FLOOR);
        check(
            DestZone::Floor,
            &[
                "198.18.0.0",
                "198.19.255.255",
                "::2",
                "::ffff:169.254.169.254",
                "::ffff:0.0.0.0",
                "::ffff:0:169.254.169.254",
                "::ffff:198.18.0.1",
                "64:ff9b::198.19.0.1",
                "64:ff9b:1::169.254.169.254",
                "64:ff9b:1:a9fe:a9:fe00::",
                "64:ff9b:1:a9fe:a9:fe00:cb00:7107",
                "64:ff9b:1:ffa9:fe:a9fe::",
                "64:ff9b:1:0:a9:fea9:fe00::",
                "2002:c612:1::1",
            ],
        );
    }

    #[test]
    fn a_network_is_in_the_floor_as_a_whole() {
        for (text, expected) in [
            ("0.0.0.0/8", true),
            ("169.254.0.0/16", true),
            ("169.254.169.254/32", true),
            ("169.254.0.0/15", false),
            ("198.18.0.0/15", true),
            ("198.16.0.0/14", false),
            ("224.0.0.0/4", true),
            ("224.0.0.0/3", true),
            ("192.0.0.0/3", false),
            ("127.0.0.0/8", false),
            ("127.5.0.0/16", false),
            ("100.64.0.0/10", false),
            ("0.0.0.0/0", false),
            ("fe80::/10", true),
            ("fe80::/9", false),
            ("ff00::/8", true),
            ("ff02::/16", true),
            ("::/127", false),
            ("::2/127", true),
            ("::/96", false),
            ("::/0", false),
            ("::ffff:169.254.0.0/112", true),
            ("::ffff:10.0.0.0/104", false),
            ("::ffff:0:169.254.0.0/112", true),
            ("::ffff:0:0:0/96", false),
            ("64:ff9b::169.254.0.0/112", true),
            ("64:ff9b::127.0.0.0/104", false),
            ("64:ff9b::/96", false),
            ("64:ff9b:1::169.254.0.0/112", true),
            ("64:ff9b:1::224.0.0.0/100", false),
            ("64:ff9b:1::/48", false),
            ("2002:a9fe::/32", true),
            ("2002:a9fe:a9fe::/48", true),
            ("2002:a9fe:a9fe:1::/64", true),
            ("2002:e000::/19", true),
            ("2002:7f00::/24", false),
            ("2002::/16", false),
        ] {
            let network = text.parse().unwrap();
            assert_eq!(is_floor_network(network), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_address_of_a_floor_network_is_in_the_floor(
            (range, length) in (0..test_addresses::FLOOR.len(), 0_u8..=128),
            random in proptest::num::u128::ANY,
        ) {
            let text = test_addresses::FLOOR[range];
            let network = IpPrefix::containing(text.parse().unwrap(), length);
            let zone = |ip| classify_destination(ip, |_| false);
            let probe = match (network.network(), network.last_address()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    let host = u128::from(first.to_bits() ^ last.to_bits());
                    let bits = u32::try_from(random & host).unwrap();
                    Ipv4Addr::from_bits(first.to_bits() | bits).into()
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    let host = first.to_bits() ^ last.to_bits();
                    Ipv6Addr::from_bits(first.to_bits() | (random & host)).into()
                }
                ends => panic!("{ends:?}"),
            };
            if is_floor_network(network) {
                assert_eq!(zone(probe), DestZone::Floor, "{probe} of {network}");
            }
        }
    }

    #[test]
    fn an_address_of_the_host_that_looks_translated_is_this_host() {
        let own: IpAddr = "2002:cb00:7107::1".parse().unwrap();
        assert_eq!(
            classify_destination(own, |ip| ip == own),
            DestZone::ThisHost
        );
    }

    #[test]
    fn the_text_is_the_same_in_json() {
        for zone in [
            DestZone::Public,
            DestZone::LocalNetwork,
            DestZone::ThisHost,
            DestZone::Floor,
        ] {
            let json = serde_json::to_string(&zone).unwrap();
            assert_eq!(json, format!("\"{zone}\""));
            assert_eq!(serde_json::from_str::<DestZone>(&json).unwrap(), zone);
        }
    }
}

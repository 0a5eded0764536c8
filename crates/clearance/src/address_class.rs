// SPDX-License-Identifier: Apache-2.0
//! Address ranges with restrictions: the hard-deny floor and the private ranges.
//!
//! IPv6 can represent an IPv4 host in several ways (mapped, translated, NAT64, 6to4). Each
//! forbidden IPv4 range is forbidden in all of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both IP versions.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the IP version of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Converts bytes to an address of this family.
    pub fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            Self::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    }

    /// Returns the size of an address in bits.
    pub(crate) const fn address_bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// Returns 198.18.0.0/15 (RFC 2544, which reserves it for tests of devices), the range of the
/// stand-ins of names and of a sandbox's own addresses.
pub fn stand_in_range() -> AddressRange {
    AddressRange::from_v4((Ipv4Addr::new(198, 18, 0, 0), 15))
}

/// The restriction of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Never opened: link-local, cloud metadata, loopback off `lo`, multicast, reserved.
    Floor,
    /// Not opened by verdicts: the networks behind the sandbox's host.
    Private,
    /// The internet.
    Public,
}

impl AddressClass {
    /// Returns the class of an address.
    pub fn classify(ip: IpAddr) -> Self {
        let family = IpFamily::of(ip);
        let within = |ranges: &[AddressRange]| ranges.iter().any(|span| span.contains(ip));
        if within(floor_ranges(family)) {
            Self::Floor
        } else if within(private_ranges(family)) {
            Self::Private
        } else {
            Self::Public
        }
    }
}

/// An inclusive range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    family: IpFamily,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// Returns the range of a prefix; bits of `base` behind the prefix are ignored.
    pub(crate) fn from_prefix(family: IpFamily, base: u128, length: u8) -> Self {
        let host_bits = u32::from(family.address_bits().saturating_sub(length));
        let fixed_bits = u128::BITS.saturating_sub(host_bits);
        let host = u128::MAX.checked_shr(fixed_bits).unwrap_or(0);
        Self {
            family,
            first: base & !host,
            last: base | host,
        }
    }

    fn from_v4((address, length): (Ipv4Addr, u8)) -> Self {
        Self::from_prefix(IpFamily::V4, address.to_bits().into(), length)
    }

    fn from_v6((address, length): (Ipv6Addr, u8)) -> Self {
        Self::from_prefix(IpFamily::V6, address.to_bits(), length)
    }

    /// Returns the first address.
    pub fn first(self) -> IpAddr {
        self.to_address(self.first)
    }

    /// Returns the address after the range; `None` at the end of the address space.
    pub fn next_address(self) -> Option<IpAddr> {
        let whole = Self::from_prefix(self.family, 0, 0);
        let next = self.last.checked_add(1)?;
        (next <= whole.last).then(|| self.to_address(next))
    }

    /// Returns `true` if the address is in the range.
    pub fn contains(self, ip: IpAddr) -> bool {
        let bits = address_to_bits(ip);
        IpFamily::of(ip) == self.family && (self.first..=self.last).contains(&bits)
    }

    fn to_address(self, bits: u128) -> IpAddr {
        match (self.family, u32::try_from(bits)) {
            (IpFamily::V4, Ok(bits)) => Ipv4Addr::from_bits(bits).into(),
            _ => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

/// Returns an address as a number, aligned to its last bit.
pub(crate) fn address_to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl fmt::Display for AddressRange {
    /// Formats like nft: an address, a prefix, or first and last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first();
        let length = (0..=self.family.address_bits()).find(|length| {
            let prefix = Self::from_prefix(self.family, self.first, *length);
            prefix == *self
        });
        match length {
            Some(length) if length == self.family.address_bits() => write!(f, "{first}"),
            Some(length) => write!(f, "{first}/{length}"),
            None => write!(f, "{first}-{}", self.to_address(self.last)),
        }
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the ranges refused regardless of any answer, sorted and disjoint.
pub fn floor_ranges(family: IpFamily) -> &'static [AddressRange] {
    static V4: LazyLock<Vec<AddressRange>> =
        LazyLock::new(|| merge_ranges(FLOOR_V4.map(AddressRange::from_v4)));
    static V6: LazyLock<Vec<AddressRange>> = LazyLock::new(|| {
        merge_ranges(
            FLOOR_V6
                .map(AddressRange::from_v6)
                .into_iter()
                .chain(embed_in_ipv6(&FLOOR_V4)),
        )
    });
    match family {
        IpFamily::V4 => &V4,
        IpFamily::V6 => &V6,
    }
}

/// Returns the private ranges, sorted and disjoint.
pub fn private_ranges(family: IpFamily) -> &'static [AddressRange] {
    static V4: LazyLock<Vec<AddressRange>> =
        LazyLock::new(|| merge_ranges(PRIVATE_V4.map(AddressRange::from_v4)));
    static V6: LazyLock<Vec<AddressRange>> = LazyLock::new(|| {
        merge_ranges(
            PRIVATE_V6
                .map(AddressRange::from_v6)
                .into_iter()
                .chain(embed_in_ipv6(&PRIVATE_V4)),
        )
    });
    match family {
        IpFamily::V4 => &V4,
        IpFamily::V6 => &V6,
    }
}

/// Link-local multicast: background traffic of every system, never asked about.
pub fn link_local_multicast(family: IpFamily) -> Vec<AddressRange> {
    match family {
        IpFamily::V4 => vec![AddressRange::from_v4((Ipv4Addr::new(224, 0, 0, 0), 24))],
        IpFamily::V6 => vec![AddressRange::from_v6((
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0),
            16,
        ))],
    }
}

const FLOOR_V4: [(Ipv4Addr, u8); 8] = [
    // "This network", RFC 1122: Linux treats 0.0.0.0 as the host itself.
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, RFC 3927, including the metadata service of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Metadata of Alibaba, Azure and Oracle.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
    // Multicast, reserved and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

const FLOOR_V6: [(Ipv6Addr, u8); 7] = [
    // Unspecified, loopback and IPv4-compatible, RFC 4291.
    (Ipv6Addr::UNSPECIFIED, 96),
    // IPv4-mapped and IPv4-translated (RFC 4291, RFC 2765).
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    // Metadata of Amazon and Google.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

const PRIVATE_V4: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Shared by carriers and overlay networks, RFC 6598.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];

const PRIVATE_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    // Site-local, deprecated by RFC 3879.
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // Local-use NAT64, RFC 8215: leads to the operator's own network.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];

/// Returns IPv4 ranges in NAT64 (RFC 6052) and 6to4 (RFC 3056) representation.
fn embed_in_ipv6(ranges: &[(Ipv4Addr, u8)]) -> impl Iterator<Item = AddressRange> {
    const NAT64: u128 = 0x0064_ff9b << 96;
    const SIX_TO_FOUR: u128 = 0x2002 << 112;
    ranges.iter().flat_map(|(address, length)| {
        let v4 = u128::from(address.to_bits());
        [
            AddressRange::from_prefix(IpFamily::V6, NAT64 | v4, length.saturating_add(96)),
            AddressRange::from_prefix(
                IpFamily::V6,
                SIX_TO_FOUR | (v4 << 80),
                length.saturating_add(16),
            ),
        ]
    })
}

/// Sorts ranges and joins adjacent ones, as a kernel interval set requires.
fn merge_ranges(ranges: impl IntoIterator<Item = AddressRange>) -> Vec<AddressRange> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let mut joined: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_addresses;

    #[track_caller]
    fn check(expected: AddressClass, addresses: &[&str]) {
        for text in addresses {
            let class = AddressClass::classify(text.parse().unwrap());
            assert_eq!(class, expected, "of {text}");
        }
    }

    #[test]
    fn the_floor_is_closed_in_every_representation() {
        check(AddressClass::Floor, &test_addresses::FLOOR);
        check(
            AddressClass::Floor,
            &[
                "127.0.0.1",
                "127.255.255.255",
                "::1",
                "::ffff:203.0.113.7",
                "::ffff:0:203.0.113.7",
                "64:ff9b::127.0.0.1",
                "2002:7f00:1::",
            ],
        );
    }

    #[test]
    fn the_private_ranges_are_closed_in_every_representation() {
        check(AddressClass::Private, &test_addresses::PRIVATE);
    }

    #[test]
    fn other_addresses_are_public() {
        check(AddressClass::Public, &test_addresses::PUBLIC);
    }

    #[test]
    fn ranges_are_sorted_and_disjoint() {
        for family in IpFamily::BOTH {
            for ranges in [floor_ranges(family), private_ranges(family)] {
                for pair in ranges.windows(2) {
                    assert!(pair[0].last + 1 < pair[1].first, "{pair:?}");
                }
            }
        }
        assert_eq!(
            format!("{:?}", floor_ranges(IpFamily::V4)),
            "[0.0.0.0/8, 100.100.100.200, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, \
             192.0.0.192, 224.0.0.0/3]"
        );
    }

    proptest::proptest! {
        #[test]
        fn joining_keeps_every_address(
            pieces in proptest::collection::vec((proptest::num::u32::ANY, 0u8..=32), 0..20),
            probe in proptest::num::u32::ANY,
        ) {
            let all: Vec<_> =
                pieces.iter().map(|(base, n)| AddressRange::from_v4((Ipv4Addr::from_bits(*base), *n))).collect();
            let ip = IpAddr::from(Ipv4Addr::from_bits(probe));
            let joined = merge_ranges(all.iter().copied());
            assert_eq!(
                joined.iter().any(|range| range.contains(ip)),
                all.iter().any(|range| range.contains(ip)),
            );
        }
    }
}

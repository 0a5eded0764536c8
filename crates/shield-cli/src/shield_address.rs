// SPDX-License-Identifier: Apache-2.0
//! Addresses and networks, as policy files and the sets of the firewall have them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use terok_clearance::IpPrefix;

/// An address, or a network in CIDR notation.
///
/// `10.0.0.1` and `10.0.0.1/32` are different values with the same extent: the Python shield
/// compares its files by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShieldAddress {
    /// One address.
    Host(IpAddr),
    /// A network.
    Network(IpPrefix),
}

/// A text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address nor a network")]
pub struct ShieldAddressError;

impl ShieldAddress {
    /// Returns `true` for IPv4.
    pub const fn is_ipv4(self) -> bool {
        match self {
            Self::Host(address) => address.is_ipv4(),
            Self::Network(prefix) => prefix.network().is_ipv4(),
        }
    }

    /// Returns the addresses as a network.
    pub fn prefix(self) -> IpPrefix {
        match self {
            Self::Host(address) => IpPrefix::containing(address, u8::MAX),
            Self::Network(prefix) => prefix,
        }
    }

    /// Returns `true` if every address of `other` is one of this.
    pub fn covers(self, other: Self) -> bool {
        let (own, other) = (self.prefix(), other.prefix());
        own.length() <= other.length()
            && own.network().is_ipv4() == other.network().is_ipv4()
            && own.contains(other.network())
    }

    /// Returns `true` if both have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl FromStr for ShieldAddress {
    type Err = ShieldAddressError;

    /// Parses an address, or a network whose bits after the prefix are ignored.
    fn from_str(text: &str) -> Result<Self, ShieldAddressError> {
        let text = text.trim();
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::Host).or(Err(ShieldAddressError));
        };
        let address: IpAddr = address.parse().or(Err(ShieldAddressError))?;
        let limit: u8 = if address.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit());
        match length.parse() {
            Ok(length) if digits && length <= limit => {
                Ok(Self::Network(IpPrefix::containing(address, length)))
            }
            _ => Err(ShieldAddressError),
        }
    }
}

impl fmt::Display for ShieldAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => address.fmt(f),
            Self::Network(prefix) => prefix.fmt(f),
        }
    }
}

/// Removes addresses that another one of the list covers: nftables refuses sets whose intervals
/// overlap.
pub(crate) fn without_covered(
    addresses: impl IntoIterator<Item = ShieldAddress>,
) -> Vec<ShieldAddress> {
    let mut kept: Vec<ShieldAddress> = Vec::new();
    for address in addresses {
        if kept.iter().any(|other| other.covers(address)) {
            continue;
        }
        kept.retain(|other| !address.covers(*other));
        kept.push(address);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_networks_are_shown_in_their_canonical_form() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = text
                .parse::<ShieldAddress>()
                .ok()
                .map(|parsed| parsed.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        };
        check("203.0.113.7", Some("203.0.113.7"));
        check(" 203.0.113.7 ", Some("203.0.113.7"));
        check("203.0.113.7/24", Some("203.0.113.0/24"));
        check("203.0.113.7/32", Some("203.0.113.7/32"));
        check("2001:DB8:0::1", Some("2001:db8::1"));
        check("2001:db8::1/32", Some("2001:db8::/32"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        for wrong in [
            "",
            "example.com",
            "1.2.3.4/33",
            "1.2.3.4/+8",
            "1.2.3.4/",
            "1.2.3",
            "::1/129",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_covered_address_is_removed_wherever_it_stands() {
        let parse = |text: &str| -> Vec<ShieldAddress> {
            text.split(' ').map(|word| word.parse().unwrap()).collect()
        };
        for (given, expected) in [
            ("1.2.3.4 1.2.3.0/24", "1.2.3.0/24"),
            ("1.2.3.0/24 1.2.3.4 ::1", "1.2.3.0/24 ::1"),
            ("1.2.3.4 1.2.3.4/32", "1.2.3.4"),
            ("0.0.0.0/0 ::/0", "0.0.0.0/0 ::/0"),
        ] {
            assert_eq!(without_covered(parse(given)), parse(expected), "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_covers_all_that_was_given_and_does_not_overlap(
            given in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20)
        ) {
            let given: Vec<_> = given
                .into_iter()
                .map(|(bits, length)| {
                    let address = IpAddr::V4(bits.into());
                    ShieldAddress::Network(IpPrefix::containing(address, length))
                })
                .collect();
            let kept = without_covered(given.clone());
            for address in &given {
                prop_assert!(kept.iter().any(|other| other.covers(*address)));
            }
            for (at, address) in kept.iter().enumerate() {
                prop_assert!(given.contains(address));
                for other in kept.iter().skip(at + 1) {
                    prop_assert!(!address.overlaps(*other));
                }
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! IP networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::DisplayText;
use crate::address_class::{AddressRange, IpFamily, address_to_bits, private_ranges};

/// A network: an address whose bits after the prefix are zero, and the length of the prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    network: IpAddr,
    length: u8,
}

/// An error in a network in CIDR notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpPrefixError {
    /// The text is not an address, a slash and a number.
    #[error("{0:?} is not a network: write an address and a length, such as 10.0.0.0/8")]
    NotPrefix(DisplayText),
    /// The prefix is longer than an address.
    #[error("/{length} is longer than an address: write a length of at most {limit}")]
    TooLong {
        /// The length.
        length: u32,
        /// The bits of an address.
        limit: u8,
    },
    /// The address has bits after the prefix.
    #[error(
        "{address}/{} is not the start of a network: write {network}, or {address} for one address",
        network.length
    )]
    HostBits {
        /// The address.
        address: IpAddr,
        /// The network that contains the address.
        network: IpPrefix,
    },
}

impl IpPrefix {
    /// Creates a network. A prefix of IPv4-mapped addresses becomes the IPv4 network.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, IpPrefixError> {
        let limit = IpFamily::of(address).address_bits();
        if length > limit {
            let length = length.into();
            return Err(IpPrefixError::TooLong { length, limit });
        }
        let network = Self::truncate(address, length);
        if network.network != address {
            return Err(IpPrefixError::HostBits { address, network });
        }
        Ok(network.canonical())
    }

    /// Returns the network of an address, cutting a length that is too long.
    pub fn containing(address: IpAddr, length: u8) -> Self {
        Self::truncate(address, length).canonical()
    }

    fn truncate(address: IpAddr, length: u8) -> Self {
        let family = IpFamily::of(address);
        Self {
            network: AddressRange::from_prefix(family, address_to_bits(address), length).first(),
            length: length.min(family.address_bits()),
        }
    }

    fn canonical(self) -> Self {
        match (self.network.to_canonical(), self.length.checked_sub(96)) {
            (network @ IpAddr::V4(_), Some(length)) if self.network.is_ipv6() => {
                Self { network, length }
            }
            _ => self,
        }
    }

    /// Returns the first address.
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// Returns the length of the prefix in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Returns the address of a network that has only one.
    pub fn single_address(self) -> Option<IpAddr> {
        let family = IpFamily::of(self.network);
        (self.length == family.address_bits()).then_some(self.network)
    }

    /// Returns `true` if the address is in the network; an IPv4-mapped address is an IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::containing(address.to_canonical(), self.length) == self
    }

    /// Returns `true` if every address of the network is private.
    pub fn is_private(self) -> bool {
        private_ranges(IpFamily::of(self.network))
            .iter()
            .any(|range| range.contains(self.network) && range.contains(self.last_address()))
    }

    /// Returns `true` if every address of the network is loopback.
    pub fn is_loopback(self) -> bool {
        self.network.is_loopback() && self.last_address().is_loopback()
    }

    pub(crate) fn last_address(self) -> IpAddr {
        match self.network {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() | host).into()
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() | host).into()
            }
        }
    }
}

impl FromStr for IpPrefix {
    type Err = IpPrefixError;

    fn from_str(text: &str) -> Result<Self, IpPrefixError> {
        let not_prefix = || IpPrefixError::NotPrefix(DisplayText::new(text));
        let (address, digits) = text.split_once('/').ok_or_else(not_prefix)?;
        let address: IpAddr = address.parse().ok().ok_or_else(not_prefix)?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(not_prefix());
        }
        let length = digits.parse().unwrap_or(u32::MAX);
        let limit = IpFamily::of(address).address_bits();
        match u8::try_from(length) {
            Ok(length) => Self::new(address, length),
            Err(_) => Err(IpPrefixError::TooLong { length, limit }),
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_and_a_length() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("203.0.113.7/32", "203.0.113.7/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<IpPrefix>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_error_shows_the_right_form() {
        for (text, message) in [
            (
                "10.0.0.1/8",
                "10.0.0.1/8 is not the start of a network: write 10.0.0.0/8, or 10.0.0.1 for one \
                 address",
            ),
            (
                "2001:db8::1/32",
                "2001:db8::1/32 is not the start of a network: write 2001:db8::/32, or \
                 2001:db8::1 for one address",
            ),
            (
                "10.0.0.0/33",
                "/33 is longer than an address: write a length of at most 32",
            ),
            (
                "::/99999999999",
                "/4294967295 is longer than an address: write a length of at most 128",
            ),
            (
                "10/8",
                "\"10/8\" is not a network: write an address and a length, such as 10.0.0.0/8",
            ),
        ] {
            assert_eq!(text.parse::<IpPrefix>().unwrap_err().to_string(), message);
        }
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/255.0.0.0"] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_network_is_private_or_loopback_as_a_whole() {
        for (text, private, loopback) in [
            ("10.0.0.0/8", true, false),
            ("10.0.0.0/7", false, false),
            ("192.168.1.0/24", true, false),
            ("100.64.0.0/10", true, false),
            ("fc00::/7", true, false),
            ("64:ff9b::a00:0/104", true, false),
            ("127.0.0.0/8", false, true),
            ("126.0.0.0/7", false, false),
            ("::1/128", false, true),
            ("::/0", false, false),
            ("0.0.0.0/0", false, false),
            ("203.0.113.0/24", false, false),
        ] {
            let prefix: IpPrefix = text.parse().unwrap();
            assert_eq!(
                (prefix.is_private(), prefix.is_loopback()),
                (private, loopback),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_network_contains_exactly_its_range(
            bits in proptest::num::u32::ANY,
            length in 0_u8..=32,
            probe in proptest::num::u32::ANY,
        ) {
            let prefix = IpPrefix::containing(Ipv4Addr::from_bits(bits).into(), length);
            let ends = prefix.network()..=prefix.last_address();
            let probe: IpAddr = Ipv4Addr::from_bits(probe).into();
            assert_eq!(prefix.contains(probe), ends.contains(&probe));
            assert!(prefix.contains(Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()));
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
    }
}

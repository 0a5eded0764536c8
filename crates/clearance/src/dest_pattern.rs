// SPDX-License-Identifier: Apache-2.0
//! Patterns of destinations: what a rule covers.
//!
//! The text form is `HOST`, `HOST:PORT` or `HOST:LOW-HIGH`, with an optional `/tcp`, `/udp` or
//! `/icmp`. The host is a name, `*.` and a name, an address, or a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dest_zone::is_floor_network;
use crate::{DestZone, DomainName, IpPrefix, Protocol, classify_destination};

mod error;
mod parser;

pub use error::DestPatternError;

/// The part of the network that a rule covers.
///
/// ```
/// use terok_clearance::DestPattern;
/// let pattern: DestPattern = "*.Example.com.:443/tcp".parse().unwrap();
/// assert_eq!(pattern.to_string(), "*.example.com:443/tcp");
/// assert!("https://a.example/x".parse::<DestPattern>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestPattern {
    host: HostPattern,
    ports: Option<PortRange>,
    protocol: Option<Protocol>,
}

/// The hosts that a [`DestPattern`] covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One name.
    Name(DomainName),
    /// Every name below this one, but not the name itself: `*.example.com`.
    Subdomains(DomainName),
    /// One address.
    Address(IpAddr),
    /// Every address of a network.
    Network(IpPrefix),
}

/// An inclusive range of ports, without port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    low: u16,
    high: u16,
}

/// The destination of one packet, as the program inside named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PacketDest {
    /// The host.
    pub host: PacketHost,
    /// The port; meaningless for ICMP.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// The host of a [`PacketDest`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PacketHost {
    /// A name that was looked up.
    Name(DomainName),
    /// An address that no lookup returned.
    Address(IpAddr),
}

impl fmt::Display for PacketDest {
    /// Formats like a pattern that covers only this destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            PacketHost::Name(name) => name.fmt(f)?,
            PacketHost::Address(IpAddr::V6(address)) if self.port != 0 => write!(f, "[{address}]")?,
            PacketHost::Address(address) => address.fmt(f)?,
        }
        if self.port != 0 {
            write!(f, ":{}", self.port)?;
        }
        match self.protocol {
            Protocol::TCP => Ok(()),
            protocol => write!(f, "/{protocol}"),
        }
    }
}

impl DestPattern {
    /// Creates a pattern. ICMP has no ports, and [`Protocol::ICMP`] covers both IP versions.
    ///
    /// An IPv4-mapped address becomes the IPv4 address, a network of one address that address.
    pub fn new(
        host: HostPattern,
        ports: Option<PortRange>,
        protocol: Option<Protocol>,
    ) -> Result<Self, DestPatternError> {
        let protocol = protocol.map(icmp_of_both_versions);
        match protocol {
            None | Some(Protocol::TCP | Protocol::UDP) => {}
            Some(Protocol::ICMP) if ports.is_none() => {}
            Some(Protocol::ICMP) => return Err(DestPatternError::PortOfIcmp),
            Some(other) => return Err(DestPatternError::unknown_protocol(&other.to_string())),
        }
        let host = match host {
            HostPattern::Address(address) => HostPattern::Address(address.to_canonical()),
            HostPattern::Network(network) => match network.single_address() {
                Some(address) => HostPattern::Address(address),
                None => HostPattern::Network(network),
            },
            name => name,
        };
        Ok(Self {
            host,
            ports,
            protocol,
        })
    }

    /// As [`new`](Self::new), with a protocol that has no text form in patterns, such as SCTP: only
    /// a firewall has rules for these. Its text form is shown, and does not parse.
    pub fn with_any_protocol(
        host: HostPattern,
        ports: Option<PortRange>,
        protocol: Protocol,
    ) -> Result<Self, DestPatternError> {
        match Self::new(host.clone(), ports, Some(protocol)) {
            Err(DestPatternError::UnknownProtocol(_)) => Ok(Self {
                protocol: Some(protocol),
                ..Self::new(host, ports, None)?
            }),
            other => other,
        }
    }

    /// Returns the hosts.
    pub const fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Returns the ports, `None` for every port.
    pub const fn ports(&self) -> Option<PortRange> {
        self.ports
    }

    /// Returns the protocol, `None` for every protocol.
    pub const fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Returns `true` if the pattern covers the destination.
    ///
    /// Only the host as the program named it counts: a name does not match an address, nor an
    /// address a name.
    pub fn matches(&self, dest: &PacketDest) -> bool {
        self.host.matches(&dest.host) && self.covers_port(dest.port, dest.protocol)
    }

    /// Returns `true` if port and protocol are covered, whatever the host.
    pub fn covers_port(&self, port: u16, protocol: Protocol) -> bool {
        let protocol = icmp_of_both_versions(protocol);
        let port_covered = match self.ports {
            None => true,
            Some(range) => protocol != Protocol::ICMP && range.contains(port),
        };
        port_covered && self.protocol.is_none_or(|own| own == protocol)
    }

    /// Returns `true` if every host of the pattern is in [`DestZone::Floor`], so that a rule for it
    /// opens nothing.
    pub fn is_floor(&self) -> bool {
        match &self.host {
            HostPattern::Address(address) => {
                classify_destination(*address, |_| false) == DestZone::Floor
            }
            HostPattern::Network(network) => is_floor_network(*network),
            HostPattern::Name(_) | HostPattern::Subdomains(_) => false,
        }
    }

    /// Returns the pattern with its internationalised name decoded; see
    /// [`DomainName::display_unicode`].
    pub fn display_unicode(&self) -> Option<String> {
        let (mark, name) = match &self.host {
            HostPattern::Name(name) => ("", name),
            HostPattern::Subdomains(name) => ("*.", name),
            HostPattern::Address(_) | HostPattern::Network(_) => return None,
        };
        let name = name.display_unicode()?;
        Some(format!("{mark}{name}{}", self.suffix()))
    }

    fn suffix(&self) -> String {
        let ports = self.ports.map(|ports| format!(":{ports}"));
        let protocol = self.protocol.map(|protocol| format!("/{protocol}"));
        ports.unwrap_or_default() + &protocol.unwrap_or_default()
    }
}

/// ICMP for IPv6 is ICMP to a rule: a name may have addresses of both versions.
const fn icmp_of_both_versions(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::ICMPV6 => Protocol::ICMP,
        other => other,
    }
}

impl HostPattern {
    /// Returns `true` if the pattern covers the host.
    pub fn matches(&self, host: &PacketHost) -> bool {
        match (self, host) {
            (Self::Name(own), PacketHost::Name(name)) => own == name,
            (Self::Subdomains(parent), PacketHost::Name(name)) => name.is_below(parent),
            (Self::Address(own), PacketHost::Address(address)) => {
                own.to_canonical() == address.to_canonical()
            }
            (Self::Network(network), PacketHost::Address(address)) => network.contains(*address),
            (Self::Name(_) | Self::Subdomains(_), PacketHost::Address(_))
            | (Self::Address(_) | Self::Network(_), PacketHost::Name(_)) => false,
        }
    }
}

impl PortRange {
    /// Creates a range; `None` if it contains port 0 or no port.
    pub const fn new(low: u16, high: u16) -> Option<Self> {
        if low == 0 || high < low {
            return None;
        }
        Some(Self { low, high })
    }

    /// Returns the first port.
    pub const fn low(self) -> u16 {
        self.low
    }

    /// Returns the last port.
    pub const fn high(self) -> u16 {
        self.high
    }

    /// Returns `true` if the port is in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Subdomains(name) => write!(f, "*.{name}"),
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for DestPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ipv6 = match &self.host {
            HostPattern::Address(address) => address.is_ipv6(),
            HostPattern::Network(network) => network.network().is_ipv6(),
            HostPattern::Name(_) | HostPattern::Subdomains(_) => false,
        };
        if is_ipv6 && self.ports.is_some() {
            write!(f, "[{}]{}", self.host, self.suffix())
        } else {
            write!(f, "{}{}", self.host, self.suffix())
        }
    }
}

impl FromStr for DestPattern {
    type Err = DestPatternError;

    fn from_str(text: &str) -> Result<Self, DestPatternError> {
        parser::parse(text)
    }
}

impl Serialize for DestPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DestPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;

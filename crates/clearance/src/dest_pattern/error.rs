// SPDX-License-Identifier: Apache-2.0
//! Errors in patterns, with the form to write instead.

use crate::{DisplayText, IpPrefixError};

/// An error in the text of a [`DestPattern`](crate::DestPattern).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestPatternError {
    /// The text is empty.
    #[error("the destination is empty: write a name, an address or a network")]
    Empty,
    /// The text is a URL.
    #[error("{text:?} is a URL: write {instead}")]
    Url {
        /// The text.
        text: DisplayText,
        /// The form to write.
        instead: DisplayText,
    },
    /// The text contains a user name.
    #[error("{text:?} contains a user name, which is not part of a destination: write {instead}")]
    UserInfo {
        /// The text.
        text: DisplayText,
        /// The form to write.
        instead: DisplayText,
    },
    /// The text contains a path.
    #[error(
        "{text:?} contains a path; a rule covers whole hosts, ports and protocols: write {instead}"
    )]
    Path {
        /// The text.
        text: DisplayText,
        /// The form to write.
        instead: DisplayText,
    },
    /// The text is `*` alone.
    #[error("* alone would cover everything: write the names needed, such as *.example.com")]
    Everything,
    /// The wildcard is not a whole label at the start.
    #[error(
        "{text:?} has its wildcard in the wrong place: * stands for whole names below a domain; \
         write {instead}"
    )]
    MisplacedWildcard {
        /// The text.
        text: DisplayText,
        /// The form to write.
        instead: DisplayText,
    },
    /// A number, or numbers that only some programs take for an address.
    #[error("{text:?} is a number, not a name: write the address as {instead}")]
    NumberLike {
        /// The text.
        text: DisplayText,
        /// The form to write.
        instead: DisplayText,
    },
    /// An address with a zone, such as `fe80::1%eth0`.
    #[error("{0:?} names an interface; link-local addresses are never opened")]
    InterfaceZone(DisplayText),
    /// A colon in an address is ambiguous.
    #[error("{0:?} is not an IPv6 address; for an address with a port write [2001:db8::1]:443")]
    NotIpv6(DisplayText),
    /// The text in brackets is not an IPv6 address, or the text after them is not a port.
    #[error("{0:?} has brackets in the wrong place: write [2001:db8::1]:443")]
    Brackets(DisplayText),
    /// The port is 0.
    #[error("there is no port 0: leave the port out to cover every port")]
    PortZero,
    /// The port is not a port or a range.
    #[error("{0:?} is not a port: write a number up to 65535 or a range such as 8000-8100")]
    NotPort(DisplayText),
    /// The range of ports is written from high to low.
    #[error("the ports {high}-{low} are in the wrong order: write {low}-{high}")]
    ReversedPorts {
        /// The lower port.
        low: u16,
        /// The higher port.
        high: u16,
    },
    /// The protocol is unknown.
    #[error("{0:?} is not a protocol of a rule: write /tcp, /udp or /icmp, or leave it out")]
    UnknownProtocol(DisplayText),
    /// ICMP with a port.
    #[error("ICMP has no ports: leave out the port or /icmp")]
    PortOfIcmp,
    /// The network is not valid.
    #[error(transparent)]
    Prefix(#[from] IpPrefixError),
    /// The host is neither a name nor an address.
    #[error(
        "{0:?} is neither a host name nor an address: a name consists of letters, digits, - and \
         _, in parts of at most 63 separated by dots"
    )]
    NotHost(DisplayText),
}

impl DestPatternError {
    pub(super) fn unknown_protocol(text: &str) -> Self {
        Self::UnknownProtocol(DisplayText::new(text))
    }
}

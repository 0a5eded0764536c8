// SPDX-License-Identifier: Apache-2.0
//! What a reader tells a hub: a packet was dropped, a sandbox or its shield changed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ContainerId, Dest, DisplayText, RequestId};

/// What is known about a sandbox besides its id: `project`, `task`, `name`, `container_name`, …
///
/// Shared, because every question of one sandbox carries the same.
pub type Dossier = Arc<BTreeMap<DisplayText, DisplayText>>;

/// One thing that happened in or to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxEvent {
    /// The firewall dropped a packet, and wants to know.
    Blocked(BlockedPacket),
    /// A sandbox started.
    ContainerStarted {
        /// The sandbox.
        container: ContainerId,
        /// What is known about it.
        dossier: Dossier,
    },
    /// A sandbox ended; its questions are void.
    ContainerExited {
        /// The sandbox.
        container: ContainerId,
        /// How it is known: `poststop`, `eof`.
        reason: DisplayText,
        /// What is known about it.
        dossier: Dossier,
    },
    /// The firewall of a sandbox changed.
    Shield {
        /// The sandbox.
        container: ContainerId,
        /// What it is now; anything but [`ShieldState::Up`] makes its questions void.
        state: ShieldState,
        /// What is known about it.
        dossier: Dossier,
    },
}

impl SandboxEvent {
    /// Returns the sandbox it is about.
    pub const fn container(&self) -> &ContainerId {
        match self {
            Self::Blocked(BlockedPacket { container, .. })
            | Self::ContainerStarted { container, .. }
            | Self::ContainerExited { container, .. }
            | Self::Shield { container, .. } => container,
        }
    }
}

/// A packet that the firewall dropped: a question to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedPacket {
    /// The sandbox it came from.
    pub container: ContainerId,
    /// The question's id.
    pub request: RequestId,
    /// The address it was sent to, as the reader wrote it.
    pub address: Dest,
    /// The port it was sent to; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The name the sandbox had looked up to get the address, where one was seen.
    pub domain: Option<Dest>,
    /// What is known about the sandbox.
    pub dossier: Dossier,
    /// The process that sent it, where it could be found in time.
    pub process: Option<Arc<Process>>,
}

impl BlockedPacket {
    /// Returns what a verdict on it is about: the name if there is one, else the address.
    pub fn dest(&self) -> &Dest {
        self.domain.as_ref().unwrap_or(&self.address)
    }
}

/// A firewall's state, in the words of the newer Python releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShieldState {
    /// Default-deny is in force.
    Up,
    /// Packets pass, the private ranges excepted.
    Down,
    /// Packets pass, all of them.
    Disengaged,
}

impl ShieldState {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Disengaged => "disengaged",
        }
    }
}

/// A process of a sandbox, as well as it could be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its id, in the reader's process id namespace.
    pub pid: u32,
    /// Its user id, in the reader's user namespace.
    pub uid: u32,
    /// Its name (`/proc/<pid>/comm`).
    pub name: DisplayText,
    /// Its command line, cut to the first arguments.
    #[serde(default)]
    pub command: Vec<DisplayText>,
}

/// A transport protocol by its number in the IP header (IANA "Assigned Internet Protocol Numbers").
///
/// Its text is `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, or the number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, RFC 792.
    pub const ICMP: Self = Self(1);
    /// TCP, RFC 9293.
    pub const TCP: Self = Self(6);
    /// UDP, RFC 768.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6, RFC 4443.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, RFC 9260.
    pub const SCTP: Self = Self(132);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::ICMP, "icmp"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::ICMPV6, "ipv6-icmp"),
        (Self::SCTP, "sctp"),
    ];

    /// Returns its name, where it has a common one.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES
            .iter()
            .find(|(protocol, _)| *protocol == self)
            .map(|(_, name)| *name)
    }
}

/// A text that names no transport protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no transport protocol: name tcp, udp, icmp, ipv6-icmp, sctp or a number up to 255"
)]
pub struct ProtocolParseError(pub DisplayText);

impl FromStr for Protocol {
    type Err = ProtocolParseError;

    fn from_str(text: &str) -> Result<Self, ProtocolParseError> {
        let named = Self::NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(p, _)| *p);
        named
            .or_else(|| text.parse().ok().map(Self))
            .ok_or_else(|| ProtocolParseError(DisplayText::new(text)))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_a_name_or_a_number() {
        for (text, number, shown) in [
            ("tcp", 6, "tcp"),
            ("17", 17, "udp"),
            ("ipv6-icmp", 58, "ipv6-icmp"),
            ("47", 47, "47"),
        ] {
            let protocol: Protocol = text.parse().unwrap();
            assert_eq!((protocol.0, protocol.to_string().as_str()), (number, shown));
        }
        for text in ["", "TCP", "256", "-1", "6.0", "tcp "] {
            assert!(text.parse::<Protocol>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_verdict_is_about_the_name_where_there_is_one() {
        let mut blocked = BlockedPacket {
            container: "c".parse().unwrap(),
            request: "c:1".parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
        };
        assert_eq!(blocked.dest().as_str(), "203.0.113.7");
        blocked.domain = Some("api.example.com".parse().unwrap());
        assert_eq!(blocked.dest().as_str(), "api.example.com");
    }
}

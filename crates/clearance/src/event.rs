// SPDX-License-Identifier: Apache-2.0
//! Events that a reader reports to a hub: blocked packets, changes of sandboxes and firewalls.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ContainerId, Dest, DisplayText, DomainName, NetworkZone, PreviousAnswer, RequestId};

/// Short texts about a sandbox: `project`, `task`, `name`, `container_name`, …
///
/// Shared, because all requests of a sandbox carry the same dossier.
pub type Dossier = Arc<BTreeMap<DisplayText, DisplayText>>;

/// An event of one sandbox, as a reader reports it to a hub.
///
/// Exhaustive, unlike other events: a hub must handle every kind, because some withdraw questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxEvent {
    /// The firewall dropped a packet.
    Blocked(BlockedPacket),
    /// A sandbox started.
    ContainerStarted {
        /// The sandbox.
        container: ContainerId,
        /// The sandbox's dossier.
        dossier: Dossier,
    },
    /// A sandbox ended; its questions are withdrawn.
    ContainerExited {
        /// The sandbox.
        container: ContainerId,
        /// The source of the report: `poststop`, `eof`.
        reason: DisplayText,
        /// The sandbox's dossier.
        dossier: Dossier,
    },
    /// The firewall of a sandbox changed.
    Shield {
        /// The sandbox.
        container: ContainerId,
        /// The new state; every state but [`ShieldState::Up`] withdraws the sandbox's questions.
        state: ShieldState,
        /// The sandbox's dossier.
        dossier: Dossier,
    },
}

impl SandboxEvent {
    /// Returns the event's sandbox.
    pub const fn container(&self) -> &ContainerId {
        match self {
            Self::Blocked(BlockedPacket { container, .. })
            | Self::ContainerStarted { container, .. }
            | Self::ContainerExited { container, .. }
            | Self::Shield { container, .. } => container,
        }
    }
}

/// A packet that the firewall dropped: a question for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedPacket {
    /// The sandbox that sent the packet.
    pub container: ContainerId,
    /// The request's id.
    pub request: RequestId,
    /// The packet's destination address, as the reader wrote it. Equal to `domain` if the name has
    /// not been resolved yet.
    pub address: Dest,
    /// The packet's destination port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The name for which a lookup of the sandbox returned the address, if one was seen.
    pub domain: Option<Dest>,
    /// The sandbox's dossier.
    pub dossier: Dossier,
    /// The process that sent the packet, if it was found while its socket existed.
    pub process: Option<Arc<Process>>,
    /// The part of the network that the destination belongs to.
    pub zone: NetworkZone,
    /// The name that led to the address, for a question about the address itself: an answer is not
    /// for this name.
    pub looked_up_as: Option<DomainName>,
    /// The last answer about this destination, if its rule has ended.
    pub previous: Option<Arc<PreviousAnswer>>,
    /// The reason that a program in the sandbox gave when it asked ahead of a connection: its own
    /// words.
    pub reason: Option<DisplayText>,
}

impl BlockedPacket {
    /// Returns the destination that an answer names: the domain if there is one, else the address.
    pub fn dest(&self) -> &Dest {
        self.domain.as_ref().unwrap_or(&self.address)
    }
}

/// A firewall's state, named as in the newer Python releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShieldState {
    /// Default-deny is in force.
    Up,
    /// All packets pass except those to private ranges.
    Down,
    /// All packets pass.
    Disengaged,
}

impl ShieldState {
    /// Returns the state as every interface spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Disengaged => "disengaged",
        }
    }
}

/// A process of a sandbox, as far as the kernel's tables show it.
///
/// A workload chooses all of it: a process can name itself freely, and can hold the socket of
/// another one as a decoy. User interfaces therefore say "says it is", and no rule depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// The process id, in the reader's process id namespace.
    pub pid: u32,
    /// The user id, in the reader's user namespace.
    pub uid: u32,
    /// The name (`/proc/<pid>/comm`).
    pub name: DisplayText,
    /// The first arguments of the command line.
    #[serde(default)]
    pub command: Vec<DisplayText>,
    /// The working directory, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DisplayText>,
    /// The parent, its parent and so on, up to the sandbox's first process; empty if not known.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "deserialize_nullable"
    )]
    pub parents: Vec<ParentProcess>,
    /// Number of other processes that hold the same socket: any of them may have sent the packet.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "deserialize_nullable"
    )]
    pub other_holders: u32,
}

/// An ancestor of a [`Process`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParentProcess {
    /// The process id, in the reader's process id namespace.
    pub pid: u32,
    /// The name (`/proc/<pid>/comm`).
    pub name: DisplayText,
}

/// Deserializes a field that varlink declares as optional: `null` is the default.
fn deserialize_nullable<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A transport protocol by its number in the IP header (IANA "Assigned Internet Protocol Numbers").
///
/// The text form is `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, or the number.
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

    /// Returns the protocol's name, `None` for a protocol without a common name.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES
            .iter()
            .find(|(protocol, _)| *protocol == self)
            .map(|(_, name)| *name)
    }
}

/// A text that is not a [`Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a transport protocol: use tcp, udp, icmp, ipv6-icmp, sctp or a number up to 255"
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
    fn an_answer_names_the_domain_if_there_is_one() {
        let mut blocked = BlockedPacket {
            container: "c".parse().unwrap(),
            request: "c:1".parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 443,
            protocol: Protocol::TCP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        assert_eq!(blocked.dest().as_str(), "203.0.113.7");
        blocked.domain = Some("api.example.com".parse().unwrap());
        assert_eq!(blocked.dest().as_str(), "api.example.com");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What an order asks for, checked: which addresses, how much of each, and for how long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use terok_clearance::{Action, DomainName, Protocol, RuleLifetime, Scope, Target};

use crate::OrderError;
use crate::ranges::{Family, Ground};
use crate::ruleset::{Key, PORTED};

/// How much of an address an order is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reach {
    Whole,
    Protocol(Protocol),
    Port(Protocol, u16),
}

/// Which kind of set an order's elements stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Whole,
    Protocol,
    Port,
}

/// One of the sets that orders change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OrderSet {
    pub(crate) action: Action,
    pub(crate) shape: Shape,
    pub(crate) family: Family,
}

/// One element that is held, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) action: Action,
    pub(crate) address: IpAddr,
    pub(crate) reach: Reach,
    /// When it ends by itself; absent, never.
    pub(crate) until: Option<Instant>,
    /// The name that it stands for, where the order was about a name.
    pub(crate) name: Option<DomainName>,
}

/// What an order says of one destination, without the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) action: Action,
    pub(crate) reach: Reach,
    pub(crate) until: Option<Instant>,
}

impl Reach {
    /// Says whether everything that `other` is about is also its own.
    pub(crate) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Whole, _) => true,
            (Self::Protocol(mine), Self::Protocol(its) | Self::Port(its, _)) => mine == its,
            (mine, its) => mine == its,
        }
    }

    const fn shape(self) -> Shape {
        match self {
            Self::Whole => Shape::Whole,
            Self::Protocol(_) => Shape::Protocol,
            Self::Port(..) => Shape::Port,
        }
    }
}

impl Terms {
    /// Reads an order on `target`; nothing of it is taken on trust.
    pub(crate) fn read(
        action: Action,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<Vec<Self>, OrderError> {
        if scope.dest.parse_target().as_ref() != Ok(target) {
            return Err(OrderError::OtherDest);
        }
        let seconds = match (scope.keep, scope.seconds) {
            (RuleLifetime::Project | RuleLifetime::Always, _) => return Err(OrderError::Keep),
            (_, Some(0)) => return Err(OrderError::NoTime),
            (_, Some(seconds)) => Some(seconds),
            (RuleLifetime::Once, None) => Some(Scope::ONCE_SECONDS),
            (RuleLifetime::Sandbox, None) => None,
        };
        let until = match seconds {
            Some(seconds) => Some(
                now.checked_add(Duration::from_secs(seconds.into()))
                    .ok_or(OrderError::NoTime)?,
            ),
            None => None,
        };
        let ported = |protocol: Protocol| PORTED.iter().any(|(number, _)| *number == protocol.0);
        let reaches = match (scope.protocol, scope.port) {
            (None, None) => vec![Reach::Whole],
            (Some(protocol), Some(port)) if ported(protocol) => vec![Reach::Port(protocol, port)],
            // Port 0 is how a question about a protocol without ports is told.
            (Some(protocol), None | Some(0)) => vec![Reach::Protocol(protocol)],
            (Some(protocol), Some(_)) => return Err(OrderError::NoPorts(protocol)),
            (None, Some(port)) => PORTED
                .iter()
                .map(|(number, _)| Reach::Port(Protocol(*number), port))
                .collect(),
        };
        let terms = reaches.into_iter().map(|reach| Self {
            action,
            reach,
            until,
        });
        Ok(terms.collect())
    }

    pub(crate) fn entry(&self, address: IpAddr, name: Option<&DomainName>) -> Entry {
        Entry {
            action: self.action,
            address,
            reach: self.reach,
            until: self.until,
            name: name.cloned(),
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Returns `ip` if an order may be about it.
pub(crate) fn orderable(ip: IpAddr) -> Result<IpAddr, OrderError> {
    let ip = ip.to_canonical();
    match Ground::of(ip) {
        Ground::Floor => Err(OrderError::Floor(ip)),
        Ground::Private => Err(OrderError::Private(ip)),
        Ground::Ordinary => Ok(ip),
    }
}

impl Shape {
    /// In the order in which a packet meets them.
    pub(crate) const NARROW_FIRST: [Self; 3] = [Self::Port, Self::Protocol, Self::Whole];
}

impl OrderSet {
    /// Returns the sets of an action, the narrow ones first.
    pub(crate) fn of(action: Action) -> impl Iterator<Item = Self> {
        Shape::NARROW_FIRST.into_iter().flat_map(move |shape| {
            Family::BOTH.map(|family| Self {
                action,
                shape,
                family,
            })
        })
    }

    /// Returns all of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Action::Deny, Action::Allow].into_iter().flat_map(Self::of)
    }

    pub(crate) const fn name(self) -> &'static str {
        match (self.action, self.shape, self.family) {
            (Action::Allow, Shape::Whole, Family::V4) => "allow4",
            (Action::Allow, Shape::Whole, Family::V6) => "allow6",
            (Action::Allow, Shape::Protocol, Family::V4) => "allow_proto4",
            (Action::Allow, Shape::Protocol, Family::V6) => "allow_proto6",
            (Action::Allow, Shape::Port, Family::V4) => "allow_port4",
            (Action::Allow, Shape::Port, Family::V6) => "allow_port6",
            (Action::Deny, Shape::Whole, Family::V4) => "deny4",
            (Action::Deny, Shape::Whole, Family::V6) => "deny6",
            (Action::Deny, Shape::Protocol, Family::V4) => "deny_proto4",
            (Action::Deny, Shape::Protocol, Family::V6) => "deny_proto6",
            (Action::Deny, Shape::Port, Family::V4) => "deny_port4",
            (Action::Deny, Shape::Port, Family::V6) => "deny_port6",
        }
    }

    pub(crate) const fn key(self) -> Key {
        match self.shape {
            Shape::Whole => Key::Address(self.family),
            Shape::Protocol => Key::Protocol(self.family),
            Shape::Port => Key::Port(self.family),
        }
    }

    /// Reads an element's key back: each part starts at a multiple of four bytes.
    pub(crate) fn entry(self, key: &[u8]) -> Option<Entry> {
        let (address, rest) = match self.family {
            Family::V4 => {
                let (address, rest) = key.split_first_chunk::<4>()?;
                (IpAddr::from(Ipv4Addr::from(*address)), rest)
            }
            Family::V6 => {
                let (address, rest) = key.split_first_chunk::<16>()?;
                (IpAddr::from(Ipv6Addr::from(*address)), rest)
            }
        };
        let reach = match (self.shape, rest) {
            (Shape::Whole, []) => Reach::Whole,
            (Shape::Protocol, [protocol, _, _, _]) => Reach::Protocol(Protocol(*protocol)),
            (Shape::Port, [protocol, _, _, _, high, low, _, _]) => {
                Reach::Port(Protocol(*protocol), u16::from_be_bytes([*high, *low]))
            }
            _ => return None,
        };
        Some(Entry {
            action: self.action,
            address,
            reach,
            until: None,
            name: None,
        })
    }
}

impl Entry {
    pub(crate) const fn set(&self) -> OrderSet {
        OrderSet {
            action: self.action,
            shape: self.reach.shape(),
            family: Family::of(self.address),
        }
    }

    /// Returns the element's key, as [`OrderSet::entry`] reads it.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = match self.address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        match self.reach {
            Reach::Whole => {}
            Reach::Protocol(protocol) => key.extend([protocol.0, 0, 0, 0]),
            Reach::Port(protocol, port) => {
                let [high, low] = port.to_be_bytes();
                key.extend([protocol.0, 0, 0, 0, high, low, 0, 0]);
            }
        }
        key
    }

    /// Says whether it is the same element of the same set, whatever its time and name.
    pub(crate) fn is_same_element(&self, other: &Self) -> bool {
        (self.action, self.address, self.reach) == (other.action, other.address, other.reach)
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Says whether it ends before `other` does.
    pub(crate) fn ends_before(&self, other: &Self) -> bool {
        match (self.until, other.until) {
            (Some(mine), Some(its)) => mine < its,
            (mine, its) => mine.is_some() && its.is_none(),
        }
    }
}

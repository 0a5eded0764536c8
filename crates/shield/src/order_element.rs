// SPDX-License-Identifier: Apache-2.0
//! Validated orders: reach, duration and set elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use terok_clearance::address_class::{AddressClass, IpFamily};
use terok_clearance::{Action, DomainName, Protocol, RuleLifetime, Scope, Target};

use crate::ShieldOrderError;
use crate::ruleset::{NftMatch, NftSetKey, PROTOCOLS_WITH_PORTS, PacketSide};

/// The part of an address covered by an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum OrderReach {
    Whole,
    Protocol(Protocol),
    Port(Protocol, u16),
}

/// The kind of an order set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OrderSetShape {
    Whole,
    Protocol,
    Port,
}

/// A set changed by orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OrderSet {
    pub(crate) action: Action,
    pub(crate) shape: OrderSetShape,
    pub(crate) family: IpFamily,
    /// `true` for the maps from stand-ins of allowed names to addresses.
    pub(crate) is_map: bool,
}

/// The map of allowed stand-ins with all their ports. Only a ruleset with a name server has it.
pub(crate) const STAND_IN_MAP: &str = "name4";

/// A set element, existing or planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderElement {
    pub(crate) action: Action,
    pub(crate) address: IpAddr,
    pub(crate) reach: OrderReach,
    /// The end of its timeout; `None` for no timeout.
    pub(crate) expires_at: Option<Instant>,
    /// The name of the order, if the order was about a name.
    pub(crate) name: Option<DomainName>,
    /// The address to which an allowed stand-in is translated: the stand-in itself, which leads
    /// nowhere, until another one is known. `None` for other elements.
    pub(crate) leads_to: Option<Ipv4Addr>,
}

/// The terms of an order without its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderTerms {
    pub(crate) action: Action,
    pub(crate) reach: OrderReach,
    pub(crate) expires_at: Option<Instant>,
}

impl OrderReach {
    /// Returns `true` if this reach includes `other`.
    pub(crate) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Whole, _) => true,
            (Self::Protocol(own), Self::Protocol(other) | Self::Port(other, _)) => own == other,
            (own, other) => own == other,
        }
    }

    /// Encodes the key of an element for this part of `address`.
    pub(crate) fn encode_key(self, address: IpAddr) -> Vec<u8> {
        let mut key = match address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        match self {
            Self::Whole => {}
            Self::Protocol(protocol) => key.extend([protocol.0, 0, 0, 0]),
            Self::Port(protocol, port) => {
                let [high, low] = port.to_be_bytes();
                key.extend([protocol.0, 0, 0, 0, high, low, 0, 0]);
            }
        }
        key
    }

    const fn shape(self) -> OrderSetShape {
        match self {
            Self::Whole => OrderSetShape::Whole,
            Self::Protocol(_) => OrderSetShape::Protocol,
            Self::Port(..) => OrderSetShape::Port,
        }
    }
}

impl OrderTerms {
    /// Parses and checks an order on `target`.
    pub(crate) fn parse(
        action: Action,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<Vec<Self>, ShieldOrderError> {
        if scope.dest.parse_target().as_ref() != Ok(target) {
            return Err(ShieldOrderError::DestMismatch);
        }
        let seconds = match (scope.keep, scope.seconds) {
            (RuleLifetime::Project | RuleLifetime::Always, _) => {
                return Err(ShieldOrderError::UnsupportedKeep);
            }
            (_, Some(0)) => return Err(ShieldOrderError::InvalidDuration),
            (_, Some(seconds)) => Some(seconds),
            (RuleLifetime::Once, None) => Some(Scope::ONCE_SECONDS),
            // Nothing removes an element but the end of its sandbox.
            (RuleLifetime::Sandbox | RuleLifetime::UntilRemoved, None) => None,
        };
        let until = match seconds {
            Some(seconds) => Some(
                now.checked_add(Duration::from_secs(seconds.into()))
                    .ok_or(ShieldOrderError::InvalidDuration)?,
            ),
            None => None,
        };
        let ported = |protocol: Protocol| {
            PROTOCOLS_WITH_PORTS
                .iter()
                .any(|(number, _)| *number == protocol.0)
        };
        let reaches = match (scope.protocol, scope.port) {
            (None, None) => vec![OrderReach::Whole],
            (Some(protocol), Some(port)) if ported(protocol) => {
                vec![OrderReach::Port(protocol, port)]
            }
            // Questions about protocols without ports have port 0.
            (Some(protocol), None | Some(0)) => vec![OrderReach::Protocol(protocol)],
            (Some(protocol), Some(_)) => return Err(ShieldOrderError::NoPorts(protocol)),
            (None, Some(port)) => PROTOCOLS_WITH_PORTS
                .iter()
                .map(|(number, _)| OrderReach::Port(Protocol(*number), port))
                .collect(),
        };
        let terms = reaches.into_iter().map(|reach| Self {
            action,
            reach,
            expires_at: until,
        });
        Ok(terms.collect())
    }

    pub(crate) fn to_element(&self, address: IpAddr, name: Option<&DomainName>) -> OrderElement {
        OrderElement {
            action: self.action,
            address,
            reach: self.reach,
            expires_at: self.expires_at,
            name: name.cloned(),
            leads_to: None,
        }
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|until| until <= now)
    }
}

/// Returns the canonical form of `ip` if orders may cover it.
pub(crate) fn check_orderable(ip: IpAddr) -> Result<IpAddr, ShieldOrderError> {
    let ip = ip.to_canonical();
    match AddressClass::classify(ip) {
        AddressClass::Floor => Err(ShieldOrderError::Floor(ip)),
        AddressClass::Private => Err(ShieldOrderError::Private(ip)),
        AddressClass::Public => Ok(ip),
    }
}

impl OrderSetShape {
    /// The evaluation order for a packet.
    pub(crate) const NARROW_FIRST: [Self; 3] = [Self::Port, Self::Protocol, Self::Whole];
}

impl OrderSet {
    /// Returns the sets of an action, narrow ones first.
    pub(crate) fn of_action(action: Action) -> impl Iterator<Item = Self> {
        OrderSetShape::NARROW_FIRST
            .into_iter()
            .flat_map(move |shape| {
                IpFamily::BOTH.map(|family| Self::of_address(action, shape, family))
            })
    }

    pub(crate) const fn of_address(action: Action, shape: OrderSetShape, family: IpFamily) -> Self {
        Self {
            action,
            shape,
            family,
            is_map: false,
        }
    }

    /// Returns the maps of allowed stand-ins, narrow ones first.
    pub(crate) fn of_stand_ins() -> impl Iterator<Item = Self> {
        OrderSetShape::NARROW_FIRST
            .into_iter()
            .map(Self::of_stand_in)
    }

    pub(crate) const fn of_stand_in(shape: OrderSetShape) -> Self {
        Self {
            action: Action::Allow,
            shape,
            family: IpFamily::V4,
            is_map: true,
        }
    }

    /// Returns the sets of orders on addresses.
    pub(crate) fn of_addresses() -> impl Iterator<Item = Self> {
        [Action::Deny, Action::Allow]
            .into_iter()
            .flat_map(Self::of_action)
    }

    /// Returns the condition that a packet's key is in the set. For ports, the protocol must have
    /// been checked to have them.
    pub(crate) const fn packet_match(self) -> NftMatch {
        match self.shape {
            OrderSetShape::Whole => {
                NftMatch::Address(self.family, PacketSide::Destination, self.set_name())
            }
            OrderSetShape::Protocol | OrderSetShape::Port => {
                NftMatch::InSet(self.set_key(), self.set_name())
            }
        }
    }

    pub(crate) const fn set_name(self) -> &'static str {
        if self.is_map {
            return match self.shape {
                OrderSetShape::Whole => STAND_IN_MAP,
                OrderSetShape::Protocol => "name_proto4",
                OrderSetShape::Port => "name_port4",
            };
        }
        match (self.action, self.shape, self.family) {
            (Action::Allow, OrderSetShape::Whole, IpFamily::V4) => "allow4",
            (Action::Allow, OrderSetShape::Whole, IpFamily::V6) => "allow6",
            (Action::Allow, OrderSetShape::Protocol, IpFamily::V4) => "allow_proto4",
            (Action::Allow, OrderSetShape::Protocol, IpFamily::V6) => "allow_proto6",
            (Action::Allow, OrderSetShape::Port, IpFamily::V4) => "allow_port4",
            (Action::Allow, OrderSetShape::Port, IpFamily::V6) => "allow_port6",
            (Action::Deny, OrderSetShape::Whole, IpFamily::V4) => "deny4",
            (Action::Deny, OrderSetShape::Whole, IpFamily::V6) => "deny6",
            (Action::Deny, OrderSetShape::Protocol, IpFamily::V4) => "deny_proto4",
            (Action::Deny, OrderSetShape::Protocol, IpFamily::V6) => "deny_proto6",
            (Action::Deny, OrderSetShape::Port, IpFamily::V4) => "deny_port4",
            (Action::Deny, OrderSetShape::Port, IpFamily::V6) => "deny_port6",
        }
    }

    pub(crate) const fn set_key(self) -> NftSetKey {
        match self.shape {
            OrderSetShape::Whole => NftSetKey::Address(self.family),
            OrderSetShape::Protocol => NftSetKey::Protocol(self.family),
            OrderSetShape::Port => NftSetKey::Port(self.family),
        }
    }

    /// Parses an element's key; each part starts at a multiple of four bytes.
    pub(crate) fn parse_element(self, key: &[u8]) -> Option<OrderElement> {
        let (address, rest) = match self.family {
            IpFamily::V4 => {
                let (address, rest) = key.split_first_chunk::<4>()?;
                (IpAddr::from(Ipv4Addr::from(*address)), rest)
            }
            IpFamily::V6 => {
                let (address, rest) = key.split_first_chunk::<16>()?;
                (IpAddr::from(Ipv6Addr::from(*address)), rest)
            }
        };
        let reach = match (self.shape, rest) {
            (OrderSetShape::Whole, []) => OrderReach::Whole,
            (OrderSetShape::Protocol, [protocol, _, _, _]) => {
                OrderReach::Protocol(Protocol(*protocol))
            }
            (OrderSetShape::Port, [protocol, _, _, _, high, low, _, _]) => {
                OrderReach::Port(Protocol(*protocol), u16::from_be_bytes([*high, *low]))
            }
            _ => return None,
        };
        Some(OrderElement {
            action: self.action,
            address,
            reach,
            expires_at: None,
            name: None,
            leads_to: None,
        })
    }
}

impl OrderElement {
    pub(crate) const fn order_set(&self) -> OrderSet {
        OrderSet {
            action: self.action,
            shape: self.reach.shape(),
            family: IpFamily::of(self.address),
            is_map: self.leads_to.is_some(),
        }
    }

    /// Encodes the element's key; see [`OrderSet::parse_element`].
    pub(crate) fn encode_key(&self) -> Vec<u8> {
        self.reach.encode_key(self.address)
    }

    /// Returns `true` for the same element of the same set, regardless of timeout and name.
    pub(crate) fn is_same_element(&self, other: &Self) -> bool {
        (self.action, self.address, self.reach) == (other.action, other.address, other.reach)
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|until| until <= now)
    }

    /// Returns `true` if this element expires before `other`.
    pub(crate) fn expires_before(&self, other: &Self) -> bool {
        match (self.expires_at, other.expires_at) {
            (Some(own), Some(other)) => own < other,
            (own, other) => own.is_some() && other.is_none(),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The active ruleset: applied, verified, and changed by orders.

mod connections;
mod dest_orders;
mod stand_ins;

pub use connections::{OpenedConnection, OpenedConnectionKey};
pub use dest_orders::DestOrder;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use netns::netlink::{NetlinkAttribute, find_attribute};
use rustix::io::Errno;
use terok_clearance::address_class::{AddressClass, IpFamily, stand_in_range};
use terok_clearance::{Action, DomainName, Protocol, Scope, Target};

use crate::Policy;
use crate::name_addresses::NameAddresses;
use crate::netlink::attribute_kind;
use crate::netlink::encode::{self, NftMessage, NftMessageKind};
use crate::netlink::socket::NftSocket;
use crate::netlink::{NetlinkError, RulesetDifference, verify};
use crate::order_element::{
    OrderElement, OrderReach, OrderSet, OrderTerms, STAND_IN_MAP, check_orderable,
};
use crate::order_table::{OrderPlan, OrderTable};
use crate::ruleset::{HELD_SET, Ruleset, asked_set_names, overdue_set_name, resolver_set_name};

/// The firewall of one sandbox.
///
/// Owns a netlink socket of the sandbox's network namespace. Methods make a few system calls that
/// do not wait, so they may be called from async tasks.
///
/// Each order is one transaction, which fails if another program has changed the ruleset since the
/// last read. In that case the state is read again and the order retried.
#[derive(Debug)]
pub struct NftShield {
    netlink: NftSocket,
    ruleset: Ruleset,
    has_name_server: bool,
    resolvers: Vec<IpAddr>,
    order_table: OrderTable,
    name_addresses: NameAddresses,
    generation: u32,
}

/// An element opened or closed by orders, as stored in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// The effect on packets: allow or deny.
    pub action: Action,
    /// The destination address.
    pub address: IpAddr,
    /// The protocol; `None` for all.
    pub protocol: Option<Protocol>,
    /// The port; `None` for all.
    pub port: Option<u16>,
    /// The name of the order, if the order was about a name.
    pub name: Option<DomainName>,
    /// The remaining time; `None` until the end of the sandbox.
    pub remaining: Option<Duration>,
}

/// The result of learning addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LearntAddresses {
    /// The number of added elements, caused by standing orders on the name.
    pub added: usize,
    /// The number of addresses that no order opens (floor or private range).
    pub refused: usize,
}

/// The ruleset could not be confirmed as active.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldError {
    /// A netlink request failed.
    #[error("the firewall could not be set up or read")]
    Netlink(#[from] NetlinkError),
    /// The kernel's ruleset differs from the expected one.
    #[error("the active firewall differs from the expected one")]
    Differs(#[from] RulesetDifference),
}

/// An order was not applied and nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldOrderError {
    /// The address is never opened.
    #[error("{0} is never opened: link-local, cloud metadata, loopback, multicast or reserved")]
    Floor(IpAddr),
    /// The address is in a private range.
    #[error("{0} is in a private range, which no verdict opens")]
    Private(IpAddr),
    /// The address stands in for a name.
    #[error("{0} stands in for a name; allow or deny the name")]
    StandIn(IpAddr),
    /// The scope has another destination than the order.
    #[error("the scope has another destination than the order")]
    DestMismatch,
    /// The scope outlasts this sandbox.
    #[error("a sandbox's shield cannot keep an order for a project or for always")]
    UnsupportedKeep,
    /// The duration is zero or too long.
    #[error("the duration of the scope is zero or too long")]
    InvalidDuration,
    /// The scope names a port of a protocol without ports.
    #[error("{0} has no ports")]
    NoPorts(Protocol),
    /// The table of orders is full.
    #[error("the shield cannot store more orders")]
    TableFull,
    /// A netlink request failed.
    #[error("the firewall could not be changed")]
    Netlink(#[from] NetlinkError),
}

/// Maximum attempts for an order if other programs change the ruleset.
const MAX_COMMIT_ATTEMPTS: usize = 8;

impl NftShield {
    /// Applies `policy` in the network namespace of `socket` (`AF_NETLINK`, `NETLINK_NETFILTER`),
    /// replaces any previous ruleset of the table, and verifies the result.
    ///
    /// After an error the sandbox must not start. A failed transaction keeps the previous ruleset;
    /// no intermediate state is ever active.
    pub fn engage(socket: OwnedFd, policy: &Policy) -> Result<Self, ShieldError> {
        let mut netlink = NftSocket::new(socket);
        let replacement = encode::replace_ruleset(&Ruleset::new(policy));
        netlink.commit_transaction(&replacement, None)?;
        Self::take_over(netlink, policy)
    }

    /// Attaches to an active ruleset, such as after a restart of the supervisor, and verifies it.
    /// Orders on names are restored from their elements.
    ///
    /// After an error, [`NftShield::engage`] applies the policy without any orders.
    pub fn attach(socket: OwnedFd, policy: &Policy, now: Instant) -> Result<Self, ShieldError> {
        Self::attach_socket(NftSocket::new(socket), policy, now)
    }

    fn attach_socket(
        netlink: NftSocket,
        policy: &Policy,
        now: Instant,
    ) -> Result<Self, ShieldError> {
        let mut shield = Self::take_over(netlink, policy)?;
        shield.reload_orders(now)?;
        if !policy.has_name_server() {
            for entry in shield.order_table.iter() {
                shield.name_addresses.restore_element(entry, now);
            }
        }
        Ok(shield)
    }

    /// Attaches to the project's own ruleset in the network namespace of `socket`, for any
    /// resolvers; `None` if no such ruleset is active.
    pub fn attach_existing(socket: OwnedFd, now: Instant) -> Result<Option<Self>, ShieldError> {
        let mut netlink = NftSocket::new(socket);
        let mut resolvers = Vec::new();
        for (family, set) in IpFamily::BOTH.map(|family| (family, resolver_set_name(family))) {
            match netlink.dump(NftMessageKind::GetElement, &encode::set_elements_query(set)) {
                Ok(answers) => {
                    let keys =
                        verify::listed_elements(&answers).map(|(key, ..)| family.address(key));
                    resolvers.extend(keys.flatten());
                }
                Err(error) if error.refused_errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let map = encode::set_elements_query(STAND_IN_MAP);
        let policy = match netlink.dump(NftMessageKind::GetElement, &map) {
            Ok(_) => Policy::with_name_server(resolvers),
            Err(error) if error.refused_errno() == Some(Errno::NOENT) => Policy::new(resolvers),
            Err(error) => return Err(error.into()),
        };
        let Ok(policy) = policy else {
            return Ok(None); // the project's rulesets never contain such resolvers
        };
        match Self::attach_socket(netlink, &policy, now) {
            Ok(shield) => Ok(Some(shield)),
            Err(ShieldError::Differs(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_over(netlink: NftSocket, policy: &Policy) -> Result<Self, ShieldError> {
        let mut shield = Self {
            netlink,
            ruleset: Ruleset::new(policy),
            has_name_server: policy.has_name_server(),
            resolvers: policy.resolvers().to_vec(),
            order_table: OrderTable::default(),
            name_addresses: NameAddresses::default(),
            generation: 0,
        };
        // Read before the verification, so that concurrent changes fail the next transaction.
        shield.generation = shield.netlink.read_generation()?;
        shield.verify()?;
        Ok(shield)
    }

    /// Compares the kernel's state with the expected ruleset: table, sets, chains, rules, and the
    /// elements of constant sets.
    pub fn verify(&mut self) -> Result<(), ShieldError> {
        match verify::verify_ruleset(&mut self.netlink, &self.ruleset)? {
            Some(difference) => Err(difference.into()),
            None => Ok(()),
        }
    }

    /// Applies an order; see [`NftShield::allow`] and [`NftShield::deny`].
    pub fn apply_order(
        &mut self,
        action: Action,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        let terms = OrderTerms::parse(action, target, scope, now)?;
        let addresses = self.target_addresses(target)?;
        let name = match target {
            Target::Name(name) if !self.name_addresses.has_room(name) => {
                return Err(ShieldOrderError::TableFull);
            }
            Target::Name(name) => Some(name),
            Target::Address(_) => None,
        };
        let wanted: Vec<_> = addresses
            .iter()
            .flat_map(|address| terms.iter().map(|terms| terms.to_element(*address, name)))
            .collect();
        self.commit_plan(now, Vec::new, |orders| orders.plan_order(&wanted, now))?;
        if let Some(name) = name {
            self.name_addresses.remove_expired(now);
            self.name_addresses.add_standing_terms(name, &terms, now);
        }
        Ok(())
    }

    /// Allows packets to `target` within `scope` and its duration, replacing orders that deny them.
    /// A wider deny continues for the rest.
    ///
    /// A name opens its addresses learnt so far and later. An address in the floor or a private
    /// range is an error; such addresses of a name are skipped unless there are no others.
    pub fn allow(
        &mut self,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        self.apply_order(Action::Allow, target, scope, now)
    }

    /// Denies packets to `target` within `scope` and its duration without asking, replacing orders
    /// that allow them. A wider allow continues for the rest, and so do established connections.
    pub fn deny(
        &mut self,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        self.apply_order(Action::Deny, target, scope, now)
    }

    /// Removes every order on `target`: the next packet asks again, even shortly after a question.
    ///
    /// For an address, this includes elements of orders on names.
    pub fn forget(&mut self, target: &Target, now: Instant) -> Result<(), ShieldOrderError> {
        match target {
            Target::Address(address) => {
                let address = address.to_canonical();
                self.commit_plan(now, flush_asked_sets, |orders| {
                    orders.plan_forget_address(address, now)
                })
            }
            Target::Name(name) => {
                self.commit_plan(now, flush_asked_sets, |orders| {
                    orders.plan_forget_name(name, None, now)
                })?;
                self.name_addresses.clear_standing_terms(name);
                Ok(())
            }
        }
    }

    /// Clears the memory of recent questions, so that the next packet to each destination asks, and
    /// lets no connection wait.
    ///
    /// For a new listener, which has not seen the questions of its predecessor.
    pub fn flush_asked(&mut self, now: Instant) -> Result<(), ShieldOrderError> {
        let flush = || {
            let mut messages = flush_asked_sets();
            messages.push(encode::flush_set(HELD_SET));
            messages
        };
        self.commit_plan(now, flush, |_| OrderPlan::default())
    }

    /// Lets the first packets of TCP connections wait for an order, or refuses them at once.
    ///
    /// A waiting packet is dropped; the program repeats it.
    pub fn hold_connections(&mut self, held: bool, now: Instant) -> Result<(), ShieldOrderError> {
        let change = || {
            vec![if held {
                encode::add_plain_elements(HELD_SET, &[(vec![Protocol::TCP.0], None)])
            } else {
                encode::flush_set(HELD_SET)
            }]
        };
        self.commit_plan(now, change, |_| OrderPlan::default())
    }

    /// Refuses the TCP connections to these destinations that wait for an order, and those that
    /// begin within each period. There are no questions about them.
    pub fn refuse_waiting(
        &mut self,
        overdue: &[(SocketAddr, Duration)],
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        // A transaction must fit into the send buffer of the socket.
        for part in overdue.chunks(MAX_ELEMENTS_PER_TRANSACTION) {
            self.commit_plan(now, || refuse_messages(part), |_| OrderPlan::default())?;
        }
        Ok(())
    }

    /// Records that `name` resolved to `addresses`, and applies the standing orders on the name to
    /// them for their remaining time.
    ///
    /// A name keeps its newest 64 addresses; evicted ones lose the elements of the name's orders.
    /// An address denied by another order stays denied.
    pub fn learn_addresses(
        &mut self,
        name: &DomainName,
        addresses: &[IpAddr],
        now: Instant,
    ) -> Result<LearntAddresses, ShieldOrderError> {
        let mut learnt = LearntAddresses::default();
        let mut orderly = Vec::with_capacity(addresses.len());
        for address in addresses {
            match check_orderable(*address) {
                Ok(address) => orderly.push(address),
                Err(_) => learnt.refused = learnt.refused.saturating_add(1),
            }
        }
        let surplus = self.name_addresses.add_addresses(name, &orderly);
        let standing = self.name_addresses.standing_terms(name, now);
        if standing.is_empty() {
            return Ok(learnt);
        }
        for address in surplus {
            self.commit_plan(now, Vec::new, |orders| {
                orders.plan_forget_name(name, Some(address), now)
            })?;
        }
        let known = self.name_addresses.addresses(name);
        let wanted: Vec<_> = orderly
            .iter()
            .filter(|address| known.contains(address))
            .flat_map(|address| {
                standing
                    .iter()
                    .map(|terms| terms.to_element(*address, Some(name)))
            })
            .collect();
        self.commit_plan(now, Vec::new, |orders| {
            let plan = orders.plan_learnt(&wanted, now);
            learnt.added = plan.add.len();
            plan
        })?;
        Ok(learnt)
    }

    /// Returns the action of the orders for a packet, equal to that of the kernel's sets; `None` if
    /// the packet would be asked about.
    ///
    /// For questions logged just before their order took effect.
    pub fn standing_action(
        &self,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        now: Instant,
    ) -> Option<Action> {
        self.order_table
            .standing_action(address.to_canonical(), protocol, port, now)
    }

    /// Returns the elements of all orders, read from the kernel.
    pub fn list_elements(&mut self) -> Result<Vec<ListedElement>, NetlinkError> {
        let mut all = Vec::new();
        for (entry, remaining) in self.read_elements()? {
            let (protocol, port) = match entry.reach {
                OrderReach::Whole => (None, None),
                OrderReach::Protocol(protocol) => (Some(protocol), None),
                OrderReach::Port(protocol, port) => (Some(protocol), Some(port)),
            };
            all.push(ListedElement {
                action: entry.action,
                address: entry.address,
                protocol,
                port,
                name: entry.name,
                remaining,
            });
        }
        all.sort_by_key(|one| {
            (
                one.address,
                one.action == Action::Allow,
                one.protocol,
                one.port,
            )
        });
        Ok(all)
    }

    /// Returns the current addresses of an order's target.
    fn target_addresses(&self, target: &Target) -> Result<Vec<IpAddr>, ShieldOrderError> {
        match target {
            Target::Address(address)
                if self.has_name_server && stand_in_range().contains(address.to_canonical()) =>
            {
                Err(ShieldOrderError::StandIn(*address))
            }
            Target::Address(address) => Ok(vec![check_orderable(*address)?]),
            // Only orderable addresses are ever recorded.
            Target::Name(name) => Ok(self.name_addresses.addresses(name).to_vec()),
        }
    }

    /// Plans and commits, together with the `extra` messages, until the plan matches the kernel's
    /// state.
    fn commit_plan(
        &mut self,
        now: Instant,
        extra: impl Fn() -> Vec<NftMessage>,
        mut plan: impl FnMut(&OrderTable) -> OrderPlan,
    ) -> Result<(), ShieldOrderError> {
        let mut attempts = 1..=MAX_COMMIT_ATTEMPTS;
        loop {
            let plan = plan(&self.order_table);
            if !self.order_table.has_room(&plan) {
                return Err(ShieldOrderError::TableFull);
            }
            debug_assert!(
                plan.add
                    .iter()
                    .all(|entry| AddressClass::classify(entry.address) == AddressClass::Public),
                "`check_orderable` admits public addresses only"
            );
            let mut messages = encode::remove_elements(&plan.remove);
            messages.extend(encode::add_elements(&plan.add, now));
            messages.extend(extra());
            let Err(error) = self
                .netlink
                .commit_transaction(&messages, Some(self.generation))
            else {
                if !messages.is_empty() {
                    self.generation = next_generation(self.generation);
                }
                self.order_table.apply_plan(plan, now);
                return Ok(());
            };
            let changed = match error.refused_errno() {
                Some(Errno::NFILE) => return Err(ShieldOrderError::TableFull),
                Some(errno) => errno == ERESTART || matches!(errno, Errno::NOENT | Errno::EXIST),
                None => matches!(error, NetlinkError::ReplyLost),
            };
            if !changed || attempts.next().is_none() {
                return Err(error.into());
            }
            self.reload_orders(now)?;
        }
    }

    /// Reads the order sets again.
    fn reload_orders(&mut self, now: Instant) -> Result<(), NetlinkError> {
        self.generation = self.netlink.read_generation()?;
        let mut orders = OrderTable::default();
        for (mut entry, remaining) in self.read_elements()? {
            entry.expires_at = remaining.and_then(|remaining| now.checked_add(remaining));
            orders.insert(entry);
        }
        self.order_table = orders;
        Ok(())
    }

    /// Returns the elements of the order sets with their remaining time.
    fn read_elements(&mut self) -> Result<Vec<(OrderElement, Option<Duration>)>, NetlinkError> {
        let mut held = Vec::new();
        let maps = OrderSet::of_stand_ins().filter(|_| self.has_name_server);
        for set in OrderSet::of_addresses().chain(maps) {
            let query = encode::set_elements_query(set.set_name());
            let answers = self.netlink.dump(NftMessageKind::GetElement, &query)?;
            for (key, _, element) in verify::listed_elements(&answers) {
                let mut entry = set.parse_element(key).ok_or(NetlinkError::ReplyLost)?;
                entry.name = element
                    .find(attribute_kind::ELEMENT_USERDATA)
                    .and_then(parse_comment);
                if set.is_map {
                    entry.leads_to = Some(parse_map_data(element).ok_or(NetlinkError::ReplyLost)?);
                }
                let left = element
                    .find(attribute_kind::ELEMENT_EXPIRATION)
                    .and_then(NetlinkAttribute::u64_be);
                held.push((entry, left.map(Duration::from_millis)));
            }
        }
        Ok(held)
    }
}

/// Maximum elements of overdue destinations per transaction, some 60 KiB.
const MAX_ELEMENTS_PER_TRANSACTION: usize = 1024;

fn refuse_messages(overdue: &[(SocketAddr, Duration)]) -> Vec<NftMessage> {
    let mut messages = Vec::new();
    for family in IpFamily::BOTH {
        let of_family = overdue.iter().filter_map(|(destination, period)| {
            let address = destination.ip().to_canonical();
            let reach = OrderReach::Port(Protocol::TCP, destination.port());
            (IpFamily::of(address) == family).then(|| (reach.encode_key(address), Some(*period)))
        });
        let elements: Vec<_> = of_family.collect();
        let parts = elements.chunks(encode::MAX_ELEMENTS_PER_MESSAGE);
        messages
            .extend(parts.map(|part| encode::add_plain_elements(overdue_set_name(family), part)));
    }
    messages
}

fn flush_asked_sets() -> Vec<NftMessage> {
    asked_set_names().map(encode::flush_set).collect()
}

/// The errno for another program's change since the given generation; it has no name in userspace.
const ERESTART: Errno = Errno::from_raw_os_error(85);

/// Returns the next generation; 0 is skipped.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Parses the address to which an element of a map leads.
fn parse_map_data(element: NetlinkAttribute<'_>) -> Option<Ipv4Addr> {
    let data = element.find(attribute_kind::ELEMENT_DATA)?;
    let value = find_attribute(data.value, attribute_kind::DATA_VALUE)?.value;
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// Parses the name in an element's comment.
fn parse_comment(userdata: NetlinkAttribute<'_>) -> Option<DomainName> {
    let [0, length, rest @ ..] = userdata.value else {
        return None;
    };
    let text = rest.get(..usize::from(*length))?.strip_suffix(&[0])?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

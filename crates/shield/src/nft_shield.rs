// SPDX-License-Identifier: Apache-2.0
//! The ruleset in force: engaged, verified, and given its orders.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use terok_clearance::{Action, DomainName, Protocol, Scope, Target};

use crate::Policy;
use crate::address_class::{AddressClass, IpFamily};
use crate::name_addresses::NameAddresses;
use crate::netlink::attribute::NetlinkAttribute;
use crate::netlink::attribute_kind;
use crate::netlink::encode::{self, NftMessageKind};
use crate::netlink::socket::NftSocket;
use crate::netlink::{NetlinkError, RulesetDifference, verify};
use crate::order_element::{OrderElement, OrderReach, OrderSet, OrderTerms, check_orderable};
use crate::order_table::{OrderPlan, OrderTable};
use crate::ruleset::{Ruleset, asked_set_names, resolver_set_name};

/// The firewall of one sandbox.
///
/// It owns a netlink socket of the sandbox's network namespace. Every method is one or a few
/// system calls that do not wait, so it may be called from an async task.
///
/// Each order is one transaction, which fails if anybody changed the ruleset since it was last
/// read; then it is read anew and the order tried again.
#[derive(Debug)]
pub struct NftShield {
    netlink: NftSocket,
    ruleset: Ruleset,
    order_table: OrderTable,
    name_addresses: NameAddresses,
    generation: u32,
}

/// One thing that orders have opened or closed, as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// Whether packets pass or are refused.
    pub action: Action,
    /// Where to.
    pub address: IpAddr,
    /// Only this protocol; absent, every protocol.
    pub protocol: Option<Protocol>,
    /// Only this port; absent, every port.
    pub port: Option<u16>,
    /// The name for which it was opened or closed, if the order was about a name.
    pub name: Option<DomainName>,
    /// What is left of its time; absent, it stays as long as the sandbox.
    pub remaining: Option<Duration>,
}

/// What became of addresses that were learnt for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LearntAddresses {
    /// How many elements were added, because an order on the name stands.
    pub added: usize,
    /// How many of the addresses no order opens: they are in the floor or a private range.
    pub refused: usize,
}

/// Why the ruleset is not known to be in force.
#[derive(Debug, thiserror::Error)]
pub enum ShieldError {
    /// The kernel did not do what it was asked, or could not be asked.
    #[error("the firewall could not be set up or read")]
    Netlink(#[from] NetlinkError),
    /// The kernel holds something else than what is meant.
    #[error("the firewall in force is not the one that was meant")]
    Differs(#[from] RulesetDifference),
}

/// Why an order was not carried out: nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ShieldOrderError {
    /// The address is never opened.
    #[error("{0} is never opened: link-local, cloud metadata, loopback, multicast or reserved")]
    Floor(IpAddr),
    /// The address is in a private range.
    #[error("{0} is in a private range, which no verdict opens")]
    Private(IpAddr),
    /// The scope is about another destination than the order.
    #[error("the scope is about another destination than the order")]
    DestMismatch,
    /// The scope holds for more than this sandbox.
    #[error("a sandbox's shield cannot keep an order for a project or for always")]
    UnsupportedKeep,
    /// The scope ends before it begins, or beyond the end of time.
    #[error("the scope holds for no time, or for longer than there is")]
    InvalidDuration,
    /// The scope names a port of a protocol that has none.
    #[error("{0} has no ports")]
    NoPorts(Protocol),
    /// There is no room for more.
    #[error("the shield holds as many orders as it can")]
    TableFull,
    /// The kernel did not do what it was asked, or could not be asked.
    #[error("the firewall could not be changed")]
    Netlink(#[from] NetlinkError),
}

/// How often an order is planned anew because somebody else changed the ruleset.
const MAX_COMMIT_ATTEMPTS: usize = 8;

impl NftShield {
    /// Puts `policy` in force in the network namespace of `socket` (`AF_NETLINK`,
    /// `NETLINK_NETFILTER`), in the place of what was in force, and verifies it.
    ///
    /// After an error the sandbox must not start. A failed transaction leaves what was in force
    /// before; nothing in between is ever in force.
    pub fn engage(socket: OwnedFd, policy: &Policy) -> Result<Self, ShieldError> {
        let mut netlink = NftSocket::new(socket);
        let ruleset = Ruleset::new(policy);
        netlink.commit_transaction(&encode::replace_ruleset(&ruleset), None)?;
        Self::take_over(netlink, ruleset)
    }

    /// Takes over a ruleset that is in force, as after a restart of the supervisor, and verifies
    /// it. Orders on names are taken up again from the elements that stand for them.
    ///
    /// After an error [`Shield::engage`] puts the policy in force anew, without any order.
    pub fn attach(socket: OwnedFd, policy: &Policy, now: Instant) -> Result<Self, ShieldError> {
        Self::attach_socket(NftSocket::new(socket), policy, now)
    }

    fn attach_socket(
        netlink: NftSocket,
        policy: &Policy,
        now: Instant,
    ) -> Result<Self, ShieldError> {
        let mut shield = Self::take_over(netlink, Ruleset::new(policy))?;
        shield.reload_orders(now)?;
        for entry in shield.order_table.iter() {
            shield.name_addresses.restore_element(entry, now);
        }
        Ok(shield)
    }

    /// Takes over a ruleset of ours that is in force in the network namespace of `socket`, for
    /// whatever resolvers; none if what is in force there is not ours, or nothing is.
    pub fn attach_existing(socket: OwnedFd, now: Instant) -> Result<Option<Self>, ShieldError> {
        let mut netlink = NftSocket::new(socket);
        let mut resolvers = Vec::new();
        for (family, set) in IpFamily::BOTH.map(|family| (family, resolver_set_name(family))) {
            match netlink.dump(NftMessageKind::GetElement, encode::set_elements_query(set)) {
                Ok(answers) => {
                    let keys =
                        verify::listed_elements(&answers).map(|(key, ..)| family.address(key));
                    resolvers.extend(keys.flatten());
                }
                Err(error) if error.refused_errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Ok(policy) = Policy::new(resolvers) else {
            return Ok(None); // no ruleset of ours names such resolvers
        };
        match Self::attach_socket(netlink, &policy, now) {
            Ok(shield) => Ok(Some(shield)),
            Err(ShieldError::Differs(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_over(netlink: NftSocket, ruleset: Ruleset) -> Result<Self, ShieldError> {
        let mut shield = Self {
            netlink,
            ruleset,
            order_table: OrderTable::default(),
            name_addresses: NameAddresses::default(),
            generation: 0,
        };
        // Read first: what changes while it is verified fails the next transaction.
        shield.generation = shield.netlink.read_generation()?;
        shield.verify()?;
        Ok(shield)
    }

    /// Compares what the kernel holds with what is meant: table, sets, chains and rules, and the
    /// elements of the sets that never change.
    pub fn verify(&mut self) -> Result<(), ShieldError> {
        match verify::verify_ruleset(&mut self.netlink, &self.ruleset)? {
            Some(difference) => Err(difference.into()),
            None => Ok(()),
        }
    }

    /// Carries out one order: see [`Shield::allow`] and [`Shield::deny`].
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
        self.commit_plan(now, &[], |orders| orders.plan_order(&wanted, now))?;
        if let Some(name) = name {
            self.name_addresses.remove_expired(now);
            self.name_addresses.add_standing_terms(name, &terms, now);
        }
        Ok(())
    }

    /// Lets packets to `target` pass, as far as `scope` reaches and for its time, in the place of
    /// orders that refuse them. A wider order to refuse goes on for the rest.
    ///
    /// A name opens the addresses learnt for it so far and those learnt later. An address in the
    /// floor or a private range is an error; of a name's addresses those are left out, unless it
    /// has no other.
    pub fn allow(
        &mut self,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        self.apply_order(Action::Allow, target, scope, now)
    }

    /// Refuses packets to `target` without asking, as far as `scope` reaches and for its time, in
    /// the place of orders that let them pass. A wider order to let pass goes on for the rest, and
    /// so do connections that stand.
    pub fn deny(
        &mut self,
        target: &Target,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        self.apply_order(Action::Deny, target, scope, now)
    }

    /// Takes back every order on `target`: the next packet asks again, even one that was asked
    /// about just now.
    ///
    /// For an address, that includes what orders on names have opened there.
    pub fn forget(&mut self, target: &Target, now: Instant) -> Result<(), ShieldOrderError> {
        let asked: Vec<_> = asked_set_names().collect();
        match target {
            Target::Address(address) => {
                let address = address.to_canonical();
                self.commit_plan(now, &asked, |orders| {
                    orders.plan_forget_address(address, now)
                })
            }
            Target::Name(name) => {
                self.commit_plan(now, &asked, |orders| {
                    orders.plan_forget_name(name, None, now)
                })?;
                self.name_addresses.clear_standing_terms(name);
                Ok(())
            }
        }
    }

    /// Lets the next packet to each destination ask, even one that was asked about just now.
    ///
    /// For a listener that comes after another: it has not heard what that one was told.
    pub fn flush_asked(&mut self, now: Instant) -> Result<(), ShieldOrderError> {
        let asked: Vec<_> = asked_set_names().collect();
        self.commit_plan(now, &asked, |_| OrderPlan::default())
    }

    /// Notes that `name` was answered with `addresses`, and carries out for them the orders that
    /// stand on the name, for the rest of their time.
    ///
    /// Of a name the newest 64 addresses are kept; one that makes room loses what the name's
    /// orders opened. An address that was refused by another order stays refused.
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
            self.commit_plan(now, &[], |orders| {
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
        self.commit_plan(now, &[], |orders| {
            let plan = orders.plan_learnt(&wanted, now);
            learnt.added = plan.add.len();
            plan
        })?;
        Ok(learnt)
    }

    /// Returns what orders say of a packet, as the kernel's sets do; none if it would be asked
    /// about.
    ///
    /// For a question that was logged just before the order that answers it came into force.
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

    /// Returns everything that orders have opened and closed, read from the kernel.
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

    /// Returns the addresses that an order on `target` is about now.
    fn target_addresses(&self, target: &Target) -> Result<Vec<IpAddr>, ShieldOrderError> {
        match target {
            Target::Address(address) => Ok(vec![check_orderable(*address)?]),
            // Only what an order may be about was ever noted.
            Target::Name(name) => Ok(self.name_addresses.addresses(name).to_vec()),
        }
    }

    /// Plans and commits until a plan fits what the kernel holds.
    fn commit_plan(
        &mut self,
        now: Instant,
        flush: &[&str],
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
                "nothing else gets past `orderable`"
            );
            let mut messages = encode::remove_elements(&plan.remove);
            messages.extend(encode::add_elements(&plan.add, now));
            messages.extend(flush.iter().map(|set| encode::flush_set(set)));
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

    /// Reads the order sets anew.
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

    /// Returns the elements of the order sets and what is left of their time.
    fn read_elements(&mut self) -> Result<Vec<(OrderElement, Option<Duration>)>, NetlinkError> {
        let mut held = Vec::new();
        for set in OrderSet::all() {
            let asked = encode::set_elements_query(set.set_name());
            let answers = self.netlink.dump(NftMessageKind::GetElement, asked)?;
            for (key, _, element) in verify::listed_elements(&answers) {
                let mut entry = set.parse_element(key).ok_or(NetlinkError::ReplyLost)?;
                entry.name = element
                    .find(attribute_kind::ELEMENT_USERDATA)
                    .and_then(parse_comment);
                let left = element
                    .find(attribute_kind::ELEMENT_EXPIRATION)
                    .and_then(NetlinkAttribute::u64);
                held.push((entry, left.map(Duration::from_millis)));
            }
        }
        Ok(held)
    }
}

/// Somebody else changed the ruleset since the generation that was named (`ERESTART`, which has
/// no name outside the kernel).
const ERESTART: Errno = Errno::from_raw_os_error(85);

/// Returns the generation that follows; 0 is never one.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Reads the name that stands in an element's comment.
fn parse_comment(userdata: NetlinkAttribute<'_>) -> Option<DomainName> {
    let [0, length, rest @ ..] = userdata.value else {
        return None;
    };
    let text = rest.get(..usize::from(*length))?.strip_suffix(&[0])?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

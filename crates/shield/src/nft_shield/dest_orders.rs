// SPDX-License-Identifier: Apache-2.0
//! All orders on one destination, as one value that replaces those before.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use terok_clearance::address_class::stand_in_range;
use terok_clearance::{Action, DomainName, Protocol};

use super::{NftShield, ShieldOrderError};
use crate::netlink::encode::NftMessage;
use crate::order_element::{OrderElement, OrderReach, OrderTerms, check_orderable};
use crate::ruleset::PROTOCOLS_WITH_PORTS;

/// One of the orders on a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestOrder {
    /// Allow or deny.
    pub action: Action,
    /// The port; `None` for all.
    pub port: Option<u16>,
    /// The protocol; `None` for all, with a port all that have ports.
    pub protocol: Option<Protocol>,
    /// The end; `None` for that of the sandbox.
    pub until: Option<Instant>,
}

impl NftShield {
    /// Makes `orders` the only ones on `address`, in one transaction: a deny outweighs every allow
    /// that it covers. Without orders, the next packet asks again, even shortly after a question.
    ///
    /// An address in the floor or a private range is an error.
    pub fn replace_address_orders(
        &mut self,
        address: IpAddr,
        orders: &[DestOrder],
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        let address = check_orderable(address)?;
        if self.has_name_server && stand_in_range().contains(address) {
            return Err(ShieldOrderError::StandIn(address));
        }
        let wanted: Vec<_> = effective_terms(orders, now)?
            .iter()
            .map(|terms| terms.to_element(address, None))
            .collect();
        self.commit_plan(now, flush_if(orders.is_empty()), |table| {
            let mut replaced = table.plan_forget_address(address, now).remove;
            replaced.retain(|element| element.name.is_none());
            table.plan_replacement(&replaced, &wanted, now)
        })
    }

    /// As [`replace_address_orders`](Self::replace_address_orders), for the name that has the
    /// address `stand_in`. A name that stays allowed keeps the address to which it is translated.
    pub fn replace_stand_in_orders(
        &mut self,
        name: &DomainName,
        stand_in: Ipv4Addr,
        orders: &[DestOrder],
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        let terms = effective_terms(orders, now)?;
        self.commit_plan(now, flush_if(orders.is_empty()), |table| {
            let leads_to = table.address_of_stand_in(stand_in, now);
            let wanted: Vec<_> = terms
                .iter()
                .map(|terms| OrderElement {
                    leads_to: (terms.action == Action::Allow).then(|| leads_to.unwrap_or(stand_in)),
                    ..terms.to_element(stand_in.into(), Some(name))
                })
                .collect();
            let replaced = table.plan_forget_address(stand_in.into(), now).remove;
            table.plan_replacement(&replaced, &wanted, now)
        })
    }

    /// As [`replace_address_orders`](Self::replace_address_orders), for a name whose addresses are
    /// learnt: those known now, and later ones.
    pub fn replace_name_orders(
        &mut self,
        name: &DomainName,
        orders: &[DestOrder],
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        if !orders.is_empty() && !self.name_addresses.has_room(name) {
            return Err(ShieldOrderError::TableFull);
        }
        let terms = effective_terms(orders, now)?;
        let addresses = self.name_addresses.addresses(name);
        let wanted: Vec<_> = addresses
            .iter()
            .flat_map(|address| {
                terms
                    .iter()
                    .map(|terms| terms.to_element(*address, Some(name)))
            })
            .collect();
        self.commit_plan(now, flush_if(orders.is_empty()), |table| {
            let replaced = table.plan_forget_name(name, None, now).remove;
            table.plan_replacement(&replaced, &wanted, now)
        })?;
        self.name_addresses.clear_standing_terms(name);
        self.name_addresses.remove_expired(now);
        if !terms.is_empty() {
            self.name_addresses.add_standing_terms(name, &terms, now);
        }
        Ok(())
    }
}

/// Returns the messages with which the next packet to any destination asks again.
fn flush_if(asks_again: bool) -> impl Fn() -> Vec<NftMessage> {
    move || {
        if asks_again {
            super::flush_asked_sets()
        } else {
            Vec::new()
        }
    }
}

/// Returns the orders without the allows that a deny covers: the kernel gives precedence to the
/// narrower one of two.
fn effective_terms(
    orders: &[DestOrder],
    now: Instant,
) -> Result<Vec<OrderTerms>, ShieldOrderError> {
    let mut all = Vec::new();
    for order in orders {
        for reach in reaches(order)? {
            let terms = OrderTerms {
                action: order.action,
                reach,
                expires_at: order.until,
            };
            if !terms.is_expired(now) {
                all.push(terms);
            }
        }
    }
    let denied: Vec<_> = all
        .iter()
        .filter(|terms| terms.action == Action::Deny)
        .map(|terms| terms.reach)
        .collect();
    all.retain(|terms| {
        terms.action == Action::Deny || !denied.iter().any(|deny| deny.covers(terms.reach))
    });
    Ok(all)
}

fn reaches(order: &DestOrder) -> Result<Vec<OrderReach>, ShieldOrderError> {
    let has_ports = |protocol: Protocol| {
        PROTOCOLS_WITH_PORTS
            .iter()
            .any(|(number, _)| *number == protocol.0)
    };
    Ok(match (order.protocol, order.port) {
        (None, None) => vec![OrderReach::Whole],
        (Some(protocol), None) => vec![OrderReach::Protocol(protocol)],
        (Some(protocol), Some(port)) if has_ports(protocol) => {
            vec![OrderReach::Port(protocol, port)]
        }
        (Some(protocol), Some(_)) => return Err(ShieldOrderError::NoPorts(protocol)),
        (None, Some(port)) => PROTOCOLS_WITH_PORTS
            .iter()
            .map(|(number, _)| OrderReach::Port(Protocol(*number), port))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deny_outweighs_the_allows_that_it_covers() {
        use Action::{Allow, Deny};
        #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
        let now = Instant::now();
        let order = |action, protocol, port| DestOrder {
            action,
            port,
            protocol,
            until: None,
        };
        let tcp = Some(Protocol::TCP);
        let check = |orders: &[DestOrder], expected: &[(Action, OrderReach)]| {
            let terms = effective_terms(orders, now).unwrap();
            let terms: Vec<_> = terms.iter().map(|t| (t.action, t.reach)).collect();
            assert_eq!(terms, expected, "{orders:?}");
        };
        let web = OrderReach::Port(Protocol::TCP, 443);
        check(&[order(Allow, tcp, Some(443))], &[(Allow, web)]);
        for wider in [
            (order(Deny, tcp, Some(443)), web),
            (order(Deny, tcp, None), OrderReach::Protocol(Protocol::TCP)),
            (order(Deny, None, None), OrderReach::Whole),
        ] {
            let expected = [(Deny, wider.1)];
            check(&[order(Allow, tcp, Some(443)), wider.0], &expected);
            check(&[wider.0, order(Allow, tcp, Some(443))], &expected);
        }
        check(
            &[order(Allow, None, None), order(Deny, tcp, Some(443))],
            &[(Allow, OrderReach::Whole), (Deny, web)],
        );
        let ended = DestOrder {
            until: Some(now),
            ..order(Deny, None, None)
        };
        check(&[ended, order(Allow, tcp, Some(443))], &[(Allow, web)]);
        let later = DestOrder {
            until: now.checked_add(Duration::from_secs(1)),
            ..order(Allow, Some(Protocol::ICMP), Some(7))
        };
        assert!(effective_terms(&[later], now).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Which addresses a name was answered with, and the orders that stand on it.
//!
//! The sandbox decides what it looks up, so everything here is bounded: the name and the address
//! that were learnt longest ago make room, but never a name on which an order stands.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::DomainName;

use crate::order_element::{OrderElement, OrderTerms};

/// The most names that are remembered.
pub(crate) const MAX_NAMES: usize = 4_096;
/// The most addresses of one name.
pub(crate) const MAX_ADDRESSES_PER_NAME: usize = 64;

/// The name book.
#[derive(Debug, Default)]
pub(crate) struct NameAddresses {
    records: HashMap<DomainName, NameRecord>,
    /// The names on which no order stands, by when they were learnt last.
    without_orders: BTreeMap<u64, DomainName>,
    clock: u64,
}

#[derive(Debug, Default)]
struct NameRecord {
    /// The newest last.
    addresses: Vec<IpAddr>,
    standing_terms: Vec<OrderTerms>,
    learnt_at: u64,
}

impl NameAddresses {
    /// Notes addresses of a name; returns those that had to make room, of this name.
    pub(crate) fn add_addresses(&mut self, name: &DomainName, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let Some(page) = self.touch_record(name) else {
            return Vec::new();
        };
        for address in addresses {
            page.addresses.retain(|known| known != address);
            page.addresses.push(*address);
        }
        let surplus = page.addresses.len().saturating_sub(MAX_ADDRESSES_PER_NAME);
        page.addresses.drain(..surplus).collect()
    }

    /// Returns the addresses known for a name, the newest last.
    pub(crate) fn addresses(&self, name: &DomainName) -> &[IpAddr] {
        self.records
            .get(name)
            .map(|page| page.addresses.as_slice())
            .unwrap_or_default()
    }

    /// Returns what stands on a name at `now`.
    pub(crate) fn standing_terms(&self, name: &DomainName, now: Instant) -> Vec<OrderTerms> {
        let standing = self
            .records
            .get(name)
            .map(|page| page.standing_terms.as_slice());
        standing
            .unwrap_or_default()
            .iter()
            .filter(|terms| !terms.is_expired(now))
            .cloned()
            .collect()
    }

    /// Says whether there is room for an order on `name`.
    pub(crate) fn has_room(&self, name: &DomainName) -> bool {
        self.records.contains_key(name)
            || self.records.len() < MAX_NAMES
            || !self.without_orders.is_empty()
    }

    /// Lets an order stand on a name, in the place of the same and of opposite narrower ones; false
    /// if there is no room.
    pub(crate) fn add_standing_terms(
        &mut self,
        name: &DomainName,
        terms: &[OrderTerms],
        now: Instant,
    ) -> bool {
        let Some(page) = self.touch_record(name) else {
            return false;
        };
        for new in terms {
            page.standing_terms.retain(|old| {
                let replaced = old.reach == new.reach
                    || (old.action != new.action && new.reach.covers(old.reach));
                !replaced && !old.is_expired(now)
            });
            page.standing_terms.push(new.clone());
        }
        let learnt = page.learnt_at;
        self.without_orders.remove(&learnt);
        true
    }

    /// Takes back every order on a name.
    pub(crate) fn clear_standing_terms(&mut self, name: &DomainName) {
        if let Some(page) = self.records.get_mut(name) {
            page.standing_terms.clear();
            self.without_orders.insert(page.learnt_at, name.clone());
        }
    }

    /// Lets names go on which every order is over.
    pub(crate) fn remove_expired(&mut self, now: Instant) {
        for (name, page) in &mut self.records {
            if !page.standing_terms.is_empty() {
                page.standing_terms.retain(|terms| !terms.is_expired(now));
                if page.standing_terms.is_empty() {
                    self.without_orders.insert(page.learnt_at, name.clone());
                }
            }
        }
    }

    /// Takes up an element that the kernel holds for a name.
    pub(crate) fn restore_element(&mut self, entry: &OrderElement, now: Instant) {
        let Some(name) = &entry.name else { return };
        self.add_addresses(name, &[entry.address]);
        let terms = OrderTerms {
            action: entry.action,
            reach: entry.reach,
            expires_at: entry.expires_at,
        };
        let longer = self.standing_terms(name, now).iter().any(|old| {
            (old.action, old.reach) == (terms.action, terms.reach)
                && (old.expires_at.is_none()
                    || old.expires_at >= terms.expires_at && terms.expires_at.is_some())
        });
        if !longer {
            self.add_standing_terms(name, &[terms], now);
        }
    }

    /// Returns the page of a name, made and brought to the front; none if there is no room.
    fn touch_record(&mut self, name: &DomainName) -> Option<&mut NameRecord> {
        if !self.records.contains_key(name) && self.records.len() >= MAX_NAMES {
            let (_, oldest) = self.without_orders.pop_first()?;
            self.records.remove(&oldest);
        }
        self.clock = self.clock.saturating_add(1);
        let page = self.records.entry(name.clone()).or_default();
        self.without_orders.remove(&page.learnt_at);
        page.learnt_at = self.clock;
        if page.standing_terms.is_empty() {
            self.without_orders.insert(self.clock, name.clone());
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use terok_clearance::Action;

    use super::*;
    use crate::order_element::OrderReach;

    fn name(n: usize) -> DomainName {
        format!("n{n}.example").parse().unwrap()
    }

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xcb00_7100 + n).into()
    }

    fn allow(until: Option<Instant>) -> OrderTerms {
        OrderTerms {
            action: Action::Allow,
            reach: OrderReach::Whole,
            expires_at: until,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test is an edge")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_oldest_address_makes_room() {
        let mut names = NameAddresses::default();
        let all: Vec<_> = (0..70).map(ip).collect();
        assert_eq!(names.add_addresses(&name(1), &all), all[..6]);
        assert_eq!(names.addresses(&name(1)), &all[6..]);
        assert!(names.add_addresses(&name(1), &[ip(10)]).is_empty());
        assert_eq!(names.addresses(&name(1)).last(), Some(&ip(10)));
    }

    #[test]
    fn the_oldest_name_makes_room_but_not_one_with_an_order() {
        let mut names = NameAddresses::default();
        let now = now();
        assert!(names.add_standing_terms(&name(0), &[allow(None)], now));
        for n in 1..=MAX_NAMES {
            names.add_addresses(&name(n), &[ip(1)]);
        }
        assert_eq!(names.records.len(), MAX_NAMES);
        assert!(
            names.addresses(&name(1)).is_empty(),
            "the oldest idle one went"
        );
        assert_eq!(names.standing_terms(&name(0), now), [allow(None)]);
        assert_eq!(names.without_orders.len(), MAX_NAMES - 1);
    }

    #[test]
    fn orders_on_names_are_bounded() {
        let mut names = NameAddresses::default();
        let now = now();
        for n in 0..MAX_NAMES {
            assert!(names.add_standing_terms(&name(n), &[allow(None)], now));
        }
        assert!(!names.has_room(&name(MAX_NAMES)));
        assert!(!names.add_standing_terms(&name(MAX_NAMES), &[allow(None)], now));
        names.add_addresses(&name(MAX_NAMES), &[ip(1)]);
        assert_eq!(names.records.len(), MAX_NAMES);
        names.clear_standing_terms(&name(7));
        assert!(names.add_standing_terms(&name(MAX_NAMES), &[allow(None)], now));
    }

    #[test]
    fn an_order_ends_in_time_and_its_name_may_go() {
        let mut names = NameAddresses::default();
        let now = now();
        let until = now + Duration::from_secs(60);
        names.add_standing_terms(&name(0), &[allow(Some(until))], now);
        assert_eq!(names.standing_terms(&name(0), now).len(), 1);
        assert!(names.standing_terms(&name(0), until).is_empty());
        names.remove_expired(until);
        assert_eq!(names.without_orders.len(), 1);
    }
}

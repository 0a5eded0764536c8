// SPDX-License-Identifier: Apache-2.0
//! The addresses learnt for names, and the standing orders on names.
//!
//! The sandbox chooses its lookups, so everything is bounded: the least recently learnt names and
//! addresses are evicted, except for names with standing orders.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::DomainName;

use crate::order_element::{OrderElement, OrderTerms};

/// Maximum number of names.
pub(crate) const MAX_NAMES: usize = 4_096;
/// Maximum number of addresses per name.
pub(crate) const MAX_ADDRESSES_PER_NAME: usize = 64;

/// The learnt addresses and standing orders, by name.
#[derive(Debug, Default)]
pub(crate) struct NameAddresses {
    records: HashMap<DomainName, NameRecord>,
    /// The names without standing orders, by the time of their last lookup.
    without_orders: BTreeMap<u64, DomainName>,
    clock: u64,
}

#[derive(Debug, Default)]
struct NameRecord {
    /// Newest last.
    addresses: Vec<IpAddr>,
    standing_terms: Vec<OrderTerms>,
    learnt_at: u64,
}

impl NameAddresses {
    /// Adds addresses of a name; returns the evicted addresses of the name.
    pub(crate) fn add_addresses(&mut self, name: &DomainName, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let Some(record) = self.touch_record(name) else {
            return Vec::new();
        };
        for address in addresses {
            record.addresses.retain(|known| known != address);
            record.addresses.push(*address);
        }
        let surplus = record
            .addresses
            .len()
            .saturating_sub(MAX_ADDRESSES_PER_NAME);
        record.addresses.drain(..surplus).collect()
    }

    /// Returns the addresses of a name, newest last.
    pub(crate) fn addresses(&self, name: &DomainName) -> &[IpAddr] {
        self.records
            .get(name)
            .map(|record| record.addresses.as_slice())
            .unwrap_or_default()
    }

    /// Returns the orders on a name that have not expired at `now`.
    pub(crate) fn standing_terms(&self, name: &DomainName, now: Instant) -> Vec<OrderTerms> {
        let standing = self
            .records
            .get(name)
            .map(|record| record.standing_terms.as_slice());
        standing
            .unwrap_or_default()
            .iter()
            .filter(|terms| !terms.is_expired(now))
            .cloned()
            .collect()
    }

    /// Returns `true` if an order on `name` can be stored.
    pub(crate) fn has_room(&self, name: &DomainName) -> bool {
        self.records.contains_key(name)
            || self.records.len() < MAX_NAMES
            || !self.without_orders.is_empty()
    }

    /// Adds standing orders to a name, replacing equal ones and opposite narrower ones. Returns
    /// `false` if the table is full.
    pub(crate) fn add_standing_terms(
        &mut self,
        name: &DomainName,
        terms: &[OrderTerms],
        now: Instant,
    ) -> bool {
        let Some(record) = self.touch_record(name) else {
            return false;
        };
        for new in terms {
            record.standing_terms.retain(|old| {
                let replaced = old.reach == new.reach
                    || (old.action != new.action && new.reach.covers(old.reach));
                !replaced && !old.is_expired(now)
            });
            record.standing_terms.push(new.clone());
        }
        let learnt = record.learnt_at;
        self.without_orders.remove(&learnt);
        true
    }

    /// Removes all standing orders of a name.
    pub(crate) fn clear_standing_terms(&mut self, name: &DomainName) {
        if let Some(record) = self.records.get_mut(name) {
            record.standing_terms.clear();
            self.without_orders.insert(record.learnt_at, name.clone());
        }
    }

    /// Removes expired orders; names without orders may be evicted.
    pub(crate) fn remove_expired(&mut self, now: Instant) {
        for (name, record) in &mut self.records {
            if !record.standing_terms.is_empty() {
                record.standing_terms.retain(|terms| !terms.is_expired(now));
                if record.standing_terms.is_empty() {
                    self.without_orders.insert(record.learnt_at, name.clone());
                }
            }
        }
    }

    /// Restores name and order from an element in the kernel.
    pub(crate) fn restore_element(&mut self, element: &OrderElement, now: Instant) {
        let Some(name) = &element.name else { return };
        self.add_addresses(name, &[element.address]);
        let terms = OrderTerms {
            action: element.action,
            reach: element.reach,
            expires_at: element.expires_at,
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

    /// Returns the record of a name as the most recent one, creating it if missing; `None` if the
    /// table is full.
    fn touch_record(&mut self, name: &DomainName) -> Option<&mut NameRecord> {
        if !self.records.contains_key(name) && self.records.len() >= MAX_NAMES {
            let (_, oldest) = self.without_orders.pop_first()?;
            self.records.remove(&oldest);
        }
        self.clock = self.clock.saturating_add(1);
        let record = self.records.entry(name.clone()).or_default();
        self.without_orders.remove(&record.learnt_at);
        record.learnt_at = self.clock;
        if record.standing_terms.is_empty() {
            self.without_orders.insert(self.clock, name.clone());
        }
        Some(record)
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

    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_oldest_address_is_evicted() {
        let mut names = NameAddresses::default();
        let all: Vec<_> = (0..70).map(ip).collect();
        assert_eq!(names.add_addresses(&name(1), &all), all[..6]);
        assert_eq!(names.addresses(&name(1)), &all[6..]);
        assert!(names.add_addresses(&name(1), &[ip(10)]).is_empty());
        assert_eq!(names.addresses(&name(1)).last(), Some(&ip(10)));
    }

    #[test]
    fn the_oldest_name_without_an_order_is_evicted() {
        let mut names = NameAddresses::default();
        let now = now();
        assert!(names.add_standing_terms(&name(0), &[allow(None)], now));
        for n in 1..=MAX_NAMES {
            names.add_addresses(&name(n), &[ip(1)]);
        }
        assert_eq!(names.records.len(), MAX_NAMES);
        assert!(
            names.addresses(&name(1)).is_empty(),
            "the oldest name without an order was evicted"
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
    fn an_expired_order_lets_its_name_be_evicted() {
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

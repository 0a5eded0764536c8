// SPDX-License-Identifier: Apache-2.0
//! What the order sets hold, as far as we know, and what must change for an order.
//!
//! Pure: a [`Plan`] says which elements to remove and to add. It is carried out in one
//! transaction that fails if the kernel holds anything else than is known here; then this is
//! read anew and the plan made again. So no order rests on a guess.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::{Action, DomainName, Protocol};

use crate::order_element::{OrderElement, OrderReach};

/// The elements of all order sets, by address.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OrderTable {
    by_address: HashMap<IpAddr, Vec<OrderElement>>,
    count: usize,
    /// With so many addresses, those whose time is over are looked for.
    sweep_at: usize,
}

/// What to remove and what to add, in this order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OrderPlan {
    pub(crate) remove: Vec<OrderElement>,
    pub(crate) add: Vec<OrderElement>,
}

impl OrderPlan {
    fn push_remove(&mut self, entry: &OrderElement) {
        if !self.remove.contains(entry) {
            self.remove.push(entry.clone());
        }
    }

    /// Adds `entry`, once: of two for the same element the one that lasts longer stays.
    fn push_add(&mut self, entry: OrderElement) {
        match self
            .add
            .iter_mut()
            .find(|other| other.is_same_element(&entry))
        {
            Some(other) if other.expires_before(&entry) => *other = entry,
            Some(_) => {}
            None => self.add.push(entry),
        }
    }
}

impl OrderTable {
    /// The most elements at once.
    pub(crate) const MAX_ELEMENTS: usize = 65_535;

    /// Says whether there is room for what a plan adds.
    pub(crate) fn has_room(&self, plan: &OrderPlan) -> bool {
        let kept = self.count.saturating_sub(plan.remove.len());
        plan.add.len() <= plan.remove.len()
            || kept.saturating_add(plan.add.len()) <= Self::MAX_ELEMENTS
    }

    /// Takes note of an element.
    pub(crate) fn insert(&mut self, entry: OrderElement) {
        let held = self.by_address.entry(entry.address).or_default();
        let before = held.len();
        held.retain(|other| !other.is_same_element(&entry));
        held.push(entry);
        self.count = self.count.saturating_sub(before).saturating_add(held.len());
    }

    /// Takes note that a plan was carried out.
    pub(crate) fn apply_plan(&mut self, plan: OrderPlan, now: Instant) {
        for entry in plan.remove {
            if let Some(held) = self.by_address.get_mut(&entry.address) {
                let before = held.len();
                held.retain(|other| !other.is_same_element(&entry));
                self.count = self.count.saturating_sub(before).saturating_add(held.len());
                if held.is_empty() {
                    self.by_address.remove(&entry.address);
                }
            }
        }
        for entry in plan.add {
            self.insert(entry);
        }
        if self.by_address.len() >= self.sweep_at {
            self.remove_expired(now);
        }
    }

    /// Forgets what was over by `now`: the kernel has dropped it by itself.
    fn remove_expired(&mut self, now: Instant) {
        self.by_address.retain(|_, held| {
            held.retain(|entry| !entry.is_expired(now));
            !held.is_empty()
        });
        self.count = self.by_address.values().map(Vec::len).sum();
        self.sweep_at = self.by_address.len().saturating_mul(2).max(64);
    }

    /// Plans a person's order: it takes the place of an earlier order on the same, and of every
    /// opposite one that is narrower, because the kernel listens to the narrower. A wider one goes
    /// on for the rest.
    ///
    /// An element that another destination's order keeps for longer stays as it is.
    pub(crate) fn plan_order(&self, wanted: &[OrderElement], now: Instant) -> OrderPlan {
        let mut plan = OrderPlan::default();
        for entry in wanted {
            let mut kept = false;
            for held in self.live_elements(entry.address, now) {
                if held.is_same_element(entry) {
                    kept = held.name != entry.name && entry.expires_before(held);
                    // Removed and added again even if nothing changes: the transaction then
                    // proves that it is there.
                    plan.push_remove(held);
                    if kept {
                        plan.push_add(held.clone());
                    }
                } else if entry.action != held.action && entry.reach.covers(held.reach) {
                    plan.push_remove(held);
                }
            }
            if !kept {
                plan.push_add(entry.clone());
            }
        }
        plan
    }

    /// Plans what a name's standing order asks of an address that was learnt for it.
    ///
    /// No person chose the address, so it never takes back what another order refuses.
    pub(crate) fn plan_learnt(&self, wanted: &[OrderElement], now: Instant) -> OrderPlan {
        let mut plan = OrderPlan::default();
        for entry in wanted {
            let mut needed = true;
            for held in self.live_elements(entry.address, now) {
                if held.is_same_element(entry) {
                    needed = held.expires_before(entry);
                    if needed {
                        plan.push_remove(held);
                    }
                } else if entry.action == Action::Allow
                    && held.action == Action::Deny
                    && held.name != entry.name
                    && held.reach.covers(entry.reach)
                {
                    needed = false;
                    break;
                }
            }
            if needed {
                plan.push_add(entry.clone());
            }
        }
        plan.remove
            .retain(|entry| plan.add.iter().any(|added| added.is_same_element(entry)));
        plan
    }

    /// Plans to remove everything at `address`.
    pub(crate) fn plan_forget_address(&self, address: IpAddr, now: Instant) -> OrderPlan {
        OrderPlan {
            remove: self.live_elements(address, now).cloned().collect(),
            add: Vec::new(),
        }
    }

    /// Plans to remove what stands for `name`; with `address`, only there.
    pub(crate) fn plan_forget_name(
        &self,
        name: &DomainName,
        address: Option<IpAddr>,
        now: Instant,
    ) -> OrderPlan {
        let of_name =
            |entry: &&OrderElement| entry.name.as_ref() == Some(name) && !entry.is_expired(now);
        let remove = match address {
            Some(address) => self
                .live_elements(address, now)
                .filter(of_name)
                .cloned()
                .collect(),
            None => self
                .by_address
                .values()
                .flatten()
                .filter(of_name)
                .cloned()
                .collect(),
        };
        OrderPlan {
            remove,
            add: Vec::new(),
        }
    }

    /// Returns what the orders say of a packet, as the kernel's tiers would.
    pub(crate) fn standing_action(
        &self,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        now: Instant,
    ) -> Option<Action> {
        let about = [
            OrderReach::Port(protocol, port),
            OrderReach::Protocol(protocol),
            OrderReach::Whole,
        ];
        let said = |reach, action| {
            let mut held = self.live_elements(address, now);
            held.any(|entry| (entry.reach, entry.action) == (reach, action))
        };
        about.into_iter().find_map(|reach| {
            [Action::Deny, Action::Allow]
                .into_iter()
                .find(|action| said(reach, *action))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OrderElement> {
        self.by_address.values().flatten()
    }

    fn live_elements(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &OrderElement> {
        let held = self
            .by_address
            .get(&address)
            .map(Vec::as_slice)
            .unwrap_or_default();
        held.iter().filter(move |entry| !entry.is_expired(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const TCP: Protocol = Protocol::TCP;

    #[expect(clippy::disallowed_methods, reason = "a test is an edge")]
    fn clock() -> Instant {
        Instant::now()
    }

    fn entry(
        action: Action,
        reach: OrderReach,
        seconds: Option<u64>,
        now: Instant,
    ) -> OrderElement {
        OrderElement {
            action,
            address: "203.0.113.7".parse().unwrap(),
            reach,
            expires_at: seconds.map(|s| now + Duration::from_secs(s)),
            name: None,
        }
    }

    fn after(steps: &[(Action, OrderReach)]) -> OrderTable {
        let now = clock();
        let mut orders = OrderTable::default();
        for (action, reach) in steps {
            let plan = orders.plan_order(&[entry(*action, *reach, None, now)], now);
            orders.apply_plan(plan, now);
        }
        orders
    }

    fn check(steps: &[(Action, OrderReach)], port: u16, expected: Option<Action>) {
        let ip = "203.0.113.7".parse().unwrap();
        let said = after(steps).standing_action(ip, TCP, port, clock());
        assert_eq!(said, expected, "of port {port} after {steps:?}");
    }

    #[test]
    fn the_last_order_takes_effect_and_the_rest_is_kept() {
        use Action::{Allow, Deny};
        let web = OrderReach::Port(TCP, 443);
        check(&[], 443, None);
        check(&[(Allow, web)], 443, Some(Allow));
        check(&[(Allow, web)], 80, None);
        check(&[(Allow, OrderReach::Whole), (Deny, web)], 443, Some(Deny));
        check(&[(Allow, OrderReach::Whole), (Deny, web)], 80, Some(Allow));
        check(&[(Deny, OrderReach::Whole), (Allow, web)], 443, Some(Allow));
        check(&[(Deny, OrderReach::Whole), (Allow, web)], 80, Some(Deny));
        check(&[(Deny, web), (Allow, OrderReach::Whole)], 443, Some(Allow));
        check(
            &[(Allow, web), (Deny, OrderReach::Protocol(TCP))],
            443,
            Some(Deny),
        );
        check(
            &[(Deny, web), (Allow, OrderReach::Protocol(TCP))],
            443,
            Some(Allow),
        );
    }

    #[test]
    fn a_new_time_takes_the_place_of_the_old_one() {
        let now = clock();
        let mut orders = OrderTable::default();
        for seconds in [Some(60), None, Some(5)] {
            let wanted = entry(Action::Allow, OrderReach::Whole, seconds, now);
            let plan = orders.plan_order(std::slice::from_ref(&wanted), now);
            orders.apply_plan(plan, now);
            assert_eq!(orders.iter().collect::<Vec<_>>(), [&wanted]);
        }
    }

    #[test]
    fn an_order_on_another_destination_does_not_shorten() {
        let now = clock();
        let mut orders = OrderTable::default();
        let mut lasting = entry(Action::Allow, OrderReach::Whole, None, now);
        lasting.name = Some("api.example.com".parse().unwrap());
        orders.insert(lasting.clone());
        let plan = orders.plan_order(
            &[entry(Action::Allow, OrderReach::Whole, Some(60), now)],
            now,
        );
        assert_eq!(plan.add, [lasting]);
    }

    #[test]
    fn a_learnt_address_never_takes_back_a_refusal() {
        let now = clock();
        let mut orders = OrderTable::default();
        orders.insert(entry(Action::Deny, OrderReach::Whole, None, now));
        let mut allow = entry(Action::Allow, OrderReach::Port(TCP, 443), None, now);
        allow.name = Some("api.example.com".parse().unwrap());
        assert_eq!(orders.plan_learnt(&[allow], now), OrderPlan::default());
    }

    #[test]
    fn what_is_learnt_again_changes_nothing() {
        let now = clock();
        let mut orders = OrderTable::default();
        let allow = entry(Action::Allow, OrderReach::Whole, Some(60), now);
        let plan = orders.plan_learnt(std::slice::from_ref(&allow), now);
        orders.apply_plan(plan, now);
        assert_eq!(orders.plan_learnt(&[allow], now), OrderPlan::default());
        let longer = entry(Action::Allow, OrderReach::Whole, Some(90), now);
        assert_eq!(orders.plan_learnt(&[longer], now).remove.len(), 1);
    }

    fn any_reach() -> impl Strategy<Value = OrderReach> {
        let protocol = prop_oneof![Just(TCP), Just(Protocol::UDP)];
        prop_oneof![
            Just(OrderReach::Whole),
            protocol.clone().prop_map(OrderReach::Protocol),
            (protocol, 1u16..4).prop_map(|(p, port)| OrderReach::Port(p, port)),
        ]
    }

    #[test]
    fn elements_are_counted_and_bounded() {
        let now = clock();
        let mut orders = OrderTable::default();
        let at = |n: u32| OrderElement {
            address: std::net::Ipv4Addr::from_bits(n).into(),
            ..entry(Action::Allow, OrderReach::Whole, Some(60), now)
        };
        for n in 0..65_535 {
            orders.insert(at(n));
            orders.insert(at(n));
        }
        let more = orders.plan_order(&[at(65_535)], now);
        assert!(!orders.has_room(&more));
        let again = orders.plan_order(&[at(7)], now);
        assert!(orders.has_room(&again), "{again:?}");
        orders.apply_plan(again, now);
        assert_eq!((orders.count, orders.iter().count()), (65_535, 65_535));
        orders.apply_plan(orders.plan_forget_address(at(7).address, now), now);
        assert!(orders.has_room(&more));
        orders.remove_expired(now + Duration::from_secs(60));
        assert_eq!(orders.count, 0);
    }

    proptest! {
        #[test]
        fn an_order_always_takes_effect(
            steps in proptest::collection::vec((any::<bool>(), any_reach()), 1..12),
        ) {
            let steps: Vec<_> = steps
                .into_iter()
                .map(|(allow, reach)| (if allow { Action::Allow } else { Action::Deny }, reach))
                .collect();
            let orders = after(&steps);
            let (action, reach) = steps.last().copied().unwrap();
            let (protocol, port) = match reach {
                OrderReach::Whole => (TCP, 1),
                OrderReach::Protocol(protocol) => (protocol, 1),
                OrderReach::Port(protocol, port) => (protocol, port),
            };
            let ip = "203.0.113.7".parse().unwrap();
            prop_assert_eq!(orders.standing_action(ip, protocol, port, clock()), Some(action));
        }

        #[test]
        fn the_newest_order_about_a_packet_decides(
            steps in proptest::collection::vec((any::<bool>(), any_reach()), 0..12),
            port in 1u16..4,
        ) {
            let steps: Vec<_> = steps
                .into_iter()
                .map(|(allow, reach)| (if allow { Action::Allow } else { Action::Deny }, reach))
                .collect();
            let asked = OrderReach::Port(TCP, port);
            let newest = steps.iter().rev().find(|(_, reach)| reach.covers(asked));
            let ip = "203.0.113.7".parse().unwrap();
            let said = after(&steps).standing_action(ip, TCP, port, clock());
            prop_assert_eq!(said, newest.map(|(action, _)| *action));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Plans changes of the order sets from the known elements.
//!
//! Pure: an [`OrderPlan`] lists the elements to remove and to add. It is committed in one
//! transaction that fails if the kernel's state differs from the known one; then the state is read
//! again and the plan repeated.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use terok_clearance::{Action, DomainName, Protocol};

use crate::order_element::{OrderElement, OrderReach};

/// The elements of all order sets, by address.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OrderTable {
    by_address: HashMap<IpAddr, Vec<OrderElement>>,
    count: usize,
    /// The number of addresses at which expired elements are removed.
    sweep_at: usize,
}

/// Elements to remove and then to add.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct OrderPlan {
    pub(crate) remove: Vec<OrderElement>,
    pub(crate) add: Vec<OrderElement>,
}

impl OrderPlan {
    fn push_remove(&mut self, element: &OrderElement) {
        if !self.remove.contains(element) {
            self.remove.push(element.clone());
        }
    }

    /// Adds `element` once; of two for the same key the longer lasting one stays.
    fn push_add(&mut self, element: OrderElement) {
        match self
            .add
            .iter_mut()
            .find(|other| other.is_same_element(&element))
        {
            Some(other) if other.expires_before(&element) => *other = element,
            Some(_) => {}
            None => self.add.push(element),
        }
    }
}

impl OrderTable {
    /// Maximum number of elements.
    pub(crate) const MAX_ELEMENTS: usize = 65_535;

    /// Returns `true` if the additions of a plan fit.
    pub(crate) fn has_room(&self, plan: &OrderPlan) -> bool {
        let kept = self.count.saturating_sub(plan.remove.len());
        plan.add.len() <= plan.remove.len()
            || kept.saturating_add(plan.add.len()) <= Self::MAX_ELEMENTS
    }

    /// Records an element.
    pub(crate) fn insert(&mut self, element: OrderElement) {
        let elements = self.by_address.entry(element.address).or_default();
        let before = elements.len();
        elements.retain(|other| !other.is_same_element(&element));
        elements.push(element);
        self.count = self
            .count
            .saturating_sub(before)
            .saturating_add(elements.len());
    }

    /// Records a committed plan.
    pub(crate) fn apply_plan(&mut self, plan: OrderPlan, now: Instant) {
        for element in plan.remove {
            if let Some(elements) = self.by_address.get_mut(&element.address) {
                let before = elements.len();
                elements.retain(|other| !other.is_same_element(&element));
                self.count = self
                    .count
                    .saturating_sub(before)
                    .saturating_add(elements.len());
                if elements.is_empty() {
                    self.by_address.remove(&element.address);
                }
            }
        }
        for element in plan.add {
            self.insert(element);
        }
        if self.by_address.len() >= self.sweep_at {
            self.remove_expired(now);
        }
    }

    /// Removes elements expired at `now`, which the kernel has dropped already.
    fn remove_expired(&mut self, now: Instant) {
        self.by_address.retain(|_, elements| {
            elements.retain(|element| !element.is_expired(now));
            !elements.is_empty()
        });
        self.count = self.by_address.values().map(Vec::len).sum();
        self.sweep_at = self.by_address.len().saturating_mul(2).max(64);
    }

    /// Plans an operator's order. It replaces equal elements and opposite narrower ones, because
    /// the kernel gives precedence to the narrower. Wider ones continue for the rest.
    ///
    /// An equal element of another destination's order stays if it lasts longer.
    pub(crate) fn plan_order(&self, wanted: &[OrderElement], now: Instant) -> OrderPlan {
        self.plan_replacement(&[], wanted, now)
    }

    /// Plans to remove the elements `replaced`, and to add others as
    /// [`plan_order`](Self::plan_order) does.
    pub(crate) fn plan_replacement(
        &self,
        replaced: &[OrderElement],
        wanted: &[OrderElement],
        now: Instant,
    ) -> OrderPlan {
        let mut plan = OrderPlan {
            remove: replaced.to_vec(),
            add: Vec::new(),
        };
        for element in wanted {
            let mut kept = false;
            let others = self.live_elements(element.address, now);
            for existing in others.filter(|existing| !replaced.contains(existing)) {
                if existing.is_same_element(element) {
                    kept = existing.name != element.name && element.expires_before(existing);
                    // Removed and added even if unchanged: the transaction then proves its
                    // presence.
                    plan.push_remove(existing);
                    if kept {
                        plan.push_add(existing.clone());
                    }
                } else if element.action != existing.action && element.reach.covers(existing.reach)
                {
                    plan.push_remove(existing);
                }
            }
            if !kept {
                plan.push_add(element.clone());
            }
        }
        plan
    }

    /// Plans the elements of a name's standing orders for learnt addresses.
    ///
    /// No person chose the address, so existing denials take precedence.
    pub(crate) fn plan_learnt(&self, wanted: &[OrderElement], now: Instant) -> OrderPlan {
        let mut plan = OrderPlan::default();
        for element in wanted {
            let mut needed = true;
            for existing in self.live_elements(element.address, now) {
                if existing.is_same_element(element) {
                    needed = existing.expires_before(element);
                    if needed {
                        plan.push_remove(existing);
                    }
                } else if element.action == Action::Allow
                    && existing.action == Action::Deny
                    && existing.name != element.name
                    && existing.reach.covers(element.reach)
                {
                    needed = false;
                    break;
                }
            }
            if needed {
                plan.push_add(element.clone());
            }
        }
        plan.remove
            .retain(|element| plan.add.iter().any(|added| added.is_same_element(element)));
        plan
    }

    /// Plans to translate an allowed stand-in to `address`.
    pub(crate) fn plan_mapping(
        &self,
        stand_in: Ipv4Addr,
        address: Ipv4Addr,
        now: Instant,
    ) -> OrderPlan {
        let mut plan = OrderPlan::default();
        for existing in self.live_elements(stand_in.into(), now) {
            if existing.leads_to.is_some_and(|current| current != address) {
                plan.push_remove(existing);
                plan.push_add(OrderElement {
                    leads_to: Some(address),
                    ..existing.clone()
                });
            }
        }
        plan
    }

    /// Returns the address to which the stand-in of an allowed name is translated.
    pub(crate) fn address_of_stand_in(&self, stand_in: Ipv4Addr, now: Instant) -> Option<Ipv4Addr> {
        self.live_elements(stand_in.into(), now)
            .find_map(|element| element.leads_to)
    }

    /// Plans to remove every element of `address`.
    pub(crate) fn plan_forget_address(&self, address: IpAddr, now: Instant) -> OrderPlan {
        OrderPlan {
            remove: self.live_elements(address, now).cloned().collect(),
            add: Vec::new(),
        }
    }

    /// Plans to remove the elements of `name`, only those of `address` if given.
    pub(crate) fn plan_forget_name(
        &self,
        name: &DomainName,
        address: Option<IpAddr>,
        now: Instant,
    ) -> OrderPlan {
        let of_name = |element: &&OrderElement| {
            element.name.as_ref() == Some(name) && !element.is_expired(now)
        };
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

    /// Returns the action of the orders for a packet, evaluated like the kernel's rules.
    pub(crate) fn standing_action(
        &self,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        now: Instant,
    ) -> Option<Action> {
        let reaches = [
            OrderReach::Port(protocol, port),
            OrderReach::Protocol(protocol),
            OrderReach::Whole,
        ];
        let decides = |reach, action| {
            let mut elements = self.live_elements(address, now);
            elements.any(|element| (element.reach, element.action) == (reach, action))
        };
        reaches.into_iter().find_map(|reach| {
            [Action::Deny, Action::Allow]
                .into_iter()
                .find(|action| decides(reach, *action))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OrderElement> {
        self.by_address.values().flatten()
    }

    fn live_elements(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &OrderElement> {
        let elements = self
            .by_address
            .get(&address)
            .map(Vec::as_slice)
            .unwrap_or_default();
        elements
            .iter()
            .filter(move |element| !element.is_expired(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const TCP: Protocol = Protocol::TCP;

    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn clock() -> Instant {
        Instant::now()
    }

    fn element(
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
            leads_to: None,
        }
    }

    fn after(steps: &[(Action, OrderReach)]) -> OrderTable {
        let now = clock();
        let mut orders = OrderTable::default();
        for (action, reach) in steps {
            let plan = orders.plan_order(&[element(*action, *reach, None, now)], now);
            orders.apply_plan(plan, now);
        }
        orders
    }

    fn check(steps: &[(Action, OrderReach)], port: u16, expected: Option<Action>) {
        let ip = "203.0.113.7".parse().unwrap();
        let action = after(steps).standing_action(ip, TCP, port, clock());
        assert_eq!(action, expected, "of port {port} after {steps:?}");
    }

    #[test]
    fn the_latest_order_takes_effect_and_the_rest_is_kept() {
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
    fn a_new_duration_replaces_the_old_one() {
        let now = clock();
        let mut orders = OrderTable::default();
        for seconds in [Some(60), None, Some(5)] {
            let wanted = element(Action::Allow, OrderReach::Whole, seconds, now);
            let plan = orders.plan_order(std::slice::from_ref(&wanted), now);
            orders.apply_plan(plan, now);
            assert_eq!(orders.iter().collect::<Vec<_>>(), [&wanted]);
        }
    }

    #[test]
    fn an_order_on_another_destination_does_not_shorten_a_duration() {
        let now = clock();
        let mut orders = OrderTable::default();
        let mut lasting = element(Action::Allow, OrderReach::Whole, None, now);
        lasting.name = Some("api.example.com".parse().unwrap());
        orders.insert(lasting.clone());
        let plan = orders.plan_order(
            &[element(Action::Allow, OrderReach::Whole, Some(60), now)],
            now,
        );
        assert_eq!(plan.add, [lasting]);
    }

    #[test]
    fn a_learnt_address_never_overrides_a_denial() {
        let now = clock();
        let mut orders = OrderTable::default();
        orders.insert(element(Action::Deny, OrderReach::Whole, None, now));
        let mut allow = element(Action::Allow, OrderReach::Port(TCP, 443), None, now);
        allow.name = Some("api.example.com".parse().unwrap());
        assert_eq!(orders.plan_learnt(&[allow], now), OrderPlan::default());
    }

    #[test]
    fn learning_an_address_again_changes_nothing() {
        let now = clock();
        let mut orders = OrderTable::default();
        let allow = element(Action::Allow, OrderReach::Whole, Some(60), now);
        let plan = orders.plan_learnt(std::slice::from_ref(&allow), now);
        orders.apply_plan(plan, now);
        assert_eq!(orders.plan_learnt(&[allow], now), OrderPlan::default());
        let longer = element(Action::Allow, OrderReach::Whole, Some(90), now);
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
            address: Ipv4Addr::from_bits(n).into(),
            ..element(Action::Allow, OrderReach::Whole, Some(60), now)
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
            let action = after(&steps).standing_action(ip, TCP, port, clock());
            prop_assert_eq!(action, newest.map(|(action, _)| *action));
        }
    }
}

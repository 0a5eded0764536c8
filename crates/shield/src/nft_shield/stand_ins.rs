// SPDX-License-Identifier: Apache-2.0
//! Orders on names in a sandbox with a name server: each name has a stand-in address.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use terok_clearance::address_class::stand_in_range;
use terok_clearance::{Action, DomainName, Scope, Target};

use super::{NftShield, ShieldOrderError};
use crate::order_element::{OrderElement, OrderTerms, check_orderable};

impl NftShield {
    /// Allows or denies the name that has the address `stand_in`, within `scope` and its duration.
    ///
    /// An allowed name keeps the address that [`NftShield::map_stand_in`] gave it; without one, its
    /// packets do not leave.
    pub fn apply_name_order(
        &mut self,
        action: Action,
        name: &DomainName,
        stand_in: Ipv4Addr,
        scope: &Scope,
        now: Instant,
    ) -> Result<(), ShieldOrderError> {
        let terms = OrderTerms::parse(action, &Target::Name(name.clone()), scope, now)?;
        let leads_to = self.address_of_stand_in(stand_in, now).unwrap_or(stand_in);
        let wanted: Vec<_> = terms
            .iter()
            .map(|terms| OrderElement {
                leads_to: (action == Action::Allow).then_some(leads_to),
                ..terms.to_element(stand_in.into(), Some(name))
            })
            .collect();
        self.commit_plan(now, Vec::new, |orders| orders.plan_order(&wanted, now))
    }

    /// Translates the stand-in of an allowed name to `address` from now on. Established connections
    /// keep their address. Returns `false` if no order allows the stand-in.
    ///
    /// An address in the floor or a private range is an error.
    pub fn map_stand_in(
        &mut self,
        stand_in: Ipv4Addr,
        address: Ipv4Addr,
        now: Instant,
    ) -> Result<bool, ShieldOrderError> {
        check_orderable(address.into())?;
        let mut is_allowed = false;
        self.commit_plan(now, Vec::new, |orders| {
            is_allowed = orders.address_of_stand_in(stand_in, now).is_some();
            orders.plan_mapping(stand_in, address, now)
        })?;
        Ok(is_allowed)
    }

    /// Returns the address to which the stand-in of an allowed name is translated: the stand-in
    /// itself until [`NftShield::map_stand_in`]. `None` if no order allows the name.
    pub fn address_of_stand_in(&self, stand_in: Ipv4Addr, now: Instant) -> Option<Ipv4Addr> {
        self.order_table.address_of_stand_in(stand_in, now)
    }

    /// Returns the stand-ins with orders, and their names.
    pub fn ordered_stand_ins(&self) -> impl Iterator<Item = (Ipv4Addr, &DomainName)> {
        self.order_table.iter().filter_map(|element| {
            let IpAddr::V4(address) = element.address else {
                return None;
            };
            let name = element.name.as_ref()?;
            stand_in_range()
                .contains(element.address)
                .then_some((address, name))
        })
    }
}

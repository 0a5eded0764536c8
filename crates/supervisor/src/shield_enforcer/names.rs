// SPDX-License-Identifier: Apache-2.0
//! Names of a sandbox that its supervisor serves: lookups, stand-ins, and their addresses.

use std::net::{IpAddr, Ipv4Addr};

use names::{DnsTransport, LookupFailure, LookupOutcome, LookupRequest, PendingLookup, QueryPlan};
use shield::NftShield;
use terok_clearance::{BlockedPacket, Dest, DomainName, Target, error_chain};

use super::{ShieldEnforcer, ShieldEnforcerState, std_now};
use crate::TraceEvent;
use crate::boot_clock::boot_now;
use crate::hold_table::OverdueDest;
use crate::served_names::{ServedNames, mappable_addresses};

/// What a logged packet's address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandInPacket {
    /// The address is one of its own, or that of a name, which the question now has.
    Known,
    /// No name has the address.
    Unknown,
}

impl ShieldEnforcer {
    /// Returns the reply to a query of the sandbox, or the lookup for it.
    pub(crate) fn plan_query(&self, query: &[u8], transport: DnsTransport) -> QueryPlan {
        let now = std_now();
        let mut inner = self.lock_state();
        let ShieldEnforcerState {
            shield,
            names,
            rules,
            ..
        } = &mut *inner;
        let (Some(shield), Some(names)) = (shield, names) else {
            return QueryPlan::Ignore;
        };
        let ServedNames {
            forwarder, ordered, ..
        } = names;
        let is_allowed = |name: &DomainName| {
            let ordered = ordered.get(name);
            match ordered {
                Some(one) => shield.address_of_stand_in(one.stand_in, now).is_some(),
                // A rule for many names.
                None => rules.table.allows_name(name, boot_now()),
            }
        };
        let plan = forwarder.plan(query, transport, &is_allowed);
        for notice in forwarder.take_notices() {
            tracing::warn!("{notice}");
        }
        plan
    }

    /// Looks an allowed name up, gives its stand-in an address, and returns the reply.
    pub(crate) async fn finish_query(&self, pending: PendingLookup) -> Vec<u8> {
        let request = pending.request().clone();
        let outcome = self.resolve(request.clone()).await;
        let mut inner = self.lock_state();
        let outcome = match (&request, outcome) {
            (LookupRequest::Addresses(name), LookupOutcome::Addresses(Ok(addresses))) => {
                inner.order_looked_up(name);
                let mapped = inner.map_name(name, &addresses);
                LookupOutcome::Addresses(mapped.map(|()| addresses))
            }
            (_, outcome) => outcome,
        };
        match &mut inner.names {
            Some(names) => names.forwarder.finish(pending, outcome),
            None => Vec::new(),
        }
    }

    async fn resolve(&self, request: LookupRequest) -> LookupOutcome {
        let lookup = self
            .lock_state()
            .names
            .as_ref()
            .map(|names| names.lookup.clone());
        match lookup {
            Some(lookup) => lookup.resolve(request).await,
            None => LookupOutcome::Addresses(Err(LookupFailure::NotFound)),
        }
    }

    /// Looks an allowed name up for the connections that wait for its address. If it leads nowhere,
    /// they are refused.
    pub(crate) async fn look_up(&self, name: DomainName) {
        let outcome = self.resolve(LookupRequest::Addresses(name.clone())).await;
        let mut inner = self.lock_state();
        let mapped = match outcome {
            LookupOutcome::Addresses(Ok(addresses)) => inner.map_name(&name, &addresses),
            LookupOutcome::Addresses(Err(failure)) => Err(failure),
            LookupOutcome::Records(_) => Err(LookupFailure::NoData),
        };
        if let Some(names) = &mut inner.names {
            names.end_lookup(&name);
        }
        match mapped {
            Ok(()) => inner.forget_answered_holds(),
            Err(failure) => {
                tracing::warn!(%name, %failure, "an allowed name leads nowhere");
                inner.refuse_name(&name);
            }
        }
    }

    /// Replaces the stand-in of a logged packet by its name.
    pub(crate) fn name_stand_in(&self, blocked: &mut BlockedPacket) -> StandInPacket {
        let inner = self.lock_state();
        let (Some(names), Ok(Target::Address(address))) =
            (&inner.names, blocked.address.parse_target())
        else {
            return StandInPacket::Known;
        };
        if !names::StandInTable::is_stand_in_range(address) {
            return StandInPacket::Known;
        }
        match names.forwarder.stand_ins().name_of(address) {
            Some(name) => {
                blocked.address = Dest::from(name);
                StandInPacket::Known
            }
            None => StandInPacket::Unknown,
        }
    }
}

impl ShieldEnforcerState {
    /// Returns the address of a packet to `target` as the kernel sees it: a name's stand-in.
    pub(super) fn packet_address(&mut self, target: &Target) -> Option<IpAddr> {
        match target {
            Target::Address(address) => Some(*address),
            Target::Name(name) => {
                let stand_ins = self.names.as_mut()?.forwarder.stand_ins_mut();
                Some(stand_ins.assign(name).ok()?.into())
            }
        }
    }

    /// Returns a name that is allowed but has no address yet.
    fn unmapped_name<'a>(&self, target: &'a Target) -> Option<&'a DomainName> {
        let (Some(shield), Some(names), Target::Name(name)) = (&self.shield, &self.names, target)
        else {
            return None;
        };
        let stand_in = names.ordered.get(name)?.stand_in;
        let address = shield.address_of_stand_in(stand_in, std_now())?;
        (address == stand_in).then_some(name)
    }

    /// Has a name looked up if it is allowed but has no address yet. Returns `true` if so.
    pub(super) fn want_address(&mut self, target: &Target) -> bool {
        let name = self.unmapped_name(target).cloned();
        if let (Some(name), Some(names)) = (&name, &mut self.names) {
            names.want(name);
        }
        name.is_some()
    }

    /// Gives the stand-in of an allowed name one of its addresses.
    fn map_name(&mut self, name: &DomainName, addresses: &[IpAddr]) -> Result<(), LookupFailure> {
        let now = std_now();
        let (Some(shield), Some(names)) = (&mut self.shield, &mut self.names) else {
            return Ok(());
        };
        let candidates = mappable_addresses(addresses);
        if candidates.is_empty() {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(", ");
            tracing::warn!(
                %name,
                addresses,
                "an allowed name has no address that can be opened: private, link-local and IPv6 \
                 addresses of names are not"
            );
            return Err(LookupFailure::NoData);
        }
        let Some(ordered) = names.ordered.get_mut(name) else {
            return Ok(());
        };
        // Denied while it was looked up: the stand-in stays without an address.
        let Some(current) = shield.address_of_stand_in(ordered.stand_in, now) else {
            return Ok(());
        };
        let Some(address) = ordered.choose_address(&candidates, current, now) else {
            return Ok(());
        };
        let stand_in = ordered.stand_in;
        map_stand_in(shield, stand_in, address)?;
        self.emit_trace(TraceEvent::DnsAnswered {
            name,
            addresses: &[address.into()],
            added: 1,
        });
        Ok(())
    }

    /// Refuses the connections that wait for the address of a name.
    fn refuse_name(&mut self, name: &DomainName) {
        let target = Target::Name(name.clone());
        let Some(stand_in) = self.packet_address(&target) else {
            return;
        };
        let waiting = self.holds.take_address(stand_in, std_now());
        self.refuse_waiting(&waiting);
    }

    /// Refuses connections that wait.
    pub(super) fn refuse_waiting(&mut self, waiting: &[OverdueDest]) {
        let Some(shield) = &mut self.shield else {
            return;
        };
        let refused: Vec<_> = waiting
            .iter()
            .map(|one| (one.destination, one.refuse_for))
            .collect();
        if let Err(error) = shield.refuse_waiting(&refused, std_now()) {
            // The connections wait on; their next logged packets ask anew.
            let error = error_chain(&error);
            tracing::warn!(%error, "waiting connections could not be refused");
        }
    }
}

fn map_stand_in(
    shield: &mut NftShield,
    stand_in: Ipv4Addr,
    address: Ipv4Addr,
) -> Result<(), LookupFailure> {
    let mapped = shield.map_stand_in(stand_in, address, std_now());
    mapped.map(drop).map_err(|error| {
        let error = error_chain(&error);
        tracing::warn!(%error, "the address of a name could not be given to the firewall");
        LookupFailure::Failed(error)
    })
}

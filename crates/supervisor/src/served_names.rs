// SPDX-License-Identifier: Apache-2.0
//! The names of a sandbox in the filtered way that has a name server of its supervisor.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use names::{
    DnsForwarder, ForwarderConfig, LookupOutcome, LookupRequest, NameLookup, StandInKey,
    StandInsExhausted,
};
use terok_clearance::DomainName;
use terok_clearance::address_class::AddressClass;
use tokio::sync::mpsc;

use crate::state_journal::OpenedJournal;

/// Time for which a name keeps its address although it is looked up again: programs send the
/// queries for both address families at once.
const MIN_ADDRESS_TIME: Duration = Duration::from_secs(2);

/// Lookups of the allowed names of a sandbox.
#[derive(Clone)]
pub struct SandboxLookup(Arc<dyn Fn(LookupRequest) -> LookupFuture + Send + Sync>);

type LookupFuture = Pin<Box<dyn Future<Output = LookupOutcome> + Send>>;

/// The configuration of a sandbox's name server.
#[derive(Debug, Clone)]
pub struct NameServerConfig {
    /// The resolvers at which allowed names are looked up, over the sandbox's own connection.
    pub resolvers: Vec<IpAddr>,
    /// Looks allowed names up where the sandbox has no usable resolver.
    pub lookup: SandboxLookup,
    /// Determines the stand-in addresses of names. With the same key, a restarted supervisor gives
    /// names the same ones.
    pub stand_in_key: StandInKey,
}

/// The forwarder of a sandbox, and the names that rules are about.
#[derive(Debug)]
pub(crate) struct ServedNames {
    pub(crate) forwarder: DnsForwarder,
    pub(crate) lookup: SandboxLookup,
    pub(crate) ordered: HashMap<DomainName, OrderedName>,
    /// The names that are being looked up without a query of the sandbox.
    resolving: HashSet<DomainName>,
    wanted: mpsc::Sender<DomainName>,
}

/// The allowed names that connections wait for, in the order in which they are to be looked up.
pub(crate) type WantedNames = mpsc::Receiver<DomainName>;

/// Maximum names that wait to be looked up; a further one waits for its next packet.
const MAX_WANTED_NAMES: usize = 256;

/// A name that a rule is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderedName {
    pub(crate) stand_in: Ipv4Addr,
    /// The time since when it has its present address.
    mapped_at: Option<Instant>,
}

impl SandboxLookup {
    /// Looks names up with `lookup`.
    pub fn new(lookup: impl NameLookup) -> Self {
        let lookup = Arc::new(lookup);
        Self(Arc::new(move |request| {
            let lookup = Arc::clone(&lookup);
            Box::pin(async move { request.resolve(&*lookup).await })
        }))
    }

    pub(crate) async fn resolve(&self, request: LookupRequest) -> LookupOutcome {
        (self.0)(request).await
    }
}

impl fmt::Debug for SandboxLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SandboxLookup(..)")
    }
}

impl ServedNames {
    /// Creates the names of a sandbox; `lookup` looks allowed names up.
    pub(crate) fn new(stand_in_key: StandInKey, lookup: SandboxLookup) -> (Self, WantedNames) {
        let (wanted, wanted_names) = mpsc::channel(MAX_WANTED_NAMES);
        let names = Self {
            forwarder: DnsForwarder::new(ForwarderConfig {
                own_names: Vec::new(),
                ..ForwarderConfig::new(stand_in_key)
            }),
            lookup,
            ordered: HashMap::new(),
            resolving: HashSet::new(),
            wanted,
        };
        (names, wanted_names)
    }

    /// Has a name looked up, unless it is already.
    pub(crate) fn want(&mut self, name: &DomainName) {
        if !self.resolving.contains(name) && self.wanted.try_send(name.clone()).is_ok() {
            self.resolving.insert(name.clone());
        }
    }

    /// Records that the lookup of a wanted name has ended.
    pub(crate) fn end_lookup(&mut self, name: &DomainName) {
        self.resolving.remove(name);
    }

    /// Returns the stand-in of a name that a rule is about from now on.
    pub(crate) fn add_ordered(&mut self, name: &DomainName) -> Result<Ipv4Addr, StandInsExhausted> {
        let stand_in = self.forwarder.stand_ins_mut().assign(name)?;
        self.ordered
            .entry(name.clone())
            .or_insert_with(|| OrderedName::new(stand_in));
        Ok(stand_in)
    }

    /// Takes over the names that have stand-ins without a rule, and records all of them from now
    /// on. What the firewall knows counts before the journal.
    pub(crate) fn journal_names(&mut self, journal: &OpenedJournal) {
        let stand_ins = self.forwarder.stand_ins_mut();
        let observer = journal.name_observer();
        for (name, one) in &self.ordered {
            observer.observe(name, one.stand_in);
        }
        stand_ins.set_observer(observer);
        for (name, address) in journal.earlier_names() {
            if !stand_ins.restore(&name, address) {
                tracing::debug!(%name, %address, "an earlier stand-in address is not used");
            }
        }
    }

    /// Restores a name that a rule of an earlier supervisor is about. Returns `false` if another
    /// name has its stand-in.
    pub(crate) fn restore_ordered(&mut self, name: &DomainName, stand_in: Ipv4Addr) -> bool {
        let restored = self.forwarder.stand_ins_mut().restore(name, stand_in);
        if restored {
            self.ordered
                .insert(name.clone(), OrderedName::new(stand_in));
        }
        restored
    }
}

impl OrderedName {
    const fn new(stand_in: Ipv4Addr) -> Self {
        Self {
            stand_in,
            mapped_at: None,
        }
    }

    /// Returns the address that the name gets after a lookup at `now`: the one after `current`, so
    /// that a program that tries again reaches another one. `None` keeps the current one.
    pub(crate) fn choose_address(
        &mut self,
        candidates: &[Ipv4Addr],
        current: Ipv4Addr,
        now: Instant,
    ) -> Option<Ipv4Addr> {
        let position = candidates.iter().position(|address| *address == current);
        let is_recent = self
            .mapped_at
            .is_some_and(|since| now.saturating_duration_since(since) < MIN_ADDRESS_TIME);
        if position.is_some() && is_recent {
            return None;
        }
        let mut after = candidates
            .iter()
            .skip(position.map_or(0, |at| at.saturating_add(1)));
        let next = *after.next().or_else(|| candidates.first())?;
        self.mapped_at = Some(now);
        Some(next)
    }
}

/// Returns the addresses to which a stand-in can be translated.
pub(crate) fn mappable_addresses(addresses: &[IpAddr]) -> Vec<Ipv4Addr> {
    let is_public = |address: &IpAddr| AddressClass::classify(*address) == AddressClass::Public;
    let public = addresses.iter().map(IpAddr::to_canonical).filter(is_public);
    public
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, last)
    }

    #[test]
    fn a_name_that_is_looked_up_again_gets_its_next_address() {
        let begin = now();
        let stand_in = Ipv4Addr::new(198, 18, 0, 7);
        let mut name = OrderedName::new(stand_in);
        let all = [ip(1), ip(2), ip(3)];
        assert_eq!(name.choose_address(&all, stand_in, begin), Some(ip(1)));
        assert_eq!(name.choose_address(&all, ip(1), begin), None, "at once");
        let later = begin + MIN_ADDRESS_TIME;
        assert_eq!(name.choose_address(&all, ip(1), later), Some(ip(2)));
        let last = later + MIN_ADDRESS_TIME;
        assert_eq!(name.choose_address(&all, ip(3), last), Some(ip(1)));
        // The name does not lead there any more.
        assert_eq!(name.choose_address(&[ip(9)], ip(1), last), Some(ip(9)));
        assert_eq!(name.choose_address(&[], ip(9), last), None);
    }

    #[test]
    fn only_public_addresses_of_ipv4_are_mapped() {
        let all = [
            "10.0.0.1",
            "203.0.113.7",
            "169.254.169.254",
            "2001:db8::1",
            "198.51.100.1",
            "127.0.0.1",
        ]
        .map(|text| text.parse().unwrap());
        let expected =
            ["203.0.113.7", "198.51.100.1"].map(|text| text.parse::<Ipv4Addr>().unwrap());
        assert_eq!(mappable_addresses(&all), expected);
    }
}

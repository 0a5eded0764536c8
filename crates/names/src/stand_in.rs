// SPDX-License-Identifier: Apache-2.0
//! Assigns one stand-in address to each name. Pure.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use terok_clearance::DomainName;
use terok_clearance::address_class::stand_in_range;

/// The key of the hash that chooses the stand-in address of a name.
///
/// The same key and name usually give the same address, so that an address that a workload cached
/// keeps its name over runs. A workload that does not know the key cannot choose names whose
/// addresses collide.
#[derive(Clone)]
pub struct StandInKey([u8; 16]);

/// The stand-in addresses of one sandbox: 198.18.0.0/16, one for each name.
///
/// An assignment lasts as long as the table; no address is used for a second name. A table holds at
/// most [`StandInTable::CAPACITY`] names, which takes less than 32 MiB with the longest names.
pub struct StandInTable {
    key: StandInKey,
    /// The last two bytes of the address of each name.
    suffixes: HashMap<DomainName, u16>,
    names: HashMap<u16, DomainName>,
    observer: Option<StandInObserver>,
}

/// Is called with each name that gets a stand-in address, before a reply has the address.
#[derive(Clone)]
pub struct StandInObserver(Arc<ObserveAssignment>);

type ObserveAssignment = dyn Fn(&DomainName, Ipv4Addr) + Send + Sync;

impl StandInObserver {
    /// Calls `observe`, which must not block for long.
    pub fn new(observe: impl Fn(&DomainName, Ipv4Addr) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Calls the observer.
    pub fn observe(&self, name: &DomainName, address: Ipv4Addr) {
        (self.0)(name, address);
    }
}

impl fmt::Debug for StandInObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandInObserver(..)")
    }
}

/// An error of [`StandInTable::assign`]: every address belongs to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {} stand-in addresses of this sandbox are in use; restart the sandbox to look up more \
     names",
    StandInTable::CAPACITY
)]
pub struct StandInsExhausted;

impl StandInTable {
    /// Maximum names of a table.
    pub const CAPACITY: usize = 65_536;
    /// The first two bytes of every stand-in address.
    const PREFIX: [u8; 2] = [198, 18];
    /// The first suffix that the hash chooses. Only a table that is otherwise full uses the ends
    /// 198.18.0.0 and 198.18.255.255, which some programs take for a network and its broadcast.
    const FIRST: u16 = 1;
    /// The last suffix that the hash chooses.
    const LAST: u16 = u16::MAX - 1;

    /// Suffixes of one name that are hashed. They are spread evenly, so that a free one is near,
    /// even in an almost full table.
    const HASHED_PROBES: u8 = 32;

    /// Creates an empty table.
    pub fn new(key: StandInKey) -> Self {
        Self {
            key,
            suffixes: HashMap::new(),
            names: HashMap::new(),
            observer: None,
        }
    }

    /// Calls `observer` with each name that gets an address from now on.
    pub fn set_observer(&mut self, observer: StandInObserver) {
        self.observer = Some(observer);
    }

    /// Returns the address of `name`, and assigns one if the name has none.
    pub fn assign(&mut self, name: &DomainName) -> Result<Ipv4Addr, StandInsExhausted> {
        if let Some(suffix) = self.suffixes.get(name) {
            return Ok(address(*suffix));
        }
        let suffix = self.free_suffix(name).ok_or(StandInsExhausted)?;
        self.insert(name, suffix);
        Ok(address(suffix))
    }

    /// Gives `name` the address that it had in an earlier table. Returns `false` if the address is
    /// that of another name, the name has another one, or the address is none of a name.
    pub fn restore(&mut self, name: &DomainName, address: Ipv4Addr) -> bool {
        let [first, second, high, low] = address.octets();
        let suffix = u16::from_be_bytes([high, low]);
        if [first, second] != Self::PREFIX {
            return false;
        }
        match (self.suffixes.get(name), self.names.get(&suffix)) {
            (None, None) => {
                self.insert(name, suffix);
                true
            }
            (Some(own), _) => *own == suffix,
            (None, Some(_)) => false,
        }
    }

    fn insert(&mut self, name: &DomainName, suffix: u16) {
        self.suffixes.insert(name.clone(), suffix);
        self.names.insert(suffix, name.clone());
        if let Some(observer) = &self.observer {
            observer.observe(name, address(suffix));
        }
    }

    /// Returns the name of a stand-in address, also of one in its IPv4-mapped IPv6 form.
    pub fn name_of(&self, address: IpAddr) -> Option<&DomainName> {
        let IpAddr::V4(address) = address.to_canonical() else {
            return None;
        };
        let [first, second, high, low] = address.octets();
        if [first, second] == Self::PREFIX {
            self.names.get(&u16::from_be_bytes([high, low]))
        } else {
            None
        }
    }

    /// Returns the number of names in the table.
    pub fn len(&self) -> usize {
        self.suffixes.len()
    }

    /// Returns `true` if the table has no names.
    pub fn is_empty(&self) -> bool {
        self.suffixes.is_empty()
    }

    /// Returns `true` for 198.18.0.0/15 (RFC 2544): the stand-in addresses and the addresses of the
    /// sandboxes' own links, also in their IPv4-mapped IPv6 form. None of them is ever dialed.
    pub fn is_stand_in_range(address: IpAddr) -> bool {
        stand_in_range().contains(address.to_canonical())
    }

    /// Returns the first free suffix of those that the hash of `name` chooses, else the next free
    /// one after them.
    fn free_suffix(&self, name: &DomainName) -> Option<u16> {
        let is_free = |suffix: &u16| !self.names.contains_key(suffix);
        let ends = [u16::MIN, u16::MAX];
        if self.names.len() >= Self::CAPACITY.saturating_sub(ends.len()) {
            return ends.into_iter().find(is_free);
        }
        let first = self.key.suffix_of(name, 0);
        (0..Self::HASHED_PROBES)
            .map(|probe| self.key.suffix_of(name, probe))
            .chain(first..=Self::LAST)
            .chain(Self::FIRST..first)
            .find(is_free)
    }
}

impl fmt::Debug for StandInTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandInTable")
            .field("names", &self.len())
            .finish_non_exhaustive()
    }
}

impl StandInKey {
    /// Creates a key from random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns a suffix from [`StandInTable::FIRST`] to [`StandInTable::LAST`].
    fn suffix_of(&self, name: &DomainName, probe: u8) -> u16 {
        const COUNT: u64 = 65_534;
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(name.as_str().as_bytes());
        hasher.write(&[probe]);
        let index = hasher.finish() % COUNT;
        // The index is below COUNT, so that neither fallback is used.
        u16::try_from(index)
            .unwrap_or_default()
            .saturating_add(StandInTable::FIRST)
    }
}

impl From<[u8; 16]> for StandInKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for StandInKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandInKey(..)")
    }
}

fn address(suffix: u16) -> Ipv4Addr {
    let [first, second] = StandInTable::PREFIX;
    let [high, low] = suffix.to_be_bytes();
    Ipv4Addr::new(first, second, high, low)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn table() -> StandInTable {
        StandInTable::new(StandInKey::new(*b"0123456789abcdef"))
    }

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_an_address_its_name() {
        let mut table = table();
        let first = table.assign(&name("api.example.com")).unwrap();
        let second = table.assign(&name("example.com")).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.assign(&name("API.example.com.")), Ok(first));
        assert_eq!(table.len(), 2);
        assert_eq!(table.name_of(first.into()), Some(&name("api.example.com")));
        let mapped = IpAddr::from(first.to_ipv6_mapped());
        assert_eq!(table.name_of(mapped), Some(&name("api.example.com")));
        for other in ["198.19.0.1", "10.18.0.1", "::1", "198.17.255.255"] {
            assert_eq!(table.name_of(other.parse().unwrap()), None, "of {other}");
        }
    }

    #[test]
    fn an_earlier_address_is_restored_unless_it_is_taken() {
        let mut table = table();
        let earlier = Ipv4Addr::new(198, 18, 7, 9);
        assert!(table.restore(&name("a.example"), earlier));
        assert!(table.restore(&name("a.example"), earlier), "again");
        assert_eq!(table.assign(&name("a.example")), Ok(earlier));
        assert_eq!(table.name_of(earlier.into()), Some(&name("a.example")));
        assert!(!table.restore(&name("b.example"), earlier), "taken");
        assert!(!table.restore(&name("a.example"), Ipv4Addr::new(198, 18, 7, 8)));
        assert!(!table.restore(&name("c.example"), Ipv4Addr::new(198, 19, 0, 1)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn each_assignment_is_observed_once() {
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let observed = Arc::clone(&seen);
        let mut table = table();
        table.assign(&name("early.example")).unwrap();
        table.set_observer(StandInObserver::new(move |name, address| {
            observed.lock().unwrap().push((name.clone(), address));
        }));
        let assigned = table.assign(&name("a.example")).unwrap();
        let earlier = Ipv4Addr::new(198, 18, 7, 9);
        assert!(table.restore(&name("b.example"), earlier));
        for repeated in ["early.example", "a.example", "b.example"] {
            table.assign(&name(repeated)).unwrap();
        }
        let expected = [(name("a.example"), assigned), (name("b.example"), earlier)];
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[test]
    fn the_address_depends_on_key_and_name_only() {
        // A changed value breaks the addresses that workloads cached.
        let expected = table().assign(&name("example.com")).unwrap();
        assert_eq!(expected, Ipv4Addr::new(198, 18, 116, 197));
        let mut other = table();
        other.assign(&name("first.example")).unwrap();
        assert_eq!(other.assign(&name("example.com")), Ok(expected));
        let mut rekeyed = StandInTable::new([7; 16].into());
        assert_ne!(rekeyed.assign(&name("example.com")), Ok(expected));
    }

    #[test]
    fn the_range_is_known_in_both_families() {
        let check = |text: &str, expected: bool| {
            let address = text.parse().unwrap();
            assert_eq!(
                StandInTable::is_stand_in_range(address),
                expected,
                "of {text}"
            );
        };
        for inside in [
            "198.18.0.0",
            "198.18.7.9",
            "198.19.255.255",
            "::ffff:198.18.0.1",
        ] {
            check(inside, true);
        }
        for outside in ["198.17.255.255", "198.20.0.0", "::1", "::198.18.0.1"] {
            check(outside, false);
        }
    }

    #[test]
    fn every_address_is_used_once_and_then_the_table_is_full() {
        let mut table = table();
        let mut used = HashSet::new();
        for index in 0..StandInTable::CAPACITY {
            let address = table.assign(&name(&format!("n{index}.example"))).unwrap();
            assert!(used.insert(address));
            let is_end = matches!(address.octets(), [_, _, 0, 0] | [_, _, 255, 255]);
            assert_eq!(is_end, index >= StandInTable::CAPACITY - 2, "at {index}");
        }
        assert_eq!(table.assign(&name("late.example")), Err(StandInsExhausted));
        assert_eq!(table.len(), StandInTable::CAPACITY);
        let known = table.assign(&name("n7.example")).unwrap();
        assert_eq!(table.name_of(known.into()), Some(&name("n7.example")));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", StandInKey::new([65; 16])), "StandInKey(..)");
    }

    proptest! {
        #[test]
        fn names_and_addresses_are_one_to_one(
            key: [u8; 16],
            names in prop::collection::vec("[a-z]{1,3}\\.[a-z]{2}", 1..200),
        ) {
            let mut table = StandInTable::new(key.into());
            for text in &names {
                let address = table.assign(&name(text)).unwrap();
                prop_assert!(StandInTable::is_stand_in_range(address.into()));
                prop_assert_eq!(table.name_of(address.into()), Some(&name(text)));
            }
            let distinct: HashSet<_> = names.iter().collect();
            prop_assert_eq!(table.len(), distinct.len());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Caches the names that a sandbox looked up, by address.
//!
//! Pure: the caller passes the time. An address can serve many names; the latest lookup most likely
//! belongs to the next packet.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::DomainName;
use tokio::time::Instant;

use crate::dns::DnsAnswer;

/// The names of addresses, bounded in number and time; the least recently used address is evicted.
#[derive(Debug)]
pub struct DnsCache {
    max_addresses: usize,
    entries: HashMap<IpAddr, DnsCacheEntry>,
    /// The addresses by last use, oldest first.
    by_last_use: BTreeMap<u64, IpAddr>,
    next_use: u64,
}

#[derive(Debug)]
struct DnsCacheEntry {
    name: DomainName,
    expires_at: Instant,
    last_use: u64,
}

impl DnsCache {
    /// Default limit of addresses.
    pub const MAX_ADDRESSES: usize = 4096;
    /// Minimum lifetime of a name: applications keep addresses beyond the TTL, and resolvers return
    /// records with a second left.
    pub const MIN_TTL: Duration = Duration::from_secs(60);
    /// Maximum lifetime of a name.
    pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

    /// Creates a cache of at most `limit` addresses.
    pub fn new(limit: usize) -> Self {
        Self {
            max_addresses: limit,
            entries: HashMap::new(),
            by_last_use: BTreeMap::new(),
            next_use: 0,
        }
    }

    /// Caches an answer received at `now`, replacing earlier names of its addresses.
    pub fn insert_answer(&mut self, answer: &DnsAnswer, now: Instant) {
        for (address, ttl) in &answer.addresses {
            let until = now
                .checked_add((*ttl).clamp(Self::MIN_TTL, Self::MAX_TTL))
                .unwrap_or(now);
            self.remove_address(*address);
            let used = self.record_use(*address);
            let name = answer.name.clone();
            self.entries.insert(
                *address,
                DnsCacheEntry {
                    name,
                    expires_at: until,
                    last_use: used,
                },
            );
        }
        while self.entries.len() > self.max_addresses {
            let Some((_, oldest)) = self.by_last_use.pop_first() else {
                break;
            };
            self.entries.remove(&oldest);
        }
    }

    /// Returns the name of `address` that is valid at `now`.
    pub fn find_name(&mut self, address: IpAddr, now: Instant) -> Option<DomainName> {
        let entry = self.entries.get(&address)?;
        if entry.expires_at <= now {
            self.remove_address(address);
            return None;
        }
        let name = entry.name.clone();
        let before = entry.last_use;
        let used = self.record_use(address);
        self.by_last_use.remove(&before);
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.last_use = used;
        }
        Some(name)
    }

    /// Returns the number of cached addresses.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if no address is cached.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn record_use(&mut self, address: IpAddr) -> u64 {
        let used = self.next_use;
        self.next_use = used.wrapping_add(1);
        self.by_last_use.insert(used, address);
        used
    }

    fn remove_address(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.by_last_use.remove(&entry.last_use);
        }
    }
}

impl Default for DnsCache {
    fn default() -> Self {
        Self::new(Self::MAX_ADDRESSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, addresses: &[(&str, u64)]) -> DnsAnswer {
        DnsAnswer {
            name: name.parse().unwrap(),
            addresses: addresses
                .iter()
                .map(|(a, ttl)| (a.parse().unwrap(), Duration::from_secs(*ttl)))
                .collect(),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(names: &mut DnsCache, text: &str, now: Instant) -> Option<String> {
        names.find_name(address(text), now).map(|n| n.to_string())
    }

    #[test]
    fn the_newest_answer_determines_the_name() {
        let (mut names, now) = (DnsCache::default(), Instant::now());
        names.insert_answer(&answer("one.example", &[("192.0.2.1", 300)]), now);
        names.insert_answer(&answer("two.example", &[("192.0.2.1", 300)]), now);
        assert_eq!(
            found(&mut names, "192.0.2.1", now).as_deref(),
            Some("two.example")
        );
        assert_eq!(found(&mut names, "192.0.2.2", now), None);
        assert_eq!((names.len(), names.by_last_use.len()), (1, 1));
    }

    #[test]
    fn a_name_lives_for_its_ttl_between_a_minute_and_a_day() {
        for (ttl, lives) in [(0, 60), (59, 60), (300, 300), (u64::from(u32::MAX), 86_400)] {
            let (mut names, now) = (DnsCache::default(), Instant::now());
            names.insert_answer(&answer("a.example", &[("2001:db8::1", ttl)]), now);
            let last = now + Duration::from_secs(lives) - Duration::from_millis(1);
            assert!(found(&mut names, "2001:db8::1", last).is_some(), "{ttl}");
            let over = now + Duration::from_secs(lives);
            assert!(found(&mut names, "2001:db8::1", over).is_none(), "{ttl}");
            assert!(names.is_empty() && names.by_last_use.is_empty());
        }
    }

    #[test]
    fn the_least_recently_used_address_is_evicted() {
        let (mut names, now) = (DnsCache::new(2), Instant::now());
        names.insert_answer(&answer("a.example", &[("192.0.2.1", 60)]), now);
        names.insert_answer(&answer("b.example", &[("192.0.2.2", 60)]), now);
        assert!(found(&mut names, "192.0.2.1", now).is_some());
        names.insert_answer(&answer("c.example", &[("192.0.2.3", 60)]), now);
        assert!(found(&mut names, "192.0.2.2", now).is_none());
        assert!(found(&mut names, "192.0.2.1", now).is_some());
        assert!(found(&mut names, "192.0.2.3", now).is_some());
    }

    proptest::proptest! {
        #[test]
        fn the_cache_is_bounded_and_its_indexes_agree(
            steps in proptest::collection::vec((0..40_u8, 0..3_u8, 0..200_u64), 0..200)
        ) {
            let (mut names, mut now) = (DnsCache::new(8), Instant::now());
            for (host, kind, ttl) in steps {
                let at = IpAddr::from([192, 0, 2, host]);
                if kind == 0 {
                    names.find_name(at, now);
                } else {
                    let addresses = vec![(at, Duration::from_secs(ttl))];
                    names.insert_answer(&DnsAnswer { name: "n.example".parse().unwrap(), addresses }, now);
                }
                now += Duration::from_secs(u64::from(kind) * 20);
                assert!(names.len() <= 8);
                assert_eq!(names.len(), names.by_last_use.len());
                for (used, address) in &names.by_last_use {
                    assert_eq!(names.entries[address].last_use, *used);
                }
            }
        }
    }
}

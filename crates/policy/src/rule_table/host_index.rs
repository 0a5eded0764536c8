// SPDX-License-Identifier: Apache-2.0
//! Finds the rules of a host, those of the narrowest pattern first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use terok_clearance::address_class::IpFamily;
use terok_clearance::{DomainName, HostPattern, IpPrefix, PacketHost};

use super::precedence;
use crate::PolicyRule;

/// The rules of one host pattern, in the order of precedence.
type HostRules = Vec<Arc<PolicyRule>>;

/// The rules by their host patterns.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    names: HashMap<DomainName, HostRules>,
    subdomains: HashMap<DomainName, HostRules>,
    addresses: HashMap<IpAddr, HostRules>,
    networks: HashMap<IpPrefix, HostRules>,
    /// The lengths of the networks, with the number of networks.
    lengths: BTreeMap<(IpFamily, u8), usize>,
}

impl HostIndex {
    pub(super) fn insert(&mut self, rule: Arc<PolicyRule>) {
        match rule.spec.pattern.host() {
            HostPattern::Name(name) => insert_into(&mut self.names, name.clone(), rule),
            HostPattern::Subdomains(name) => insert_into(&mut self.subdomains, name.clone(), rule),
            HostPattern::Address(address) => insert_into(&mut self.addresses, *address, rule),
            HostPattern::Network(network) => {
                let network = *network;
                if !self.networks.contains_key(&network) {
                    let networks = self.lengths.entry(length_key(network)).or_default();
                    *networks = networks.saturating_add(1);
                }
                insert_into(&mut self.networks, network, rule);
            }
        }
    }

    pub(super) fn remove(&mut self, rule: &PolicyRule) {
        match rule.spec.pattern.host() {
            HostPattern::Name(name) => remove_from(&mut self.names, name, rule),
            HostPattern::Subdomains(name) => remove_from(&mut self.subdomains, name, rule),
            HostPattern::Address(address) => remove_from(&mut self.addresses, address, rule),
            HostPattern::Network(network) => {
                remove_from(&mut self.networks, network, rule);
                if !self.networks.contains_key(network)
                    && let Some(networks) = self.lengths.get_mut(&length_key(*network))
                {
                    *networks = networks.saturating_sub(1);
                    if *networks == 0 {
                        self.lengths.remove(&length_key(*network));
                    }
                }
            }
        }
    }

    /// Iterates over the rules whose host pattern covers the host, in the order of precedence.
    pub(super) fn rules_for(&self, host: &PacketHost) -> impl Iterator<Item = &PolicyRule> {
        let (name, address) = match host {
            PacketHost::Name(name) => (Some(name), None),
            PacketHost::Address(address) => (None, Some(address.to_canonical())),
        };
        let by_name = name.into_iter().flat_map(move |name| {
            let subdomains = name
                .parents()
                .filter_map(|parent| self.subdomains.get(parent));
            self.names.get(name).into_iter().chain(subdomains)
        });
        let by_address = address.into_iter().flat_map(move |address| {
            let family = IpFamily::of(address);
            let lengths = self.lengths.range((family, 0)..=(family, u8::MAX)).rev();
            let networks = lengths.filter_map(move |((_, length), _)| {
                self.networks.get(&IpPrefix::containing(address, *length))
            });
            self.addresses.get(&address).into_iter().chain(networks)
        });
        by_name.chain(by_address).flatten().map(AsRef::as_ref)
    }
}

const fn length_key(network: IpPrefix) -> (IpFamily, u8) {
    (IpFamily::of(network.network()), network.length())
}

fn insert_into<K: Eq + Hash>(hosts: &mut HashMap<K, HostRules>, host: K, rule: Arc<PolicyRule>) {
    let rules = hosts.entry(host).or_default();
    let place = rules.partition_point(|other| precedence(other) < precedence(&rule));
    rules.insert(place, rule);
}

fn remove_from<K: Eq + Hash>(hosts: &mut HashMap<K, HostRules>, host: &K, rule: &PolicyRule) {
    let Some(rules) = hosts.get_mut(host) else {
        return;
    };
    rules.retain(|other| other.id != rule.id);
    if rules.is_empty() {
        hosts.remove(host);
    }
}

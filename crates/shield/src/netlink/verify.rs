// SPDX-License-Identifier: Apache-2.0
//! Whether the kernel holds what was meant: asked for, read back and compared.
//!
//! Everything that was sent must be there with the same value, in the same order; nothing else
//! may be there, but for what the kernel adds itself and says with zeros.

use std::collections::BTreeSet;

use super::attribute::{Attribute, Attributes, find, read};
use super::encode::{Kind, chain_attributes, rule_attributes, set_attributes};
use super::number;
use super::socket::{Answer, Netlink, NetlinkError};
use crate::ruleset::{Content, Ruleset, Set, TABLE};

/// How the kernel's ruleset differs from the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// There is no such table.
    #[error("there is no table {TABLE}")]
    NoTable,
    /// The table is there but put to sleep.
    #[error("the table {TABLE} is dormant")]
    Dormant,
    /// A set is missing, or there is one that is not meant.
    #[error("the sets are others")]
    Sets,
    /// A set is of another kind or holds something else.
    #[error("the set {0} is another")]
    Set(&'static str),
    /// A chain is missing, or there is one that is not meant.
    #[error("the chains are others")]
    Chains,
    /// A chain is hooked elsewhere, or has another policy.
    #[error("the chain {0} is another")]
    Chain(&'static str),
    /// A rule is another, missing or too many.
    #[error("rule {at} of the chain {chain} is another")]
    Rule {
        /// The chain.
        chain: &'static str,
        /// Which rule, counted from 0.
        at: usize,
    },
}

/// Compares the kernel's table with `meant`.
pub(crate) fn verify(
    netlink: &mut Netlink,
    meant: &Ruleset,
) -> Result<Option<Difference>, NetlinkError> {
    let of_table = || Attributes::default().text(number::TABLE_NAME, TABLE);
    let table = match netlink.get(Kind::GetTable, of_table()) {
        Ok(table) => table,
        Err(error) if error.refusal() == Some(rustix::io::Errno::NOENT) => {
            return Ok(Some(Difference::NoTable));
        }
        Err(error) => return Err(error),
    };
    if table.find(number::TABLE_FLAGS).and_then(Attribute::u32) != Some(0) {
        return Ok(Some(Difference::Dormant));
    }
    let sets = netlink.list(Kind::GetSet, of_table())?;
    if let Some(difference) = compare_sets(netlink, meant, &sets)? {
        return Ok(Some(difference));
    }
    // A listing of chains takes no table: the others are left out here.
    let mut chains = netlink.list(Kind::GetChain, of_table())?;
    chains.retain(|chain| chain.text(number::CHAIN_TABLE) == Some(TABLE));
    let mut rules = netlink.list(Kind::GetRule, of_table())?;
    rules.retain(|rule| rule.text(number::RULE_TABLE) == Some(TABLE));
    Ok(compare_chains(meant, &chains, &rules))
}

fn compare_sets(
    netlink: &mut Netlink,
    meant: &Ruleset,
    held: &[Answer],
) -> Result<Option<Difference>, NetlinkError> {
    let names = |set: &Answer| set.text(number::SET_NAME).map(str::to_owned);
    let meant_names = meant.sets.iter().map(|set| set.name.to_owned());
    if !same_names(meant_names, held.iter().map(names)) {
        return Ok(Some(Difference::Sets));
    }
    for set in &meant.sets {
        let found = held
            .iter()
            .find(|held| held.text(number::SET_NAME) == Some(set.name));
        let attributes = set_attributes(set).into_bytes();
        if !found.is_some_and(|found| holds(&attributes, found)) {
            return Ok(Some(Difference::Set(set.name)));
        }
        if let Some(keys) = constant_keys(set) {
            let held = netlink.list(Kind::GetElement, super::encode::elements_of(set.name))?;
            if elements(&held)
                .map(|(key, flags, _)| (key.to_vec(), flags))
                .collect::<BTreeSet<_>>()
                != keys
            {
                return Ok(Some(Difference::Set(set.name)));
            }
        }
    }
    Ok(None)
}

fn compare_chains(meant: &Ruleset, chains: &[Answer], rules: &[Answer]) -> Option<Difference> {
    let names = |chain: &Answer| chain.text(number::CHAIN_NAME).map(str::to_owned);
    let meant_names = meant.chains.iter().map(|chain| chain.name.to_owned());
    if !same_names(meant_names, chains.iter().map(names)) {
        return Some(Difference::Chains);
    }
    for chain in &meant.chains {
        let found = chains
            .iter()
            .find(|held| held.text(number::CHAIN_NAME) == Some(chain.name));
        let attributes = chain_attributes(chain).into_bytes();
        let hooked = found.is_some_and(|found| found.find(number::CHAIN_HOOK).is_some());
        if hooked != chain.hook.is_some() || !found.is_some_and(|found| holds(&attributes, found)) {
            return Some(Difference::Chain(chain.name));
        }
        let held: Vec<_> = rules
            .iter()
            .filter(|rule| rule.text(number::RULE_CHAIN) == Some(chain.name))
            .collect();
        let at = (0..chain.rules.len().max(held.len())).find(|at| {
            let meant = chain
                .rules
                .get(*at)
                .map(|rule| rule_attributes(chain, rule).into_bytes());
            !matches!((meant, held.get(*at)), (Some(meant), Some(held)) if holds(&meant, held))
        });
        if let Some(at) = at {
            return Some(Difference::Rule {
                chain: chain.name,
                at,
            });
        }
    }
    None
}

fn same_names(
    meant: impl Iterator<Item = String>,
    held: impl Iterator<Item = Option<String>>,
) -> bool {
    let meant: BTreeSet<_> = meant.map(Some).collect();
    let held: Vec<_> = held.collect();
    held.len() == meant.len() && held.into_iter().collect::<BTreeSet<_>>() == meant
}

/// Says whether an object has every attribute that was meant; the kernel may add its own, as
/// handles and use counts.
fn holds(meant: &[u8], held: &Answer) -> bool {
    read(meant).all(|meant| {
        held.find(meant.kind).is_some_and(|held| {
            if meant.nested {
                same(meant.value, held.value)
            } else {
                meant.value == held.value
            }
        })
    })
}

/// Says whether two lists of attributes say the same: each kind as often and with the same
/// values. What only one of them has must be zeros, which is what the kernel takes for nothing
/// said, and some kernels leave out.
///
/// The kernel does not mark what is nested; what was meant tells.
fn same(meant: &[u8], held: &[u8]) -> bool {
    let kinds: BTreeSet<_> = read(meant).chain(read(held)).map(|one| one.kind).collect();
    kinds.into_iter().all(|kind| {
        let of = |bytes| read(bytes).filter(move |one: &Attribute<'_>| one.kind == kind);
        let zeros = |bytes| of(bytes).all(|one| one.value.iter().all(|byte| *byte == 0));
        match (of(meant).count(), of(held).count()) {
            (0, _) => zeros(held),
            (_, 0) => zeros(meant),
            (ours, theirs) => {
                ours == theirs
                    && of(meant).zip(of(held)).all(|(meant, held)| {
                        if meant.nested {
                            same(meant.value, held.value)
                        } else {
                            meant.value == held.value
                        }
                    })
            }
        }
    })
}

/// Returns the keys and flags that a set which stays as it is must hold.
fn constant_keys(set: &Set) -> Option<BTreeSet<(Vec<u8>, u32)>> {
    use super::encode::{bounds, octets};
    match &set.content {
        Content::Addresses(addresses) => {
            Some(addresses.iter().map(|ip| (octets(*ip), 0)).collect())
        }
        Content::Words(words) => Some(words.iter().map(|(byte, _)| (vec![*byte], 0)).collect()),
        Content::Ranges(spans) => {
            let bounds = bounds(spans).into_iter();
            Some(bounds.map(|(ip, flags)| (octets(ip), flags)).collect())
        }
        Content::Orders | Content::Recent(_) => None,
    }
}

/// Returns the elements in a listing: key, flags, and all of it.
pub(crate) fn elements(answers: &[Answer]) -> impl Iterator<Item = (&[u8], u32, Attribute<'_>)> {
    let elements = answers
        .iter()
        .filter_map(|answer| answer.find(number::ELEMENTS))
        .flat_map(Attribute::inner);
    elements.filter_map(|element| {
        let key = element.find(number::ELEMENT_KEY)?;
        let key = find(key.value, number::DATA_VALUE)?.value;
        let flags = element.find(number::ELEMENT_FLAGS).and_then(Attribute::u32);
        Some((key, flags.unwrap_or_default(), element))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(meant: Attributes, held: Attributes, expected: bool) {
        assert_eq!(same(&meant.into_bytes(), &held.into_bytes()), expected);
    }

    #[test]
    fn only_zeros_may_be_more_or_less_than_meant() {
        let base = || Attributes::default().u32(1, 7);
        check(base(), base(), true);
        check(base(), base().u32(2, 0), true);
        check(base().u32(2, 0), base(), true);
        check(base(), base().u32(2, 1), false);
        check(base(), base().u32(1, 7), false);
        check(base().u32(2, 1), base(), false);
        check(base(), Attributes::default().u32(1, 8), false);
        let deep = |n| base().nest(3, &Attributes::default().u32(1, n));
        check(deep(1), deep(1), true);
        check(deep(1), deep(2), false);
    }

    #[test]
    fn the_order_of_a_list_counts() {
        let list = |a, b| {
            let one = |n| Attributes::default().u32(1, n);
            Attributes::default().nest(1, &one(a)).nest(1, &one(b))
        };
        check(list(1, 2), list(1, 2), true);
        check(list(1, 2), list(2, 1), false);
    }
}

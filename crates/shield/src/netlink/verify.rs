// SPDX-License-Identifier: Apache-2.0
//! Whether the kernel holds what was meant: asked for, read back and compared.
//!
//! Everything that was sent must be there with the same value, in the same order; nothing else
//! may be there, but for what the kernel adds itself and says with zeros.

use std::collections::BTreeSet;

use super::attribute::{AttributeBuilder, NetlinkAttribute, find_attribute, read_attributes};
use super::attribute_kind;
use super::encode::{NftMessageKind, chain_attributes, rule_attributes, set_attributes};
use super::socket::{NetlinkError, NftReply, NftSocket};
use crate::ruleset::{NftSet, NftSetContent, Ruleset, TABLE};

/// How the kernel's ruleset differs from the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesetDifference {
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
pub(crate) fn verify_ruleset(
    netlink: &mut NftSocket,
    meant: &Ruleset,
) -> Result<Option<RulesetDifference>, NetlinkError> {
    let of_table = || AttributeBuilder::default().text(attribute_kind::TABLE_NAME, TABLE);
    let table = match netlink.request_one(NftMessageKind::GetTable, of_table()) {
        Ok(table) => table,
        Err(error) if error.refused_errno() == Some(rustix::io::Errno::NOENT) => {
            return Ok(Some(RulesetDifference::NoTable));
        }
        Err(error) => return Err(error),
    };
    if table
        .find(attribute_kind::TABLE_FLAGS)
        .and_then(NetlinkAttribute::u32)
        != Some(0)
    {
        return Ok(Some(RulesetDifference::Dormant));
    }
    let sets = netlink.dump(NftMessageKind::GetSet, of_table())?;
    if let Some(difference) = compare_sets(netlink, meant, &sets)? {
        return Ok(Some(difference));
    }
    // A listing of chains takes no table: the others are left out here.
    let mut chains = netlink.dump(NftMessageKind::GetChain, of_table())?;
    chains.retain(|chain| chain.text(attribute_kind::CHAIN_TABLE) == Some(TABLE));
    let mut rules = netlink.dump(NftMessageKind::GetRule, of_table())?;
    rules.retain(|rule| rule.text(attribute_kind::RULE_TABLE) == Some(TABLE));
    Ok(compare_chains(meant, &chains, &rules))
}

fn compare_sets(
    netlink: &mut NftSocket,
    meant: &Ruleset,
    held: &[NftReply],
) -> Result<Option<RulesetDifference>, NetlinkError> {
    let names = |set: &NftReply| set.text(attribute_kind::SET_NAME).map(str::to_owned);
    let meant_names = meant.sets.iter().map(|set| set.name.to_owned());
    if !same_names(meant_names, held.iter().map(names)) {
        return Ok(Some(RulesetDifference::Sets));
    }
    for set in &meant.sets {
        let found = held
            .iter()
            .find(|held| held.text(attribute_kind::SET_NAME) == Some(set.name));
        let attributes = set_attributes(set).into_bytes();
        if !found.is_some_and(|found| has_attributes(&attributes, found)) {
            return Ok(Some(RulesetDifference::Set(set.name)));
        }
        if let Some(keys) = constant_keys(set) {
            let held = netlink.dump(
                NftMessageKind::GetElement,
                super::encode::set_elements_query(set.name),
            )?;
            if listed_elements(&held)
                .map(|(key, flags, _)| (key.to_vec(), flags))
                .collect::<BTreeSet<_>>()
                != keys
            {
                return Ok(Some(RulesetDifference::Set(set.name)));
            }
        }
    }
    Ok(None)
}

fn compare_chains(
    meant: &Ruleset,
    chains: &[NftReply],
    rules: &[NftReply],
) -> Option<RulesetDifference> {
    let names = |chain: &NftReply| chain.text(attribute_kind::CHAIN_NAME).map(str::to_owned);
    let meant_names = meant.chains.iter().map(|chain| chain.name.to_owned());
    if !same_names(meant_names, chains.iter().map(names)) {
        return Some(RulesetDifference::Chains);
    }
    for chain in &meant.chains {
        let found = chains
            .iter()
            .find(|held| held.text(attribute_kind::CHAIN_NAME) == Some(chain.name));
        let attributes = chain_attributes(chain).into_bytes();
        let hooked = found.is_some_and(|found| found.find(attribute_kind::CHAIN_HOOK).is_some());
        if hooked != chain.hook.is_some()
            || !found.is_some_and(|found| has_attributes(&attributes, found))
        {
            return Some(RulesetDifference::Chain(chain.name));
        }
        let held: Vec<_> = rules
            .iter()
            .filter(|rule| rule.text(attribute_kind::RULE_CHAIN) == Some(chain.name))
            .collect();
        let at = (0..chain.rules.len().max(held.len())).find(|at| {
            let meant = chain
                .rules
                .get(*at)
                .map(|rule| rule_attributes(chain, rule).into_bytes());
            !matches!((meant, held.get(*at)), (Some(meant), Some(held)) if has_attributes(&meant, held))
        });
        if let Some(at) = at {
            return Some(RulesetDifference::Rule {
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
fn has_attributes(meant: &[u8], held: &NftReply) -> bool {
    read_attributes(meant).all(|meant| {
        held.find(meant.kind).is_some_and(|held| {
            if meant.nested {
                same_attributes(meant.value, held.value)
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
fn same_attributes(meant: &[u8], held: &[u8]) -> bool {
    let kinds: BTreeSet<_> = read_attributes(meant)
        .chain(read_attributes(held))
        .map(|one| one.kind)
        .collect();
    kinds.into_iter().all(|kind| {
        let of = |bytes| {
            read_attributes(bytes).filter(move |one: &NetlinkAttribute<'_>| one.kind == kind)
        };
        let zeros = |bytes| of(bytes).all(|one| one.value.iter().all(|byte| *byte == 0));
        match (of(meant).count(), of(held).count()) {
            (0, _) => zeros(held),
            (_, 0) => zeros(meant),
            (ours, theirs) => {
                ours == theirs
                    && of(meant).zip(of(held)).all(|(meant, held)| {
                        if meant.nested {
                            same_attributes(meant.value, held.value)
                        } else {
                            meant.value == held.value
                        }
                    })
            }
        }
    })
}

/// Returns the keys and flags that a set which stays as it is must hold.
fn constant_keys(set: &NftSet) -> Option<BTreeSet<(Vec<u8>, u32)>> {
    use super::encode::{interval_bounds, octets};
    match &set.content {
        NftSetContent::Addresses(addresses) => {
            Some(addresses.iter().map(|ip| (octets(*ip), 0)).collect())
        }
        NftSetContent::NamedBytes(words) => {
            Some(words.iter().map(|(byte, _)| (vec![*byte], 0)).collect())
        }
        NftSetContent::Ranges(spans) => {
            let bounds = interval_bounds(spans).into_iter();
            Some(bounds.map(|(ip, flags)| (octets(ip), flags)).collect())
        }
        NftSetContent::Orders | NftSetContent::Recent(_) => None,
    }
}

/// Returns the elements in a listing: key, flags, and all of it.
pub(crate) fn listed_elements(
    answers: &[NftReply],
) -> impl Iterator<Item = (&[u8], u32, NetlinkAttribute<'_>)> {
    let elements = answers
        .iter()
        .filter_map(|answer| answer.find(attribute_kind::ELEMENTS))
        .flat_map(NetlinkAttribute::children);
    elements.filter_map(|element| {
        let key = element.find(attribute_kind::ELEMENT_KEY)?;
        let key = find_attribute(key.value, attribute_kind::DATA_VALUE)?.value;
        let flags = element
            .find(attribute_kind::ELEMENT_FLAGS)
            .and_then(NetlinkAttribute::u32);
        Some((key, flags.unwrap_or_default(), element))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(meant: AttributeBuilder, held: AttributeBuilder, expected: bool) {
        assert_eq!(
            same_attributes(&meant.into_bytes(), &held.into_bytes()),
            expected
        );
    }

    #[test]
    fn only_zeros_may_be_more_or_less_than_meant() {
        let base = || AttributeBuilder::default().u32(1, 7);
        check(base(), base(), true);
        check(base(), base().u32(2, 0), true);
        check(base().u32(2, 0), base(), true);
        check(base(), base().u32(2, 1), false);
        check(base(), base().u32(1, 7), false);
        check(base().u32(2, 1), base(), false);
        check(base(), AttributeBuilder::default().u32(1, 8), false);
        let deep = |n| base().nest(3, &AttributeBuilder::default().u32(1, n));
        check(deep(1), deep(1), true);
        check(deep(1), deep(2), false);
    }

    #[test]
    fn the_order_of_a_list_counts() {
        let list = |a, b| {
            let one = |n| AttributeBuilder::default().u32(1, n);
            AttributeBuilder::default()
                .nest(1, &one(a))
                .nest(1, &one(b))
        };
        check(list(1, 2), list(1, 2), true);
        check(list(1, 2), list(2, 1), false);
    }
}

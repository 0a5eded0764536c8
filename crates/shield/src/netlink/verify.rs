// SPDX-License-Identifier: Apache-2.0
//! Verifies the kernel's ruleset by reading it back.
//!
//! Every sent attribute must be present with the same value and in the same order. Additional
//! attributes of the kernel are accepted only if they are zero.

use std::collections::BTreeSet;

use netns::netlink::{AttributeBuilder, NetlinkAttribute, find_attribute, parse_attributes};

use super::attribute_kind;
use super::encode::{NftMessageKind, chain_attributes, rule_attributes, set_attributes};
use super::socket::{NetlinkError, NftReply, NftSocket};
use crate::ruleset::{NftSet, NftSetContent, Ruleset, TABLE};

/// A difference between the kernel's ruleset and the expected one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesetDifference {
    /// The table is missing.
    #[error("the table {TABLE} does not exist")]
    NoTable,
    /// The table is disabled.
    #[error("the table {TABLE} is dormant")]
    Dormant,
    /// A set is missing or unexpected.
    #[error("the sets differ")]
    Sets,
    /// A set has other attributes or elements.
    #[error("the set {0} differs")]
    Set(&'static str),
    /// A chain is missing or unexpected.
    #[error("the chains differ")]
    Chains,
    /// A chain has another hook or policy.
    #[error("the chain {0} differs")]
    Chain(&'static str),
    /// A rule differs, is missing or is unexpected.
    #[error("rule {at} of the chain {chain} differs")]
    Rule {
        /// The chain.
        chain: &'static str,
        /// The index of the rule.
        at: usize,
    },
}

/// Compares the kernel's table with `expected`.
pub(crate) fn verify_ruleset(
    netlink: &mut NftSocket,
    expected: &Ruleset,
) -> Result<Option<RulesetDifference>, NetlinkError> {
    let of_table = || AttributeBuilder::default().text(attribute_kind::TABLE_NAME, TABLE);
    let table = match netlink.request_one(NftMessageKind::GetTable, &of_table()) {
        Ok(table) => table,
        Err(error) if error.refused_errno() == Some(rustix::io::Errno::NOENT) => {
            return Ok(Some(RulesetDifference::NoTable));
        }
        Err(error) => return Err(error),
    };
    if table
        .find(attribute_kind::TABLE_FLAGS)
        .and_then(NetlinkAttribute::u32_be)
        != Some(0)
    {
        return Ok(Some(RulesetDifference::Dormant));
    }
    let sets = netlink.dump(NftMessageKind::GetSet, &of_table())?;
    if let Some(difference) = compare_sets(netlink, expected, &sets)? {
        return Ok(Some(difference));
    }
    // A dump of chains covers all tables.
    let mut chains = netlink.dump(NftMessageKind::GetChain, &of_table())?;
    chains.retain(|chain| chain.text(attribute_kind::CHAIN_TABLE) == Some(TABLE));
    let mut rules = netlink.dump(NftMessageKind::GetRule, &of_table())?;
    rules.retain(|rule| rule.text(attribute_kind::RULE_TABLE) == Some(TABLE));
    Ok(compare_chains(expected, &chains, &rules))
}

fn compare_sets(
    netlink: &mut NftSocket,
    expected: &Ruleset,
    actual: &[NftReply],
) -> Result<Option<RulesetDifference>, NetlinkError> {
    let names = |set: &NftReply| set.text(attribute_kind::SET_NAME).map(str::to_owned);
    let expected_names = expected.sets.iter().map(|set| set.name.to_owned());
    if !same_names(expected_names, actual.iter().map(names)) {
        return Ok(Some(RulesetDifference::Sets));
    }
    for set in &expected.sets {
        let found = actual
            .iter()
            .find(|actual| actual.text(attribute_kind::SET_NAME) == Some(set.name));
        let attributes = set_attributes(set);
        if !found.is_some_and(|found| has_attributes(attributes.as_bytes(), found)) {
            return Ok(Some(RulesetDifference::Set(set.name)));
        }
        if let Some(keys) = constant_keys(set) {
            let actual = netlink.dump(
                NftMessageKind::GetElement,
                &super::encode::set_elements_query(set.name),
            )?;
            if listed_elements(&actual)
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
    expected: &Ruleset,
    chains: &[NftReply],
    rules: &[NftReply],
) -> Option<RulesetDifference> {
    let names = |chain: &NftReply| chain.text(attribute_kind::CHAIN_NAME).map(str::to_owned);
    let expected_names = expected.chains.iter().map(|chain| chain.name.to_owned());
    if !same_names(expected_names, chains.iter().map(names)) {
        return Some(RulesetDifference::Chains);
    }
    for chain in &expected.chains {
        let found = chains
            .iter()
            .find(|actual| actual.text(attribute_kind::CHAIN_NAME) == Some(chain.name));
        let attributes = chain_attributes(chain);
        let hooked = found.is_some_and(|found| found.find(attribute_kind::CHAIN_HOOK).is_some());
        if hooked != chain.hook.is_some()
            || !found.is_some_and(|found| has_attributes(attributes.as_bytes(), found))
        {
            return Some(RulesetDifference::Chain(chain.name));
        }
        let actual: Vec<_> = rules
            .iter()
            .filter(|rule| rule.text(attribute_kind::RULE_CHAIN) == Some(chain.name))
            .collect();
        let at = (0..chain.rules.len().max(actual.len())).find(|at| {
            let expected = chain
                .rules
                .get(*at)
                .map(|rule| rule_attributes(chain, rule));
            let (Some(expected), Some(actual)) = (expected, actual.get(*at)) else {
                return true;
            };
            !has_attributes(expected.as_bytes(), actual)
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
    expected: impl Iterator<Item = String>,
    actual: impl Iterator<Item = Option<String>>,
) -> bool {
    let expected: BTreeSet<_> = expected.map(Some).collect();
    let actual: Vec<_> = actual.collect();
    actual.len() == expected.len() && actual.into_iter().collect::<BTreeSet<_>>() == expected
}

/// Returns `true` if an object has all expected attributes; the kernel adds others, such as handles
/// and use counts.
fn has_attributes(expected: &[u8], actual: &NftReply) -> bool {
    parse_attributes(expected).all(|expected| {
        actual.find(expected.kind).is_some_and(|actual| {
            if expected.nested {
                same_attributes(expected.value, actual.value)
            } else {
                expected.value == actual.value
            }
        })
    })
}

/// Returns `true` if two attribute lists are equivalent: equal counts and values for each kind.
/// Attributes on one side only must be zero, the kernel's default, which some kernels omit.
///
/// The kernel does not mark nested attributes; the expected ones do.
fn same_attributes(expected: &[u8], actual: &[u8]) -> bool {
    let kinds: BTreeSet<_> = parse_attributes(expected)
        .chain(parse_attributes(actual))
        .map(|one| one.kind)
        .collect();
    kinds.into_iter().all(|kind| {
        let of = |bytes| {
            parse_attributes(bytes).filter(move |one: &NetlinkAttribute<'_>| one.kind == kind)
        };
        let zeros = |bytes| of(bytes).all(|one| one.value.iter().all(|byte| *byte == 0));
        match (of(expected).count(), of(actual).count()) {
            (0, _) => zeros(actual),
            (_, 0) => zeros(expected),
            (expected_count, actual_count) => {
                expected_count == actual_count
                    && of(expected).zip(of(actual)).all(|(expected, actual)| {
                        if expected.nested {
                            same_attributes(expected.value, actual.value)
                        } else {
                            expected.value == actual.value
                        }
                    })
            }
        }
    })
}

/// Returns the required keys and flags of a constant set.
fn constant_keys(set: &NftSet) -> Option<BTreeSet<(Vec<u8>, u32)>> {
    use super::encode::{interval_bounds, octets};
    match &set.content {
        NftSetContent::Addresses(addresses) => {
            Some(addresses.iter().map(|ip| (octets(*ip), 0)).collect())
        }
        NftSetContent::NamedBytes(words) => {
            Some(words.iter().map(|(byte, _)| (vec![*byte], 0)).collect())
        }
        NftSetContent::Ranges(ranges) => {
            let bounds = interval_bounds(ranges).into_iter();
            Some(bounds.map(|(ip, flags)| (octets(ip), flags)).collect())
        }
        NftSetContent::Orders | NftSetContent::OrderedAddresses | NftSetContent::Recent(_) => None,
    }
}

/// Returns the elements of a dump: key, flags, complete attribute.
pub(crate) fn listed_elements(
    replies: &[NftReply],
) -> impl Iterator<Item = (&[u8], u32, NetlinkAttribute<'_>)> {
    let elements = replies
        .iter()
        .filter_map(|reply| reply.find(attribute_kind::ELEMENTS))
        .flat_map(NetlinkAttribute::children);
    elements.filter_map(|element| {
        let key = element.find(attribute_kind::ELEMENT_KEY)?;
        let key = find_attribute(key.value, attribute_kind::DATA_VALUE)?.value;
        let flags = element
            .find(attribute_kind::ELEMENT_FLAGS)
            .and_then(NetlinkAttribute::u32_be);
        Some((key, flags.unwrap_or_default(), element))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &AttributeBuilder, actual: &AttributeBuilder, same: bool) {
        assert_eq!(
            same_attributes(expected.as_bytes(), actual.as_bytes()),
            same
        );
    }

    #[test]
    fn only_zeros_may_be_added_or_omitted() {
        let base = || AttributeBuilder::default().u32_be(1, 7);
        check(&base(), &base(), true);
        check(&base(), &base().u32_be(2, 0), true);
        check(&base().u32_be(2, 0), &base(), true);
        check(&base(), &base().u32_be(2, 1), false);
        check(&base(), &base().u32_be(1, 7), false);
        check(&base().u32_be(2, 1), &base(), false);
        check(&base(), &AttributeBuilder::default().u32_be(1, 8), false);
        let deep = |n| base().nest(3, &AttributeBuilder::default().u32_be(1, n));
        check(&deep(1), &deep(1), true);
        check(&deep(1), &deep(2), false);
    }

    #[test]
    fn the_order_of_a_list_matters() {
        let list = |a, b| {
            let one = |n| AttributeBuilder::default().u32_be(1, n);
            AttributeBuilder::default()
                .nest(1, &one(a))
                .nest(1, &one(b))
        };
        check(&list(1, 2), &list(1, 2), true);
        check(&list(1, 2), &list(2, 1), false);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Which elements an allow or a deny adds and removes. Pure.

use crate::ruleset_text::{
    ALLOW_SET, DENY_SET, FLOOR_RANGES, LEARNT_TIMEOUT, OVERRIDE_SET, PRIVATE_RANGES, add_elements,
    delete_elements, element_command,
};
use crate::shield_address::{ShieldAddress, without_covered};
use crate::table_listing::{SetElement, TableListing};

/// Commands for one transaction, and those that undo it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ElementPlan {
    /// Empty if the sets are as wanted already.
    pub(crate) script: String,
    /// Undoes the script.
    pub(crate) inverse: String,
}

/// Plans to allow addresses: removes denies of exactly these, and makes the allow permanent.
pub(crate) fn plan_allow(table: &TableListing, addresses: &[ShieldAddress]) -> ElementPlan {
    let is_live = table.has_default_timeout(ALLOW_SET);
    let undenied: Vec<_> = table
        .elements(DENY_SET)
        .filter(|element| is_one_of(element, addresses))
        .cloned()
        .collect();
    let mut added = Vec::new();
    let mut replaced: Vec<SetElement> = Vec::new();
    for address in without_covered(addresses.iter().copied()) {
        let is_allowed = table.elements(ALLOW_SET).any(|element| {
            element.address.covers(address)
                && (is_permanent(element) || !address.covers(element.address))
        });
        if !is_allowed {
            added.push(address);
            let narrower = table.elements(ALLOW_SET);
            replaced.extend(
                narrower
                    .filter(|element| address.covers(element.address))
                    .cloned(),
            );
        }
    }
    ElementPlan {
        script: delete_elements(DENY_SET, &addresses_of(&undenied))
            + &delete_elements(ALLOW_SET, &addresses_of(&replaced))
            + &add_elements(ALLOW_SET, &added, is_live),
        inverse: delete_elements(ALLOW_SET, &added)
            + &restore_elements(ALLOW_SET, &replaced, is_live)
            + &restore_elements(DENY_SET, &undenied, false),
    }
}

/// Plans to deny addresses: removes allows within them, and adds the denies.
pub(crate) fn plan_deny(table: &TableListing, addresses: &[ShieldAddress]) -> ElementPlan {
    let is_live = table.has_default_timeout(ALLOW_SET);
    let is_within = |element: &&SetElement| {
        addresses
            .iter()
            .any(|address| address.covers(element.address))
    };
    let removed: Vec<_> = table
        .elements(ALLOW_SET)
        .filter(is_within)
        .cloned()
        .collect();
    let mut added = Vec::new();
    let mut replaced: Vec<SetElement> = Vec::new();
    for address in without_covered(addresses.iter().copied()) {
        let mut denies = table.elements(DENY_SET);
        if !denies.any(|element| element.address.covers(address)) {
            added.push(address);
            let narrower = table.elements(DENY_SET);
            replaced.extend(
                narrower
                    .filter(|element| address.covers(element.address))
                    .cloned(),
            );
        }
    }
    ElementPlan {
        script: delete_elements(ALLOW_SET, &addresses_of(&removed))
            + &delete_elements(DENY_SET, &addresses_of(&replaced))
            + &add_elements(DENY_SET, &added, false),
        inverse: delete_elements(DENY_SET, &added)
            + &restore_elements(DENY_SET, &replaced, false)
            + &restore_elements(ALLOW_SET, &removed, is_live),
    }
}

/// Returns the first address that the sets do not allow.
pub(crate) fn find_not_allowed(
    table: &TableListing,
    addresses: &[ShieldAddress],
) -> Option<ShieldAddress> {
    addresses.iter().copied().find(|address| {
        !is_covered(table, ALLOW_SET, *address)
            || table
                .elements(DENY_SET)
                .any(|element| is_one_of(element, &[*address]))
    })
}

/// Returns the first address that the sets do not deny.
pub(crate) fn find_not_denied(
    table: &TableListing,
    addresses: &[ShieldAddress],
) -> Option<ShieldAddress> {
    addresses.iter().copied().find(|address| {
        let mut allows = table.elements(ALLOW_SET);
        !is_covered(table, DENY_SET, *address)
            || allows.any(|element| address.covers(element.address))
    })
}

/// Returns `true` if an element of the set covers the address.
pub(crate) fn is_covered(table: &TableListing, set: &str, address: ShieldAddress) -> bool {
    table
        .elements(set)
        .any(|element| element.address.covers(address))
}

/// Says why an allowed address is refused all the same.
pub(crate) fn describe_refusal(
    table: &TableListing,
    address: ShieldAddress,
) -> Option<&'static str> {
    let is_in = |ranges: &[&str]| {
        let mut ranges = ranges
            .iter()
            .filter_map(|range| range.parse::<ShieldAddress>().ok());
        ranges.any(|range| range.covers(address))
    };
    if is_in(&FLOOR_RANGES) {
        return Some("link-local and metadata addresses are never opened");
    }
    if is_covered(table, OVERRIDE_SET, address) {
        return None;
    }
    if is_covered(table, DENY_SET, address) {
        return Some("a wider deny covers it");
    }
    is_in(&PRIVATE_RANGES).then_some("private networks are opened by the override file only")
}

/// Returns the commands that add elements as they were, with the time that they had left.
pub(crate) fn restore_elements(set: &str, elements: &[SetElement], is_live: bool) -> String {
    ["v4", "v6"]
        .map(|family| {
            let own = elements
                .iter()
                .filter(|element| element.address.is_ipv4() == (family == "v4"));
            let texts: Vec<_> = own.map(|element| element_text(element, is_live)).collect();
            element_command("add", set, family, &texts)
        })
        .concat()
}

fn element_text(element: &SetElement, is_live: bool) -> String {
    let address = element.address;
    if !is_live {
        return address.to_string();
    }
    let timeout = element.timeout.as_deref();
    match &element.expires {
        Some(expires) => {
            let timeout = timeout.unwrap_or(LEARNT_TIMEOUT);
            format!("{address} timeout {timeout} expires {expires}")
        }
        None => format!("{address} timeout {}", timeout.unwrap_or("0s")),
    }
}

fn is_permanent(element: &SetElement) -> bool {
    element.expires.is_none()
}

/// Returns `true` if the element has exactly the extent of one of the addresses.
fn is_one_of(element: &SetElement, addresses: &[ShieldAddress]) -> bool {
    let mut prefixes = addresses.iter().map(|address| address.prefix());
    prefixes.any(|prefix| prefix == element.address.prefix())
}

fn addresses_of(elements: &[SetElement]) -> Vec<ShieldAddress> {
    elements.iter().map(|element| element.address).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table_listing::SetListing;

    fn parse(words: &str) -> Vec<ShieldAddress> {
        words
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }

    fn table(allowed: &[ShieldAddress], denied: &[ShieldAddress], is_live: bool) -> TableListing {
        let mut table = TableListing::default();
        for (set, addresses) in [(ALLOW_SET, allowed), (DENY_SET, denied)] {
            for family in ["v4", "v6"] {
                let own = addresses
                    .iter()
                    .filter(|address| address.is_ipv4() == (family == "v4"));
                let is_timed = is_live && set == ALLOW_SET;
                let elements = own.map(|address| SetElement {
                    address: *address,
                    timeout: None,
                    expires: is_timed.then(|| "5m".to_owned()),
                });
                let listing = SetListing {
                    has_default_timeout: is_timed,
                    elements: elements.collect(),
                };
                table.sets.insert(format!("{set}_{family}"), listing);
            }
        }
        table
    }

    fn check(allowed: &str, denied: &str, address: &str, allow: &str, deny: &str) {
        let table = table(&parse(allowed), &parse(denied), false);
        let short = |plan: ElementPlan| {
            plan.script
                .replace(" element inet terok_shield", "")
                .replace("t40_project_", "")
                .replace("t20_security_", "")
                .replace('\n', "; ")
        };
        let address = parse(address);
        assert_eq!(short(plan_allow(&table, &address)), allow, "allow");
        assert_eq!(short(plan_deny(&table, &address)), deny, "deny");
    }

    #[test]
    fn elements_change_only_where_they_must() {
        check(
            "",
            "",
            "192.0.2.1",
            "add allow_v4 { 192.0.2.1 }; ",
            "add deny_v4 { 192.0.2.1 }; ",
        );
        check(
            "192.0.2.1",
            "",
            "192.0.2.1",
            "",
            "delete allow_v4 { 192.0.2.1 }; add deny_v4 { 192.0.2.1 }; ",
        );
        check(
            "192.0.2.0/24",
            "192.0.2.1",
            "192.0.2.1",
            "delete deny_v4 { 192.0.2.1 }; ",
            "",
        );
        check(
            "192.0.2.1 2001:db8::1",
            "192.0.2.9",
            "192.0.2.0/24",
            "delete allow_v4 { 192.0.2.1 }; add allow_v4 { 192.0.2.0/24 }; ",
            "delete allow_v4 { 192.0.2.1 }; delete deny_v4 { 192.0.2.9 }; \
             add deny_v4 { 192.0.2.0/24 }; ",
        );
        check(
            "",
            "",
            "::1 ::/64",
            "add allow_v6 { ::/64 }; ",
            "add deny_v6 { ::/64 }; ",
        );
    }

    #[test]
    fn a_learnt_address_becomes_permanent_and_can_be_put_back() {
        let table = table(&parse("192.0.2.1"), &[], true);
        let plan = plan_allow(&table, &parse("192.0.2.1"));
        assert_eq!(
            plan.script,
            "delete element inet terok_shield t40_project_allow_v4 { 192.0.2.1 }\n\
             add element inet terok_shield t40_project_allow_v4 { 192.0.2.1 timeout 0s }\n"
        );
        assert_eq!(
            plan.inverse,
            "delete element inet terok_shield t40_project_allow_v4 { 192.0.2.1 }\n\
             add element inet terok_shield t40_project_allow_v4 { 192.0.2.1 timeout 30m expires 5m }\n"
        );
    }

    #[test]
    fn an_address_that_stays_refused_is_explained() {
        let mut table = table(&[], &parse("203.0.113.0/24"), false);
        let override_set = SetListing {
            elements: vec![SetElement {
                address: parse("10.0.0.1").remove(0),
                timeout: None,
                expires: None,
            }],
            ..SetListing::default()
        };
        table
            .sets
            .insert(format!("{OVERRIDE_SET}_v4"), override_set);
        let check = |address: &str, expected: Option<&str>| {
            let said = describe_refusal(&table, parse(address).remove(0));
            assert_eq!(
                said.map(|said| said.split(' ').next().unwrap()),
                expected,
                "{address}"
            );
        };
        check("169.254.169.254", Some("link-local"));
        check("203.0.113.7", Some("a"));
        check("10.0.0.1", None);
        check("10.0.0.2", Some("private"));
        check("fd00::1", Some("private"));
        check("192.0.2.1", None);
    }

    /// Applies commands to a table as nft does: an element that is missing, or that overlaps
    /// another one, is an error.
    fn apply(table: &TableListing, script: &str) -> TableListing {
        let mut table = table.clone();
        for line in script.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let set = &mut table.sets.get_mut(words[4]).unwrap().elements;
            let inner = line.split_once('{').unwrap().1.trim_end_matches('}');
            for text in inner.split(',') {
                let mut parts = text.split_whitespace();
                let address: ShieldAddress = parts.next().unwrap().parse().unwrap();
                let rest: Vec<_> = parts.collect();
                if words[0] == "delete" {
                    let at = set.iter().position(|element| element.address == address);
                    set.remove(at.expect("the element exists"));
                } else {
                    assert!(
                        !set.iter().any(|element| element.address.overlaps(address)),
                        "{line}"
                    );
                    set.push(SetElement {
                        address,
                        timeout: None,
                        expires: rest.contains(&"expires").then(|| "5m".to_owned()),
                    });
                }
            }
        }
        table
    }

    fn addresses(max: usize) -> impl Strategy<Value = Vec<ShieldAddress>> {
        // A few addresses, so that they often meet.
        let one = (0_u8..8, 26_u8..=32)
            .prop_map(|(last, length)| format!("192.0.2.{last}/{length}").parse().unwrap());
        prop::collection::vec(one, 0..max)
    }

    proptest! {
        #[test]
        fn plans_do_what_they_say_and_can_be_undone(
            allowed in addresses(4),
            denied in addresses(4),
            orders in addresses(4),
            is_live in any::<bool>(),
        ) {
            let before = table(&without_covered(allowed), &without_covered(denied), is_live);
            for (plan, is_allow) in
                [(plan_allow(&before, &orders), true), (plan_deny(&before, &orders), false)]
            {
                let after = apply(&before, &plan.script);
                if is_allow {
                    for order in &orders {
                        prop_assert!(is_covered(&after, ALLOW_SET, *order));
                        prop_assert!(!after.elements(DENY_SET).any(|one| is_one_of(one, &[*order])));
                    }
                    for element in after.elements(ALLOW_SET) {
                        prop_assert!(is_covered(&before, ALLOW_SET, element.address)
                            || orders.iter().any(|order| order.covers(element.address)));
                    }
                } else {
                    prop_assert_eq!(find_not_denied(&after, &orders), None);
                    for element in before.elements(DENY_SET) {
                        prop_assert!(is_covered(&after, DENY_SET, element.address));
                    }
                }
                let undone = apply(&after, &plan.inverse);
                let sorted = |table: &TableListing, set| {
                    let mut all: Vec<_> = table.elements(set).cloned().collect();
                    all.sort_by_key(|element| element.address);
                    all
                };
                for set in [ALLOW_SET, DENY_SET] {
                    prop_assert_eq!(sorted(&undone, set), sorted(&before, set));
                }
            }
        }
    }
}

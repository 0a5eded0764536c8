// SPDX-License-Identifier: Apache-2.0
//! Parses what `nft list table` prints.

use std::collections::BTreeMap;

use crate::shield_address::ShieldAddress;

/// The table as listed: sets with their elements, chains with their rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableListing {
    /// The sets by their names.
    pub(crate) sets: BTreeMap<String, SetListing>,
    /// The chains by their names.
    pub(crate) chains: BTreeMap<String, ChainListing>,
    /// Lines outside of sets and chains, such as other kinds of objects.
    pub(crate) others: Vec<String>,
}

/// A set as listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SetListing {
    /// Elements have a timeout unless they say otherwise.
    pub(crate) has_default_timeout: bool,
    /// The elements.
    pub(crate) elements: Vec<SetElement>,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetElement {
    /// The address or network.
    pub(crate) address: ShieldAddress,
    /// The timeout, as printed.
    pub(crate) timeout: Option<String>,
    /// The time until the element is removed, as printed.
    pub(crate) expires: Option<String>,
}

/// A chain as listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChainListing {
    /// The type, hook and policy.
    pub(crate) hook: String,
    /// The rules, without counts and in one spelling.
    pub(crate) rules: Vec<String>,
}

/// The block that a line belongs to.
enum ListedBlock {
    Table,
    Set(String),
    Chain(String),
    Other,
}

impl TableListing {
    /// Parses the listing of one table.
    pub(crate) fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let mut block = ListedBlock::Table;
        let mut elements = String::new();
        for line in text.lines() {
            let line = line.trim();
            if let Some(name) = opened(line, "chain ") {
                listing.chains.entry(name.clone()).or_default();
                block = ListedBlock::Chain(name);
            } else if let Some(name) = opened(line, "set ") {
                listing.sets.entry(name.clone()).or_default();
                elements.clear();
                block = ListedBlock::Set(name);
            } else if line == "}" {
                if let ListedBlock::Set(name) = &block
                    && let Some(set) = listing.sets.get_mut(name)
                {
                    set.elements = parse_elements(&elements);
                }
                block = ListedBlock::Table;
            } else {
                listing.push_line(&mut block, line, &mut elements);
            }
        }
        listing
    }

    fn push_line(&mut self, block: &mut ListedBlock, line: &str, elements: &mut String) {
        if line.is_empty() || line.starts_with("table ") {
            return;
        }
        match block {
            ListedBlock::Table => {
                self.others.push(line.to_owned());
                if line.ends_with('{') {
                    *block = ListedBlock::Other;
                }
            }
            ListedBlock::Other => {}
            ListedBlock::Set(name) => {
                if let Some(first) = line.strip_prefix("elements = ") {
                    elements.push_str(first);
                } else if !elements.is_empty() {
                    elements.push(' ');
                    elements.push_str(line);
                } else if line.starts_with("timeout ")
                    && let Some(set) = self.sets.get_mut(name)
                {
                    set.has_default_timeout = true;
                }
            }
            ListedBlock::Chain(name) => {
                let Some(chain) = self.chains.get_mut(name) else {
                    return;
                };
                if line.starts_with("type ") {
                    line.clone_into(&mut chain.hook);
                } else {
                    chain.rules.push(normalize_rule(line));
                }
            }
        }
    }

    /// Returns the elements of both families of a set.
    pub(crate) fn elements(&self, set: &str) -> impl Iterator<Item = &SetElement> {
        ["v4", "v6"]
            .into_iter()
            .filter_map(move |family| self.sets.get(&format!("{set}_{family}")))
            .flat_map(|set| &set.elements)
    }

    /// Returns `true` if elements of a set have a timeout unless they say otherwise.
    pub(crate) fn has_default_timeout(&self, set: &str) -> bool {
        let set = self.sets.get(&format!("{set}_v4"));
        set.is_some_and(|set| set.has_default_timeout)
    }
}

fn opened(line: &str, kind: &str) -> Option<String> {
    let name = line.strip_prefix(kind)?.strip_suffix('{')?.trim();
    Some(name.to_owned())
}

fn parse_elements(text: &str) -> Vec<SetElement> {
    let text = text.trim().trim_start_matches('{').trim_end_matches('}');
    text.split(',').filter_map(parse_element).collect()
}

fn parse_element(text: &str) -> Option<SetElement> {
    let mut words = text.split_whitespace();
    let mut element = SetElement {
        address: words.next()?.parse().ok()?,
        timeout: None,
        expires: None,
    };
    while let Some(word) = words.next() {
        let value = || words.next().filter(|value| is_duration(value));
        match word {
            "timeout" => element.timeout = { value }().map(str::to_owned),
            "expires" => element.expires = { value }().map(str::to_owned),
            _ => {}
        }
    }
    Some(element)
}

/// Returns `true` for times as nft prints them: `30m`, `1h22m10s`, `4m59s996ms`.
fn is_duration(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_digit() || "dhms".contains(c);
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_known)
}

/// Removes counts, and puts words in the order of the ruleset.
fn normalize_rule(line: &str) -> String {
    let mut words = Vec::new();
    let mut rest = line.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        match word {
            "packets" | "bytes" if words.contains(&"counter") => {
                rest.next();
            }
            // The group stands before or after the prefix.
            "group" => {
                rest.next();
            }
            // Older releases print `icmpx type admin-prohibited`.
            "type" if words.last() == Some(&"icmpx") => {}
            "related,established" => words.push("established,related"),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "table inet terok_shield {
\tset t40_project_allow_v4 {
\t\ttype ipv4_addr
\t\tflags interval,timeout
\t\ttimeout 30m
\t\telements = { 1.2.3.4 expires 29m59s996ms, 5.6.7.0/24 timeout 1h22m expires 1h1s,
\t\t\t     9.9.9.9 timeout 0s }
\t}

\tset t20_security_deny_v6 {
\t\ttype ipv6_addr
\t\tflags interval
\t}

\tchain output {
\t\ttype filter hook output priority filter; policy drop;
\t\tct state established,related accept
\t\tip daddr @x log prefix \"TEROK_SHIELD_ALLOWED: \" group 100 counter packets 3 bytes 180 accept
\t\treject with icmpx type admin-prohibited
\t}
}
";

    #[test]
    fn sets_and_chains_are_parsed() {
        let listing = TableListing::parse(LISTING);
        let shown: Vec<_> = listing
            .elements("t40_project_allow")
            .map(|element| {
                let [timeout, expires] =
                    [&element.timeout, &element.expires].map(|time| time.as_deref().unwrap_or("-"));
                format!("{} {timeout} {expires}", element.address)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "1.2.3.4 - 29m59s996ms",
                "5.6.7.0/24 1h22m 1h1s",
                "9.9.9.9 0s -"
            ]
        );
        assert!(listing.has_default_timeout("t40_project_allow"));
        assert!(!listing.has_default_timeout("t20_security_deny"));
        assert_eq!(listing.elements("t20_security_deny").count(), 0);
        let output = &listing.chains["output"];
        assert_eq!(
            output.hook,
            "type filter hook output priority filter; policy drop;"
        );
        assert_eq!(
            output.rules,
            [
                "ct state established,related accept",
                "ip daddr @x log prefix \"TEROK_SHIELD_ALLOWED: \" counter accept",
                "reject with icmpx admin-prohibited",
            ]
        );
        assert_eq!(listing.others, [""; 0]);
    }

    #[test]
    fn an_unknown_block_is_not_overlooked() {
        let listing = TableListing::parse(
            "table inet terok_shield {\n\tmap m {\n\t\ttype ipv4_addr : verdict\n\t}\n}\n",
        );
        assert_eq!(listing.others, ["map m {"]);
        assert_eq!(TableListing::parse(""), TableListing::default());
    }
}

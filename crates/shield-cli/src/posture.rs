// SPDX-License-Identifier: Apache-2.0
//! Tells from the kernel's rules what a firewall enforces.
//!
//! A posture is only reported if every rule that accepts is one of this posture, in its place:
//! an added rule makes the posture `error`.

use std::fmt;
use std::net::IpAddr;

use terok_clearance::IpPrefix;

use crate::ruleset_text::{
    ALLOW_SET, BYPASS_SET, DENY_SET, FLOOR_RANGES, OVERRIDE_SET, PASTA_HOST, PRIVATE_RANGES,
    PROVIDER_SET, SETS,
};
use crate::table_listing::{ChainListing, TableListing};

/// What the firewall of a container enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShieldPosture {
    /// Everything is dropped.
    Quarantine,
    /// Everything is refused but the allowed.
    Up,
    /// Everything is accepted but the denied, the private and the floor.
    Down,
    /// Everything is accepted.
    Disengaged,
    /// There are no rules.
    Offline,
    /// The rules are none of these.
    Error,
}

impl ShieldPosture {
    /// Returns the word that `status` prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Up => "up",
            Self::Down => "down",
            Self::Disengaged => "disengaged",
            Self::Offline => "offline",
            Self::Error => "error",
        }
    }

    /// Tells the posture from a listing; with `Error`, the first reason why it is not `Up`.
    pub(crate) fn of_listing(listing: Option<&TableListing>) -> (Self, Option<PostureFault>) {
        let Some(listing) = listing else {
            return (Self::Offline, None);
        };
        let candidates = [Self::Quarantine, Self::Down, Self::Disengaged, Self::Up];
        let mut fault = None;
        for posture in candidates {
            match posture.check(listing) {
                Ok(()) => return (posture, None),
                Err(found) => fault = Some(found),
            }
        }
        (Self::Error, fault)
    }

    /// Checks that a listing enforces this posture.
    pub(crate) fn check(self, listing: &TableListing) -> Result<(), PostureFault> {
        if let Some(other) = listing.others.first() {
            return Err(PostureFault::Unexpected(other.clone()));
        }
        let policy = match self {
            Self::Quarantine | Self::Up => "drop",
            Self::Down | Self::Disengaged => "accept",
            Self::Offline | Self::Error => return Err(PostureFault::Missing("a table".into())),
        };
        let output = chain(listing, "output", policy)?;
        let input = chain(listing, "input", "drop")?;
        check_input(input)?;
        if let Some(name) = listing.chains.keys().find(|name| !is_own_chain(name)) {
            return Err(PostureFault::Unexpected(format!("chain {name}")));
        }
        check_sets(listing, self)?;
        let expected = self.expected_rules();
        let mut wanted = expected.iter().peekable();
        for rule in &output.rules {
            if wanted.peek().is_some_and(|next| *next == rule) {
                wanted.next();
            } else if self == Self::Quarantine
                || wanted.len() != expected.len().saturating_sub(PREAMBLE)
                || !is_infrastructure(rule)
            {
                return Err(PostureFault::Unexpected(rule.clone()));
            }
        }
        match wanted.next() {
            Some(rule) => Err(PostureFault::Missing(rule.clone())),
            None => Ok(()),
        }
    }

    /// Returns the rules of the output chain, without those for resolver and host.
    fn expected_rules(self) -> Vec<String> {
        let mut rules = vec![
            "oifname \"lo\" accept".to_owned(),
            "ct state established,related accept".to_owned(),
        ];
        let ranges = |ranges: &[&str]| -> Vec<String> {
            let rule = |range: &&str| {
                let family = if range.contains(':') { "ip6" } else { "ip" };
                format!("{family} daddr {range} {} {REJECT}", log("PRIVATE"))
            };
            ranges.iter().map(rule).collect()
        };
        let set = |set: &str, prefix: &str, verdict: &str| {
            [("ip", "v4"), ("ip6", "v6")].map(|(word, family)| {
                format!(
                    "{word} daddr @{set}_{family} {} counter {verdict}",
                    log(prefix)
                )
            })
        };
        let bypass = format!("ct state new {} counter", log("BYPASS"));
        match self {
            Self::Quarantine => rules.push(format!("{} drop", log("BLOCKED"))),
            Self::Up | Self::Down => {
                let override_prefix = if self == Self::Up {
                    "ALLOWED"
                } else {
                    "BYPASS"
                };
                rules.extend(ranges(&FLOOR_RANGES));
                rules.extend(set(OVERRIDE_SET, override_prefix, "accept"));
                rules.extend(set(DENY_SET, "DENIED", REJECT));
                rules.extend(ranges(&PRIVATE_RANGES));
                if self == Self::Down {
                    rules.push(bypass);
                } else {
                    rules.extend(set(PROVIDER_SET, "ALLOWED", "accept"));
                    rules.extend(set(ALLOW_SET, "ALLOWED", "accept"));
                    rules.extend(set(BYPASS_SET, "BYPASS", "accept"));
                    rules.push(format!("{} counter {REJECT}", log("BLOCKED")));
                }
            }
            Self::Disengaged | Self::Offline | Self::Error => rules.push(bypass),
        }
        rules
    }
}

impl fmt::Display for ShieldPosture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a listing does not enforce a posture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostureFault {
    /// Something is missing.
    #[error("the firewall lacks {0:?}")]
    Missing(String),
    /// Something should not be there.
    #[error("the firewall has {0:?}, which it should not have")]
    Unexpected(String),
}

/// Rules for the loopback interface and for established connections.
const PREAMBLE: usize = 2;
const REJECT: &str = "reject with icmpx admin-prohibited";

fn log(prefix: &str) -> String {
    format!("log prefix \"TEROK_SHIELD_{prefix}: \"")
}

fn is_own_chain(name: &str) -> bool {
    matches!(name, "output" | "input")
}

fn chain<'a>(
    listing: &'a TableListing,
    name: &str,
    policy: &str,
) -> Result<&'a ChainListing, PostureFault> {
    let missing = || PostureFault::Missing(format!("chain {name}"));
    let chain = listing.chains.get(name).ok_or_else(missing)?;
    let expected = format!("type filter hook {name} priority filter; policy {policy};");
    let numbered = format!("type filter hook {name} priority 0; policy {policy};");
    if chain.hook == expected || chain.hook == numbered {
        Ok(chain)
    } else {
        Err(PostureFault::Missing(expected))
    }
}

fn check_input(chain: &ChainListing) -> Result<(), PostureFault> {
    let expected = [
        "iifname \"lo\" accept",
        "ct state established,related accept",
        "drop",
    ];
    let mut found = chain.rules.iter();
    for rule in expected {
        match found.next() {
            Some(other) if other == rule => {}
            Some(other) => return Err(PostureFault::Unexpected(other.clone())),
            None => return Err(PostureFault::Missing(rule.to_owned())),
        }
    }
    found
        .next()
        .map_or(Ok(()), |rule| Err(PostureFault::Unexpected(rule.clone())))
}

fn check_sets(listing: &TableListing, posture: ShieldPosture) -> Result<(), PostureFault> {
    if posture == ShieldPosture::Quarantine {
        let set = listing.sets.keys().next();
        return set.map_or(Ok(()), |name| {
            Err(PostureFault::Unexpected(format!("set {name}")))
        });
    }
    for set in SETS {
        for family in ["v4", "v6"] {
            let name = format!("{set}_{family}");
            if !listing.sets.contains_key(&name) {
                return Err(PostureFault::Missing(format!("set {name}")));
            }
        }
    }
    Ok(())
}

/// Returns `true` for rules that lead to one resolver (`tcp dport 53 ip daddr 169.254.1.1 accept`)
/// or to a TCP port of the host, which has a private address or that of pasta.
fn is_infrastructure(rule: &str) -> bool {
    let words: Vec<_> = rule.split(' ').collect();
    match words.as_slice() {
        [protocol, "dport", port, family, "daddr", address, "accept"] => {
            let Ok(address) = address.parse::<IpAddr>() else {
                return false;
            };
            let is_family = *family == if address.is_ipv4() { "ip" } else { "ip6" };
            let is_host = address == PASTA_HOST || IpPrefix::containing(address, 128).is_private();
            is_family
                && match (*protocol, *port) {
                    ("udp" | "tcp", "53") => true,
                    ("tcp", port) => is_host && port.parse::<u16>().is_ok(),
                    _ => false,
                }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset_text::{RulesetValues, quarantine_ruleset};
    use crate::state_bundle::join_lines;

    /// Writes a ruleset as a listing has it: one statement a line.
    fn listing(ruleset: &str) -> TableListing {
        let text = join_lines(
            ruleset
                .lines()
                .map(|line| match line.trim().strip_prefix("set ") {
                    Some(set) => format!("set {} {{\n}}", set.split(' ').next().unwrap()),
                    None => line.replace("group 100 ", ""),
                }),
        );
        TableListing::parse(&text)
    }

    fn values() -> RulesetValues {
        RulesetValues {
            loopback_ports: vec![8000, 9000],
            gateways: Some(("10.0.2.2".parse().unwrap(), "fd00::2".parse().unwrap())),
            is_live: true,
            ..RulesetValues::default()
        }
    }

    fn posture(ruleset: &str) -> ShieldPosture {
        ShieldPosture::of_listing(Some(&listing(ruleset))).0
    }

    #[test]
    fn each_ruleset_is_its_own_posture() {
        for values in [values(), RulesetValues::default()] {
            assert_eq!(posture(&values.up()), ShieldPosture::Up);
            assert_eq!(posture(&values.down()), ShieldPosture::Down);
            assert_eq!(posture(&values.disengaged()), ShieldPosture::Disengaged);
        }
        assert_eq!(posture(&quarantine_ruleset()), ShieldPosture::Quarantine);
        assert_eq!(ShieldPosture::of_listing(None).0, ShieldPosture::Offline);
        assert_eq!(posture(""), ShieldPosture::Error);
    }

    #[test]
    fn every_missing_or_added_line_is_an_error() {
        let rulesets = [values().up(), values().down(), quarantine_ruleset()];
        for ruleset in rulesets {
            let whole = posture(&ruleset);
            let lines: Vec<_> = ruleset.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                if ["}", ""].contains(&line.trim()) || line.contains("table") {
                    continue;
                }
                let mut without = lines.clone();
                without.remove(at);
                let found = posture(&without.join("\n"));
                // A container may have fewer ports of the host.
                let may_lack = is_infrastructure(line.trim());
                assert_eq!(found == whole, may_lack, "without {line}");
                if !line.contains("chain") && !line.contains("set ") {
                    let mut with = lines.clone();
                    with.insert(at + 1, "tcp dport 443 ip daddr 203.0.113.7 accept");
                    assert_eq!(
                        posture(&with.join("\n")),
                        ShieldPosture::Error,
                        "after {line}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_rule_in_another_place_is_an_error() {
        let up = values().up();
        let terminal = up
            .lines()
            .find(|line| line.contains("BLOCKED"))
            .unwrap()
            .to_owned();
        let moved = up.replace("    chain input", "X    chain input");
        let moved = moved.replace("X    chain input", "    chain input");
        assert_eq!(posture(&moved), ShieldPosture::Up);
        let late = up.replace(
            &terminal,
            &format!("{terminal}\n        tcp dport 80 ip daddr 203.0.113.7 accept"),
        );
        assert_eq!(posture(&late), ShieldPosture::Error);
        let jump = up.replace(&terminal, &format!("        jump other\n{terminal}"));
        assert_eq!(posture(&jump), ShieldPosture::Error);
        let hook = up.replace("priority filter", "priority filter + 1");
        assert_eq!(posture(&hook), ShieldPosture::Error);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The rulesets of the three postures in the syntax of `nft -f`.
//!
//! Table, sets, rules and their order are those of the Python shield, so that either program can
//! change what the other one loaded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::shield_address::{ShieldAddress, without_covered};
use crate::state_bundle::join_lines;

/// The table, with its family.
pub(crate) const TABLE: &str = "inet terok_shield";

/// Link-local addresses and the metadata services of clouds: refused above every allow.
pub(crate) const FLOOR_RANGES: [&str; 3] = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254"];
/// Private networks: refused unless an override allows an address.
pub(crate) const PRIVATE_RANGES: [&str; 4] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The sets without the suffix of their family.
pub(crate) const OVERRIDE_SET: &str = "t10_override";
pub(crate) const DENY_SET: &str = "t20_security_deny";
pub(crate) const PROVIDER_SET: &str = "t30_provider_allow";
pub(crate) const ALLOW_SET: &str = "t40_project_allow";
pub(crate) const BYPASS_SET: &str = "bypass_window";
pub(crate) const SETS: [&str; 5] = [OVERRIDE_SET, DENY_SET, PROVIDER_SET, ALLOW_SET, BYPASS_SET];

/// The address of pasta's resolver, the default.
pub(crate) const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The address that pasta translates to the host's loopback interface.
pub(crate) const PASTA_HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// The timeout of addresses that dnsmasq adds.
pub(crate) const LEARNT_TIMEOUT: &str = "30m";

const REJECT: &str = "reject with icmpx admin-prohibited";
const GROUP: u16 = 100;

/// The values of a container in its rulesets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesetValues {
    /// The resolver.
    pub dns: IpAddr,
    /// TCP ports of the host's loopback interface.
    pub loopback_ports: Vec<u16>,
    /// The address of the host for a container of slirp4netns.
    pub gateways: Option<(Ipv4Addr, Ipv6Addr)>,
    /// dnsmasq adds addresses, with a timeout.
    pub is_live: bool,
}

impl Default for RulesetValues {
    fn default() -> Self {
        Self {
            dns: PASTA_DNS.into(),
            loopback_ports: Vec::new(),
            gateways: None,
            is_live: false,
        }
    }
}

impl RulesetValues {
    /// Returns the ruleset that refuses everything but the allowed.
    pub fn up(&self) -> String {
        let mut rules = self.preamble();
        range_rules(&mut rules, &FLOOR_RANGES);
        set_rules(&mut rules, OVERRIDE_SET, "ALLOWED", "accept");
        set_rules(&mut rules, DENY_SET, "DENIED", REJECT);
        range_rules(&mut rules, &PRIVATE_RANGES);
        for (set, prefix) in [
            (PROVIDER_SET, "ALLOWED"),
            (ALLOW_SET, "ALLOWED"),
            (BYPASS_SET, "BYPASS"),
        ] {
            set_rules(&mut rules, set, prefix, "accept");
        }
        rules.push(format!("{} counter {REJECT}", log("BLOCKED")));
        self.table(&rules, "drop")
    }

    /// Returns the ruleset that accepts and logs, but keeps refusing what is denied, private and
    /// floor.
    pub fn down(&self) -> String {
        let mut rules = self.preamble();
        range_rules(&mut rules, &FLOOR_RANGES);
        set_rules(&mut rules, OVERRIDE_SET, "BYPASS", "accept");
        set_rules(&mut rules, DENY_SET, "DENIED", REJECT);
        range_rules(&mut rules, &PRIVATE_RANGES);
        rules.push(format!("ct state new {} counter", log("BYPASS")));
        self.table(&rules, "accept")
    }

    /// Returns the ruleset that only logs.
    pub fn disengaged(&self) -> String {
        let mut rules = self.preamble();
        rules.push(format!("ct state new {} counter", log("BYPASS")));
        self.table(&rules, "accept")
    }

    fn preamble(&self) -> Vec<String> {
        let dns = format!(
            "{} daddr {} accept",
            family_word(self.dns.is_ipv4()),
            self.dns
        );
        let mut rules = vec![
            "oifname \"lo\" accept".to_owned(),
            "ct state established,related accept".to_owned(),
            format!("udp dport 53 {dns}"),
            format!("tcp dport 53 {dns}"),
        ];
        for port in &self.loopback_ports {
            if let Some((v4, v6)) = self.gateways {
                rules.push(format!("tcp dport {port} ip daddr {v4} accept"));
                rules.push(format!("tcp dport {port} ip6 daddr {v6} accept"));
            }
        }
        for port in &self.loopback_ports {
            rules.push(format!("tcp dport {port} ip daddr {PASTA_HOST} accept"));
        }
        rules
    }

    fn table(&self, rules: &[String], policy: &str) -> String {
        let mut text = format!("table {TABLE} {{\n");
        for set in SETS {
            let flags = match (set, self.is_live) {
                (ALLOW_SET, true) => format!("interval, timeout; timeout {LEARNT_TIMEOUT};"),
                (BYPASS_SET, _) => "interval, timeout;".to_owned(),
                _ => "interval;".to_owned(),
            };
            for family in ["v4", "v6"] {
                let set =
                    format!("    set {set}_{family} {{ type ip{family}_addr; flags {flags} }}\n");
                text.push_str(&set);
            }
        }
        text.push('\n');
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        push_chain(&mut text, "output", policy, &rules);
        text.push('\n');
        push_chain(&mut text, "input", "drop", &INPUT_RULES);
        text.push_str("}\n");
        text
    }
}

const INPUT_RULES: [&str; 3] = [
    "iifname \"lo\" accept",
    "ct state established,related accept",
    "drop",
];

/// Returns the ruleset that drops everything but the loopback interface and connections that are
/// established.
pub fn quarantine_ruleset() -> String {
    let dropped = format!("{} drop", log("BLOCKED"));
    let rules = [
        "oifname \"lo\" accept",
        "ct state established,related accept",
        &dropped,
    ];
    let mut text = format!("table {TABLE} {{\n");
    push_chain(&mut text, "output", "drop", &rules);
    text.push('\n');
    push_chain(&mut text, "input", "drop", &INPUT_RULES);
    text.push_str("}\n");
    text
}

/// Removes the table, whether it exists or not.
pub(crate) fn remove_table() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// Returns the commands that add `addresses` to a set; permanent in a set with a timeout.
pub(crate) fn add_elements(set: &str, addresses: &[ShieldAddress], is_live: bool) -> String {
    let timeout = if is_live { " timeout 0s" } else { "" };
    by_family(&without_covered(addresses.iter().copied()))
        .map(|(family, addresses)| {
            let elements: Vec<_> = addresses
                .iter()
                .map(|address| format!("{address}{timeout}"))
                .collect();
            element_command("add", set, family, &elements)
        })
        .concat()
}

/// Returns the commands that remove elements that exist.
pub(crate) fn delete_elements(set: &str, addresses: &[ShieldAddress]) -> String {
    by_family(addresses)
        .map(|(family, addresses)| {
            let elements: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            element_command("delete", set, family, &elements)
        })
        .concat()
}

/// Returns the commands for elements of one family.
pub(crate) fn element_command(verb: &str, set: &str, family: &str, elements: &[String]) -> String {
    // The text of a command is parsed as a whole; very long ones are slow.
    let commands = elements.chunks(1000).map(|part| {
        let elements = part.join(", ");
        format!("{verb} element {TABLE} {set}_{family} {{ {elements} }}")
    });
    join_lines(commands)
}

fn by_family(addresses: &[ShieldAddress]) -> [(&'static str, Vec<ShieldAddress>); 2] {
    let (v4, v6) = addresses.iter().partition(|address| address.is_ipv4());
    [("v4", v4), ("v6", v6)]
}

fn push_chain(text: &mut String, name: &str, policy: &str, rules: &[&str]) {
    let hook = format!("type filter hook {name} priority filter; policy {policy};");
    let open = format!("    chain {name} {{\n        {hook}\n");
    text.push_str(&open);
    for rule in rules {
        text.push_str("        ");
        text.push_str(rule);
        text.push('\n');
    }
    text.push_str("    }\n");
}

fn range_rules(rules: &mut Vec<String>, ranges: &[&str]) {
    for range in ranges {
        let family = family_word(!range.contains(':'));
        rules.push(format!(
            "{family} daddr {range} {} {REJECT}",
            log("PRIVATE")
        ));
    }
}

fn set_rules(rules: &mut Vec<String>, set: &str, prefix: &str, verdict: &str) {
    for (word, family) in [("ip", "v4"), ("ip6", "v6")] {
        let log = log(prefix);
        rules.push(format!(
            "{word} daddr @{set}_{family} {log} counter {verdict}"
        ));
    }
}

fn log(prefix: &str) -> String {
    format!("log group {GROUP} prefix \"TEROK_SHIELD_{prefix}: \"")
}

const fn family_word(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "ip" } else { "ip6" }
}

// SPDX-License-Identifier: Apache-2.0
//! Tests of `shield`'s ruleset, judged by the `nft` program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use shield::{NftShield, Policy, RulesetDifference, ShieldError, preview};
use terok_clearance::Scope;
use test_support::namespaces::require_private_namespaces;

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn now() -> Instant {
    Instant::now()
}

fn policy(resolvers: &[&str]) -> Policy {
    Policy::new(resolvers.iter().map(|ip| ip.parse().unwrap())).unwrap()
}

fn with_name_server(resolvers: &[&str]) -> Policy {
    Policy::with_name_server(resolvers.iter().map(|ip| ip.parse().unwrap())).unwrap()
}

fn load(text: &str) {
    assert!(try_load(text), "nft refuses\n{text}");
}

fn try_load(text: &str) -> bool {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    nft.wait().unwrap().success()
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the listing of `nft -j` without the handles assigned by the kernel.
fn listing() -> Value {
    let mut value: Value = serde_json::from_str(&nft(&["-j", "list", "ruleset"])).unwrap();
    without_handles(&mut value);
    value
}

fn without_handles(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            fields.values_mut().for_each(without_handles);
        }
        Value::Array(items) => items.iter_mut().for_each(without_handles),
        _ => {}
    }
}

/// Returns the expressions as stored in the kernel.
fn bytecode() -> String {
    let all = nft(&["--debug=netlink", "list", "ruleset"]);
    all.lines()
        .filter(|line| line.starts_with("  [ "))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// Compares line by line for readable failures.
fn check_lines(actual: &str, expected: &str) {
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

fn check_same(policy: &Policy) {
    check_same_as_text(&preview(policy), || {
        drop(NftShield::engage(shield::open_nftables_socket().unwrap(), policy).unwrap());
    });
}

/// Compares what `nft` makes of a text with what `engage` loads.
fn check_same_as_text(text: &str, engage: impl FnOnce()) {
    require_private_namespaces();
    load(text);
    let (text, json, code) = (nft(&["list", "ruleset"]), listing(), bytecode());
    nft(&["flush", "ruleset"]);
    engage();
    check_lines(&nft(&["list", "ruleset"]), &text);
    check_lines(&bytecode(), &code);
    assert_eq!(listing(), json);
}

#[test]
fn the_preview_loads_to_the_same_ruleset() {
    check_same(&policy(&["198.51.100.53", "2001:db8:53::53"]));
}

#[test]
fn the_preview_without_resolvers_loads_to_the_same_ruleset() {
    check_same(&policy(&[]));
}

#[test]
fn the_preview_with_more_resolvers_loads_to_the_same_ruleset() {
    check_same(&policy(&["10.0.2.3", "198.51.100.53", "fe80::53"]));
}

#[test]
fn the_preview_with_a_name_server_loads_to_the_same_ruleset() {
    check_same(&with_name_server(&[]));
    nft(&["flush", "ruleset"]);
    check_same(&with_name_server(&["198.51.100.53", "2001:db8:53::53"]));
}

#[test]
fn the_rules_of_a_gateway_are_those_of_their_preview() {
    for has_ipv6 in [true, false] {
        check_same_as_text(&shield::preview_gateway(has_ipv6), || {
            shield::engage_gateway(shield::open_nftables_socket().unwrap(), has_ipv6).unwrap();
        });
        nft(&["flush", "ruleset"]);
    }
}

#[test]
fn the_rules_of_a_gateway_are_loaded_again_without_a_gap() {
    require_private_namespaces();
    let engage = || shield::engage_gateway(shield::open_nftables_socket().unwrap(), true).unwrap();
    let list = || {
        let listed = Command::new("nft")
            .args(["--handle", "list", "ruleset"])
            .output();
        String::from_utf8(listed.unwrap().stdout).unwrap()
    };
    engage();
    let before = list();
    assert!(before.contains("prerouting"), "{before}");
    engage();
    assert_eq!(list(), before, "the handles stay: nothing was replaced");
    // What another program has changed is replaced.
    nft(&["add", "rule", "inet", "terok_shield", "forward", "accept"]);
    engage();
    let nftables = shield::open_nftables_socket().unwrap();
    shield::verify_gateway(nftables, true).unwrap();
}

#[test]
fn a_ruleset_loaded_by_nft_can_be_attached() {
    require_private_namespaces();
    let policy = policy(&["198.51.100.53", "2001:db8:53::53"]);
    load(&preview(&policy));
    let mut shield =
        NftShield::attach(shield::open_nftables_socket().unwrap(), &policy, now()).unwrap();
    shield.verify().unwrap();
}

#[test]
fn an_existing_ruleset_is_recognised_for_any_resolvers() {
    require_private_namespaces();
    let find =
        || NftShield::attach_existing(shield::open_nftables_socket().unwrap(), now()).unwrap();
    assert!(find().is_none(), "no ruleset is loaded");
    load(
        "table inet terok_shield {\nset resolver4 {\ntype ipv4_addr\n\
         elements = { 127.0.0.1 }\n}\n}\n",
    );
    assert!(find().is_none(), "a foreign table of the same name");
    for policy in [
        policy(&[]),
        policy(&["198.51.100.53", "2001:db8:53::53"]),
        with_name_server(&[]),
        with_name_server(&["10.0.2.3"]),
    ] {
        load(&preview(&policy));
        let mut shield = find().unwrap();
        shield.verify().unwrap();
        let target = "203.0.113.7".parse().unwrap();
        let scope = Scope::whole_dest("203.0.113.7".parse().unwrap());
        shield.allow(&target, &scope, now()).unwrap();
        assert_eq!(
            find().unwrap().list_elements().unwrap().len(),
            1,
            "the orders are included"
        );
    }
}

#[test]
fn every_change_of_the_ruleset_is_detected() {
    require_private_namespaces();
    check_every_change(&policy(&["198.51.100.53"]));
}

#[test]
fn every_change_of_the_ruleset_with_a_name_server_is_detected() {
    require_private_namespaces();
    check_every_change(&with_name_server(&["198.51.100.53"]));
}

fn check_every_change(policy: &Policy) {
    let text = preview(policy);
    let lines: Vec<_> = text.lines().collect();
    let mut changes = 0;
    for at in 3..lines.len() {
        let line = lines[at].trim();
        // Without this line the ruleset differs, if it is valid at all. A set filled by packets is
        // dynamic even without the flag.
        let default = line.contains("dynamic");
        if line.is_empty() || line.starts_with('#') || line == "}" || default {
            continue;
        }
        let rest: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, line)| *line)
            .collect();
        nft(&["flush", "ruleset"]);
        if !try_load(&format!("{}\n", rest.join("\n"))) {
            continue;
        }
        let attached = NftShield::attach(shield::open_nftables_socket().unwrap(), policy, now());
        assert!(
            matches!(attached, Err(ShieldError::Differs(_))),
            "without {line:?}: {attached:?}"
        );
        changes += 1;
    }
    assert!(changes > 40, "{changes}");
}

fn check_difference(command: &[&str], expected: &RulesetDifference) {
    require_private_namespaces();
    let policy = policy(&["198.51.100.53"]);
    let mut shield = NftShield::engage(shield::open_nftables_socket().unwrap(), &policy).unwrap();
    nft(command);
    match shield.verify() {
        Err(ShieldError::Differs(difference)) => assert_eq!(&difference, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepting_policy_is_detected() {
    let policy = "chain inet terok_shield output { policy accept ; }";
    check_difference(&["add", policy], &RulesetDifference::Chain("output"));
}

#[test]
fn an_inserted_rule_is_detected() {
    let rule = "rule inet terok_shield output accept";
    check_difference(
        &["insert", rule],
        &RulesetDifference::Rule {
            chain: "output",
            at: 0,
        },
    );
}

#[test]
fn an_appended_rule_is_detected() {
    let rule = "rule inet terok_shield forward accept";
    check_difference(
        &["add", rule],
        &RulesetDifference::Rule {
            chain: "forward",
            at: 1,
        },
    );
}

#[test]
fn an_additional_chain_is_detected() {
    check_difference(
        &["add", "chain inet terok_shield more"],
        &RulesetDifference::Chains,
    );
}

#[test]
fn a_dormant_table_is_detected() {
    let table = "table inet terok_shield { flags dormant ; }";
    check_difference(&["add", table], &RulesetDifference::Dormant);
}

#[test]
fn a_deleted_table_is_detected() {
    check_difference(
        &["delete", "table", "inet", "terok_shield"],
        &RulesetDifference::NoTable,
    );
}

#[test]
fn the_floor_cannot_be_changed() {
    require_private_namespaces();
    drop(NftShield::engage(shield::open_nftables_socket().unwrap(), &policy(&[])).unwrap());
    for set in ["floor4", "private4"] {
        for verb in ["add", "delete"] {
            let element = format!("{verb} element inet terok_shield {set} {{ 10.0.0.0/8 }}");
            assert!(!try_load(&element), "{element}");
        }
    }
}

#[test]
fn attaching_without_a_table_is_an_error() {
    require_private_namespaces();
    let attached = NftShield::attach(shield::open_nftables_socket().unwrap(), &policy(&[]), now());
    assert!(
        matches!(
            attached,
            Err(ShieldError::Differs(RulesetDifference::NoTable))
        ),
        "{attached:?}"
    );
}

#[test]
fn other_tables_are_not_changed() {
    require_private_namespaces();
    load(
        "table inet other { chain c { type filter hook output priority 5; tcp dport 1 drop\n}\n}\n",
    );
    let before = nft(&["list", "table", "inet", "other"]);
    let mut shield =
        NftShield::engage(shield::open_nftables_socket().unwrap(), &policy(&[])).unwrap();
    shield.verify().unwrap();
    assert_eq!(nft(&["list", "table", "inet", "other"]), before);
}

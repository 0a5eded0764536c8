// SPDX-License-Identifier: Apache-2.0
//! Tests of explanations.

use std::path::Path;

use serde_json::{Value, json};
use test_support::questions::NOON_MICROS;

use super::*;

fn rule(name: &str, changes: Value) -> Value {
    let mut rule = json!({
        "rule": name, "action": "allow", "dest": "api.example.com:443/tcp", "keep": "sandbox",
        "origin": "decision", "origin_name": "web:17", "by": "uid 1000",
        "since": NOON_MICROS, "uses": 1, "open": 1,
    });
    if let Value::Object(changes) = changes {
        rule.as_object_mut().unwrap().extend(changes);
    }
    rule
}

fn explained(target: &str, reply: Value) -> String {
    let reply: ExplainReply = serde_json::from_value(reply).unwrap();
    let explanation = Explanation {
        hub: &HubId::new(Path::new("/run/hub.sock")),
        sandbox: &"web".into(),
        target: &target.parse().unwrap(),
        reply: &reply,
        now: Timestamp::from_micros(NOON_MICROS + 60_000_000),
    };
    explanation.to_text()
}

#[test]
fn a_target_is_one_destination() {
    let check = |text: &str, dest: &str, port: Option<u16>, protocol: Option<Protocol>| {
        let target: ExplainTarget = text.parse().unwrap();
        let expected = ExplainParameters {
            dest: dest.into(),
            port,
            protocol,
        };
        assert_eq!(*target.parameters(), expected);
    };
    check("api.example.com", "api.example.com", None, None);
    check("API.example.com:80", "api.example.com", Some(80), None);
    check(
        "a.example:53/udp",
        "a.example",
        Some(53),
        Some(Protocol::UDP),
    );
    check("192.0.2.1/icmp", "192.0.2.1", None, Some(Protocol::ICMP));
    check("[2001:db8::1]:443", "2001:db8::1", Some(443), None);
    for text in [
        "",
        "*",
        "*.example.com",
        "192.0.2.0/24",
        "a.example:1-2",
        "a b",
        "a.example:0",
    ] {
        assert!(text.parse::<ExplainTarget>().is_err(), "{text:?}");
    }
}

#[test]
fn an_allowed_destination_has_its_rule_and_the_way_back() {
    let text = explained(
        "api.example.com",
        json!({"verdict": "allow", "rule": rule("r12", json!({})), "others": []}),
    );
    assert_eq!(
        text,
        "web: api.example.com port 443/tcp is allowed by web:r12, allow api.example.com port \
         443/tcp, for this run (the answer to web:17 by uid 1000, 1 minute ago; 1 connection; 1 \
         open now)\n  \
         to close it: `terok-clearance revoke web:r12`; the next connection then asks\n"
    );
}

#[test]
fn every_verdict_says_what_would_change_it() {
    let check = |reply: Value, happens: &str, change: &str| {
        let text = explained("a.example:80", reply);
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.contains(happens), "{text}");
        assert!(rest.contains(change), "{text}");
    };
    let wide = rule(
        "r2",
        json!({"dest": "*.example", "origin": "profile", "origin_name": "npm"}),
    );
    check(
        json!({"verdict": "deny", "rule": rule("r9", json!({"action": "deny"})), "others": [wide]}),
        "is denied by web:r9",
        "  also covers it: web:r2, allow every name below example",
    );
    check(
        json!({"verdict": "deny", "rule": rule("r9", json!({"action": "deny"})), "others": [wide]}),
        "is denied by web:r9",
        "to be asked again: `terok-clearance revoke web:r9`; web:r2 then still allows it",
    );
    check(
        json!({"verdict": "deny",
               "rule": rule("r1", json!({"action": "deny", "origin": "organisation"}))}),
        "(the organisation's policy",
        "only the organisation's administrator changes this rule",
    );
    check(
        json!({"verdict": "allow", "rule": rule("r1", json!({"origin": "bypass", "dest": "*"}))}),
        "the whole internet",
        "`terok-clearance bypass web --end`",
    );
    check(
        json!({"verdict": "allow", "rule": wide}),
        "profile npm",
        "`terok-clearance revoke web:r2` (for this run; later runs start with it again)",
    );
    check(
        json!({"verdict": "outside_ceiling"}),
        "the organisation's policy does not let you open it",
        "administrator",
    );
    check(
        json!({"verdict": "ask", "zone": "local-network"}),
        "a.example port 80/tcp, on your local network, is asked about: no rule covers it",
        "`terok-clearance run --allow a.example:80 -- COMMAND`",
    );
    check(
        json!({"verdict": "floor"}),
        "is refused: no rule opens such an address",
        "nothing opens it",
    );
}

#[test]
fn a_bypass_says_what_is_open() {
    let reply = |value: Value| serde_json::from_value::<BypassReply>(value).unwrap();
    let open = json!({"rule": rule("r9", json!({"origin": "bypass", "seconds_left": 600}))});
    assert_eq!(
        describe_bypass(&"web".into(), &reply(open)),
        "web IS OPEN for 10 minutes: EVERY destination on the internet, without a question, except \
         for what rules deny; `terok-clearance bypass web --end` closes it"
    );
    assert_eq!(
        describe_bypass(&"web".into(), &reply(json!({"ended": 2}))),
        "web is closed again: the bypass has ended, ended 2 connections"
    );
}

// SPDX-License-Identifier: Apache-2.0
//! Filters: each condition, and that the quick way finds what parsing finds.

use proptest::prelude::*;
use serde_json::Value;
use terok_clearance::Timestamp;
use terok_clearance_record::*;

use crate::entries::{any_entry, note, sandbox};

fn line(entry: &AuditEntry) -> Vec<u8> {
    encode_line(entry, 1, ChainHash::START)
}

fn refusal(dest: &str) -> AuditEntry {
    let mut entry = note("");
    entry.sandbox = Some(sandbox("0123456789abcdef", "web"));
    entry.event = AuditEvent::Refused(AuditRefusal {
        dest: dest.parse().unwrap(),
        port: 443,
        protocol: terok_clearance::Protocol::TCP,
        zone: terok_clearance::NetworkZone::Public,
        address: Some("203.0.113.7".parse().unwrap()),
        why: RefusalReason::Denied,
        rule: None,
        detail: None,
        count: 1,
    });
    entry
}

#[test]
fn a_destination_is_a_name_a_wildcard_an_address_or_a_network() {
    let entry = line(&refusal("api.example.com"));
    let check = |dest: &str, expected| {
        let filter = RecordFilter::default().dest(dest.parse().unwrap());
        assert_eq!(filter.selects(&entry), expected, "{dest}");
    };
    check("api.example.com", true);
    check("API.Example.com", true);
    check("*.example.com", true);
    check("203.0.113.7", true);
    check("203.0.113.0/24", true);
    check("example.com", false);
    check("*.api.example.com", false);
    check("203.0.113.8", false);
    assert!(
        !RecordFilter::default()
            .dest("x.example".parse().unwrap())
            .selects(&line(&note("x")))
    );
}

#[test]
fn a_rule_is_found_by_a_destination_that_it_covers() {
    let mut entry = note("");
    entry.event = AuditEvent::RuleAdded(AuditRule {
        rule: "1".into(),
        pattern: "*.example.com:443".into(),
        action: terok_clearance::Action::Allow,
        origin: "flag".into(),
        keep: None,
        seconds: None,
        by: None,
    });
    let check = |dest: &str, expected| {
        let filter = RecordFilter::default().dest(dest.parse().unwrap());
        assert_eq!(filter.selects(&line(&entry)), expected, "{dest}");
    };
    check("api.example.com", true);
    check("*.example.com", true);
    check("example.com", false);
}

#[test]
fn sandboxes_projects_kinds_and_times() {
    let mut entry = refusal("api.example.com");
    entry.sandbox.as_mut().unwrap().project = Some("/home/user/caf\u{e9}".into());
    let project = terok_clearance::DisplayText::name("/home/user/caf\u{e9}");
    entry.sandbox.as_mut().unwrap().project = Some(project);
    let line = line(&entry);
    let all = RecordFilter::default;
    for name in ["web", "0123456789abcdef", "0123456789ab"] {
        assert!(all().sandbox(name).selects(&line), "{name}");
        assert!(
            all().sandbox("other").sandbox(name).selects(&line),
            "{name}"
        );
    }
    assert!(!all().sandbox("0123456789").selects(&line));
    assert!(all().project("/home/user/caf\u{e9}").selects(&line));
    assert!(!all().project("/home/user").selects(&line));
    assert!(all().kind("refused").selects(&line));
    assert!(!all().kind("asked").selects(&line));
    let later = Timestamp::from_micros(entry.time.as_micros() + 1);
    assert!(all().since(entry.time).until(later).selects(&line));
    assert!(!all().since(later).selects(&line));
    assert!(!all().until(entry.time).selects(&line));
    assert!(all().selects(b"no entry") && !all().kind("refused").selects(b"no entry"));
}

fn any_filter() -> impl Strategy<Value = RecordFilter> {
    let times = (any::<Option<u32>>(), any::<Option<u32>>());
    let dests = prop::option::of(prop_oneof![
        Just("*.example.com"),
        Just("api.example.com"),
        Just("203.0.113.7"),
        Just("2001:db8::/32"),
    ]);
    let kind = prop::option::of(prop::sample::select(KNOWN_KINDS));
    let sandbox = prop::option::of(prop_oneof![Just("web"), Just("0")]);
    (times, dests, kind, sandbox).prop_map(|((since, until), dest, kind, sandbox)| {
        let time = |seconds: u32| Timestamp::from_micros(u64::from(seconds) * 1_000_000);
        let mut filter = RecordFilter::default();
        if let Some(since) = since {
            filter = filter.since(time(since));
        }
        if let Some(until) = until {
            filter = filter.until(time(until));
        }
        if let Some(dest) = dest {
            filter = filter.dest(dest.parse().unwrap());
        }
        if let Some(kind) = kind {
            filter = filter.kind(kind);
        }
        if let Some(sandbox) = sandbox {
            filter = filter.sandbox(sandbox);
        }
        filter
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_quick_way_selects_what_parsing_selects(
        entry in any_entry(),
        in_range in any::<bool>(),
        filter in any_filter(),
    ) {
        let mut entry = entry;
        if in_range {
            entry.time = Timestamp::from_micros(entry.time.as_micros() % (u64::from(u32::MAX) * 1_000_000));
        }
        let quick = line(&entry);
        // In another order, the fields are not found without parsing.
        let value: Value = serde_json::from_slice(&quick).unwrap();
        let parsed = format!(" {value}");
        prop_assert_eq!(filter.selects(&quick), filter.selects(parsed.as_bytes()));
    }
}

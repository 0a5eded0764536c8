// SPDX-License-Identifier: Apache-2.0
//! The lines: their form, their way back, and lines of newer versions.

use proptest::prelude::*;
use serde_json::{Value, json};
use terok_clearance_record::*;

use crate::entries::{any_entry, note, sandbox};

fn with_fields(mut more: Value) -> Vec<u8> {
    let line: Value =
        serde_json::from_slice(&encode_line(&note("x"), 7, ChainHash::START)).unwrap();
    let fields = more.as_object_mut().unwrap();
    for (name, value) in line.as_object().unwrap() {
        fields.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    more.to_string().into_bytes()
}

#[test]
fn a_line_has_the_common_fields_first() {
    let mut entry = note("x");
    entry.sandbox = Some(sandbox("web", "caf\u{e9}"));
    let line = String::from_utf8(encode_line(&entry, 7, ChainHash::START)).unwrap();
    let zeros = "0".repeat(64);
    assert_eq!(
        line,
        format!(r#"{{"v":1,"seq":7,"prev":"{zeros}","time":"2026-11-21T10:03:04.000001Z","#)
            + "\"kind\":\"note\",\"sandbox\":\"web\",\"name\":\"caf\u{e9}\",\"text\":\"x\"}"
    );
}

#[test]
fn unknown_kinds_and_fields_of_newer_versions_are_read() {
    let newer = parse_line(&with_fields(
        json!({"v": 9, "kind": "moonrise", "phase": [1]}),
    ))
    .unwrap();
    assert_eq!((newer.version, newer.kind.as_str()), (9, "moonrise"));
    assert_eq!(newer.event, None);
    let more = parse_line(&with_fields(json!({"mood": {"text": 1}}))).unwrap();
    assert!(matches!(more.event, Some(AuditEvent::Note(_))));
    // A known kind with a value of an unknown type is not lost.
    let odd = parse_line(&with_fields(json!({"text": 5, "sandbox": {"a": 1}}))).unwrap();
    assert_eq!((odd.event, odd.sandbox, odd.sequence), (None, None, 7));
}

#[test]
fn other_lines_are_no_entries() {
    for line in ["", "{}", "null", "[1]", "x", r#"{"v":1,"seq":1}"#] {
        assert!(parse_line(line.as_bytes()).is_err(), "{line}");
    }
    let long = with_fields(json!({"text": "x".repeat(MAX_LINE_BYTES)}));
    assert!(matches!(parse_line(&long), Err(LineParseError::TooLong)));
}

#[test]
fn the_longest_entry_fits_in_a_line() {
    // A quotation mark takes two bytes, and the widest characters of a name four.
    let text = "\"".repeat(300);
    let start = AuditEvent::SandboxStarted(AuditSandboxStart {
        network: text.as_str().into(),
        learn: true,
        profiles: vec![text.as_str().into(); 1000],
        command: Some(text.as_str().into()),
    });
    let mut entry = note("");
    entry.event = start;
    let wide = "\u{1f680}".repeat(300);
    let mut own = sandbox(&"x".repeat(255), &wide);
    own.project = own.name.clone();
    entry.sandbox = Some(own);
    let line = encode_line(&entry, u64::MAX, ChainHash::START);
    assert!(line.len() < MAX_LINE_BYTES, "{}", line.len());
    assert!(parse_line(&line).unwrap().event.is_some());
}

proptest! {
    #[test]
    fn a_look_at_a_line_finds_what_parsing_finds(entry in any_entry()) {
        let line = encode_line(&entry, 7, ChainHash::START);
        let fields: Value = serde_json::from_slice(&line).unwrap();
        // A text with escapes is not found, so that the line is parsed.
        if let Some(pattern) = scan_pattern(&line) {
            prop_assert_eq!(Some(pattern), fields["pattern"].as_str());
        } else if let Some(pattern) = fields["pattern"].as_str() {
            prop_assert!(pattern.contains(['"', '\\']), "{}", pattern);
        }
        prop_assert!(may_have_zone(&line) || fields["zone"].is_null());
        let other = b"no entry";
        prop_assert!(may_have_zone(other) && scan_pattern(other).is_none());
    }

    #[test]
    fn an_entry_comes_back_as_it_was(entry in any_entry(), sequence: u64, seed: Vec<u8>) {
        let previous = ChainHash::of_line(&seed);
        let line = encode_line(&entry, sequence, previous);
        prop_assert!(!line.contains(&b'\n'));
        prop_assert!(line.len() < MAX_LINE_BYTES);
        let parsed = parse_line(&line).unwrap();
        prop_assert_eq!((parsed.version, parsed.sequence, parsed.previous), (1, sequence, previous));
        prop_assert_eq!(parsed.kind.as_str(), entry.event.kind());
        let parsed = AuditEntry::new(parsed.time, parsed.sandbox, parsed.event.unwrap());
        prop_assert_eq!(parsed, entry);
    }
}

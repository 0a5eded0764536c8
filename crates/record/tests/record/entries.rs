// SPDX-License-Identifier: Apache-2.0
//! Entries of every kind, and records in temporary directories.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use terok_clearance::{
    Action, ContainerId, DecisionAction, Dest, DisplayText, NetworkZone, Protocol, RequestId,
    RuleLifetime, Timestamp,
};
use terok_clearance_record::*;
use test_support::directory::private_directory;

/// A record in a directory of its own.
pub(crate) struct TestRecord {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

impl TestRecord {
    pub(crate) fn new() -> Self {
        let directory = private_directory();
        let path = directory.path().join(FILE_NAME);
        Self { directory, path }
    }

    pub(crate) fn config(&self, rotate_bytes: u64, keep: u32) -> RecordConfig {
        RecordConfig {
            path: self.path.clone(),
            rotate_bytes,
            keep,
        }
    }

    pub(crate) fn append(&self, entries: &[AuditEntry]) {
        let mut appender = RecordAppender::new(RecordConfig::new(&self.path));
        let (count, result) = appender.append(entries);
        result.unwrap();
        assert_eq!(count, entries.len());
    }

    pub(crate) fn verify(&self) -> ChainReport {
        verify_record(&self.path).unwrap()
    }
}

pub(crate) fn read_entries(path: &Path) -> Vec<RecordedEntry> {
    let mut reader = RecordReader::open(path).unwrap();
    let mut entries = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        entries.extend(parse_line(line.bytes));
    }
    entries
}

pub(crate) fn note(text: &str) -> AuditEntry {
    let event = AuditEvent::Note(AuditNote { text: text.into() });
    AuditEntry::new(Timestamp::from_micros(1_795_255_384_000_001), None, event)
}

/// The texts of the notes.
pub(crate) fn note_texts(entries: &[RecordedEntry]) -> Vec<&str> {
    let notes = entries.iter().filter_map(|entry| match &entry.event {
        Some(AuditEvent::Note(note)) => Some(note.text.as_str()),
        _ => None,
    });
    notes.collect()
}

pub(crate) fn sandbox(id: &str, name: &str) -> AuditSandbox {
    AuditSandbox {
        name: Some(DisplayText::name(name)),
        ..AuditSandbox::new(id.parse().unwrap())
    }
}

fn text() -> impl Strategy<Value = DisplayText> {
    prop_oneof![
        "[a-z ]{0,12}".prop_map(|text| DisplayText::new(&text)),
        ".{0,300}".prop_map(|text| DisplayText::new(&text)),
    ]
}

fn name() -> impl Strategy<Value = DisplayText> {
    ".{0,300}".prop_map(|text| DisplayText::name(&text))
}

fn dest() -> impl Strategy<Value = Dest> {
    prop_oneof![
        Just("api.example.com"),
        Just("example.com"),
        Just("203.0.113.7"),
        Just("2001:db8::7"),
        Just("odd \"dest\":\"x\" \\"),
        Just("API.Example.COM"),
    ]
    .prop_map(|text| text.parse().unwrap())
}

fn pattern() -> impl Strategy<Value = DisplayText> {
    prop_oneof![
        Just("*.example.com"),
        Just("api.example.com:443/tcp"),
        Just("203.0.113.0/24"),
        Just("not a pattern"),
    ]
    .prop_map(DisplayText::new)
}

fn operator() -> impl Strategy<Value = AuditOperator> {
    (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        prop::option::of(text()),
    )
        .prop_map(|(uid, pid, program)| AuditOperator { uid, pid, program })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    any::<u8>().prop_map(Protocol)
}

fn zone() -> impl Strategy<Value = NetworkZone> {
    prop_oneof![
        Just(NetworkZone::Public),
        Just(NetworkZone::LocalNetwork),
        Just(NetworkZone::ThisHost),
    ]
}

fn lifetime() -> impl Strategy<Value = RuleLifetime> {
    prop_oneof![
        Just(RuleLifetime::Once),
        Just(RuleLifetime::Sandbox),
        Just(RuleLifetime::Always)
    ]
}

fn request() -> impl Strategy<Value = RequestId> {
    "[a-z]{1,9}:[0-9]{1,5}".prop_map(|text| text.parse().unwrap())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

fn rule_event() -> impl Strategy<Value = AuditEvent> {
    let rule = (text(), pattern(), action(), text());
    let more = (
        any::<bool>(),
        text(),
        any::<u32>(),
        prop::option::of(operator()),
        lifetime(),
    );
    (rule, more).prop_map(
        |((rule, pattern, action, origin), (ends, why, number, by, keep))| {
            if ends {
                AuditEvent::RuleEnded(AuditRuleEnd {
                    rule,
                    pattern,
                    action,
                    origin,
                    why: why.as_str().into(),
                    connections_ended: number,
                    by,
                })
            } else {
                AuditEvent::RuleAdded(AuditRule {
                    rule,
                    pattern,
                    action,
                    origin,
                    keep: Some(keep),
                    seconds: Some(number),
                    by,
                })
            }
        },
    )
}

fn answer() -> impl Strategy<Value = AuditEvent> {
    let what = (
        prop::option::of(request()),
        prop::option::of(dest()),
        any::<bool>(),
    );
    let rule = (
        prop::option::of(pattern()),
        prop::option::of(lifetime()),
        any::<Option<u32>>(),
    );
    let who = (
        operator(),
        prop::option::of(text()),
        prop::option::of(text()),
    );
    (what, rule, who).prop_map(|(what, rule, who)| {
        AuditEvent::Answered(AuditAnswer {
            request: what.0,
            dest: what.1,
            action: if what.2 {
                DecisionAction::Allow
            } else {
                DecisionAction::Dismiss
            },
            pattern: rule.0,
            keep: rule.1,
            seconds: rule.2,
            by: who.0,
            approver: who.1,
            approver_reason: who.2.clone(),
            ok: what.2,
            reason: who.2,
        })
    })
}

fn connection_event() -> impl Strategy<Value = AuditEvent> {
    let to = (dest(), any::<u16>(), protocol(), zone());
    let address = prop::option::of(any::<std::net::IpAddr>());
    let more = (prop::option::of(text()), any::<[u64; 4]>(), 0..4_u8, text());
    (to, address, more).prop_map(|((dest, port, protocol, zone), address, more)| {
        let (rule, [connection, bytes_out, bytes_in, millis], kind, why) = more;
        match kind {
            0 => AuditEvent::Asked(AuditQuestion {
                request: "web:1".parse().unwrap(),
                dest,
                port,
                protocol,
                zone,
                process: rule,
                reason: Some(why),
            }),
            1 => AuditEvent::Connected(AuditConnection {
                connection,
                dest,
                port,
                protocol,
                address,
                origin: rule.clone(),
                rule,
            }),
            2 => AuditEvent::Closed(AuditConnectionEnd {
                connection,
                dest,
                port,
                protocol,
                bytes_out,
                bytes_in,
                millis,
                why: why.as_str().into(),
                process: rule,
            }),
            _ => AuditEvent::Refused(AuditRefusal {
                dest,
                port,
                protocol,
                zone,
                address,
                why: why.as_str().into(),
                rule,
                detail: Some(why),
                count: u32::from(port),
            }),
        }
    })
}

fn other_event() -> impl Strategy<Value = AuditEvent> {
    let texts = (text(), text(), prop::collection::vec(text(), 0..4));
    let numbers = (
        any::<bool>(),
        any::<Option<i32>>(),
        any::<Option<u64>>(),
        0..5_u8,
    );
    (texts, numbers, operator()).prop_map(|(texts, numbers, by)| {
        let (one, other, profiles) = texts;
        let (flag, status, count, kind) = numbers;
        match kind {
            0 => AuditEvent::SandboxStarted(AuditSandboxStart {
                network: one,
                learn: flag,
                profiles,
                command: Some(other),
            }),
            1 => AuditEvent::SandboxEnded(AuditSandboxEnd {
                status,
                reason: Some(one),
            }),
            2 => AuditEvent::Posture(AuditPosture {
                change: one.as_str().into(),
                seconds: None,
                by: Some(by),
            }),
            3 => AuditEvent::Lost(AuditLoss {
                count,
                since: flag.then(|| Timestamp::from_micros(count.unwrap_or(7) >> 16)),
                why: one,
                cut_bytes: None,
            }),
            _ => AuditEvent::Note(AuditNote { text: one }),
        }
    })
}

fn some_sandbox() -> impl Strategy<Value = AuditSandbox> {
    let id = prop_oneof!["[a-z0-9]{1,14}", Just("web".to_owned())];
    let names = (
        prop::option::of(name()),
        prop::option::of(name()),
        prop::option::of(text()),
    );
    (id, names).prop_map(|(id, (name, project, run))| AuditSandbox {
        id: id.parse::<ContainerId>().unwrap(),
        name,
        project,
        run,
    })
}

/// Entries of every kind.
pub(crate) fn any_entry() -> impl Strategy<Value = AuditEntry> {
    let event = prop_oneof![rule_event(), answer(), connection_event(), other_event()];
    let time = (0..4_000_000_000_000_000_u64).prop_map(Timestamp::from_micros);
    (time, prop::option::of(some_sandbox()), event)
        .prop_map(|(time, sandbox, event)| AuditEntry::new(time, sandbox, event))
}

// SPDX-License-Identifier: Apache-2.0
//! The sums of a record.

use terok_clearance::{Action, Protocol};
use terok_clearance_record::*;

use crate::entries::{note, sandbox};

fn connection(number: u64, dest: &str, rule: &str) -> AuditEvent {
    AuditEvent::Connected(AuditConnection {
        connection: number,
        dest: dest.parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        address: None,
        rule: Some(rule.into()),
        origin: Some("profile npm".into()),
    })
}

fn end(number: u64, dest: &str, bytes: (u64, u64)) -> AuditEvent {
    AuditEvent::Closed(AuditConnectionEnd {
        connection: number,
        dest: dest.parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        bytes_out: bytes.0,
        bytes_in: bytes.1,
        millis: 5,
        why: ConnectionEndReason::Finished,
        process: None,
    })
}

#[test]
fn connections_bytes_and_who_allowed_them() {
    let rule = AuditEvent::RuleAdded(AuditRule {
        rule: "7".into(),
        pattern: "a.example".into(),
        action: Action::Allow,
        origin: "decision".into(),
        keep: None,
        seconds: None,
        by: Some(AuditOperator {
            uid: Some(1000),
            pid: None,
            program: Some("tui".into()),
        }),
    });
    let mut summary = RecordSummary::default();
    for event in [
        rule,
        connection(1, "a.example", "7"),
        connection(2, "a.example", "7"),
        connection(3, "b.example", "npm"),
        end(3, "b.example", (10, 20)),
        end(1, "a.example", (1, 2)),
        // Its start is in a file that is gone.
        end(9, "a.example", (100, 200)),
        AuditEvent::Lost(AuditLoss {
            count: Some(3),
            since: None,
            why: "full".into(),
            cut_bytes: None,
        }),
    ] {
        let mut entry = note("");
        entry.sandbox = Some(sandbox("0123", "web"));
        entry.event = event;
        summary.push(&parse_line(&encode_line(&entry, 1, ChainHash::START)).unwrap());
    }
    let rows = summary.dests();
    assert_eq!(rows.len(), 2);
    let a = &rows[0];
    assert_eq!(
        (a.dest.as_str(), a.connections, a.open),
        ("a.example", 2, 1)
    );
    assert_eq!((a.bytes_out, a.bytes_in), (101, 202));
    assert_eq!(a.allowed_by, ["decision of uid 1000 (tui)"]);
    let b = &rows[1];
    assert_eq!((b.bytes_out, b.bytes_in, b.open), (10, 20, 0));
    assert_eq!(b.allowed_by, ["profile npm"]);
    assert_eq!(
        (summary.lost_entries(), summary.has_unknown_loss()),
        (3, false)
    );
}

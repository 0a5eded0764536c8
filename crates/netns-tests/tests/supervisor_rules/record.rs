// SPDX-License-Identifier: Apache-2.0
//! The record of a namespace that has its own connection.

use std::io;

use netns_tests::guarded::{Operator, connect};

use super::{LONG, SERVER, allow, ended, names, open, revoke, stand_in, start};

/// Returns the kinds of the entries of a record, with what the test looks at.
fn recorded(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    entries
        .map(|entry: serde_json::Value| {
            assert_eq!(entry["sandbox"], "box", "{entry}");
            let fields = [
                "dest",
                "action",
                "ok",
                "pattern",
                "rule",
                "why",
                "connections_ended",
            ];
            let shown = fields.iter().filter_map(|field| entry.get(*field));
            let shown: Vec<_> = shown.map(ToString::to_string).collect();
            format!("{} {}", entry["kind"].as_str().unwrap(), shown.join(" ")).replace('"', "")
        })
        .collect()
}

#[tokio::test]
async fn questions_answers_rules_and_refusals_are_recorded() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join(::record::FILE_NAME);
    let sandbox = ::record::AuditSandbox::new("box".parse().unwrap());
    let records = [::record::RecordConfig::new(path.clone())];
    let audit = ::runner::SandboxAudit::open(&records, true, sandbox, |notice| {
        panic!("{notice:?}");
    })
    .unwrap();
    let mut guarded = start();
    guarded.end().await;
    let copy = audit.clone();
    let observer = Box::new(move |event: supervisor::TraceEvent<'_>| copy.observe(&event));
    guarded.supervise_observed(LONG, names(), &["flag.test:443"], Some(observer));
    // Nobody is there to answer.
    let refused = connect(SERVER, 80).await.unwrap().0.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("plain.test").await;
    allow(&mut operator, at, 443, |_| None).await;
    let stream = open(at, 443).await;
    assert_eq!(revoke(&operator, "r2").await.ended, 1);
    ended(stream).await;
    guarded.end().await;
    assert!(audit.finish(None));
    assert_eq!(
        recorded(&path),
        [
            "note ",
            "rule_added allow flag.test:443 r1",
            "asked 203.0.113.7",
            "refused 203.0.113.7 nobody-there",
            "asked plain.test",
            "rule_added allow plain.test:443/tcp r2",
            "answered plain.test allow true plain.test:443/tcp",
            "rule_ended allow plain.test:443/tcp r2 revoked 1",
        ]
    );
}

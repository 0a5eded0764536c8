// SPDX-License-Identifier: Apache-2.0
//! The command `log`, with records that the library wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use record::{
    AuditAnswer, AuditConnection, AuditConnectionEnd, AuditEntry, AuditEvent, AuditLoss, AuditNote,
    AuditOperator, AuditPosture, AuditQuestion, AuditRefusal, AuditRule, AuditRuleEnd,
    AuditSandbox, AuditSandboxEnd, AuditSandboxStart, ConnectionEndReason, FILE_NAME,
    PostureChange, RecordAppender, RecordConfig, RefusalReason, RuleEndReason,
};
use serde_json::Value;
use tempfile::TempDir;
use terok_clearance::{
    Action, DecisionAction, DisplayText, NetworkZone, Protocol, RuleLifetime, Timestamp,
};
use test_support::directory::private_directory;

/// A user with a record.
struct User {
    directory: TempDir,
}

impl User {
    fn new() -> Self {
        Self {
            directory: private_directory(),
        }
    }

    fn record(&self) -> PathBuf {
        self.directory
            .path()
            .join("terok-clearance")
            .join(FILE_NAME)
    }

    fn append(&self, entries: &[AuditEntry]) {
        let mut appender = RecordAppender::new(RecordConfig::new(self.record()));
        appender.append(entries).1.unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        command
            .arg("log")
            .args(args)
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("XDG_STATE_HOME", self.directory.path())
            .env("HOME", self.directory.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the command, which succeeds, and returns its output.
    #[track_caller]
    fn log(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && errors.is_empty(),
            "{args:?}: {errors}"
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

const START: u64 = 1_795_255_384_000_001;

fn entry(minute: u64, event: AuditEvent) -> AuditEntry {
    let sandbox = AuditSandbox {
        name: Some("web".into()),
        project: Some(DisplayText::name("/home/user/project")),
        run: Some("r1".into()),
        ..AuditSandbox::new("0123456789abcdef".parse().unwrap())
    };
    let time = Timestamp::from_micros(START + minute * 60_000_000);
    AuditEntry::new(time, Some(sandbox), event)
}

fn note(text: &str) -> AuditEntry {
    let event = AuditEvent::Note(AuditNote { text: text.into() });
    AuditEntry::new(Timestamp::from_micros(START), None, event)
}

fn operator() -> AuditOperator {
    AuditOperator {
        uid: Some(1000),
        pid: Some(55),
        program: Some("tui".into()),
    }
}

fn refusal(dest: &str, why: RefusalReason) -> AuditEvent {
    AuditEvent::Refused(AuditRefusal {
        dest: dest.parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        zone: NetworkZone::LocalNetwork,
        address: Some("192.168.1.20".parse().unwrap()),
        why,
        rule: Some("3".into()),
        detail: None,
        count: 2,
    })
}

/// A short life of a sandbox, with every kind of entry.
fn story() -> Vec<AuditEntry> {
    let dest = || "api.example.com".parse().unwrap();
    let events = [
        AuditEvent::SandboxStarted(AuditSandboxStart {
            network: "dialed".into(),
            learn: false,
            profiles: vec!["npm".into()],
            command: Some("npm install".into()),
        }),
        AuditEvent::Asked(AuditQuestion {
            request: "web:17".parse().unwrap(),
            dest: dest(),
            port: 443,
            protocol: Protocol::TCP,
            zone: NetworkZone::Public,
            process: Some("npm".into()),
            reason: None,
        }),
        AuditEvent::Answered(AuditAnswer {
            request: Some("web:17".parse().unwrap()),
            dest: Some(dest()),
            action: DecisionAction::Allow,
            pattern: Some("api.example.com:443/tcp".into()),
            keep: Some(RuleLifetime::Sandbox),
            seconds: None,
            by: operator(),
            approver: None,
            approver_reason: None,
            ok: true,
            reason: None,
        }),
        AuditEvent::RuleAdded(AuditRule {
            rule: "4".into(),
            pattern: "api.example.com:443/tcp".into(),
            action: Action::Allow,
            origin: "decision".into(),
            keep: None,
            seconds: Some(600),
            by: Some(operator()),
        }),
        AuditEvent::Connected(AuditConnection {
            connection: 1,
            dest: dest(),
            port: 443,
            protocol: Protocol::TCP,
            address: Some("203.0.113.7".parse().unwrap()),
            rule: Some("4".into()),
            origin: None,
        }),
        AuditEvent::Closed(AuditConnectionEnd {
            connection: 1,
            dest: dest(),
            port: 443,
            protocol: Protocol::TCP,
            bytes_out: 1_200,
            bytes_in: 3_400_000,
            millis: 2_500,
            why: ConnectionEndReason::RuleEnded,
        }),
        AuditEvent::RuleEnded(AuditRuleEnd {
            rule: "4".into(),
            pattern: "api.example.com:443/tcp".into(),
            action: Action::Allow,
            origin: "decision".into(),
            why: RuleEndReason::Expired,
            connections_ended: 1,
            by: None,
        }),
        refusal("nas.example", RefusalReason::PrivateAddress),
        AuditEvent::Posture(AuditPosture {
            change: PostureChange::BypassOn,
            seconds: Some(300),
            by: Some(operator()),
        }),
        AuditEvent::Lost(AuditLoss {
            count: Some(5),
            since: Some(Timestamp::from_micros(START)),
            why: "No space left on device".into(),
            cut_bytes: None,
        }),
        AuditEvent::SandboxEnded(AuditSandboxEnd {
            status: Some(0),
            reason: None,
        }),
    ];
    (0..)
        .zip(events)
        .map(|(minute, event)| entry(minute, event))
        .collect()
}

#[test]
fn each_entry_is_one_line_of_text() {
    let user = User::new();
    user.append(&story());
    insta::assert_snapshot!("log", user.log(&[]));
    insta::assert_snapshot!(
        "log-summary",
        String::from_utf8(user.run(&["--summary"]).stdout).unwrap()
    );
    let colored = user.log(&["--color=always", "--kind", "refused"]);
    assert!(colored.contains("\u{1b}[31mrefused"), "{colored}");
}

#[test]
fn json_is_the_record_itself() {
    let user = User::new();
    user.append(&story());
    assert_eq!(
        user.log(&["--json"]),
        fs::read_to_string(user.record()).unwrap()
    );
    let rows = user.log(&["--json", "--summary"]);
    let rows: Vec<Value> = rows
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["dest"], "api.example.com");
    assert_eq!(rows[0]["bytes_in"], 3_400_000);
    assert_eq!(rows[0]["allowed_by"][0], "decision of uid 1000 (tui)");
    assert_eq!(rows[2]["lost_entries"], 5);
}

#[test]
fn filters_and_limits_select_entries() {
    let user = User::new();
    user.append(&story());
    let count = |args: &[&str]| user.log(args).lines().count();
    assert_eq!(count(&["--dest", "api.example.com"]), 6);
    assert_eq!(
        count(&["--dest", "*.example.com", "--kind", "closed,connected"]),
        2
    );
    assert_eq!(count(&["--dest", "192.168.0.0/16"]), 1);
    assert_eq!(count(&["--sandbox", "web"]), 11);
    assert_eq!(count(&["--sandbox", "0123456789ab"]), 11);
    assert_eq!(count(&["--sandbox", "other"]), 0);
    assert_eq!(count(&["--project", "/home/user/project"]), 11);
    assert_eq!(count(&["--since", "2026-11-21 10:05"]), 9);
    assert_eq!(count(&["--until", "2026-11-21T10:05:00Z"]), 2);
    assert_eq!(count(&["-n", "3"]), 3);
    assert_eq!(count(&["-n", "0"]), 0);
    assert!(user.log(&["-n", "1"]).contains("ended"));
    let wrong = user.run(&["--kind", "foo"]);
    assert!(wrong.status.success());
    assert!(
        String::from_utf8(wrong.stderr)
            .unwrap()
            .contains("kinds: asked, answered")
    );
    for args in [
        ["--since", "soon"],
        ["--dest", "not a name"],
        ["--verify", "--summary"],
    ] {
        assert_eq!(user.run(&args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_check_finds_the_first_changed_line() {
    let user = User::new();
    let missing = user.run(&["--verify"]);
    assert_eq!(missing.status.code(), Some(1));
    user.append(&story());
    let intact = user.log(&["--verify"]);
    assert_eq!(
        intact,
        "the chain is intact: 11 entries in 1 file, numbers 1 to 11\n"
    );
    let text = fs::read_to_string(user.record()).unwrap();
    fs::write(user.record(), text.replace("3400000", "34")).unwrap();
    let broken = user.run(&["--verify"]);
    assert_eq!(broken.status.code(), Some(3));
    let said = String::from_utf8(broken.stdout).unwrap();
    assert!(
        said.starts_with("the chain is broken at line 7 of "),
        "{said}"
    );
    let json = user.run(&["--verify", "--json"]).stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["intact"], &json["break"]["line"]),
        (&false.into(), &7.into())
    );
}

#[test]
fn without_a_record_nothing_is_printed_and_that_is_no_failure() {
    let user = User::new();
    let output = user.run(&[]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("nothing is recorded yet")
    );
}

#[test]
fn lines_that_somebody_else_wrote_are_harmless() {
    let user = User::new();
    let newer = r#"{"v":9,"seq":1,"prev":"P","time":"2026-11-21T10:03:04Z","kind":"moon","x":"Y"}"#;
    let newer = newer
        .replace('P', &"0".repeat(64))
        .replace('Y', "\u{9b}31m\u{202e}\\u001b[2J");
    let evil = format!(
        "{newer}\n\u{1b}]0;title\u{7}\u{202e}no entry\n{}\n",
        "x".repeat(1 << 20)
    );
    fs::create_dir(user.record().parent().unwrap()).unwrap();
    fs::write(user.record(), evil).unwrap();
    for args in [&[] as &[_], &["--json"], &["-n", "5"]] {
        let shown = user.log(args);
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(
            shown
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~' | b'\n')),
            "{shown:?}"
        );
    }
    let lines = user.log(&["--json"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["x"], "\u{9b}31m\u{202e}\u{1b}[2J");
    assert_eq!(
        (&lines[2]["event"], &lines[2]["bytes"]),
        (&"unreadable".into(), &(1 << 20).into())
    );
}

#[test]
fn new_entries_are_followed_and_a_closed_output_ends_it() {
    let user = User::new();
    user.append(
        &(0..20)
            .map(|n| note(&format!("old {n}")))
            .collect::<Vec<_>>(),
    );
    let mut child = user
        .command(&["--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    for n in 10..20 {
        assert!(next().ends_with(&format!("old {n}")));
    }
    for n in 0..3 {
        user.append(&[note(&format!("new {n}"))]);
        assert!(next().ends_with(&format!("new {n}")));
    }
    // It ends although no entry comes.
    drop(lines);
    assert!(child.wait().unwrap().success());
}

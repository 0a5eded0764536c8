// SPDX-License-Identifier: Apache-2.0
//! `status`.

use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::{Value, json};
use terok_clearance::wire::clearance2::Event;
use test_support::child::ChildGuard;
use test_support::directory::write_script;
use test_support::fake_hub::{CLEARANCE1_ONLY, CLEARANCE2_ONLY, CallReply};
use test_support::hub_thread::HubThread;

use crate::harness::{ScriptHarness, pending};
use crate::schema;
use crate::scoped_hub::ScopedHub;

impl ScriptHarness {
    /// Runs `status --json` with a service manager that has a unit.
    pub(crate) fn run_status_with_a_unit(&self) -> Vec<Value> {
        let line = "clearance-supervisor.socket loaded active listening Starts supervisors";
        write_script(&self.path(""), "systemctl", &format!("echo {line}"));
        let mut command = self.command(&["--json", "status"]);
        let path = format!("{}:/usr/bin:/bin", self.path("").display());
        let output = command.env("PATH", path).output().unwrap();
        assert_eq!(output.stderr, b"");
        schema::lines(&String::from_utf8(output.stdout).unwrap())
    }

    /// Returns the lines of `status --json` about hubs, by sandbox.
    fn status_of(&self, sandbox: &str) -> Value {
        let (lines, _) = self.run_json(&["status"]);
        let mut found = lines.iter().filter(|line| line["sandbox"] == sandbox);
        found.next().unwrap().clone()
    }
}

fn own_hub(harness: &ScriptHarness, sandbox: &str) -> std::path::PathBuf {
    harness.path(&format!("terok/clearance/{sandbox}/hub.sock"))
}

#[test]
fn without_a_hub_nothing_is_guarded_and_that_is_said() {
    let harness = ScriptHarness::new();
    let output = harness.run(&["status"]);
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    assert_eq!(output.stderr, "no hub is running: nothing is guarded\n");
    let (lines, status) = harness.run_json(&["status"]);
    assert_eq!(
        (lines, status),
        (vec![json!({"event": "statuses", "hubs": 0})], 0)
    );
}

#[test]
fn a_hub_tells_its_questions_rules_and_operators() {
    let harness = ScriptHarness::new();
    let hub = ScopedHub::start(&harness.path(""), "web");
    hub.ask(17, "api.example.com", None);
    hub.ask(18, "other.example.com", None);
    let told = harness.status_of("web");
    for (field, expected) in [
        ("answers", json!(true)),
        ("interface", json!("org.terok.Clearance2")),
        ("supervisor", json!(std::process::id())),
        ("posture", json!("guarded")),
        ("pending", json!(2)),
        ("held", json!(0)),
        ("rules", json!(0)),
        ("answerers", json!(0)),
        ("published", json!([])),
    ] {
        assert_eq!(told[field], expected, "{field}: {told}");
    }
    assert!(
        told["since"].as_u64() > Some(1_500_000_000_000_000),
        "{told}"
    );
    assert_eq!(harness.run(&["allow", "web:17"]).status, 0);

    // A prompt can answer.
    let mut prompt = harness.command(&["--json", "clearance"]);
    let prompt = prompt.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut prompt = ChildGuard::spawn(prompt);
    let input = prompt.stdin.take();
    while harness.status_of("web")["answerers"] != 1 {}
    let told = harness.status_of("web");
    assert_eq!(
        (&told["pending"], &told["rules"]),
        (&json!(1), &json!(1)),
        "{told}"
    );
    drop(input);

    let output = harness.run(&["status"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("SANDBOX  ID   WAY "), "{}", lines[0]);
    assert!(
        lines[1].starts_with("web      web  unknown  guarded"),
        "{}",
        lines[1]
    );
    assert!(!output.stdout.contains('\u{1b}'));
    let colored = harness.run(&["--color", "always", "status"]).stdout;
    assert!(colored.starts_with("\u{1b}[1mSANDBOX"), "{colored:?}");
}

#[test]
fn a_hub_of_the_python_stack_leaves_its_values_unknown() {
    let harness = ScriptHarness::new();
    let path = own_hub(&harness, "0123456789ab");
    let _hub = HubThread::start(&path, CLEARANCE1_ONLY, |method, _| match method {
        "Subscribe" => CallReply::Frames(Vec::new()),
        _ => CallReply::Never,
    });
    let (lines, status) = harness.run_json(&["status"]);
    assert_eq!((lines.len(), status), (2, 0));
    assert_eq!(lines[0]["interface"], "org.terok.Clearance1");
    assert_eq!(lines[0]["supervisor"], std::process::id());
    for field in [
        "pending",
        "held",
        "rules",
        "answerers",
        "way",
        "posture",
        "published",
    ] {
        assert!(lines[0].get(field).is_none(), "{field}: {}", lines[0]);
    }
    let output = harness.run(&["status"]);
    assert_eq!(output.status, 0);
    assert!(
        output.stdout.contains("a hub of the Python stack"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_hub_of_an_earlier_release_tells_its_questions() {
    let harness = ScriptHarness::new();
    let path = own_hub(&harness, "web");
    let _hub = HubThread::start(&path, CLEARANCE2_ONLY, |method, _| match method {
        "Subscribe" => CallReply::events(&[pending("web:1", "one.example"), Event::Synced]),
        _ => CallReply::message(&json!({
            "error": "org.varlink.service.MethodNotFound",
            "parameters": {"method": "org.terok.Clearance2.Status"},
        })),
    });
    let (lines, status) = harness.run_json(&["status"]);
    assert_eq!(
        (&lines[0]["pending"], status),
        (&json!(1), 0),
        "{}",
        lines[0]
    );
    assert!(lines[0].get("rules").is_none(), "{}", lines[0]);
}

#[test]
fn a_hub_that_hangs_is_named_in_time() {
    let harness = ScriptHarness::new();
    let silent = own_hub(&harness, "silent");
    std::fs::create_dir_all(silent.parent().unwrap()).unwrap();
    let _listener = UnixListener::bind(&silent).unwrap();
    let _hub = ScopedHub::start(&harness.path(""), "web");
    let (lines, status) = harness.run_json(&["status", "--timeout", "1"]);
    assert_eq!((lines.len(), status), (3, 69), "{lines:?}");
    assert_eq!(lines[0]["answers"], false);
    assert_eq!(lines[0]["supervisor"], std::process::id());
    assert!(lines[0]["reason"].is_string() && lines[0].get("pending").is_none());
    assert_eq!(lines[1]["answers"], true);
    let output = harness.run(&["status", "--timeout", "1"]);
    assert_eq!(output.status, 69);
    assert!(
        output.stdout.contains("does not answer"),
        "{}",
        output.stdout
    );
}

#[test]
fn units_follow_the_hubs() {
    let harness = ScriptHarness::new();
    let lines = harness.run_status_with_a_unit();
    let unit = json!({
        "event": "unit", "unit": "clearance-supervisor.socket", "state": "active (listening)",
    });
    assert_eq!(lines[0], unit);
}

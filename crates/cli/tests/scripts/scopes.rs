// SPDX-License-Identifier: Apache-2.0
//! `allow` and `deny` with a scope, and changed answers.

use serde_json::json;
use terok_clearance::{Action, PreviousAnswer, RuleLifetime, Timestamp};
use test_support::fake_hub::{CLEARANCE1_ONLY, CLEARANCE2_ONLY, CallReply};
use test_support::hub_thread::HubThread;

use crate::harness::ScriptHarness;
use crate::scoped_hub::ScopedHub;

fn with_hub(check: impl FnOnce(&ScriptHarness, &ScopedHub)) {
    let harness = ScriptHarness::new();
    let hub = ScopedHub::start(&harness.path(""), "web");
    check(&harness, &hub);
}

#[test]
fn an_answer_has_the_time_and_the_name_that_were_given() {
    with_hub(|harness, hub| {
        let check = |number: u32, args: &[&str], rule: &str, said: &str| {
            hub.ask(number, &format!("a{number}.example.com"), None);
            let id = format!("web:{number}");
            let output = harness.run(&[&args[..1], &[&id], &args[1..]].concat());
            assert_eq!((output.stderr.as_str(), output.status), ("", 0), "{args:?}");
            assert_eq!(output.stdout, format!("{id}: {said}\n"));
            assert_eq!(hub.rules().last().unwrap(), rule);
        };
        check(
            1,
            &["allow", "--for", "10m"],
            "r1 allow a1.example.com:443/tcp sandbox 600",
            "allowed: a1.example.com port 443/tcp, for 10 minutes",
        );
        check(
            2,
            &["deny", "--project"],
            "r2 deny a2.example.com:443/tcp project",
            "denied: a2.example.com port 443/tcp, for this project, also in later runs",
        );
        check(
            3,
            &["allow", "--once"],
            "r3 allow a3.example.com:443/tcp once",
            "allowed: a3.example.com port 443/tcp, once: the next connection within 60 s",
        );
        check(
            4,
            &["allow"],
            "r4 allow a4.example.com:443/tcp sandbox",
            "allowed: a4.example.com port 443/tcp, for this run",
        );
        check(
            5,
            &["allow", "--as", "*.example.com", "--for", "1h"],
            "r5 allow *.example.com:443/tcp sandbox 3600",
            "allowed: every name below example.com (not example.com itself) port 443/tcp, for 1 \
             hour; whoever runs example.com receives what is looked up",
        );
    });
}

#[test]
fn a_scope_that_is_not_offered_is_refused_and_nothing_is_sent() {
    with_hub(|harness, hub| {
        hub.ask(1, "api.example.com", None);
        let check = |args: &[&str], reason: &str| {
            let output = harness.run(&[&["allow", "web:1"], args].concat());
            assert_eq!((output.stdout.as_str(), output.status), ("", 1), "{args:?}");
            assert_eq!(output.stderr, format!("web:1: refused: {reason}\n"));
        };
        check(
            &["--always"],
            "the question does not offer \"always, in every sandbox\"; it offers: once, 5 min, 1 \
             h, this run, this project",
        );
        check(
            &["--as", "*.com"],
            "the question does not offer *.com; it offers *.example.com",
        );
        check(
            &["--as", "*.example.com", "--once"],
            "an answer for one connection is for the name that was asked about, no wider one",
        );
        assert_eq!(hub.rules(), [] as [&str; 0]);
        let (lines, _) = harness.run_json(&["list"]);
        assert_eq!(lines[0]["id"], "web:1");
        for args in [
            ["--for", "0s"],
            ["--for", "31d"],
            ["--for", "5"],
            ["--once", "--project"],
        ] {
            let output = harness.run(&[&["allow", "web:1"], &args[..]].concat());
            assert_eq!(output.status, 2, "{args:?}");
        }
    });
}

/// Row 35 of the small inputs: deny, then allow the same id.
#[test]
fn an_answer_is_changed_in_one_step() {
    with_hub(|harness, hub| {
        hub.ask(1, "api.example.com", None);
        assert_eq!(harness.run(&["deny", "web:1"]).status, 0);
        let output = harness.run(&["deny", "web:1"]);
        assert_eq!(output.status, 4, "{output:?}");
        assert!(
            output
                .stderr
                .starts_with("web:1: it was denied already by uid ")
        );

        let output = harness.run(&["allow", "web:1"]);
        assert_eq!((output.stderr.as_str(), output.status), ("", 0));
        assert!(
            output
                .stdout
                .starts_with("web:1: was denied 0 seconds ago by uid "),
            "{output:?}"
        );
        let now = ", now allowed: api.example.com port 443/tcp, for this run\n";
        assert!(output.stdout.ends_with(now), "{output:?}");
        assert_eq!(hub.rules(), ["r1 allow api.example.com:443/tcp sandbox"]);

        let (lines, status) = harness.run_json(&["allow", "web:1", "--for", "5m"]);
        assert_eq!(status, 0);
        assert_eq!(lines[0]["event"], "decided");
        assert_eq!(lines[0]["scope"]["seconds"], 300);
        assert_eq!(lines[0]["changed"]["action"], "allow");
        assert_eq!(
            hub.rules(),
            ["r1 allow api.example.com:443/tcp sandbox 300"]
        );
        assert_eq!(harness.run(&["allow", "web:1", "--for", "5m"]).status, 4);

        // The hub refuses what the question does not offer, and the earlier answer stays.
        let (lines, status) = harness.run_json(&["deny", "web:1", "--always"]);
        assert_eq!((&lines[0]["event"], status), (&json!("refused"), 1));
        assert_eq!(
            hub.rules(),
            ["r1 allow api.example.com:443/tcp sandbox 300"]
        );
        let (lines, status) = harness.run_json(&["deny", "web:1", "--expect", "x.example"]);
        assert_eq!((&lines[0]["event"], status), (&json!("refused"), 1));
    });
}

#[test]
fn a_wide_answer_answers_the_questions_that_it_covers() {
    with_hub(|harness, hub| {
        hub.ask(1, "a.example.com", None);
        hub.ask(2, "b.example.com", None);
        hub.ask(3, "c.example.net", None);
        let mut watch = harness.command(&["watch"]);
        let mut watch =
            test_support::child::ChildGuard::spawn(watch.stdout(std::process::Stdio::piped()));
        let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("3 questions") {
            std::io::BufRead::read_line(&mut lines, &mut seen).unwrap();
        }
        let output = harness.run(&["deny", "web:1", "--as", "*.example.com"]);
        assert_eq!(output.status, 0, "{output:?}");
        while !seen.contains("[web:2] DENIED") || !seen.ends_with('\n') {
            std::io::BufRead::read_line(&mut lines, &mut seen).unwrap();
        }
        let reach = "every name below example.com (not example.com itself) port 443/tcp, for this \
                     run";
        let covered = format!(
            "[web:2] DENIED   b.example.com port 443/tcp, by the answer about a.example.com: \
             {reach}"
        );
        assert!(seen.contains(&covered), "{seen}");
        let (lines, _) = harness.run_json(&["list"]);
        assert_eq!((lines.len(), &lines[0]["id"]), (2, &json!("web:3")));
    });
}

#[test]
fn a_list_shows_what_is_offered_and_what_was_answered_before() {
    with_hub(|harness, hub| {
        let previous = PreviousAnswer {
            action: Action::Allow,
            by: "uid 1000".into(),
            at: Timestamp::now(),
            keep: RuleLifetime::Sandbox,
            seconds: Some(300),
            revoked: true,
        };
        hub.ask(1, "a.b.example.com", Some(previous));
        let (lines, _) = harness.run_json(&["list"]);
        assert_eq!(
            lines[0]["wider"],
            json!(["*.b.example.com", "*.example.com"])
        );
        assert_eq!(lines[0]["lifetimes"], json!(["once", "sandbox", "project"]));
        assert_eq!(lines[0]["previous"]["revoked"], json!(true));
        let output = harness.run(&["list"]);
        for part in [
            "this was allowed for 5 minutes, 0 seconds ago (uid 1000); it was revoked",
            "allow opens a.b.example.com port 443/tcp, for this run",
            "or once, 5 min, 1 h, this run, this project; as *.b.example.com, as *.example.com",
        ] {
            assert!(output.stdout.contains(part), "{part}: {}", output.stdout);
        }
    });
}

#[test]
fn the_prompt_takes_scopes_and_lists_and_revokes_rules() {
    with_hub(|harness, hub| {
        hub.ask(1, "a.example.com", None);
        hub.ask(2, "b.example.com", None);
        let prompt = |json: bool, lines: &str| {
            let mut command = harness.command(&["clearance"]);
            if json {
                command.arg("--json");
            }
            let piped = std::process::Stdio::piped;
            let mut prompt = command.stdin(piped()).stdout(piped()).spawn().unwrap();
            let mut input = prompt.stdin.take().unwrap();
            std::io::Write::write_all(&mut input, lines.as_bytes()).unwrap();
            drop(input);
            let output = prompt.wait_with_output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let output = prompt(false, "a 1 always\na 1 as *.com\na 1 5 x\na 1 10m\n");
        for part in [
            "      or once, 5 min, 1 h, this run, this project; as *.example.com\n",
            "row 1: the question does not offer \"always, in every sandbox\"; it offers: once",
            "row 1: the question does not offer *.com; it offers *.example.com\n",
            "\"x\" is not once, run, project, always, or a time such as 5m; nothing was sent\n",
            "[1] ALLOWED  a.example.com port 443/tcp, for 10 minutes  in ",
        ] {
            assert!(output.contains(part), "{part}: {output}");
        }
        assert_eq!(hub.rules(), ["r1 allow a.example.com:443/tcp sandbox 600"]);

        let lines = "{\"action\":\"deny\",\"row\":1,\"for\":\"run\",\"as\":\"*.example.com\"}\n";
        let output = prompt(true, lines);
        let lines = crate::schema::lines(&output);
        let sent = lines.iter().find(|line| line["event"] == "sent").unwrap();
        assert_eq!(sent["scope"]["dest"], "*.example.com");
        let decided = lines
            .iter()
            .find(|line| line["event"] == "decided")
            .unwrap();
        assert_eq!(decided["scope"]["dest"], "*.example.com");

        let output = prompt(false, "rules\n");
        assert!(
            output.contains("web:r2  deny   every name below example.com"),
            "{output}"
        );
        let output = prompt(false, "revoke r2\n");
        assert!(
            output.contains("revoked web:r2 (deny every name below example.com"),
            "{output}"
        );
        assert_eq!(hub.rules(), ["r1 allow a.example.com:443/tcp sandbox 600"]);
        let output = prompt(true, "revoke web:r2\n");
        let lines = crate::schema::lines(&output);
        assert!(
            lines.iter().any(|line| line["event"] == "missing_rule"),
            "{output}"
        );
    });
}

#[test]
fn hubs_of_earlier_releases_offer_no_scope() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let hub = HubThread::start(&classic, CLEARANCE1_ONLY, |method, _| match method {
        "Subscribe" => CallReply::Frames(Vec::new()),
        _ => CallReply::parameters(&json!({"ok": true})),
    });
    let args = ["allow", "web:1", "--expect", "one.example", "--for", "5m"];
    let output = harness.run(&args);
    assert_eq!((output.stdout.as_str(), output.status), ("", 1));
    assert!(
        output.stderr.contains("answer it without a scope"),
        "{output:?}"
    );
    assert!(hub.calls.try_iter().all(|(name, _)| name == "Subscribe"));
    drop(hub);

    // A hub that does not know `replace` has changed nothing.
    let decision = json!({
        "request": "web:1", "container": "web", "dest": "one.example", "action": "deny",
        "scope": {"dest": "one.example", "keep": "sandbox"}, "by": "uid 7", "at": 1, "ok": true,
    });
    let _hub = HubThread::start(&classic, CLEARANCE2_ONLY, move |method, _| match method {
        "Subscribe" => CallReply::events(&[terok_clearance::wire::clearance2::Event::Synced]),
        "History" => CallReply::parameters(&json!({"decisions": [decision]})),
        _ => CallReply::message(&json!({
            "error": "org.varlink.service.InvalidParameter",
            "parameters": {"parameter": "replace"},
        })),
    });
    let (lines, status) = harness.run_json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("already"), 4));
}

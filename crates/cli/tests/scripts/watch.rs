// SPDX-License-Identifier: Apache-2.0
//! `watch`: the events of all hubs as they happen.

use std::io::{BufRead as _, Read as _};
use std::process::Stdio;

use serde_json::json;
use test_support::child::ChildGuard;
use test_support::fake_hub::{CLEARANCE1_ONLY, CallReply};
use test_support::hub_thread::HubThread;
use test_support::packets::blocked_packet;

use crate::harness::{SANDBOX, ScriptHarness};

#[test]
fn pending_questions_are_followed_by_events_until_sigint() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let mut watch = harness.watch(&[]);
    assert_eq!(watch.next("pending")["id"], "0123456789ab:0");
    assert_eq!(watch.next("ready")["rows"], 1);
    assert_eq!(harness.run(&["deny", "0123456789ab:0"]).status, 0);
    let decided = watch.next("decided");
    assert_eq!(
        (&decided["request"], &decided["row"]),
        (&json!("0123456789ab:0"), &json!(1))
    );
    // A hub starts, reports a question, and ends.
    let hub = harness.start_hub("web");
    assert_eq!(watch.next("hub")["state"], "up");
    harness.report_to_hub("web", &["two.example"]);
    assert_eq!(watch.next("pending")["container"], "web");
    drop(hub);
    assert_eq!(watch.next("hub")["state"], "down");
    let _hub = harness.start_hub("web");
    assert_eq!(watch.next("lapsed")["request"], "web:0");
    assert_eq!(watch.interrupt().code(), Some(130));
    assert_eq!(harness.orders(), [format!("deny {SANDBOX} one.example")]);
}

/// The library forwards unknown types unchanged, as the Python client does; output is sanitised.
#[test]
fn an_event_of_an_unknown_type_is_printed() {
    let harness = ScriptHarness::new();
    let event =
        "{\"type\":\"moon\\u001brise\",\n \"container\":\"caf\u{e9}\u{9b}\",\"new\":[1.50]}";
    let frame = format!("{{\"continues\":true,\"parameters\":{{\"event\":{event}}}}}\0");
    let path = harness.path("terok/clearance/web/hub.sock");
    let _hub = HubThread::start(&path, CLEARANCE1_ONLY, move |_, _| {
        CallReply::Frames(frame.clone().into_bytes())
    });
    let unknown = harness.watch(&[]).next("unknown");
    assert_eq!(unknown["interface"], "org.terok.Clearance1");
    assert_eq!(unknown["kind"], "moon rise");
    let harmless = |text: &str| terok_clearance::DisplayText::new(text).to_string();
    let expected = serde_json::json!({
        "type": "moon rise", "container": harmless("caf\u{e9}\u{9b}"), "new": [1.5],
    });
    assert_eq!(unknown["data"], expected);
    // Text output has the same event, sanitised.
    let mut command = harness.command(&["watch"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("moon rise") {
        text.clear();
        assert_ne!(lines.read_line(&mut text).unwrap(), 0);
    }
    let shown =
        "{\"type\":\"moon\\u001brise\",  \"container\":\"caf\\u00e9\\u009b\",\"new\":[1.50]}";
    assert!(text.contains(shown), "{text}");
    watch.signal(rustix::process::Signal::TERM);
    watch.wait().unwrap();
}

#[test]
fn watch_can_be_limited_to_one_sandbox() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    let _hub = harness.start_hub("web");
    harness.report(&["one.example"]);
    harness.report_to_hub("web", &["two.example"]);
    let mut watch = harness.watch(&["--container", "web"]);
    assert_eq!(watch.next("pending")["container"], "web");
    assert_eq!(watch.next("ready")["rows"], 1);
}

#[test]
fn text_output_has_the_question_id_for_allow() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let mut command = harness.command(&["watch"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("question)") {
        assert_ne!(lines.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let text = text.replace(harness.path("").to_str().unwrap(), "RUNTIME/");
    insta::assert_snapshot!("watch", text);
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.wait().unwrap().code(), Some(143));
}

#[test]
fn a_closed_pipe_ends_watch_with_success() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    let mut command = harness.command(&["watch", "--json"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(watch.stdout.take());
    harness.report(&["one.example"]);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    let mut output = String::new();
    let mut error = watch.stderr.take().unwrap();
    error.read_to_string(&mut output).unwrap();
    assert_eq!(output, "");
}

#[test]
fn a_closed_pipe_ends_watch_without_a_write() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    let mut watch = harness.watch(&[]);
    // No line follows, so no write can fail.
    watch.next("ready");
    drop(watch.lines);
    assert_eq!(watch.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_pipe_blocks_no_signal_and_skipped_events_are_counted() {
    /// More packets than the pipe, the sockets and the hub's log can hold, at four kilobytes each.
    const PACKETS: usize = 6_500;
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    let mut slow = harness.watch(&[]);
    slow.next("ready");
    let mut quick = harness.watch(&[]);
    quick.next("ready");
    let stuck = harness.watch(&[]);
    let dossier: serde_json::Map<_, _> = (0..16)
        .map(|n| (format!("key-{n}"), "a".repeat(220).into()))
        .collect();
    let packet = |n: usize| {
        json!({
            "type": "pending", "container": SANDBOX, "id": format!("{SANDBOX}:{n}"),
            "dest": "203.0.113.7", "port": 443, "proto": 6,
            "domain": format!("{n}.example"), "dossier": dossier, "ts": "",
        })
    };
    let packets: Vec<_> = (0..PACKETS).map(packet).collect();
    harness.report_events("terok-shield-events.sock", &packets);
    let id = |n: usize| format!("\"id\":\"{SANDBOX}:{n}\"");
    let mut line = String::new();
    while !line.contains(&id(PACKETS - 1)) {
        line.clear();
        assert_ne!(quick.lines.read_line(&mut line).unwrap(), 0);
    }
    // The pipe of this `watch` has been full for long.
    assert_eq!(stuck.interrupt().code(), Some(130));
    // All questions arrive, together with the number of skipped events.
    let (mut questions, mut lost) = (std::collections::BTreeSet::new(), 0);
    while questions.len() < PACKETS || lost == 0 {
        line.clear();
        assert_ne!(slow.lines.read_line(&mut line).unwrap(), 0);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        match line["event"].as_str().unwrap() {
            "pending" => drop(questions.insert(line["id"].as_str().unwrap().to_owned())),
            "lost" => lost += line["lost"].as_u64().unwrap(),
            _ => {}
        }
    }
}

#[test]
fn five_hundred_questions_of_fifty_sandboxes_are_printed_once_each() {
    use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
    use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
    use terok_clearance::{ContainerId, EnforcementOutcome};

    /// An enforcer without orders.
    struct Never;

    impl DecisionEnforcer for Never {
        fn supports_ports(&self) -> bool {
            true
        }

        async fn enforce(&self, _: Claim) -> EnforcementOutcome {
            EnforcementOutcome::Failed("never".into())
        }
    }

    const SANDBOXES: u32 = 50;
    const QUESTIONS: u32 = 10;
    let harness = ScriptHarness::new();
    let runtime_dir = RuntimeDir::new(harness.path(""));
    let (start, started) = tokio::sync::oneshot::channel::<()>();
    let (sender, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut serving = tokio::task::JoinSet::new();
            let hubs: Vec<(ContainerId, _)> = (0..SANDBOXES)
                .map(|n| {
                    let container: ContainerId = format!("sandbox{n}").parse().unwrap();
                    let listener =
                        socket::bind(&runtime_dir.sandbox_sockets(&container, SocketLayout::D).hub)
                            .unwrap();
                    let hub = Hub::new(Never, HubOptions::default());
                    let stop = tokio_util::sync::CancellationToken::new();
                    serving.spawn(hub::serve(hub.clone(), listener, stop));
                    (container, hub)
                })
                .collect();
            sender.send(()).unwrap();
            started.await.unwrap();
            for n in 0..QUESTIONS {
                for (container, hub) in &hubs {
                    let (id, name) = (container.as_str(), format!("n{n}.example"));
                    let blocked = blocked_packet(id, n.into(), &name);
                    hub.report(terok_clearance::SandboxEvent::Blocked(blocked));
                }
            }
            serving.join_next().await
        })
    });
    ready.recv().unwrap();
    let mut watch = harness.watch(&[]);
    assert_eq!(watch.next("ready")["hubs"], SANDBOXES);
    start.send(()).unwrap();
    let mut questions = std::collections::BTreeSet::new();
    for _ in 0..SANDBOXES * QUESTIONS {
        let id = watch.next("pending")["id"].as_str().unwrap().to_owned();
        assert!(questions.insert(id), "a question was repeated");
    }
    let (lines, status) = harness.run_json(&["list"]);
    assert_eq!(status, 0);
    assert_eq!(lines.len(), questions.len() + 1);
}

// SPDX-License-Identifier: Apache-2.0
//! What happens, as it happens.

use std::io::{BufRead as _, Read as _};
use std::process::Stdio;

use serde_json::json;

use crate::rig::{Act, Process, SANDBOX, Session, pretend};

#[test]
fn first_what_is_pending_then_what_happens_until_ctrl_c() {
    let session = Session::new();
    let _helper = session.helper("");
    let _serve = session.serve();
    session.report(&["one.example"]);
    let mut watch = session.watch(&[]);
    assert_eq!(watch.next("pending")["id"], "0123456789ab:0");
    assert_eq!(watch.next("ready")["rows"], 1);
    assert_eq!(session.run(&["deny", "0123456789ab:0"]).status, 0);
    let decided = watch.next("decided");
    assert_eq!(
        (&decided["request"], &decided["row"]),
        (&json!("0123456789ab:0"), &json!(1))
    );
    // A hub comes, asks, and goes.
    let hub = session.hub_of("web");
    assert_eq!(watch.next("hub")["state"], "up");
    session.report_of("web", &["two.example"]);
    assert_eq!(watch.next("pending")["container"], "web");
    drop(hub);
    assert_eq!(watch.next("hub")["state"], "down");
    let _hub = session.hub_of("web");
    assert_eq!(watch.next("lapsed")["request"], "web:0");
    assert_eq!(watch.interrupt().code(), Some(130));
    assert_eq!(session.orders(), [format!("deny {SANDBOX} one.example")]);
}

/// The library forwards unknown types unchanged, as the Python client does; output is sanitised.
#[test]
fn an_event_of_an_unknown_type_is_passed_on() {
    let session = Session::new();
    let event =
        "{\"type\":\"moon\\u001brise\",\n \"container\":\"caf\u{e9}\u{9b}\",\"new\":[1.50]}";
    let frame = format!("{{\"continues\":true,\"parameters\":{{\"event\":{event}}}}}\0");
    let path = session.path("terok/clearance/web/hub.sock");
    let _calls = pretend(&path, "org.terok.Clearance1", move |_, _| {
        Act::Say(frame.clone().into_bytes())
    });
    let unknown = session.watch(&[]).next("unknown");
    assert_eq!(unknown["interface"], "org.terok.Clearance1");
    assert_eq!(unknown["kind"], "moon rise");
    let harmless = |text: &str| terok_clearance::DisplayText::new(text).to_string();
    let expected = serde_json::json!({
        "type": "moon rise", "container": harmless("caf\u{e9}\u{9b}"), "new": [1.5],
    });
    assert_eq!(unknown["data"], expected);
    // A person sees the same event as harmless text.
    let mut command = session.command(&["watch"]);
    let mut watch = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = std::io::BufReader::new(watch.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("moon rise") {
        text.clear();
        assert_ne!(lines.read_line(&mut text).unwrap(), 0);
    }
    let shown =
        "{\"type\":\"moon\\u001brise\",  \"container\":\"caf\\u00e9\\u009b\",\"new\":[1.50]}";
    assert!(text.contains(shown), "{text}");
    watch.signal(rustix::process::Signal::TERM);
    watch.end();
}

#[test]
fn one_sandbox_alone_can_be_watched() {
    let session = Session::new();
    let _serve = session.serve();
    let _hub = session.hub_of("web");
    session.report(&["one.example"]);
    session.report_of("web", &["two.example"]);
    let mut watch = session.watch(&["--container", "web"]);
    assert_eq!(watch.next("pending")["container"], "web");
    assert_eq!(watch.next("ready")["rows"], 1);
}

#[test]
fn in_words_a_question_has_the_id_that_allow_takes() {
    let session = Session::new();
    let _serve = session.serve();
    session.report(&["one.example"]);
    let mut command = session.command(&["watch"]);
    let mut watch = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = std::io::BufReader::new(watch.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("question)") {
        assert_ne!(lines.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let text = text.replace(session.path("").to_str().unwrap(), "RUNTIME/");
    insta::assert_snapshot!("watch", text);
    watch.signal(rustix::process::Signal::TERM);
    assert_eq!(watch.end().code(), Some(143));
}

#[test]
fn a_reader_that_goes_away_ends_it_well() {
    let session = Session::new();
    let _serve = session.serve();
    let mut command = session.command(&["watch", "--json"]);
    let mut watch = Process(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    drop(watch.0.stdout.take());
    session.report(&["one.example"]);
    assert_eq!(watch.end().code(), Some(0));
    let mut said = String::new();
    let mut error = watch.0.stderr.take().unwrap();
    error.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_reader_that_goes_away_ends_it_though_nothing_happens() {
    let session = Session::new();
    let _serve = session.serve();
    let mut watch = session.watch(&[]);
    // After this there is nothing to say, and so no write that would fail.
    watch.next("ready");
    drop(watch.lines);
    assert_eq!(watch.process.end().code(), Some(0));
}

#[test]
fn a_reader_that_does_not_read_stops_no_signal_and_is_told_what_was_skipped() {
    /// More than the pipe, the sockets and the hub's log hold together, at a kilobyte each.
    const PACKETS: usize = 25_000;
    let session = Session::new();
    let _serve = session.serve();
    let mut slow = session.watch(&[]);
    slow.next("ready");
    let mut quick = session.watch(&[]);
    quick.next("ready");
    let stuck = session.watch(&[]);
    let label = "a".repeat(60);
    let packet = |n: usize| {
        json!({
            "type": "pending", "container": SANDBOX, "id": format!("{SANDBOX}:{n}"),
            "dest": "203.0.113.7", "port": 443, "proto": 6,
            "domain": format!("{label}.{label}.{label}.{n}.example"), "dossier": {}, "ts": "",
        })
    };
    let packets: Vec<_> = (0..PACKETS).map(packet).collect();
    session.say("terok-shield-events.sock", &packets);
    let id = |n: usize| format!("\"id\":\"{SANDBOX}:{n}\"");
    let mut line = String::new();
    while !line.contains(&id(PACKETS - 1)) {
        line.clear();
        assert_ne!(quick.lines.read_line(&mut line).unwrap(), 0);
    }
    // Its pipe is full, and has been for long.
    assert_eq!(stuck.interrupt().code(), Some(130));
    // What is asked is complete all the same, and that something was skipped is said.
    let (mut asked, mut lost) = (std::collections::BTreeSet::new(), 0);
    while asked.len() < PACKETS || lost == 0 {
        line.clear();
        assert_ne!(slow.lines.read_line(&mut line).unwrap(), 0);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        match line["event"].as_str().unwrap() {
            "pending" => drop(asked.insert(line["id"].as_str().unwrap().to_owned())),
            "lost" => lost += line["lost"].as_u64().unwrap(),
            _ => {}
        }
    }
}

#[test]
fn five_hundred_questions_of_fifty_sandboxes_come_once_each() {
    use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
    use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
    use terok_clearance::{BlockedPacket, ContainerId, Dossier, EnforcementOutcome, Protocol};

    /// Answers are not what this is about.
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
    let session = Session::new();
    let place = RuntimeDir::new(session.path(""));
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
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
                        socket::bind(&place.sandbox_sockets(&container, SocketLayout::D).hub)
                            .unwrap();
                    let hub = Hub::new(Never, HubOptions::default());
                    let stop = tokio_util::sync::CancellationToken::new();
                    serving.spawn(hub::serve(hub.clone(), listener, stop));
                    (container, hub)
                })
                .collect();
            tell.send(()).unwrap();
            gone.await.unwrap();
            for n in 0..QUESTIONS {
                for (container, hub) in &hubs {
                    hub.report(terok_clearance::SandboxEvent::Blocked(BlockedPacket {
                        container: container.clone(),
                        request: format!("{container}:{n}").parse().unwrap(),
                        address: "203.0.113.7".parse().unwrap(),
                        port: 443,
                        protocol: Protocol::TCP,
                        domain: Some(format!("n{n}.example").parse().unwrap()),
                        dossier: Dossier::default(),
                        process: None,
                    }));
                }
            }
            serving.join_next().await
        })
    });
    told.recv().unwrap();
    let mut watch = session.watch(&[]);
    assert_eq!(watch.next("ready")["hubs"], SANDBOXES);
    go.send(()).unwrap();
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..SANDBOXES * QUESTIONS {
        let id = watch.next("pending")["id"].as_str().unwrap().to_owned();
        assert!(asked.insert(id), "a question came twice");
    }
    let (lines, status) = session.json(&["list"]);
    assert_eq!(status, 0);
    assert_eq!(lines.len(), asked.len() + 1);
}

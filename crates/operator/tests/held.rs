// SPDX-License-Identifier: Apache-2.0
//! Questions with held connections in the prompt, in lists and in JSON.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{ShieldState, Timestamp};
use terok_clearance_operator::Session;
use terok_clearance_operator::prompt::{OutputFormat, PromptEnd, PromptOptions, run_prompt};
use terok_clearance_operator::script::take_snapshot;
use test_support::fake_hub::{BOTH_INTERFACES, FakeHub, RunningHub};
use test_support::questions::question;
use tokio::sync::mpsc;

/// Returns a hub with a question about an address, and one about a name that it resolves after the
/// answer.
fn holding_hub() -> FakeHub {
    let now = Timestamp::now().as_micros();
    let times = json!({"first_seen": now, "last_seen": now, "waiting_since": now});
    let scope = |dest: &str| json!({"dest": dest, "port": 443, "protocol": "tcp", "keep": "once"});
    let mut local = json!({
        "dest": "192.168.1.20", "address": "192.168.1.20", "domain": null, "waiting": 2,
        "zone": "local-network", "looked_up_as": "nas.example", "scope": scope("192.168.1.20"),
        "process": {
            "pid": 812, "uid": 1000, "name": "curl", "command": ["curl", "-v"],
            "directory": "/home/u/project", "other_holders": 1,
            "parents": [{"pid": 700, "name": "bash"}, {"pid": 1, "name": "node"}],
        },
    });
    let name = "xn--bcher-kva.example";
    let mut named = json!({
        "address": name, "gave_up_after": 15, "scope": scope(name), "approver": "",
        "reason": "to upload; allow opens nothing",
    });
    for question in [&mut local, &mut named] {
        let times = times.as_object().unwrap().clone();
        question.as_object_mut().unwrap().extend(times);
    }
    let mut frames = Vec::new();
    Event::Pending(question("web", 1, "", local)).append_frame(1, &mut frames);
    Event::Pending(question("web", 2, name, named)).append_frame(2, &mut frames);
    Event::Synced.append_frame(3, &mut frames);
    FakeHub::silent(BOTH_INTERFACES).with_frames(frames)
}

async fn prompt(format: OutputFormat) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    let _running = RunningHub::start(&path, holding_hub());
    let mut session = Session::at_socket(path).unwrap();
    while !session.is_synced() {
        session.next().await;
    }
    let mut output = Vec::new();
    let options = PromptOptions {
        format,
        ..PromptOptions::default()
    };
    let input = &b"q\n"[..];
    run_prompt(
        session,
        "here",
        input,
        &mut output,
        options,
        std::future::pending::<()>(),
    )
    .await
    .unwrap();
    String::from_utf8(output).unwrap()
}

/// Returns the output without the lengths of times.
fn timeless(output: &str) -> String {
    output.replace("1 s", "0 s").replace("2 s", "0 s")
}

#[tokio::test]
async fn the_prompt_says_who_asks_and_what_waits() {
    let output = timeless(&prompt(OutputFormat::Text).await);
    let (_, questions) = output.split_once("q quit\n").unwrap();
    assert_eq!(
        questions,
        "[1] BLOCKED  192.168.1.20 port 443/tcp, on your local network  from warp/build-42 (web)  \
         id web:1  who asks: says it is curl (process 812, /home/u/project): curl -v; started by: bash, \
         node; 2 processes share the socket  once, 0 s ago\n      \
         name nas.example leads there; 2 connections wait, for 0 s\n      \
         a 1 opens 192.168.1.20 port 443/tcp (on your local network), once: the connections that \
         wait now\n\
         [2] BLOCKED  xn--bcher-kva.example (b\u{fc}cher.example) port 443/tcp  from \
         warp/build-42 (web)  id web:2  who asks: not known  once, 0 s ago\n      \
         gave up after 15 s; an answer serves the next attempt\n      \
         the approver leaves it to you\n      \
         the program says: to upload; allow opens nothing\n      \
         a 2 opens xn--bcher-kva.example port 443/tcp, once: the next connection within 60 s\n\
         (1 hub, 2 questions)\n"
    );
}

/// The format of the Python tool has no words for it, and scripts parse it.
#[tokio::test]
async fn the_compatible_prompt_is_as_before() {
    let output = timeless(&prompt(OutputFormat::Compat).await);
    let (_, questions) = output.split_once("q quit\n\n").unwrap();
    assert_eq!(
        questions,
        "[1] BLOCKED  Blocked: 192.168.1.20:443  Task: warp/build-42 \u{b7} web\nProtocol: TCP\n\
         Allow opens: tcp port 443 of 192.168.1.20 for 60 s\n\
         [2] BLOCKED  Blocked: xn--bcher-kva.example:443  Task: warp/build-42 \u{b7} web\n\
         Protocol: TCP\nAllow opens: tcp port 443 of xn--bcher-kva.example for 60 s\n"
    );
}

#[tokio::test]
async fn a_list_says_who_asks_and_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    let _running = RunningHub::start(&path, holding_hub());
    let runtime = RuntimeDir::new(directory.path());
    let limit = Duration::from_secs(20);
    let snapshot = take_snapshot(&runtime, Some(&path), None, limit).await;
    let table = timeless(&snapshot.to_table(None, false));
    assert_eq!(
        table,
        "ID     FROM                 WANTS\n\
         web:1  warp/build-42 (web)  192.168.1.20 port 443/tcp, on your local network\n    \
         blocked once, 0 s ago; who asks: says it is curl (process 812, /home/u/project): curl -v; \
         started by: bash, node; 2 processes share the socket; name nas.example leads there; 2 \
         connections wait, for 0 s; allow opens 192.168.1.20 port 443/tcp (on your local network), \
         once: the connections that wait now\n\
         web:2  warp/build-42 (web)  xn--bcher-kva.example (b\u{fc}cher.example) port 443/tcp\n    \
         blocked once, 0 s ago; who asks: not known; gave up after 15 s; an answer serves the next \
         attempt; allow opens xn--bcher-kva.example port 443/tcp, once: the next connection within \
         60 s; the approver leaves it to you; the program says: to upload; allow opens nothing\n"
    );
    let lines: Vec<Value> = snapshot
        .to_json()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let local = &lines[0];
    assert_eq!(
        json!([
            local["zone"],
            local["looked_up_as"],
            local["waiting"],
            local["addresses"]
        ]),
        json!(["local-network", "nas.example", 2, ["192.168.1.20"]])
    );
    assert_eq!(local["process"]["parents"][1]["name"], "node");
    let named = &lines[1];
    assert_eq!(
        json!([
            named["zone"],
            named["waiting"],
            named["gave_up_after"],
            named["addresses"]
        ]),
        json!([null, null, 15, []])
    );
}

/// Sends what is written to a channel.
struct ChannelWriter(mpsc::Sender<String>);

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.try_send(text).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the lines that a prompt shows for these events until one with `last`.
async fn lines_until(last: &str, events: Vec<Event>) -> Vec<String> {
    let mut frames = Vec::new();
    for (number, event) in (1..).zip(events) {
        event.append_frame(number, &mut frames);
    }
    let hub = FakeHub::silent(BOTH_INTERFACES).with_frames(frames);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    let _running = RunningHub::start(&path, hub);
    let (written, mut shown) = mpsc::channel::<String>(1000);
    let until_last = async {
        let mut text = String::new();
        while !text.contains(last) {
            text.push_str(&shown.recv().await.unwrap());
        }
        text
    };
    let (input, _open) = tokio::io::duplex(1);
    let session = Session::at_socket(path).unwrap();
    let options = PromptOptions::default();
    let output = ChannelWriter(written);
    let end = run_prompt(session, "here", input, output, options, until_last).await;
    let PromptEnd::Stopped(text) = end.unwrap() else {
        unreachable!("the input stays open");
    };
    text.lines().map(str::to_owned).collect()
}

/// A hub publishes a question before it has searched for the process.
#[tokio::test]
async fn the_prompt_says_who_asks_once_the_process_is_found() {
    let process = json!({"pid": 812, "uid": 1000, "name": "curl"});
    let repeated = |changes| Event::Repeated(question("web", 1, "a.example", changes));
    let events = vec![
        Event::Synced,
        Event::Pending(question("web", 1, "a.example", json!({}))),
        repeated(json!({"waiting": 1})),
        repeated(json!({"process": process})),
        repeated(json!({"process": process, "count": 2})),
        Event::Pending(question("web", 2, "b.example", json!({}))),
    ];
    let mut lines = lines_until("b.example port 443/tcp  from", events).await;
    lines.retain(|line| line.contains("who asks"));
    assert_eq!(lines, ["[1] who asks: says it is curl (process 812)"]);
}

#[tokio::test]
async fn the_prompt_says_when_many_more_connections_wait() {
    let mut events = vec![
        Event::Synced,
        Event::Pending(question("web", 1, "a.example", json!({}))),
    ];
    for waiting in [1, 2, 9, 10, 11, 0, 10, 99, 120, 1, 100] {
        let changes = json!({"waiting": waiting});
        events.push(Event::Repeated(question("web", 1, "a.example", changes)));
    }
    events.push(Event::Pending(question("web", 2, "b.example", json!({}))));
    let mut lines = lines_until("b.example port 443/tcp  from", events).await;
    lines.retain(|line| line.contains("wait"));
    assert_eq!(
        lines,
        ["[1] 10 connections wait", "[1] 120 connections wait"]
    );
}

/// What is found out about the questions of one sandbox does not scroll those of others away.
#[tokio::test]
async fn a_flood_of_questions_with_processes_and_connections_is_few_lines() {
    let process = json!({"pid": 812, "uid": 1000, "name": "curl"});
    let mut events = vec![Event::Synced];
    let of_sandbox = |number, changes| question("web", number, &format!("n{number}.test"), changes);
    events.extend((1..=200).map(|number| Event::Pending(of_sandbox(number, json!({})))));
    let repeated = |number| {
        let changes = json!({"process": process, "waiting": 10});
        Event::Repeated(of_sandbox(number, changes))
    };
    events.extend((1..=200).map(repeated));
    let state = ShieldState::Up;
    let container = "web".parse().unwrap();
    events.push(Event::Shield { container, state });
    let lines = lines_until("the firewall is up", events).await;
    // Two lines for a question; a slow machine may begin another second.
    assert!(lines.len() <= 100, "{lines:#?}");
}

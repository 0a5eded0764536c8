// SPDX-License-Identifier: Apache-2.0
//! Our hub with the Python stack's UIs: its client, its subscribers, its terminal tool.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};
use terok_clearance::socket::{HubSocketPaths, SocketLayout};

use crate::harness::{
    CONTAINER, Place, Running, Shield, Side, Stack, pending, report, while_repeating,
};

const FIRST: &str = "0123456789ab:1";
const SECOND: &str = "0123456789ab:2";

fn state(kind: &str) -> Value {
    json!({"type": kind, "container": CONTAINER})
}

#[tokio::test]
async fn their_client_hears_every_event_and_answers() {
    for stack in Stack::ALL {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = place.our_helper(&shield).await;
        let _hub = place.our_hub(&[]).await;
        let sockets = place.runtime().shared_hub_sockets();
        let socket = sockets.hub.to_str().unwrap();
        let mut client = Running::start(&mut place.script(stack, "client.py", &[socket]));
        assert_eq!(client.json().await, json!({"started": true}));
        let event = |kind: &str| {
            json!({
                "type": kind, "container": CONTAINER, "request_id": "", "dest": "", "port": 0,
                "proto": 0, "domain": "", "action": "", "ok": false, "reason": "", "dossier": {},
            })
        };
        let up = state("shield_up");
        let heard = while_repeating(&sockets.ingester, &up, client.json()).await;
        assert_eq!(heard, json!({"event": event("shield_up")}), "{stack:?}");
        // Each kind with what belongs to it, and nothing in the other fields.
        let dossier = json!({"project": "warp", "task": "t1", "name": "build"});
        for (line, changes) in [
            (state("container_started"), json!({})),
            (state("shield_down"), json!({})),
            (state("shield_disengaged"), json!({})),
            (
                json!({"type": "container_exited", "container": CONTAINER, "reason": "eof"}),
                json!({"reason": "eof"}),
            ),
            (
                pending(FIRST, "api.example.com"),
                json!({
                    "type": "connection_blocked", "request_id": FIRST, "dest": "203.0.113.7",
                    "port": 443, "proto": 6, "domain": "api.example.com", "dossier": dossier,
                }),
            ),
        ] {
            place.report(std::slice::from_ref(&line)).await;
            let mut expected = event(line["type"].as_str().unwrap());
            for (name, value) in changes.as_object().unwrap() {
                expected[name] = value.clone();
            }
            loop {
                let heard = client.json().await["event"].take();
                if heard["type"] != "shield_up" {
                    assert_eq!(heard, expected, "{stack:?}");
                    break;
                }
            }
        }
        // What it is refused it says on its log, and returns false. An event may come before or
        // after the reply, on its other connection.
        let mut told = Vec::new();
        for (dest, does, ok) in [
            ("203.0.113.7", "exit 0", false),
            (
                "api.example.com",
                "echo 'no such container' >&2; exit 1",
                false,
            ),
            ("api.example.com", "exit 0", true),
            ("api.example.com", "exit 0", false),
        ] {
            shield.does(does);
            let call = json!([CONTAINER, FIRST, dest, "allow"]);
            client.say(&call.to_string()).await;
            let mut line = client.json().await;
            while line["verdict"].is_null() {
                told.push(line["event"].take());
                line = client.json().await;
            }
            assert_eq!(line, json!({"verdict": ok}), "{stack:?}");
        }
        while told.len() < 2 {
            told.push(client.json().await["event"].take());
        }
        let applied = |ok: bool| {
            let mut expected = event("verdict_applied");
            expected["request_id"] = json!(FIRST);
            expected["action"] = json!("allow");
            expected["ok"] = json!(ok);
            expected
        };
        assert_eq!(told, [applied(false), applied(true)], "{stack:?}");
        let order = format!("allow {CONTAINER} api.example.com");
        assert_eq!(shield.asked(), [order.clone(), order]);
        let ended = client.end().await;
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(
            ended.errors.matches("Verdict refused").count(),
            3,
            "{ended:?}"
        );
        assert!(!ended.errors.contains("Traceback"), "{ended:?}");
    }
}

#[tokio::test]
async fn their_event_subscriber_draws_of_our_hub_what_it_draws_of_theirs() {
    for stack in Stack::ALL {
        let ours = drawn(stack, Side::Ours).await;
        let blocked = "Blocked: api.example.com:443";
        assert_eq!(
            ours[0],
            json!({
                "summary": blocked, "body": "Task: warp/t1 \u{b7} build\nProtocol: TCP",
                "actions": [["allow", "Allow"], ["deny", "Deny"]], "replaces": null,
                "container": CONTAINER, "identity": ["warp", "t1", "build"],
            })
        );
        let summaries: Vec<_> = ours.iter().map(|line| &line["summary"]).collect();
        let expected = [
            blocked,
            "Blocked: 203.0.113.7:443",
            "Allowed: api.example.com",
            "Deny failed: 203.0.113.7",
            "Shield down: 0123456789ab",
            "Shield disengaged: 0123456789ab",
            "Container started: 0123456789ab",
            "Container stopped: 0123456789ab",
        ];
        assert_eq!(summaries, expected);
        assert_eq!(ours[2]["replaces"], blocked);
        assert_eq!(ours, drawn(stack, Side::Theirs(stack)).await, "{stack:?}");
    }
}

/// Returns what the `EventSubscriber` of `stack` draws of a session of that hub, in order.
async fn drawn(stack: Stack, hub: Side) -> Vec<Value> {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("shield"));
    let _helper = place.our_helper(&shield).await;
    let _hub = place.hub(hub).await;
    let sockets = place.runtime().shared_hub_sockets();
    let socket = sockets.hub.to_str().unwrap();
    let mut popups = Running::start(&mut place.script(stack, "subscriber.py", &[socket]));
    let up = state("shield_up");
    let heard = popups.json_where("hook", "up");
    while_repeating(&sockets.ingester, &up, heard).await;
    // How often that was told is by chance, so popups are known by their texts, not by numbers.
    let mut summaries = BTreeMap::new();
    let mut session = Vec::new();
    let mut next = async |popups: &mut Running, hook: Option<&str>| {
        let mut told = hook.is_none();
        let mut drawn = None;
        while !told || drawn.is_none() {
            let mut line = popups.json().await;
            if line["hook"] == "up" || line["summary"] == "Shield up: 0123456789ab" {
                continue;
            }
            if line["hook"].is_string() {
                assert_eq!(line["hook"].as_str(), hook, "{stack:?}");
                told = true;
                continue;
            }
            let id = line.as_object_mut().unwrap().remove("id").unwrap();
            line["replaces"] = summaries
                .get(&line["replaces"].as_u64())
                .cloned()
                .unwrap_or_default();
            summaries.insert(id.as_u64(), line["summary"].clone());
            session.push(line);
            drawn = Some(id);
        }
        drawn
    };
    place
        .report(&[pending(FIRST, "api.example.com"), pending(SECOND, "")])
        .await;
    let (first, second) = (next(&mut popups, None).await, next(&mut popups, None).await);
    for (does, popup, button) in [("exit 0", first, "allow"), ("exit 1", second, "deny")] {
        shield.does(does);
        popups.say(&json!([popup, button]).to_string()).await;
        next(&mut popups, None).await;
    }
    for (line, hook) in [
        ("shield_down", "down"),
        ("shield_disengaged", "disengaged"),
        ("container_started", "started"),
        ("container_exited", "exited"),
    ] {
        place.report(&[state(line)]).await;
        next(&mut popups, Some(hook)).await;
    }
    let asked = [
        format!("allow {CONTAINER} api.example.com"),
        format!("deny {CONTAINER} 203.0.113.7"),
    ];
    assert_eq!(shield.asked(), asked);
    let ended = popups.end().await;
    assert!(ended.status.success(), "{ended:?}");
    session
}

#[tokio::test]
async fn their_multi_socket_subscriber_finds_our_hubs_where_its_release_looks() {
    for stack in Stack::ALL {
        let place = Place::new();
        let sockets = sockets_of(&place, stack, CONTAINER);
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = helper_at(&place, &sockets, &shield).await;
        // One is there before it starts, the other comes later; it goes, and comes back.
        let other = sockets_of(&place, stack, "fedcba987654");
        let hub = place.our_hub_at(&sockets).await;
        let mut all = Running::start(&mut place.script(stack, "subscriber.py", &[]));
        all.json_where("hook", "ready").await;
        report(&sockets.ingester, &[pending(FIRST, "api.example.com")]).await;
        let asked = all.json().await;
        assert_eq!(
            asked["summary"], "Blocked: api.example.com:443",
            "{stack:?}"
        );
        all.say(&json!([asked["id"], "allow"]).to_string()).await;
        assert_eq!(all.json().await["summary"], "Allowed: api.example.com");
        assert_eq!(
            shield.asked(),
            [format!("allow {CONTAINER} api.example.com")]
        );
        for round in 1..=2 {
            let later = place.our_hub_at(&other).await;
            // What is pending is told to whoever comes later, so nothing has to be repeated.
            let request = format!("fedcba987654:{round}");
            report(&other.ingester, &[pending(&request, "later.example")]).await;
            let asked = all.json_where("container", "fedcba987654").await;
            assert_eq!(asked["summary"], "Blocked: later.example:443", "{stack:?}");
            later.signal(Signal::TERM);
            let ended = later.end().await;
            assert!(ended.status.success(), "{ended:?}");
            assert!(!other.hub.exists(), "the socket was left behind");
        }
        drop(hub);
        assert!(all.end().await.status.success());
    }
}

#[tokio::test]
async fn their_terminal_and_our_prompt_stand_side_by_side_at_either_hub() {
    for stack in Stack::ALL {
        for hub in [Side::Ours, Side::Theirs(stack)] {
            side_by_side(stack, hub).await;
        }
    }
}

/// Asks two questions at both, and answers each at another.
async fn side_by_side(stack: Stack, hub: Side) {
    let place = Place::new();
    let sockets = sockets_of(&place, stack, CONTAINER);
    let shield = Shield::within(&place.path().join("shield"));
    let _helper = helper_at(&place, &sockets, &shield).await;
    let _hub = match hub {
        Side::Ours => place.our_hub_at(&sockets).await,
        Side::Theirs(stack) => place.their_hub_at(stack, &sockets).await,
    };
    let mut terminal =
        Running::start(&mut place.theirs(stack, "terok-clearance-hub", &["clearance"]));
    let mut prompt = Running::start(&mut place.ours(&["clearance"]));
    let up = state("shield_up");
    let heard = async {
        terminal.until("listening on per-container sockets\n").await;
        terminal.until("Shield up: 0123456789ab").await;
        prompt.until("the firewall is up").await;
    };
    while_repeating(&sockets.ingester, &up, heard).await;
    report(
        &sockets.ingester,
        &[pending(FIRST, "api.example.com"), pending(SECOND, "")],
    )
    .await;
    // Their numbers count every popup, the ones of the firewall too.
    let mut numbers = Vec::new();
    for dest in ["api.example.com", "203.0.113.7"] {
        terminal.until("\u{1b}[33m[").await;
        let number = terminal.until("] BLOCKED  ").await;
        numbers.push(number.trim_end_matches("] BLOCKED  ").to_owned());
        let asked = format!("Blocked: {dest}:443  Task: warp/t1 \u{b7} build\nProtocol: TCP");
        terminal.until(&asked).await;
        prompt.until(&format!("BLOCKED  {dest} port 443/tcp")).await;
    }
    terminal.say(&format!("a {}", numbers[0])).await;
    terminal
        .until("\u{1b}[32mAllowed: api.example.com  Task: warp/t1 \u{b7} build")
        .await;
    prompt
        .until("[1] ALLOWED  EVERY port and protocol of api.example.com")
        .await;
    terminal.say(&format!("a {}", numbers[0])).await;
    let gone = format!("No pending request [{}]\n", numbers[0]);
    terminal.until(&gone).await;
    prompt.say("d 2").await;
    prompt
        .until("[2] DENIED   EVERY port and protocol of 203.0.113.7")
        .await;
    terminal.until("\u{1b}[31mDenied: 203.0.113.7").await;
    terminal.say("l").await;
    terminal.until("(no pending requests)\n").await;
    prompt.say("l").await;
    prompt.until("no pending questions\n").await;
    for mut ui in [terminal, prompt] {
        ui.say("q").await;
        let ended = ui.end().await;
        assert!(ended.status.success(), "{stack:?}, hub {hub:?}: {ended:?}");
    }
    let asked = [
        format!("allow {CONTAINER} api.example.com"),
        format!("deny {CONTAINER} 203.0.113.7"),
    ];
    assert_eq!(shield.asked(), asked);
}

/// Returns where the release of `stack` has the sockets of a sandbox.
fn sockets_of(place: &Place, stack: Stack, container: &str) -> HubSocketPaths {
    place
        .runtime()
        .sandbox_sockets(&container.parse().unwrap(), stack.layout())
}

async fn helper_at(place: &Place, sockets: &HubSocketPaths, shield: &Shield) -> Running {
    let verdict = sockets.verdict.to_str().unwrap();
    let args = [
        "serve-verdict",
        "--shield",
        shield.path(),
        "--verdict-socket",
        verdict,
    ];
    place
        .serve(
            &mut place.ours(&args),
            std::slice::from_ref(&sockets.verdict),
        )
        .await
}

#[tokio::test]
async fn a_guarded_namespace_is_answered_from_their_terminal() {
    for stack in [Stack::V0_8_0, Stack::V0_8_1] {
        assert_eq!(stack.layout(), SocketLayout::D);
        let place = Place::new();
        // A sandbox: a network namespace with a way out that leads nowhere.
        let set_up = "ip link set lo up
            ip link add inside type veth peer name outside
            ip address add 10.9.0.2/24 dev inside
            ip link set inside up
            ip link set outside up
            ip route add default via 10.9.0.1
            echo ready
            while read host; do
                bash -c \"exec 3<>/dev/tcp/$host/443\" 2>&1 | sed 's/^.*: //'
            done";
        let mut sandbox = place.command("unshare");
        let mut sandbox = Running::start(sandbox.args(["--net", "bash", "-c", set_up]));
        sandbox.until("ready\n").await;
        let mut supervisor = Running::start(&mut place.supervise(&sandbox, &[]));
        supervisor.until("questions at ").await;
        // Nobody can answer yet, so it is refused at once; the question stays.
        sandbox.say("203.0.113.7").await;
        sandbox.until("refused\n").await;
        let mut terminal =
            Running::start(&mut place.theirs(stack, "terok-clearance-hub", &["clearance"]));
        terminal
            .until("[1] BLOCKED  Blocked: 203.0.113.7:443  Container: 0123456789ab\nProtocol: TCP")
            .await;
        terminal.say("a 1").await;
        terminal.until("Allowed: 203.0.113.7").await;
        // It passes now, and there is nobody at the gateway.
        sandbox.say("203.0.113.7").await;
        sandbox.until("No route to host\n").await;
        // With the terminal subscribed, the connection itself waits for the answer.
        sandbox.say("203.0.113.8").await;
        terminal
            .until("[2] BLOCKED  Blocked: 203.0.113.8:443  Container: 0123456789ab\nProtocol: TCP")
            .await;
        terminal.say("a 2").await;
        terminal.until("Allowed: 203.0.113.8").await;
        sandbox.until("No route to host\n").await;
        terminal.say("q").await;
        assert!(terminal.end().await.status.success(), "{stack:?}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Both hubs with both verdict helpers: who refuses what, in which order, in which words.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{CONTAINER, Place, Running, Shield, Side, Stack, Subscriber, Wire, pending};

const DOMAIN: &str = "api.example.com";
const REQUEST: &str = "0123456789ab:1";

/// Every mix of hub and helper; the mix of theirs with theirs shows what ours have to be like.
fn pairings() -> Vec<(Side, Side)> {
    let of = |stack| {
        let theirs = Side::Theirs(stack);
        [(Side::Ours, theirs), (theirs, Side::Ours), (theirs, theirs)]
    };
    let mut all: Vec<_> = Stack::ALL.into_iter().flat_map(of).collect();
    all.push((Side::Ours, Side::Ours));
    all
}

fn verdict(changes: &Value) -> Value {
    let mut call = json!({
        "container": CONTAINER, "request_id": REQUEST, "dest": DOMAIN, "action": "allow",
    });
    for (name, value) in changes.as_object().unwrap() {
        call[name] = value.clone();
    }
    call
}

fn refused(name: &str, parameters: Value) -> Value {
    let mut reply = json!({"error": format!("org.terok.Clearance1.{name}")});
    reply["parameters"] = parameters;
    reply
}

#[tokio::test]
async fn every_mix_checks_in_the_same_order_with_the_same_errors() {
    for (hub, helper) in pairings() {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let _helper = place.helper(helper, &shield).await;
        let _hub = place.hub(hub).await;
        let checked = in_order(&place, &shield).await;
        checked.unwrap_or_else(|wrong| panic!("hub {hub:?}, helper {helper:?}: {wrong}"));
    }
}

#[tokio::test]
async fn a_second_verdict_finds_nothing_while_the_first_is_carried_out() {
    let sides = Stack::ALL.into_iter().map(Side::Theirs);
    for side in sides.chain([Side::Ours]) {
        let place = Place::new();
        let shield = Shield::within(&place.path().join("shield"));
        let gate = place.path().join("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, 0o600.into()).unwrap();
        shield.does(&format!("read _ <'{}'", gate.display()));
        let _helper = place.our_helper(&shield).await;
        let _hub = place.hub(side).await;
        let sockets = place.runtime().shared_hub_sockets();
        let mut events = Subscriber::at(&sockets).await;
        events.blocked(&sockets, &pending(REQUEST, DOMAIN)).await;
        let mut first = Wire::connect(&sockets.hub).await;
        let mut second = Wire::connect(&sockets.hub).await;
        let method = "org.terok.Clearance1.Verdict";
        first
            .send(&json!({"method": method, "parameters": verdict(&json!({}))}))
            .await;
        while shield.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        let unknown = refused("UnknownRequest", json!({"request_id": REQUEST}));
        let denied = second
            .call(method, verdict(&json!({"action": "deny"})))
            .await;
        assert_eq!(denied, unknown, "{side:?}");
        // Opening it waits for the program, which waits for the line.
        std::fs::write(&gate, "go\n").unwrap();
        assert_eq!(first.receive().await, json!({"parameters": {"ok": true}}));
        assert_eq!(shield.asked(), [format!("allow {CONTAINER} {DOMAIN}")]);
    }
}

#[tokio::test]
async fn every_hub_takes_both_words_for_a_question() {
    let sides = Stack::ALL.into_iter().map(Side::Theirs);
    for side in sides.chain([Side::Ours]) {
        let place = Place::new();
        let _hub = place.hub(side).await;
        let sockets = place.runtime().shared_hub_sockets();
        let mut events = Subscriber::at(&sockets).await;
        let mut line = pending(REQUEST, DOMAIN);
        let first = events.blocked(&sockets, &line).await;
        line["type"] = json!("connection_blocked");
        line["id"] = json!(format!("{CONTAINER}:2"));
        line["dest"] = json!("203.0.113.8");
        line["domain"] = json!("other.example.com");
        let mut second = events.blocked(&sockets, &line).await;
        assert_eq!(second["request_id"], line["id"], "{side:?}");
        for (field, value) in [
            ("request_id", REQUEST),
            ("dest", "203.0.113.7"),
            ("domain", DOMAIN),
        ] {
            second[field] = json!(value);
        }
        assert_eq!(second, first, "{side:?}");
    }
}

#[tokio::test]
async fn every_hub_clears_questions_at_the_same_news() {
    let sides = Stack::ALL.into_iter().map(Side::Theirs);
    for side in sides.chain([Side::Ours]) {
        let place = Place::new();
        let _hub = place.hub(side).await;
        let sockets = place.runtime().shared_hub_sockets();
        let mut events = Subscriber::at(&sockets).await;
        let mut calls = Wire::connect(&sockets.hub).await;
        for (news, clears) in [
            ("container_started", false),
            ("shield_down", true),
            ("shield_disengaged", true),
            ("container_exited", true),
        ] {
            let event = events.blocked(&sockets, &pending(REQUEST, "")).await;
            assert_eq!(event["domain"], "");
            place
                .report(&[json!({"type": news, "container": CONTAINER})])
                .await;
            assert_eq!(events.next().await["type"], news);
            // A wrong answer tells whether the question is there, and keeps it.
            let reply = calls
                .call(
                    "org.terok.Clearance1.Verdict",
                    verdict(&json!({"dest": "x"})),
                )
                .await;
            let asked = json!({
                "expected_container": CONTAINER, "expected_dest": "203.0.113.7",
                "got_container": CONTAINER, "got_dest": "x",
            });
            let expected = if clears {
                refused("UnknownRequest", json!({"request_id": REQUEST}))
            } else {
                refused("VerdictTupleMismatch", asked)
            };
            assert_eq!(reply, expected, "{side:?} after {news}");
        }
    }
}

/// Gives one verdict after the other, each wrong in what is checked next.
async fn in_order(place: &Place, shield: &Shield) -> Result<(), String> {
    let sockets = place.runtime().shared_hub_sockets();
    let mut events = Subscriber::at(&sockets).await;
    let event = events.blocked(&sockets, &pending(REQUEST, DOMAIN)).await;
    assert_eq!(
        event,
        json!({
            "type": "connection_blocked", "container": CONTAINER, "request_id": REQUEST,
            "dest": "203.0.113.7", "port": 443, "proto": 6, "domain": DOMAIN, "action": "",
            "ok": false, "reason": "",
            "dossier": {"project": "warp", "task": "t1", "name": "build"},
        })
    );
    let mut calls = Wire::connect(&sockets.hub).await;
    let mut check = async |changes: Value, expected: Value| {
        let reply = calls
            .call("org.terok.Clearance1.Verdict", verdict(&changes))
            .await;
        if reply == expected {
            Ok(())
        } else {
            Err(format!("{changes} is answered {reply}, not {expected}"))
        }
    };
    let mismatch = |container: &str, dest: &str| {
        let got = json!({
            "expected_container": CONTAINER, "expected_dest": DOMAIN,
            "got_container": container, "got_dest": dest,
        });
        refused("VerdictTupleMismatch", got)
    };
    // Everything is wrong: the action is looked at first, then the request.
    let wrong = json!({"container": "web", "request_id": "web:9", "dest": "x", "action": "accept"});
    check(wrong, refused("InvalidAction", json!({"action": "accept"}))).await?;
    let empty = json!({"action": ""});
    check(empty, refused("InvalidAction", json!({"action": ""}))).await?;
    let unknown = json!({"container": "web", "request_id": "web:9", "dest": "x"});
    check(
        unknown,
        refused("UnknownRequest", json!({"request_id": "web:9"})),
    )
    .await?;
    // A mismatch keeps the question, so each of these finds it again. The address is no
    // destination where a name was asked about.
    let elsewhere = json!({"container": "web", "dest": "x"});
    check(elsewhere, mismatch("web", "x")).await?;
    check(json!({"container": "web"}), mismatch("web", DOMAIN)).await?;
    let address = json!({"dest": "203.0.113.7"});
    check(address, mismatch(CONTAINER, "203.0.113.7")).await?;
    assert_eq!(shield.asked(), [""; 0], "a refusal reached the firewall");

    // So does a firewall that fails; everybody hears of it.
    let applied = |action: &str, ok: bool| {
        json!({
            "type": "verdict_applied", "container": CONTAINER, "request_id": REQUEST, "dest": "",
            "port": 0, "proto": 0, "domain": "", "action": action, "ok": ok, "reason": "",
            "dossier": {},
        })
    };
    for (does, stderr) in [
        ("echo 'no such container' >&2; exit 1", "no such container"),
        // 512 bytes of it are passed on.
        ("printf '%0600d' 0 >&2; exit 3", &*"0".repeat(512)),
    ] {
        shield.does(does);
        let failed = json!({"action": "deny", "stderr": stderr});
        check(
            json!({"action": "deny"}),
            refused("ShieldCliFailed", failed),
        )
        .await?;
        assert_eq!(events.next().await, applied("deny", false));
    }
    // Success consumes it.
    shield.succeeds();
    check(json!({}), json!({"parameters": {"ok": true}})).await?;
    assert_eq!(events.next().await, applied("allow", true));
    let gone = refused("UnknownRequest", json!({"request_id": REQUEST}));
    check(json!({}), gone.clone()).await?;
    check(json!({"container": "web"}), gone).await?;
    let deny = format!("deny {CONTAINER} {DOMAIN}");
    let allow = format!("allow {CONTAINER} {DOMAIN}");
    assert_eq!(shield.asked(), [deny.clone(), deny, allow]);
    Ok(())
}

#[tokio::test]
async fn calls_that_are_none_are_refused_alike() {
    const INTERFACE: &str = "org.terok.Clearance1";
    let sides = Stack::ALL.into_iter().map(Side::Theirs);
    for side in sides.chain([Side::Ours]) {
        let place = Place::new();
        let _hub = place.hub(side).await;
        let mut calls = Wire::connect(&place.runtime().shared_hub_sockets().hub).await;
        let standard = |name: &str, key: &str, value: &str| {
            json!({
                "error": format!("org.varlink.service.{name}"), "parameters": {key: value},
            })
        };
        let invalid = |parameter: &str| standard("InvalidParameter", "parameter", parameter);
        // The older asyncvarlink does not say which one is missing; with the newer it says so.
        let missing = |parameter: &str| match side {
            Side::Theirs(Stack::V0_7_0) => json!({
                "error": "invalid.asyncvarlink.InternalServerError",
            }),
            _ => invalid(parameter),
        };
        let without = |name: &str| {
            let mut call = verdict(&json!({}));
            call.as_object_mut().unwrap().remove(name);
            call
        };
        let verdicts = format!("{INTERFACE}.Verdict");
        for (method, parameters, expected) in [
            (&*verdicts, without("action"), missing("action")),
            (&verdicts, without("dest"), missing("dest")),
            (&verdicts, json!({}), missing("container")),
            (&verdicts, verdict(&json!({"by": "me"})), invalid("by")),
            (
                &verdicts,
                verdict(&json!({"container": 5})),
                invalid("container"),
            ),
            (&verdicts, verdict(&json!({"dest": null})), invalid("dest")),
            (
                "org.terok.Clearance1.Subscribe",
                json!({}),
                json!({"error": "org.varlink.service.ExpectedMore"}),
            ),
            (
                "org.terok.Clearance1.Nothing",
                json!({}),
                standard("MethodNotFound", "method", "Nothing"),
            ),
            (
                "org.terok.Nothing1.Verdict",
                json!({}),
                standard("InterfaceNotFound", "interface", "org.terok.Nothing1"),
            ),
        ] {
            let reply = calls.call(method, parameters.clone()).await;
            assert_eq!(reply, expected, "{side:?}: {method} {parameters}");
        }
        calls
            .send(&json!({
                "method": "org.terok.Clearance1.Subscribe", "parameters": {"from": 1}, "more": true,
            }))
            .await;
        assert_eq!(calls.receive().await, invalid("from"), "{side:?}");
        let info = calls.call("org.varlink.service.GetInfo", json!({})).await;
        let info = &info["parameters"];
        assert_eq!(info["vendor"], "terok");
        assert_eq!(info["product"], "terok-clearance");
        assert_eq!(info["url"], "https://github.com/terok-ai/terok-clearance");
        let interfaces = info["interfaces"].as_array().unwrap();
        assert!(interfaces.contains(&json!(INTERFACE)), "{info}");
    }
}

#[tokio::test]
async fn their_own_types_read_our_refusals_as_theirs() {
    for stack in Stack::ALL {
        let ours = read_by_their_types(stack, Side::Ours).await;
        let theirs = read_by_their_types(stack, Side::Theirs(stack)).await;
        assert_eq!(ours, theirs, "{stack:?}");
    }
}

/// Returns what the types of `stack` make of each refusal, and of the reply to a good verdict.
async fn read_by_their_types(stack: Stack, hub: Side) -> Vec<Value> {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("shield"));
    let _helper = place.our_helper(&shield).await;
    let _hub = place.hub(hub).await;
    let sockets = place.runtime().shared_hub_sockets();
    let mut events = Subscriber::at(&sockets).await;
    events.blocked(&sockets, &pending(REQUEST, DOMAIN)).await;
    let socket = sockets.hub.to_str().unwrap();
    let mut calls = Running::start(&mut place.script(stack, "calls.py", &[socket]));
    shield.does("echo 'nft is busy' >&2; exit 1");
    let mut read = Vec::new();
    for (changes, error) in [
        (json!({"action": "accept"}), "InvalidAction"),
        (json!({"request_id": "web:9"}), "UnknownRequest"),
        (json!({"dest": "x"}), "VerdictTupleMismatch"),
        (json!({}), "ShieldCliFailed"),
    ] {
        calls.say(&verdict(&changes).to_string()).await;
        let said = calls.json().await;
        assert_eq!(said["error"], format!("org.terok.Clearance1.{error}"));
        read.push(said);
    }
    shield.succeeds();
    calls.say(&verdict(&json!({})).to_string()).await;
    let said = calls.json().await;
    assert_eq!(said, json!({"reply": {"ok": true}}));
    read.push(said);
    assert!(calls.end().await.status.success());
    read
}

#[tokio::test]
async fn every_verdict_client_gets_every_helpers_words() {
    for stack in Stack::ALL {
        for side in [Side::Theirs(stack), Side::Ours] {
            let place = Place::new();
            let shield = Shield::within(&place.path().join("shield"));
            let socket = place.runtime().shared_hub_sockets().verdict;
            let mut client =
                Running::start(&mut place.script(stack, "verdict.py", &[socket.to_str().unwrap()]));
            let order = json!([CONTAINER, DOMAIN, "allow"]).to_string();
            client.say(&order).await;
            let unreachable = client.json().await;
            let reason = unreachable[1].as_str().unwrap();
            assert!(
                reason.starts_with("verdict helper unreachable: "),
                "{reason}"
            );
            let helper = place.helper(side, &shield).await;
            client.say(&order).await;
            assert_eq!(client.json().await, json!([true, ""]), "{side:?}");
            shield.does("echo ' why not '>&2; exit 2");
            client.say(&order).await;
            assert_eq!(client.json().await, json!([false, "why not"]), "{side:?}");
            // What a program that succeeds says is passed on too.
            shield.does("echo careful >&2");
            client.say(&order).await;
            assert_eq!(client.json().await, json!([true, "careful"]), "{side:?}");
            // A helper that was started anew meanwhile is reached at once.
            helper.signal(rustix::process::Signal::TERM);
            helper.end().await;
            let _helper = place.helper(side, &shield).await;
            client.say(&order).await;
            assert_eq!(client.json().await, json!([true, "careful"]), "{side:?}");
            assert_eq!(shield.asked().len(), 4);
            assert!(client.end().await.status.success());
        }
    }
}

#[tokio::test]
async fn a_hub_without_a_helper_says_so() {
    let sides = Stack::ALL.into_iter().map(Side::Theirs);
    for side in sides.chain([Side::Ours]) {
        let place = Place::new();
        let _hub = place.hub(side).await;
        let sockets = place.runtime().shared_hub_sockets();
        let mut events = Subscriber::at(&sockets).await;
        events.blocked(&sockets, &pending(REQUEST, DOMAIN)).await;
        let mut calls = Wire::connect(&sockets.hub).await;
        let reply = calls
            .call("org.terok.Clearance1.Verdict", verdict(&json!({})))
            .await;
        assert_eq!(reply["error"], "org.terok.Clearance1.ShieldCliFailed");
        let reason = reply["parameters"]["stderr"].as_str().unwrap();
        assert!(
            reason.starts_with("verdict helper unreachable: "),
            "{reason}"
        );
        let event = events.next().await;
        assert_eq!(event["type"], "verdict_applied");
        assert_eq!(event["ok"], false, "{side:?}");
    }
}

#[tokio::test]
async fn a_helper_whose_program_hangs_and_one_without_say_so_alike() {
    let [first, second, third, fourth] = Stack::ALL.map(Side::Theirs).map(no_shield_to_speak_of);
    let ours = no_shield_to_speak_of(Side::Ours);
    let (first, second, third, fourth, ours) = tokio::join!(first, second, third, fourth, ours);
    let expected = [
        json!([false, "timed out after 10.0s"]),
        json!([false, "terok-shield not found on PATH"]),
    ];
    for said in [first, second, third, fourth, ours] {
        assert_eq!(said, expected);
    }
}

/// Returns what a helper says when the program on the PATH hangs, and when there is none anywhere.
async fn no_shield_to_speak_of(side: Side) -> [Value; 2] {
    let place = Place::new();
    let shield = Shield::within(&place.path().join("path"));
    shield.does("exec sleep 60");
    let with_it = Path::new(shield.path()).parent().unwrap().to_owned();
    let system = "/usr/bin:/bin";
    let paths = [format!("{}:{system}", with_it.display()), system.to_owned()];
    let mut said = Vec::new();
    for path in paths {
        let mut command = match side {
            Side::Ours => place.ours(&["serve-verdict"]),
            Side::Theirs(stack) => {
                let mut python = place.command(place.twin(stack));
                python.args(["-m", "terok_clearance.cli.main", "serve-verdict"]);
                python
            }
        };
        let socket = place.runtime().shared_hub_sockets().verdict;
        let command = command.env("PATH", path);
        let helper = place.serve(command, std::slice::from_ref(&socket)).await;
        let socket = [socket.to_str().unwrap()];
        let mut client = Running::start(&mut place.script(Stack::V0_8_1, "verdict.py", &socket));
        client
            .say(&json!([CONTAINER, DOMAIN, "deny"]).to_string())
            .await;
        said.push(client.json().await);
        helper.signal(rustix::process::Signal::TERM);
        helper.end().await;
    }
    said.try_into().unwrap()
}

#[tokio::test]
async fn what_the_real_program_says_reaches_whoever_asked() {
    for stack in Stack::ALL {
        let place = Place::new();
        // Without podman, so that it says the same everywhere.
        let nothing = place.path().join("nothing");
        let mut program = place.theirs(stack, "terok-shield", &["allow", CONTAINER, DOMAIN]);
        let alone = Running::start(program.env("PATH", &nothing)).end().await;
        assert!(
            !alone.status.success(),
            "there is no such container: {alone:?}"
        );
        let cut = &alone.errors.as_bytes()[..alone.errors.len().min(512)];
        let reason = String::from_utf8_lossy(cut).trim().to_owned();
        assert_ne!(reason, "", "{stack:?}");
        let mut helper = place.theirs(stack, "terok-clearance-hub", &["serve-verdict"]);
        let verdict_socket = place.runtime().shared_hub_sockets().verdict;
        let helper = helper.env("PATH", &nothing);
        let _helper = place.serve(helper, &[verdict_socket]).await;
        // Their hub passes it on as it is; ours as a line of printable ASCII, for it goes to
        // terminals and screens.
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { ' ' };
        let harmless = reason.chars().map(printable).collect::<String>();
        for (side, expected) in [(Side::Theirs(stack), &reason), (Side::Ours, &harmless)] {
            let hub = place.hub(side).await;
            let sockets = place.runtime().shared_hub_sockets();
            let mut events = Subscriber::at(&sockets).await;
            events.blocked(&sockets, &pending(REQUEST, DOMAIN)).await;
            let mut calls = Wire::connect(&sockets.hub).await;
            let reply = calls
                .call("org.terok.Clearance1.Verdict", verdict(&json!({})))
                .await;
            assert_eq!(reply["error"], "org.terok.Clearance1.ShieldCliFailed");
            // The newer ones say when, which differs.
            let timeless = |text: &str| text.rsplit(" WARNING ").next().unwrap().to_owned();
            let said = reply["parameters"]["stderr"].as_str().unwrap();
            assert_eq!(timeless(said), timeless(expected), "{stack:?} {side:?}");
            assert_eq!(events.next().await["ok"], false);
            hub.signal(rustix::process::Signal::TERM);
            hub.end().await;
        }
    }
}

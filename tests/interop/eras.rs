// SPDX-License-Identifier: Apache-2.0
//! The words of each era on our hub, and each era's sockets as our prompt finds them, with the
//! Python stack's hub behind them that comes, goes and comes back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use terok_clearance::socket::{HubSocketPaths, SocketLayout};

use crate::harness::{
    CONTAINER, Place, Running, Stack, Subscriber, Wire, pending, report, while_repeating,
};

const REQUEST: &str = "0123456789ab:1";

/// What our hub says of a question and of a firewall that is off, in the words of `era`.
async fn words_of(place: &Place) -> (Value, Value) {
    let sockets = place.runtime().shared_hub_sockets();
    let mut events = Subscriber::at(&sockets).await;
    let asked = events
        .blocked(&sockets, &pending(REQUEST, "api.example.com"))
        .await;
    place
        .report(&[json!({"type": "shield_disengaged", "container": CONTAINER})])
        .await;
    (asked, events.next().await)
}

async fn described(place: &Place) -> String {
    let mut calls = Wire::connect(&place.runtime().shared_hub_sockets().hub).await;
    let name = json!({"interface": "org.terok.Clearance1"});
    let reply = calls
        .call("org.varlink.service.GetInterfaceDescription", name)
        .await;
    reply["parameters"]["description"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn each_era_has_its_words_and_the_classic_socket_those_of_the_newest() {
    let with_dossier = [
        "type",
        "container",
        "request_id",
        "dest",
        "port",
        "proto",
        "domain",
        "action",
        "ok",
        "reason",
        "dossier",
    ];
    for (args, fields, off) in [
        (&[][..], &with_dossier[..], "shield_disengaged"),
        (&["--era", "d"], &with_dossier, "shield_disengaged"),
        (&["--era", "b"], &with_dossier, "shield_down_all"),
        (&["--era", "a"], &with_dossier[..10], "shield_down_all"),
    ] {
        let place = Place::new();
        let _hub = place.our_hub(args).await;
        let (asked, state) = words_of(&place).await;
        for event in [&asked, &state] {
            let mut names: Vec<_> = event.as_object().unwrap().keys().collect();
            let mut expected = fields.to_vec();
            names.sort();
            expected.sort_unstable();
            assert_eq!(names, expected, "{args:?}");
        }
        assert_eq!(state["type"], off, "{args:?}");
        let has_dossier = fields.len() == 11;
        assert_eq!(described(&place).await.contains("dossier"), has_dossier);
    }
    // Theirs, on the classic socket.
    for stack in Stack::ALL {
        let place = Place::new();
        let _hub = place.their_hub(stack).await;
        let (asked, state) = words_of(&place).await;
        assert_eq!(asked.as_object().unwrap().len(), 11, "{stack:?}");
        assert_eq!(state["type"], "shield_disengaged", "{stack:?}");
    }
}

#[tokio::test]
async fn clients_of_today_take_eras_b_and_d_alone() {
    for stack in Stack::ALL {
        for (era, understood) in [("a", false), ("b", true), ("d", true)] {
            let place = Place::new();
            let _hub = place.our_hub(&["--era", era]).await;
            place.report(&[pending(REQUEST, "api.example.com")]).await;
            let socket = place.runtime().shared_hub_sockets().hub;
            let socket = socket.to_str().unwrap();
            let mut client = Running::start(&mut place.script(stack, "client.py", &[socket]));
            assert_eq!(client.json().await, json!({"started": true}));
            if understood {
                let event = client.json().await["event"].take();
                assert_eq!(event["request_id"], REQUEST, "{stack:?}, era {era}");
            } else {
                client.until_error("clearance event stream died").await;
                let ended = client.end().await;
                assert_eq!(ended.output, "", "{stack:?}: an event of era A was taken");
            }
        }
    }
}

/// Removes what a supervisor removes when it ends: the sockets, and in layout D their directories.
fn cleared(place: &Place, sockets: &HubSocketPaths, layout: SocketLayout) {
    for socket in [&sockets.hub, &sockets.ingester] {
        std::fs::remove_file(socket).ok();
        if layout == SocketLayout::D {
            std::fs::remove_dir(socket.parent().unwrap()).unwrap();
        }
    }
    // And a session's end takes all of it.
    std::fs::remove_dir_all(place.path().join("terok")).unwrap();
}

async fn hub_is(prompt: &mut Running, socket: &Path, state: &str) -> Value {
    loop {
        let line = prompt.json_where("event", "hub").await;
        assert_eq!(line["hub"], socket.to_str().unwrap());
        if line["state"] == state {
            return line;
        }
    }
}

#[tokio::test]
async fn our_prompt_finds_their_hubs_when_they_come_and_misses_them_when_they_go() {
    for stack in Stack::ALL {
        for layout in [Some(SocketLayout::C), Some(SocketLayout::D), None] {
            let place = Place::new();
            let container = CONTAINER.parse().unwrap();
            let sockets = match layout {
                Some(layout) => place.runtime().sandbox_sockets(&container, layout),
                None => place.runtime().shared_hub_sockets(),
            };
            // No socket, and no directory on the way to one.
            let mut prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
            assert_eq!(
                prompt.json().await,
                json!({"event": "ready", "hubs": 0, "rows": 0})
            );
            for round in 1..=2 {
                let hub = place.their_hub_at(stack, &sockets).await;
                let up = hub_is(&mut prompt, &sockets.hub, "up").await;
                assert_eq!(up["interface"], "org.terok.Clearance1");
                let up = json!({"type": "shield_up", "container": CONTAINER});
                let heard = prompt.json_where("event", "shield");
                while_repeating(&sockets.ingester, &up, heard).await;
                report(&sockets.ingester, &[pending(REQUEST, "api.example.com")]).await;
                let asked = prompt.json_where("event", "pending").await;
                let row = if layout.is_some() { round } else { 1 };
                assert_eq!(asked["row"], row, "{stack:?} {layout:?}");
                assert_eq!(asked["hub"], sockets.hub.to_str().unwrap());
                hub.signal(Signal::TERM);
                assert!(hub.end().await.status.success());
                if let Some(layout) = layout {
                    cleared(&place, &sockets, layout);
                } else {
                    // That hub leaves it behind.
                    std::fs::remove_file(&sockets.hub).unwrap();
                }
                // A sandbox's hub goes with its sandbox; the hub of all of them comes back, and the
                // question then has the same number.
                if layout.is_some() {
                    let gone = prompt.json_where("event", "withdrawn").await;
                    assert_eq!(gone["reason"], "the hub is gone");
                    hub_is(&mut prompt, &sockets.hub, "gone").await;
                } else {
                    hub_is(&mut prompt, &sockets.hub, "gone").await;
                    let kept = prompt.json_where("event", "lapsed").await;
                    assert_eq!(kept["row"], 1);
                }
            }
            prompt.say("q").await;
            assert!(prompt.end().await.status.success());
        }
    }
}

#[tokio::test]
async fn our_prompt_returns_to_a_hub_that_left_its_socket_behind() {
    for stack in Stack::ALL {
        let place = Place::new();
        let sockets = place
            .runtime()
            .sandbox_sockets(&CONTAINER.parse().unwrap(), stack.layout());
        let mut prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
        prompt.json_where("event", "ready").await;
        for _ in 0..2 {
            let hub = place.their_hub_at(stack, &sockets).await;
            hub_is(&mut prompt, &sockets.hub, "up").await;
            // Killed, it removes nothing; the next one takes the path over.
            hub.signal(Signal::KILL);
            hub.end().await;
            hub_is(&mut prompt, &sockets.hub, "down").await;
        }
        assert!(prompt.end().await.status.success());
    }
}

#[tokio::test]
async fn our_hub_makes_its_directories_as_private_as_theirs() {
    for stack in Stack::ALL {
        for layout in [SocketLayout::C, SocketLayout::D] {
            let modes = async |ours: bool| {
                let place = Place::new();
                let sockets = place
                    .runtime()
                    .sandbox_sockets(&CONTAINER.parse().unwrap(), layout);
                let _hub = if ours {
                    place.our_hub_at(&sockets).await
                } else {
                    place.their_hub_at(stack, &sockets).await
                };
                let mode =
                    |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
                [&sockets.hub, &sockets.ingester]
                    .map(|socket| (mode(socket), mode(socket.parent().unwrap())))
            };
            let ours = modes(true).await;
            assert_eq!(ours, [(0o600, 0o700); 2]);
            assert_eq!(ours, modes(false).await, "{stack:?} {layout:?}");
        }
    }
}

#[tokio::test]
async fn our_prompt_waits_for_hubs_without_polling() {
    let place = Place::new();
    let prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
    // The number of the system call its main thread is in, and the arguments: epoll_wait or
    // epoll_pwait, whose fourth is the time limit. A poller would never wait without one.
    let calls = if cfg!(target_arch = "x86_64") {
        ["232", "281"]
    } else {
        ["22", "22"]
    };
    let file = format!("/proc/{}/syscall", prompt.pid().as_raw_nonzero());
    let endless = async {
        loop {
            let state = std::fs::read_to_string(&file).unwrap();
            let words: Vec<_> = state.split_whitespace().collect();
            if calls.contains(&words[0]) && words[4].ends_with("ffffffff") {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(30), endless).await;
    assert!(
        waited.is_ok(),
        "it never waits without a time limit: {prompt:?}"
    );
    assert!(prompt.end().await.status.success());
}

// SPDX-License-Identifier: Apache-2.0
//! Verbs that change the firewall of a container.

use serde_json::{Value, json};
use terok_clearance::socket::{RuntimeDir, SocketLayout};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::{By, ID, ShieldHost};

/// A day of a container: each verb, and `BOX` for its name.
const VERBS: [&[&str]; 20] = [
    &["up", "BOX", "--container-id", ID],
    &["allow", "BOX", "203.0.113.20"],
    &["allow", "BOX", "203.0.113.20"],
    &["allow", "BOX", "2001:db8::20"],
    &["deny", "BOX", "203.0.113.20"],
    &["deny", "BOX", "192.0.2.0/28"],
    &["allow", "BOX", "203.0.113.66"],
    &["allow", "BOX", "one.example"],
    &["deny", "BOX", "two.example"],
    &["allow", "BOX", "none.example"],
    &["down", "BOX", "--container-id", ID],
    &["deny", "BOX", "203.0.113.21"],
    &["up", "BOX", "--container-id", ID],
    &["down", "BOX", "--container-id", ID, "--disengage"],
    &["up", "BOX", "--container-id", ID],
    &["allow", "BOX", "*.wild.example"],
    &["reset", "BOX"],
    &["quarantine", "BOX"],
    &["allow", "BOX", "203.0.113.22"],
    &["up", "BOX", "--container-id", ID],
];

fn about<'a>(verb: &[&'a str], name: &'a str) -> Vec<&'a str> {
    let word = |word: &&'a str| if *word == "BOX" { name } else { *word };
    verb.iter().map(word).collect()
}

#[tokio::test]
async fn each_verb_has_the_same_effect() {
    let host = ShieldHost::new();
    let theirs = host.start("theirs").await;
    let ours = host.start("ours").await;
    for verb in VERBS {
        let their_end = host.verb(By::Theirs, &about(verb, "theirs")).await;
        let our_end = host.verb(By::Ours, &about(verb, "ours")).await;
        let their_output = their_end.output.replace("theirs", "ours");
        assert_eq!(
            (our_end.status.code(), &our_end.output),
            (their_end.status.code(), &their_output),
            "{verb:?}: {their_end:?}\n{our_end:?}"
        );
        assert_eq!(
            host.rules(&ours).await,
            host.rules(&theirs).await,
            "after {verb:?}"
        );
        assert_eq!(host.files("ours"), host.files("theirs"), "after {verb:?}");
    }
    drop((theirs.process, ours.process));
}

#[tokio::test]
async fn both_manage_one_container_in_turn() {
    let host = ShieldHost::new();
    let alone = host.start("alone").await;
    let shared = host.start("shared").await;
    for (at, verb) in VERBS.iter().enumerate() {
        host.verb(By::Ours, &about(verb, "alone")).await;
        let by = if at % 2 == 0 { By::Ours } else { By::Theirs };
        host.verb(by, &about(verb, "shared")).await;
        assert_eq!(
            host.rules(&shared).await,
            host.rules(&alone).await,
            "after {verb:?}"
        );
        assert_eq!(host.files("shared"), host.files("alone"), "after {verb:?}");
    }
    drop((alone.process, shared.process));
}

#[tokio::test]
async fn the_verdict_helpers_call_opens_and_closes() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let ended = host.verb(By::Ours, &["allow", "box", "203.0.113.7"]).await;
    assert!(
        ended.status.success() && ended.errors.is_empty(),
        "{ended:?}"
    );
    assert_eq!(ended.output, "Allowed 203.0.113.7 -> 203.0.113.7 for box\n");
    assert!(host.rules(&container).await.contains("203.0.113.7"));
    let ended = host.verb(By::Ours, &["allow", "box", "10.0.0.9"]).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        ended.errors.starts_with("10.0.0.9 stays refused: private"),
        "{ended:?}"
    );
    let failed = host.verb(By::Ours, &["allow", "box", "none.example"]).await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        failed.errors.starts_with("Error: No IPs allowed for box"),
        "{failed:?}"
    );
    let failed = host.verb(By::Ours, &["allow", "box", "a;b"]).await;
    assert!(
        failed.errors.starts_with("Error: \"a;b\" is neither"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn learnt_addresses_outlive_down_and_up_and_not_reset() {
    let host = ShieldHost::new();
    let ours = host.start("ours").await;
    let theirs = host.start("theirs").await;
    for (by, container) in [(By::Ours, &ours), (By::Theirs, &theirs)] {
        std::fs::write(
            host.state(container.name).join("dns.tier"),
            "dnsmasq-live\n",
        )
        .unwrap();
        let up = ["up", container.name, "--container-id", ID];
        host.done(by, &up).await;
        let learn = "add element inet terok_shield t40_project_allow_v4 \
             { 203.0.113.30 timeout 20m expires 10m, 203.0.113.66 }";
        assert!(host.nft(container, learn).await.status.success());
        host.done(by, &["down", container.name, "--container-id", ID])
            .await;
        host.done(by, &up).await;
    }
    let rules = host.rules(&ours).await;
    assert!(rules.contains("203.0.113.30 timeout 20m"), "{rules}");
    assert_eq!(rules, host.rules(&theirs).await);
    // Ours keeps the time that was left.
    let listed = host.nft(&ours, "list ruleset").await.output;
    assert!(
        listed.contains("203.0.113.30 timeout 20m expires 9m"),
        "{listed}"
    );
    for (by, container) in [(By::Ours, &ours), (By::Theirs, &theirs)] {
        host.done(by, &["reset", container.name]).await;
    }
    let rules = host.rules(&ours).await;
    assert!(!rules.contains("203.0.113.30"), "{rules}");
    assert_eq!(rules, host.rules(&theirs).await);
}

#[tokio::test]
async fn the_hub_is_told_the_same() {
    let host = ShieldHost::new();
    let _container = host.start("box").await;
    let facts = host.path().join("facts.json");
    std::fs::write(&facts, r#"{"project":"p","task":"t","name":""}"#).unwrap();
    std::fs::write(host.state("box").join("meta_path"), facts.to_str().unwrap()).unwrap();
    let runtime = RuntimeDir::new(host.path());
    let id = ID.parse().unwrap();
    let socket = runtime.sandbox_sockets(&id, SocketLayout::D).ingester;
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let hub = UnixListener::bind(&socket).unwrap();
    let told = async |by, verb: &[&str]| -> Value {
        let read = async {
            let (mut stream, _) = hub.accept().await.unwrap();
            let mut line = String::new();
            stream.read_to_string(&mut line).await.unwrap();
            line
        };
        let (_, line) = tokio::join!(host.done(by, verb), read);
        assert!(line.ends_with('\n'), "{line}");
        serde_json::from_str(&line).unwrap()
    };
    let dossier = json!({"project": "p", "task": "t"});
    for (verb, event) in [
        (&["up", "box", "--container-id", ID][..], "shield_up"),
        (&["down", "box", "--container-id", ID], "shield_down"),
        (
            &["down", "box", "--container-id", ID, "--disengage"],
            "shield_disengaged",
        ),
    ] {
        let expected = json!({"type": event, "container": "box", "dossier": dossier});
        for by in [By::Theirs, By::Ours] {
            assert_eq!(told(by, verb).await, expected, "{by:?}");
        }
    }
}

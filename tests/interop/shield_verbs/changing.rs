// SPDX-License-Identifier: Apache-2.0
//! Verbs that change the firewall of a container.

use serde_json::{Value, json};
use terok_clearance::socket::{RuntimeDir, SocketLayout};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

use super::{By, ID, ShieldHost};
use crate::harness::Running;

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

/// Starts dnsmasq under the path by which it was called, as the root of these namespaces.
const DNSMASQ: &str = r#"#!/bin/bash
exec -a "$0" /usr/sbin/dnsmasq --user=root --group= "$@"
"#;

#[tokio::test]
async fn dnsmasq_learns_a_changed_name_the_same() {
    let host = ShieldHost::new();
    host.program("dnsmasq", DNSMASQ);
    let ours = host.start("ours").await;
    let theirs = host.start("theirs").await;
    let read = |name: &str, file: &str| {
        std::fs::read_to_string(host.state(name).join(file))
            .unwrap()
            .replace(name, "NAME")
    };
    let mut pids = Vec::new();
    for (by, container) in [(By::Ours, &ours), (By::Theirs, &theirs)] {
        let state = host.state(container.name);
        let conf = format!(
            "listen-address=127.0.0.1\nport=53\nbind-interfaces\nno-resolv\nlog-queries\n\
             log-facility={0}/dnsmasq.log\npid-file={0}/dnsmasq.pid\n",
            state.display()
        );
        let program = host.path().join("dnsmasq");
        for (file, text) in [
            ("dns.tier", "dnsmasq-live\n".to_owned()),
            ("dnsmasq.conf", conf),
            ("dnsmasq.command", "dnsmasq\n".to_owned()),
            ("dnsmasq.bin", format!("{}\n", program.display())),
        ] {
            std::fs::write(state.join(file), text).unwrap();
        }
        let pid = container.process.pid().as_raw_nonzero().to_string();
        let mut nsenter = host.place.command("nsenter");
        nsenter.args(["--net", "--target", &pid]).arg(&program);
        nsenter.arg(format!("--conf-file={}/dnsmasq.conf", state.display()));
        assert!(Running::start(&mut nsenter).end().await.status.success());
        let first = read(container.name, "dnsmasq.pid");
        host.done(by, &["up", container.name, "--container-id", ID])
            .await;
        host.done(by, &["allow", container.name, "one.example"])
            .await;
        host.done(by, &["deny", container.name, "two.example"])
            .await;
        host.done(by, &["allow", container.name, "203.0.113.9"])
            .await;
        let second = read(container.name, "dnsmasq.pid");
        assert_ne!(first, second, "it was restarted");
        // A process that nobody has waited for has no arguments any more.
        let arguments = std::fs::read(format!("/proc/{}/cmdline", first.trim()));
        assert!(
            arguments.unwrap_or_default().is_empty(),
            "the first one has ended"
        );
        pids.push(second.trim().to_owned());
    }
    let lines = |name: &str| -> Vec<String> {
        read(name, "dnsmasq.conf")
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines("ours"), lines("theirs"));
    let has = |line: &str| lines("ours").iter().any(|own| own.starts_with(line));
    assert!(
        has("nftset=/one.example/") && has("local=/two.example/"),
        "{:?}",
        lines("ours")
    );
    assert_eq!(read("ours", "dnsmasq.bin"), read("theirs", "dnsmasq.bin"));
    assert_eq!(host.files("ours"), host.files("theirs"));
    // A dnsmasq that does not start again opens nothing.
    host.program("dnsmasq", "#!/bin/sh\necho 'no start' >&2; exit 1\n");
    let (rules, files) = (host.rules(&ours).await, host.files("ours"));
    let ended = host.verb(By::Ours, &["allow", "ours", "two.example"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.errors.contains("dnsmasq does not start again"),
        "{ended:?}"
    );
    assert_eq!(host.rules(&ours).await, rules);
    assert_eq!(host.files("ours"), files);
    let theirs = rustix::process::Pid::from_raw(pids[1].parse().unwrap()).unwrap();
    rustix::process::kill_process(theirs, rustix::process::Signal::KILL).unwrap();
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

#[tokio::test]
async fn an_address_within_an_allowed_network_is_no_failure_with_ours() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let allow = ["allow", "box", "198.51.100.7"];
    let theirs = host.verb(By::Theirs, &allow).await;
    assert_eq!(theirs.status.code(), Some(1), "{theirs:?}");
    let rules = host.rules(&container).await;
    assert_eq!(
        host.done(By::Ours, &allow).await,
        "Allowed 198.51.100.7 -> 198.51.100.7 for box\n"
    );
    assert_eq!(host.rules(&container).await, rules);
    assert!(host.files("box").starts_with("+198.51.100.7\n"));
}

#[tokio::test]
async fn a_container_of_supervise_is_only_closed() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    let ruleset = host.place.ours(&["preview"]);
    let ruleset = Running::start(&mut { ruleset }).end().await.output;
    let loaded = host.nft(&container, &ruleset).await;
    assert!(loaded.status.success(), "{loaded:?}");
    let rules = host.rules(&container).await;
    for verb in [
        &["up", "box", "--container-id", ID][..],
        &["down", "box", "--container-id", ID],
        &["allow", "box", "203.0.113.7"],
        &["deny", "box", "203.0.113.7"],
        &["reset", "box"],
    ] {
        let ended = host.verb(By::Ours, verb).await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(
            ended.errors.contains("terok-clearance supervise"),
            "{ended:?}"
        );
        assert_eq!(host.rules(&container).await, rules, "{verb:?}");
    }
    assert_eq!(host.done(By::Ours, &["status", "box"]).await, "error\n");
    host.done(By::Ours, &["quarantine", "box"]).await;
    assert_eq!(
        host.done(By::Ours, &["status", "box"]).await,
        "quarantine\n"
    );
}

// SPDX-License-Identifier: Apache-2.0
//! Verbs that change nothing.

use std::fs;

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::interval;

use super::{By, ID, ShieldHost};
use crate::harness::Running;

#[tokio::test]
async fn profiles_and_previews_are_the_same() {
    let host = ShieldHost::new();
    let mine = host.path().join(".config/terok/shield/profiles");
    fs::create_dir_all(&mine).unwrap();
    fs::write(mine.join("mine.txt"), "+one.example\n").unwrap();
    fs::write(mine.join("base.txt"), "+one.example\n").unwrap();
    assert!(host.same(&["profiles"]).await.contains("mine\n"));
    assert!(host.same(&["preview"]).await.contains("policy drop"));
    host.same(&["preview", "--down"]).await;
    host.same(&["preview", "--down", "--disengage"]).await;
    host.same(&["preview", "--disengage"]).await;
}

#[tokio::test]
async fn the_record_is_shown_the_same() {
    let host = ShieldHost::new();
    host.same(&["logs"]).await;
    for (name, lines) in [
        (
            "a",
            "{\"ts\":\"3\",\"b\":1,\"a\":\"\u{e9}\\u0007\"}\nbroken\n{\"ts\":\"1\",\"c\":[1,2.5,null]}\n",
        ),
        ("b", "{\"ts\":\"2\",\"a\":{\"z\":true}}\n"),
    ] {
        fs::create_dir_all(host.state(name)).unwrap();
        fs::write(host.state(name).join("audit.jsonl"), lines).unwrap();
    }
    for args in [
        &["logs"][..],
        &["logs", "-n", "2"],
        &["logs", "-n", "0"],
        &["logs", "--container", "a"],
        &["logs", "--container", "a", "-n", "1"],
        &["logs", "--container", "none"],
        &["--state-dir", "/nonexistent", "logs"],
    ] {
        host.same(args).await;
    }
    let wrong = host.same(&["logs", "--container", "../a"]).await;
    assert_eq!(wrong, "");
}

#[tokio::test]
async fn every_posture_is_called_the_same() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    let check = async |expected: &str| {
        assert_eq!(host.same(&["status", "box"]).await, format!("{expected}\n"));
        let rules = host.same(&["rules", "box"]).await;
        assert!(
            rules.starts_with(&format!("State: {expected}\n")),
            "{rules}"
        );
    };
    check("offline").await;
    for (verb, posture) in [
        (&["up", "box", "--container-id", ID][..], "up"),
        (&["down", "box", "--container-id", ID], "down"),
        (
            &["down", "box", "--container-id", ID, "--disengage"],
            "disengaged",
        ),
        (&["quarantine", "box"], "quarantine"),
    ] {
        for by in [By::Theirs, By::Ours] {
            host.done(by, verb).await;
            check(posture).await;
        }
    }
    host.nft(&container, "flush chain inet terok_shield output")
        .await;
    check("error").await;
    host.nft(&container, "delete table inet terok_shield").await;
    check("offline").await;
    fs::write(host.path().join("box.pid"), "0").unwrap();
    check("offline").await;
}

#[tokio::test]
async fn a_rule_that_somebody_added_is_an_error_with_ours() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let insert = "insert rule inet terok_shield output ip daddr 203.0.113.9 accept";
    assert!(host.nft(&container, insert).await.status.success());
    let theirs = host.done(By::Theirs, &["status", "box"]).await;
    let ours = host.verb(By::Ours, &["status", "box"]).await;
    assert_eq!((theirs.as_str(), ours.output.as_str()), ("up\n", "error\n"));
    assert!(ours.errors.contains("203.0.113.9"), "{ours:?}");
}

#[tokio::test]
async fn unknown_containers_are_errors_with_the_same_status() {
    let host = ShieldHost::new();
    for args in [
        &["status", "none"][..],
        &["rules", "none"],
        &["allow", "none", "203.0.113.1"],
        &["deny", "none", "203.0.113.1"],
        &["allow", "../none", "203.0.113.1"],
        &["reset", "none"],
        &["quarantine", "none"],
        &["watch", "none"],
        &["simple-clearance", "none"],
        &["up", "none", "--container-id", ID],
        &["up", "none"],
        &["block", "none"],
        &["status", "none", "--", "x"],
    ] {
        host.same(args).await;
    }
    host.same(&["--state-dir", "/nonexistent", "status", "none"])
        .await;
}

#[tokio::test]
async fn names_are_looked_up_to_the_same_addresses() {
    let host = ShieldHost::new();
    let config = host.path().join(".config/terok/shield");
    fs::create_dir_all(config.join("profiles")).unwrap();
    fs::write(
        config.join("config.yml"),
        "mode: hook\ndefault_profiles: [mine]\n",
    )
    .unwrap();
    let mine = "+two.example\n+one.example\n+203.0.113.0/25\n-x.example\n+none.example\n";
    fs::write(config.join("profiles/mine.txt"), mine).unwrap();
    let root = host.path().join("other");
    let root = root.to_str().unwrap();
    let state = host.path().join("other/containers/new");
    for by in [By::Theirs, By::Ours] {
        let printed = host
            .done(by, &["--state-dir", root, "resolve", "new", "--force"])
            .await;
        assert!(
            printed.starts_with("Resolved 4 IPs for new (forced)\n"),
            "{printed}"
        );
        let cache = fs::read_to_string(state.join("resolved.ips")).unwrap();
        assert_eq!(
            cache,
            "203.0.113.0/25\n203.0.113.2\n2001:db8::2\n203.0.113.1\n"
        );
        let tier = fs::read_to_string(state.join("policy/40-project-allow")).unwrap();
        assert_eq!(
            tier,
            "+two.example\n+one.example\n+203.0.113.0/25\n+none.example\n"
        );
    }
    host.same(&["--state-dir", root, "resolve", "new"]).await;
    fs::write(config.join("config.yml"), "mod: hook\n").unwrap();
    host.same(&["profiles"]).await;
}

#[tokio::test]
async fn the_environment_is_described_by_the_same_words() {
    let host = ShieldHost::new();
    let theirs = host.done(By::Theirs, &["check-environment"]).await;
    let ours = host.done(By::Ours, &["check-environment"]).await;
    let words = |printed: &str| {
        let lines = printed.lines().take(3).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(words(&ours), words(&theirs));
    assert_eq!(
        words(&ours),
        [
            "podman_version=5.4.2",
            "hooks=not-installed",
            "health=setup-needed"
        ]
    );
    let labels = async |by| {
        let printed = host.done(by, &["status"]).await;
        let lines = printed.lines().take(7).map(|line| {
            let (label, value) = line.split_at(10);
            let is_own = label.starts_with("Version");
            format!("{label}{}", if is_own { "" } else { value })
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(labels(By::Ours).await, labels(By::Theirs).await);
    let version = host.done(By::Ours, &["--version"]).await;
    let theirs = host.done(By::Theirs, &["--version"]).await;
    assert_eq!(
        version.lines().skip(1).collect::<Vec<_>>(),
        theirs.lines().skip(1).collect::<Vec<_>>()
    );
    // Without a verb both print their help.
    assert!(host.done(By::Ours, &[]).await.contains("quarantine"));
    assert!(host.done(By::Theirs, &[]).await.contains("quarantine"));
}

#[tokio::test]
async fn recorded_events_are_shown_the_same() {
    let host = ShieldHost::new();
    let _container = host.start("box").await;
    let audit = host.state("box").join("audit.jsonl");
    let mut first = Vec::new();
    for by in [By::Theirs, By::Ours] {
        let mut watch = Running::start(&mut host.command(by, &["watch", "box"]));
        let mut again = interval(Duration::from_millis(50));
        // Both show what is recorded from now on; nothing says when that is.
        let record = async {
            loop {
                again.tick().await;
                let mut file = fs::File::options()
                    .append(true)
                    .create(true)
                    .open(&audit)
                    .unwrap();
                let line = "{\"ts\":\"T\",\"container\":\"box\",\"action\":\"allowed\",\
                    \"dest\":\"203.0.113.7\",\"detail\":\"target=\u{e9}\"}\n";
                file.write_all(line.as_bytes()).unwrap();
            }
        };
        let shown = tokio::select! {
            line = watch.line() => line,
            () = record => unreachable!("it does not end"),
        };
        first.push(shown);
        watch.signal(rustix::process::Signal::TERM);
        assert!(watch.wait().await.success(), "{watch:?}");
    }
    assert_eq!(first[1], first[0]);
    assert!(
        first[0].contains("\"source\":\"audit\",\"action\":\"allowed\""),
        "{first:?}"
    );
    fs::remove_file(host.state("box").join("dns.tier")).unwrap();
    host.same(&["watch", "box"]).await;
}

/// Theirs listens in its own network namespace, where no packet of the container arrives.
#[tokio::test]
async fn a_refused_packet_is_an_event_with_ours() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let mut watch = Running::start(&mut host.command(By::Ours, &["watch", "box"]));
    let pid = container.process.pid().as_raw_nonzero().to_string();
    let mut again = interval(Duration::from_millis(50));
    let send = async {
        loop {
            again.tick().await;
            let mut nsenter = host.place.command("nsenter");
            let script = "ip link add out type veth peer inner; ip link set inner up; \
                ip address add 192.0.2.1/24 dev out; \
                ip link set out up; ip route add default dev out; \
                echo x >/dev/udp/203.0.113.9/5353";
            nsenter.args(["--net", "--target", &pid, "bash", "-c", script]);
            Running::start(&mut nsenter).end().await;
        }
    };
    let shown: Value = tokio::select! {
        shown = watch.json() => shown,
        () = send => unreachable!("it does not end"),
    };
    let mut expected = json!({
        "source": "nflog", "action": "queued_connection", "container": "box",
        "dest": "203.0.113.9", "detail": "TEROK_SHIELD_BLOCKED:", "port": 5353, "proto": 17,
    });
    expected["ts"] = shown["ts"].clone();
    assert_eq!(shown, expected);
}

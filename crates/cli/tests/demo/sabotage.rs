// SPDX-License-Identifier: Apache-2.0
//! The demo reports faults: the tests manipulate the firewall while a question waits.

use std::process::Command;

use crate::check;
use crate::demo::{Demo, Started, User};

/// Runs `nft` in the sandbox's network namespace as its owner.
fn nft(pid: u64, rule: &str) {
    let output = Command::new("nsenter")
        .args(["--preserve-credentials", "--user", "--net", "--target"])
        .arg(pid.to_string())
        .arg("nft")
        .args(rule.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "nft {rule}: {output:?}");
}

/// Starts a demo and waits for its first question.
fn asked(demo: &Demo) -> (Started, u64) {
    let mut started = demo.start(User::Me, &["demo", "--json", "--answer", "ask"]);
    let pid = started.until("sandbox")["pid"].as_u64().unwrap();
    started.until("question");
    (started, pid)
}

fn problems(run: &crate::Run) -> String {
    run.summary()["problems"].to_string()
}

#[test]
fn it_fails_when_an_allowed_fetch_does_not_pass() {
    let demo = Demo::new();
    let (mut started, pid) = asked(&demo);
    nft(
        pid,
        "insert rule inet terok_shield output ip daddr 203.0.113.10 reject",
    );
    started.answer("a\nd\nd\nd\nd\n");
    let run = started.end();
    check(&run, 1, [5, 1, 4, 0, 0, 6]);
    let expected = "http://api.example.com/: it was allowed and did not pass";
    assert!(problems(&run).contains(expected), "{run:#?}");
}

#[test]
fn it_fails_when_a_denied_fetch_passes() {
    let demo = Demo::new();
    let (mut started, pid) = asked(&demo);
    nft(
        pid,
        "insert rule inet terok_shield output ip daddr 203.0.113.10 accept",
    );
    nft(
        pid,
        "insert rule inet terok_shield input ip saddr 203.0.113.10 accept",
    );
    started.answer("d\na\na\na\na\n");
    let run = started.end();
    check(&run, 1, [5, 4, 1, 0, 5, 1]);
    let expected = "http://api.example.com/: it passed and was not allowed";
    assert!(problems(&run).contains(expected), "{run:#?}");
}

#[test]
fn it_fails_when_the_firewall_is_gone() {
    let demo = Demo::new();
    let (mut started, pid) = asked(&demo);
    nft(pid, "delete table inet terok_shield");
    started.answer("d\nd\nd\nd\nd\n");
    let run = started.end();
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(problems(&run).contains("passed"), "{run:#?}");
}

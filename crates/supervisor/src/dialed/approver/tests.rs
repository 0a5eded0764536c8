// SPDX-License-Identifier: Apache-2.0
//! Tests with real programs as approvers, and a real hub.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use terok_clearance::{
    BlockedPacket, Dossier, NetworkZone, PreviousAnswer, Protocol, SandboxEvent,
};

use super::*;
use crate::dialed::kept::DialedPolicy;
use crate::sandbox_service::SandboxService;

/// A directory with an approver, a shell script.
struct Script(tempfile::TempDir);

impl Script {
    fn new(body: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("approve");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    fn config(&self, timeout: Duration) -> ApproverConfig {
        ApproverConfig {
            program: self.0.path().join("approve"),
            arguments: Vec::new(),
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("HOME".into(), self.0.path().into()),
            ],
            timeout,
        }
    }
}

const LONG: Duration = Duration::from_secs(60);

fn rules() -> DialedRules {
    DialedRules::new(DialedPolicy::default(), Arc::default(), None).unwrap()
}

fn blocked(number: u32) -> BlockedPacket {
    BlockedPacket {
        container: "web".parse().unwrap(),
        request: format!("web:{number}").parse().unwrap(),
        address: format!("h{number}.example.com").parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: None,
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None::<Arc<PreviousAnswer>>,
        reason: None,
    }
}

/// Reports a question to a hub and its approver; returns the hub, and the question afterwards.
async fn decide(config: ApproverConfig) -> (Arc<Hub<DialedRules>>, Option<Request>) {
    let hub = SandboxService::create_hub(rules(), None);
    let (mut queue, service) = approver_queue(config, Arc::clone(&hub));
    hub.report(SandboxEvent::Blocked(blocked(1)));
    let id = blocked(1).request;
    queue.submit(&id);
    assert_eq!(*queue.deciding().borrow(), 1);
    queue.submit(&id); // a repeated packet
    let mut deciding = queue.deciding();
    let done = async {
        deciding.wait_for(|count| *count == 0).await.unwrap();
    };
    tokio::select! {
        served = service.serve() => panic!("{served:?}"),
        () = done => {}
    }
    let left = hub.pending_request(&id);
    (hub, left)
}

fn note(question: Option<&Request>) -> &str {
    let note = question.unwrap().approver.as_ref();
    note.unwrap().as_str()
}

#[tokio::test]
async fn a_verdict_is_an_answer_like_any_other() {
    let script = Script::new(
        r#"input=$(cat); case $input in *'"dest":"h1.example.com"'*) ;; *) exit 1 ;; esac
        echo '{"verdict":"allow","reason":"known","for":"once"}'"#,
    );
    let (_, left) = decide(script.config(LONG)).await;
    assert_eq!(left, None);
}

#[tokio::test]
async fn every_failure_leaves_the_question_to_a_person() {
    let wide = r#"echo '{"verdict":"allow","as":"*.com"}'"#;
    let kept = r#"echo '{"verdict":"allow","for":"always"}'"#;
    for (body, words) in [
        (r#"echo '{"verdict":"ask","reason":"hm"}'"#, "hm"),
        ("exit 3", "it failed: exit status: 3"),
        ("echo why >&2; exit 1", "why"),
        ("kill -9 $$", "signal: 9"),
        ("echo allow", "no verdict"),
        ("true", "no verdict"),
        ("head -c 70000 /dev/zero", "more than 65536 bytes"),
        ("yes", "more than 65536 bytes"),
        (wide, "not one that the question offers"),
        (kept, "not one that the question offers"),
    ] {
        let (_, left) = decide(Script::new(body).config(LONG)).await;
        assert!(
            note(left.as_ref()).contains(words),
            "{body}: {}",
            note(left.as_ref())
        );
    }
    let missing = ApproverConfig {
        program: "/nonexistent".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        timeout: LONG,
    };
    let (_, left) = decide(missing).await;
    assert!(
        note(left.as_ref()).contains("not started"),
        "{}",
        note(left.as_ref())
    );
}

#[tokio::test]
async fn at_the_limit_the_whole_group_ends() {
    let script = Script::new("exec 3>$HOME/alive; sleep 1000 & cat >/dev/null; sleep 1000");
    // A pipe that every process of the approver holds open.
    let alive = script.0.path().join("alive");
    rustix::fs::mkfifoat(rustix::fs::CWD, &alive, rustix::fs::Mode::RWXU).unwrap();
    let reading = std::thread::spawn(move || fs::read(alive));
    let (_, left) = decide(script.config(Duration::from_secs(1))).await;
    assert_eq!(note(left.as_ref()), "no answer: it was ended after 1s");
    assert_eq!(reading.join().unwrap().unwrap(), b"");
}

#[tokio::test]
async fn a_program_that_does_not_read_its_question_decides_all_the_same() {
    let script = Script::new(r#"exec <&-; echo '{"verdict":"deny"}'"#);
    let (_, left) = decide(script.config(LONG)).await;
    assert_eq!(left, None);
}

#[tokio::test]
async fn a_full_queue_leaves_questions_to_a_person() {
    let script = Script::new("cat >/dev/null; sleep 1000");
    let hub = SandboxService::create_hub(rules(), None);
    let (mut queue, service) = approver_queue(script.config(LONG), Arc::clone(&hub));
    let count = u32::try_from(MAX_WAITING).unwrap() + 10;
    for number in 1..=count {
        hub.report(SandboxEvent::Blocked(blocked(number)));
        queue.submit(&blocked(number).request);
    }
    assert_eq!(*queue.deciding().borrow(), MAX_WAITING);
    let last = hub.pending_request(&blocked(count).request);
    assert_eq!(
        note(last.as_ref()),
        "no answer: too many questions wait for it"
    );
    drop(service);
    assert_eq!(*queue.deciding().borrow(), 0);
}

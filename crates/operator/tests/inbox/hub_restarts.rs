// SPDX-License-Identifier: Apache-2.0
//! Restarts of a hub: no question is lost, and no answer reaches another question.

use super::*;

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::Clearance1, ProtocolVersion::Clearance2];

impl InboxHarness {
    /// Replaces the hub with one that has no questions.
    fn restart_hub(&mut self, version: ProtocolVersion) -> Vec<String> {
        let mut changes = self.apply(InboxEvent::Down("closed".into()));
        for event in [InboxEvent::Restarted, InboxEvent::Up(version)] {
            changes.extend(self.apply(event));
        }
        if version == ProtocolVersion::Clearance2 {
            changes.extend(self.receive(Event::Synced));
            changes.retain(|change| change != "synced");
        }
        changes
    }

    fn receive_question(&mut self, version: ProtocolVersion, id: &str, dest: &str) -> Vec<String> {
        let mut question = Request::clone(&request(id, dest, "203.0.113.7", 443));
        if version == ProtocolVersion::Clearance1 {
            question.scope = Scope::whole_dest(question.dest.clone());
        }
        self.receive(Event::Pending(Arc::new(question)))
    }
}

#[test]
fn row_forgotten_by_a_restarted_hub_keeps_its_number() {
    for version in BOTH {
        let mut harness = InboxHarness::connected(version);
        for _ in 0..3 {
            harness.receive_question(version, "web:1", "api.example.com");
        }
        let before = harness.row(1).count();
        assert_eq!(harness.restart_hub(version), ["down", "up", "forgotten 1"]);
        assert!(harness.row(1).is_forgotten_by_hub());
        let refused = harness.inbox.answer(number(1), Action::Allow);
        assert_eq!(refused, Err(RowRefusal::ForgottenByHub(number(1))));
        // A second restart is not reported for a row that is forgotten already.
        assert_eq!(harness.restart_hub(version), ["down", "up"]);
        // The next packet asks again, under the same number and with the same count.
        assert_eq!(
            harness.receive_question(version, "web:1", "api.example.com"),
            ["added 1"],
            "{version:?}"
        );
        assert_eq!(harness.row(1).count(), before + 1);
        let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(harness.inbox.rows().len(), 1);
    }
}

#[test]
fn reused_request_id_does_not_affect_a_forgotten_row() {
    // A reader that starts together with its hub counts from 1 again.
    for version in BOTH {
        let mut harness = InboxHarness::connected(version);
        harness.receive_question(version, "web:1", "one.example");
        harness.apply(InboxEvent::Down("closed".into()));
        harness.apply(InboxEvent::Restarted);
        harness.apply(InboxEvent::Up(version));
        assert_eq!(
            harness.receive_question(version, "web:1", "two.example"),
            ["added 2"]
        );
        harness.receive(Event::Synced);
        assert!(harness.row(1).is_forgotten_by_hub());
        assert!(!harness.row(2).is_forgotten_by_hub());
        let answers = harness.inbox.answer(number(2), Action::Allow).unwrap();
        assert_eq!(answers[0].request.dest.as_str(), "two.example");
        assert_eq!(
            harness.receive_question(version, "web:2", "one.example"),
            ["added 1"],
            "{version:?}"
        );
    }
}

#[test]
fn answer_unknown_to_a_restarted_hub_is_reported_and_the_row_stays() {
    for version in BOTH {
        for reply_first in [true, false] {
            let mut harness = InboxHarness::connected(version);
            harness.receive_question(version, "web:1", "one.example");
            let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
            let failed = "failed 1 the hub does not know the question";
            let settle = |harness: &mut InboxHarness| {
                describe(
                    &harness
                        .inbox
                        .apply_reply(&answers[0], OperatorReply::NoSuchRequest),
                )
            };
            let mut changes = Vec::new();
            if reply_first {
                changes.extend(settle(&mut harness));
                assert_eq!(changes, [failed, "forgotten 1"]);
            }
            changes.extend(harness.restart_hub(version));
            if !reply_first {
                changes.extend(settle(&mut harness));
            }
            changes.sort();
            assert_eq!(changes, ["down", failed, "forgotten 1", "up"]);
            assert!(harness.row(1).is_forgotten_by_hub());
            assert_eq!(harness.row(1).answering(), None);
        }
    }
}

#[test]
fn answer_without_a_reply_is_reported_as_unknown() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    harness.receive_question(ProtocolVersion::Clearance2, "web:1", "one.example");
    let answers = harness.inbox.answer(number(1), Action::Allow).unwrap();
    let changes = harness
        .inbox
        .apply_reply(&answers[0], OperatorReply::ResultUnknown("closed".into()));
    assert_eq!(describe(&changes), ["unknown result 1 closed"]);
    assert_eq!(harness.row(1).answering(), None);
}

#[test]
fn classic_hub_can_disappear_and_return() {
    for version in BOTH {
        let mut harness = InboxHarness {
            inbox: Inbox::new(),
            hub: HubId::new(Path::new("/run/terok-clearance.sock")),
        };
        harness.apply(InboxEvent::Up(version));
        harness.receive_question(version, "web:1", "one.example");
        harness.apply(InboxEvent::Down("closed".into()));
        assert_eq!(harness.apply(InboxEvent::Gone), ["gone", "forgotten 1"]);
        harness.apply(InboxEvent::Up(version));
        assert_eq!(
            harness.receive_question(version, "web:1", "two.example"),
            ["added 2"]
        );
        harness.receive(Event::Synced);
        assert_eq!(
            harness.receive_question(version, "web:2", "one.example"),
            ["added 1"]
        );
        assert_eq!(harness.inbox.rows().len(), 2);
    }
}

#[test]
fn forgotten_row_ends_with_its_sandbox() {
    for version in BOTH {
        let mut harness = InboxHarness::connected(version);
        harness.receive_question(version, "web:1", "one.example");
        harness.restart_hub(version);
        let exited = Event::Container {
            container: "web".parse().unwrap(),
            state: ContainerState::Exited,
            reason: None,
        };
        assert_eq!(
            harness.receive(exited),
            ["ended 1 withdrawn exited", "container Exited"]
        );
    }
}

#[test]
fn restarted_hub_can_confirm_only_some_questions_of_a_row() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let at = |id: &str, address: &str| request(id, "api.example.com", address, 443);
    harness.receive(Event::Pending(at("web:1", "203.0.113.7")));
    harness.receive(Event::Pending(at("web:2", "203.0.113.8")));
    harness.apply(InboxEvent::Down("closed".into()));
    harness.apply(InboxEvent::Restarted);
    harness.apply(InboxEvent::Up(ProtocolVersion::Clearance2));
    harness.receive(Event::Pending(at("web:1", "203.0.113.8")));
    assert_eq!(harness.receive(Event::Synced), ["synced"]);
    let answers = harness.inbox.answer(number(1), Action::Deny).unwrap();
    let ids: Vec<_> = answers.iter().map(|a| a.request.address.as_str()).collect();
    assert_eq!(ids, ["203.0.113.8"]);
}

#[test]
fn over_clearance1_a_reconnected_hub_still_accepts_answers() {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance1);
    harness.apply(whole_dest_event("web:1", 443));
    harness.apply(InboxEvent::Down("closed".into()));
    assert_eq!(
        harness.apply(InboxEvent::Up(ProtocolVersion::Clearance1)),
        ["up"]
    );
    assert_eq!(
        harness
            .inbox
            .answer(number(1), Action::Allow)
            .unwrap()
            .len(),
        1
    );
}

// SPDX-License-Identifier: Apache-2.0
//! A hub that is killed and comes back: no question is lost, and no answer meets another one.

use super::*;

const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::Clearance1, ProtocolVersion::Clearance2];

impl Told {
    /// The hub's process ends, and another one takes its place without a memory.
    fn restarts(&mut self, speaks: ProtocolVersion) -> Vec<String> {
        let mut said = self.hears(InboxEvent::Down("closed".into()));
        for news in [InboxEvent::Restarted, InboxEvent::Up(speaks)] {
            said.extend(self.hears(news));
        }
        if speaks == ProtocolVersion::Clearance2 {
            said.extend(self.says(Event::Synced));
            said.retain(|word| word != "synced");
        }
        said
    }

    fn asks(&mut self, speaks: ProtocolVersion, id: &str, dest: &str) -> Vec<String> {
        let mut asked = Request::clone(&request(id, dest, "203.0.113.7", 443));
        if speaks == ProtocolVersion::Clearance1 {
            asked.scope = Scope::whole_dest(asked.dest.clone());
        }
        self.says(Event::Pending(Arc::new(asked)))
    }
}

#[test]
fn row_forgotten_by_a_restarted_hub_keeps_its_number() {
    for speaks in BOTH {
        let mut told = Told::up(speaks);
        for _ in 0..3 {
            told.asks(speaks, "web:1", "api.example.com");
        }
        let before = told.row(1).count();
        assert_eq!(told.restarts(speaks), ["down", "up", "lapsed 1"]);
        assert!(told.row(1).is_forgotten_by_hub());
        let refused = told.inbox.answer(number(1), Action::Allow);
        assert_eq!(refused, Err(RowRefusal::ForgottenByHub(number(1))));
        // It may be restarted again, and says so no second time.
        assert_eq!(told.restarts(speaks), ["down", "up"]);
        // The next packet asks again: with the number that the person knows, and its count.
        assert_eq!(
            told.asks(speaks, "web:1", "api.example.com"),
            ["asked 1"],
            "{speaks:?}"
        );
        assert_eq!(told.row(1).count(), before + 1);
        let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(told.inbox.rows().len(), 1);
    }
}

#[test]
fn reused_request_id_does_not_affect_a_forgotten_row() {
    // A reader that starts with its hub counts from 1 again.
    for speaks in BOTH {
        let mut told = Told::up(speaks);
        told.asks(speaks, "web:1", "one.example");
        told.hears(InboxEvent::Down("closed".into()));
        told.hears(InboxEvent::Restarted);
        told.hears(InboxEvent::Up(speaks));
        assert_eq!(told.asks(speaks, "web:1", "two.example"), ["asked 2"]);
        told.says(Event::Synced);
        assert!(told.row(1).is_forgotten_by_hub());
        assert!(!told.row(2).is_forgotten_by_hub());
        let answers = told.inbox.answer(number(2), Action::Allow).unwrap();
        assert_eq!(answers[0].request.dest.as_str(), "two.example");
        assert_eq!(
            told.asks(speaks, "web:2", "one.example"),
            ["asked 1"],
            "{speaks:?}"
        );
    }
}

#[test]
fn answer_unknown_to_a_restarted_hub_is_reported_and_the_row_stays() {
    for speaks in BOTH {
        for reply_first in [true, false] {
            let mut told = Told::up(speaks);
            told.asks(speaks, "web:1", "one.example");
            let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
            let failed = "failed 1 the hub does not know the question";
            let settle = |told: &mut Told| {
                words(
                    &told
                        .inbox
                        .apply_reply(&answers[0], OperatorReply::NoSuchRequest),
                )
            };
            let mut said = Vec::new();
            if reply_first {
                said.extend(settle(&mut told));
                assert_eq!(said, [failed, "lapsed 1"]);
            }
            said.extend(told.restarts(speaks));
            if !reply_first {
                said.extend(settle(&mut told));
            }
            said.sort();
            assert_eq!(said, ["down", failed, "lapsed 1", "up"]);
            assert!(told.row(1).is_forgotten_by_hub());
            assert_eq!(told.row(1).answering(), None);
        }
    }
}

#[test]
fn answer_without_a_reply_is_reported_as_unknown() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    told.asks(ProtocolVersion::Clearance2, "web:1", "one.example");
    let answers = told.inbox.answer(number(1), Action::Allow).unwrap();
    let changes = told
        .inbox
        .apply_reply(&answers[0], OperatorReply::ResultUnknown("closed".into()));
    assert_eq!(words(&changes), ["unsure 1 closed"]);
    assert_eq!(told.row(1).answering(), None);
}

#[test]
fn classic_hub_can_disappear_and_return() {
    for speaks in BOTH {
        let mut told = Told {
            inbox: Inbox::new(),
            hub: HubId::new(Path::new("/run/terok-clearance.sock")),
        };
        told.hears(InboxEvent::Up(speaks));
        told.asks(speaks, "web:1", "one.example");
        told.hears(InboxEvent::Down("closed".into()));
        assert_eq!(told.hears(InboxEvent::Gone), ["gone", "lapsed 1"]);
        told.hears(InboxEvent::Up(speaks));
        assert_eq!(told.asks(speaks, "web:1", "two.example"), ["asked 2"]);
        told.says(Event::Synced);
        assert_eq!(told.asks(speaks, "web:2", "one.example"), ["asked 1"]);
        assert_eq!(told.inbox.rows().len(), 2);
    }
}

#[test]
fn forgotten_row_ends_with_its_sandbox() {
    for speaks in BOTH {
        let mut told = Told::up(speaks);
        told.asks(speaks, "web:1", "one.example");
        told.restarts(speaks);
        let exited = Event::Container {
            container: "web".parse().unwrap(),
            state: ContainerState::Exited,
            reason: None,
        };
        assert_eq!(
            told.says(exited),
            ["ended 1 withdrawn exited", "container Exited"]
        );
    }
}

#[test]
fn restarted_hub_can_confirm_only_some_questions_of_a_row() {
    let mut told = Told::up(ProtocolVersion::Clearance2);
    let at = |id: &str, address: &str| request(id, "api.example.com", address, 443);
    told.says(Event::Pending(at("web:1", "203.0.113.7")));
    told.says(Event::Pending(at("web:2", "203.0.113.8")));
    told.hears(InboxEvent::Down("closed".into()));
    told.hears(InboxEvent::Restarted);
    told.hears(InboxEvent::Up(ProtocolVersion::Clearance2));
    told.says(Event::Pending(at("web:1", "203.0.113.8")));
    assert_eq!(told.says(Event::Synced), ["synced"]);
    let answers = told.inbox.answer(number(1), Action::Deny).unwrap();
    let named: Vec<_> = answers.iter().map(|a| a.request.address.as_str()).collect();
    assert_eq!(named, ["203.0.113.8"]);
}

#[test]
fn over_clearance1_a_hub_that_was_there_all_the_time_still_takes_answers() {
    let mut told = Told::up(ProtocolVersion::Clearance1);
    told.hears(whole("web:1", 443));
    told.hears(InboxEvent::Down("closed".into()));
    assert_eq!(
        told.hears(InboxEvent::Up(ProtocolVersion::Clearance1)),
        ["up"]
    );
    assert_eq!(
        told.inbox.answer(number(1), Action::Allow).unwrap().len(),
        1
    );
}

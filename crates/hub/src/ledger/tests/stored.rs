// SPDX-License-Identifier: Apache-2.0
//! Questions that a later ledger has from an earlier one.

use proptest::prelude::*;

use super::*;

/// The changes of a ledger, applied to a model of its questions.
fn follow(ledger: &mut Ledger, stored: &mut BTreeMap<u64, StoredQuestion>) {
    for change in ledger.take_changes() {
        match change {
            QuestionChange::Pending { number, question } => {
                stored.insert(number, *question);
            }
            QuestionChange::Ended { number } => {
                stored.remove(&number);
            }
        }
    }
}

fn restored(stored: &BTreeMap<u64, StoredQuestion>) -> Ledger {
    let mut ledger = ledger();
    for (number, question) in stored {
        // As a journal does.
        let json = serde_json::to_string(question).unwrap();
        let question = serde_json::from_str(&json).unwrap();
        assert!(ledger.restore(*number, question, Dossier::default()));
    }
    ledger
}

fn requests(ledger: &Ledger) -> Vec<(u64, terok_clearance::wire::clearance2::Request)> {
    let pending = ledger.pending_after(0);
    pending
        .map(|(number, question)| (number, question.to_request()))
        .collect()
}

#[test]
fn a_restored_question_is_answered_and_repeated_as_before() {
    let mut earlier = ledger();
    earlier.record_changes();
    let mut stored = BTreeMap::new();
    let process = Process {
        pid: 7,
        uid: 1000,
        name: "wget".into(),
        command: vec!["wget".into(), "https://a.example/".into()],
        directory: Some("/work".into()),
        parents: Vec::new(),
        other_holders: 2,
    };
    let question = |request: &str| BlockedPacket {
        domain: Some("a.example".parse().unwrap()),
        looked_up_as: Some("b.example".parse().unwrap()),
        reason: Some("to fetch".into()),
        ..blocked("c", request, "192.0.2.1", 443)
    };
    earlier.record(blocked("c", "c:0", "192.0.2.9", 80), at(1));
    earlier.record(question("c:1"), at(2));
    earlier.record(question("c:2"), at(3));
    earlier.set_process(&"c:1".parse().unwrap(), Arc::new(process));
    earlier.set_approver_note(&"c:1".parse().unwrap(), "a person decides".into());
    let waiting = WaitingConnections {
        count: 1,
        ..WaitingConnections::default()
    };
    follow(&mut earlier, &mut stored);
    earlier.set_waiting(&"c:1".parse().unwrap(), waiting);
    assert_eq!(earlier.take_changes(), [], "connections end with their hub");
    earlier.set_waiting(&"c:1".parse().unwrap(), WaitingConnections::default());

    let mut later = restored(&stored);
    assert_eq!(requests(&later), requests(&earlier));
    assert_eq!(later.newest_number(), earlier.newest_number());
    let again = later.record(question("c:3"), at(4));
    assert_eq!((again.number, again.is_new), (2, false));
    let new = later.record(blocked("c", "c:4", "192.0.2.5", 80), at(5));
    assert_eq!((new.number, new.is_new), (3, true));
    for id in ["c:1", "c:2", "c:3"] {
        let id = id.parse().unwrap();
        let found = later.find_question(&id).unwrap();
        assert_eq!((found.id().as_str(), found.count()), ("c:1", 3));
    }
    let (_, receipt) = claim(&mut later, asked("c:2", "c", "a.example")).unwrap();
    apply(&mut later, receipt);
    assert_eq!(ids(&later), ["c:0", "c:4"]);
}

#[test]
fn a_question_is_restored_once() {
    let mut earlier = ledger();
    earlier.record_changes();
    let mut stored = BTreeMap::new();
    earlier.record(blocked("c", "c:1", "192.0.2.1", 443), at(1));
    follow(&mut earlier, &mut stored);
    let question = stored.remove(&1).unwrap();
    let mut later = ledger();
    let mut restore = |number| later.restore(number, question.clone(), Dossier::default());
    assert!(restore(4));
    assert!(!restore(4) && !restore(5), "the packet is known");
    let mut full = Ledger::new(1, ScopeSupport::with_ports(true));
    full.record(blocked("c", "c:9", "192.0.2.9", 443), at(1));
    assert!(!full.restore(4, question, Dossier::default()));
    assert_eq!(ids(&full), ["c:9"]);
}

proptest! {
    /// Whatever happens in a ledger, its changes lead to its questions.
    #[test]
    fn the_changes_of_a_ledger_lead_to_its_questions(
        steps in proptest::collection::vec((0_u8..5, 0_u8..6, 0_u16..3), 0..60),
    ) {
        let mut earlier = Ledger::new(4, ScopeSupport::with_ports(true));
        earlier.record_changes();
        let mut stored = BTreeMap::new();
        for (step, (kind, dest, port)) in (1..).zip(steps) {
            let address = format!("192.0.2.{dest}");
            let known = earlier.pending_after(0).map(|(_, question)| {
                (question.id().to_string(), question.dest().to_string())
            });
            let known: Vec<_> = known.collect();
            let picked = known.get(usize::from(dest) % known.len().max(1));
            match (kind, picked) {
                (0 | 1, _) => {
                    let request = format!("c:{step}");
                    earlier.record(blocked("c", &request, &address, port), at(step));
                }
                (2, Some((id, dest))) => {
                    let (_, receipt) = claim(&mut earlier, asked(id, "c", dest)).unwrap();
                    apply(&mut earlier, receipt);
                }
                (3, Some((id, dest))) => {
                    earlier.dismiss(asked(id, "c", dest), "me".into(), at(step)).unwrap();
                }
                (4, Some((id, _))) => {
                    let id = id.parse().unwrap();
                    earlier.set_approver_note(&id, DisplayText::new(&format!("note {step}")));
                }
                _ => {}
            }
            if step % 3 == 0 {
                follow(&mut earlier, &mut stored);
            }
        }
        follow(&mut earlier, &mut stored);
        prop_assert_eq!(requests(&restored(&stored)), requests(&earlier));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The ledger's rules one by one, then the whole against a model that is too simple to be wrong.

use proptest::prelude::*;
use terok_clearance::{Keep, Protocol, Scope};

use super::*;

fn blocked(container: &str, request: &str, dest: &str, port: u16) -> Blocked {
    Blocked {
        container: container.parse().unwrap(),
        request: request.parse().unwrap(),
        address: dest.parse().unwrap(),
        port,
        protocol: Protocol::TCP,
        domain: None,
        dossier: Dossier::default(),
        process: None,
    }
}

fn ledger() -> Ledger {
    Ledger::new(PENDING_LIMIT, true)
}

fn asked<'a>(request: &'a str, container: &'a str, dest: &'a str) -> Asked<'a> {
    Asked {
        request,
        container,
        dest,
    }
}

fn claim(ledger: &mut Ledger, asked: Asked<'_>) -> Result<(Claim, Receipt), Refusal> {
    ledger.claim(asked, Action::Allow, Reach::Asked, "me".into(), 9)
}

/// Settles a claim that was applied, and returns the other questions that it answered.
fn apply(ledger: &mut Ledger, receipt: Receipt) -> Vec<Answered> {
    let mut cover = ledger.settle(receipt, &Outcome::Applied, 9).covers;
    let mut all = Vec::new();
    while let Some(rest) = cover {
        let (answered, rest) = ledger.cover(rest);
        all.extend(answered);
        cover = rest;
    }
    all
}

fn ids(ledger: &Ledger) -> Vec<&str> {
    ledger
        .pending_after(0)
        .map(|(_, question)| question.id().as_str())
        .collect()
}

const WEB: Asked<'static> = Asked {
    request: "c:1",
    container: "c",
    dest: "192.0.2.1",
};

fn with_one_question() -> Ledger {
    let mut ledger = ledger();
    assert!(ledger.record(blocked("c", "c:1", "192.0.2.1", 443), 5).new);
    ledger
}

#[test]
fn an_applied_claim_consumes_the_question() {
    let mut ledger = with_one_question();
    let (order, receipt) = claim(&mut ledger, WEB).unwrap();
    assert_eq!(order.container().as_str(), "c");
    assert_eq!(order.dest().as_str(), "192.0.2.1");
    let decision = ledger
        .settle(receipt, &Outcome::Applied, 10)
        .answered
        .decision;
    assert!(decision.ok && decision.by.as_str() == "me" && decision.at == 10);
    assert!(ledger.is_empty());
    let refusal = claim(&mut ledger, WEB).unwrap_err();
    assert_eq!(refusal, Refusal::Decided(Box::new(decision)));
}

#[test]
fn a_failed_claim_leaves_the_question_pending() {
    let mut ledger = with_one_question();
    let (_, receipt) = claim(&mut ledger, WEB).unwrap();
    let failed = Outcome::Failed("no".into());
    let decision = ledger.settle(receipt, &failed, 10).answered.decision;
    assert_eq!((decision.ok, decision.reason), (false, Some("no".into())));
    assert_eq!(ids(&ledger), ["c:1"]);
    assert!(claim(&mut ledger, WEB).is_ok());
    assert_eq!(ledger.decisions().count(), 1);
}

#[test]
fn a_question_has_one_claim_at_a_time() {
    let mut ledger = with_one_question();
    let (_order, receipt) = claim(&mut ledger, WEB).unwrap();
    assert!(
        matches!(claim(&mut ledger, WEB), Err(Refusal::Deciding(first)) if first.by.as_str() == "me")
    );
    assert!(matches!(
        ledger.dismiss(WEB, "you".into(), 9),
        Err(Refusal::Deciding(_))
    ));
    assert_eq!(
        ids(&ledger),
        ["c:1"],
        "it stays pending until it is settled"
    );
    drop(receipt);
    assert!(
        claim(&mut ledger, WEB).is_ok(),
        "a dropped receipt frees it"
    );
}

#[test]
fn a_mismatch_is_refused_and_keeps_the_question() {
    let mut ledger = with_one_question();
    for (wrong, field) in [
        (asked("c:1", "d", "192.0.2.1"), "container"),
        (asked("c:1", "c", "192.0.2.2"), "dest"),
        (asked("c:1", "c", "192.0.2.1 "), "dest"),
        (asked("c:1", "", ""), "container"),
    ] {
        match claim(&mut ledger, wrong) {
            Err(Refusal::NotAsked(mismatch)) => assert_eq!(mismatch.field, field, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
        assert!(ledger.dismiss(wrong, "me".into(), 9).is_err());
    }
    for unknown in ["", "c:2", "C:1", "c:1 "] {
        let refusal = claim(&mut ledger, asked(unknown, "c", "192.0.2.1"));
        assert_eq!(refusal.unwrap_err(), Refusal::Unknown, "{unknown:?}");
    }
    assert_eq!(ids(&ledger), ["c:1"]);
}

/// Checks whether an answer of this scope is accepted for TCP port 443 of 192.0.2.1.
fn check_scope(narrow: bool, scope: &Scope, expected: Result<(), &str>) {
    let mut ledger = Ledger::new(1, narrow);
    ledger.record(blocked("c", "c:1", "192.0.2.1", 443), 5);
    let reach = Reach::Within(scope.clone());
    let claimed = ledger.claim(WEB, Action::Allow, reach, "me".into(), 9);
    let found = match &claimed {
        Ok((order, _)) => {
            assert_eq!(order.scope(), scope);
            Ok(())
        }
        Err(Refusal::NotAsked(mismatch)) => Err(mismatch.field),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(found, expected, "narrow: {narrow}, {scope:?}");
}

#[test]
fn a_scope_is_never_wider_than_the_question() {
    let whole = Scope::whole("192.0.2.1".parse().unwrap());
    let narrow = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..whole.clone()
    };
    let with = |port, protocol| Scope {
        port,
        protocol,
        ..whole.clone()
    };
    check_scope(true, &narrow, Ok(()));
    check_scope(true, &whole, Err("scope.port"));
    check_scope(true, &with(Some(443), None), Err("scope.protocol"));
    check_scope(true, &with(None, Some(Protocol::TCP)), Err("scope.port"));
    check_scope(
        true,
        &with(Some(80), Some(Protocol::TCP)),
        Err("scope.port"),
    );
    check_scope(
        true,
        &with(Some(443), Some(Protocol::UDP)),
        Err("scope.protocol"),
    );
    check_scope(false, &whole, Ok(()));
    check_scope(false, &narrow, Ok(()));
    check_scope(false, &with(Some(80), None), Err("scope.port"));
    check_scope(false, &with(Some(0), None), Err("scope.port"));
    for dest in ["192.0.2.2", "192.0.2.1 ", "0.0.0.0/0"] {
        let other = Scope {
            dest: dest.parse().unwrap(),
            ..narrow.clone()
        };
        check_scope(true, &other, Err("scope.dest"));
    }
    let kept = Scope {
        keep: Keep::Once,
        seconds: Some(5),
        ..narrow
    };
    check_scope(true, &kept, Ok(()));
}

#[test]
fn without_a_scope_an_answer_reaches_as_far_as_the_question() {
    for (narrow, port, reach, expected) in [
        (true, 443, Reach::Asked, Some(443)),
        (false, 443, Reach::Asked, None),
        (true, 0, Reach::Asked, None),
        (true, 443, Reach::Whole, None),
    ] {
        let mut ledger = Ledger::new(1, narrow);
        ledger.record(blocked("c", "c:1", "192.0.2.1", port), 5);
        let (order, _receipt) = ledger
            .claim(WEB, Action::Deny, reach.clone(), "me".into(), 9)
            .unwrap();
        let found = (order.scope().port, order.scope().protocol);
        let protocol = expected.map(|_| Protocol::TCP);
        assert_eq!(found, (expected, protocol), "{narrow} {port} {reach:?}");
    }
}

#[test]
fn a_repeated_packet_is_no_new_question() {
    let mut ledger = with_one_question();
    for n in 2..=20 {
        let recorded = ledger.record(blocked("c", &format!("c:{n}"), "192.0.2.1", 443), n);
        assert!(!recorded.new);
    }
    let question = ledger.question(1).unwrap();
    assert_eq!((question.count(), question.id().as_str()), (20, "c:1"));
    assert_eq!(question.newest_id().as_str(), "c:20");
    assert_eq!((question.first_seen(), question.last_seen()), (5, 20));
    for (name, known) in [
        ("c:1", true),
        ("c:20", true),
        ("c:13", true),
        ("c:12", false),
    ] {
        let claimed = claim(&mut ledger, asked(name, "c", "192.0.2.1"));
        assert_eq!(claimed.is_ok(), known, "{name}");
    }
    for other in [
        blocked("d", "d:1", "192.0.2.1", 443),
        blocked("c", "c:31", "192.0.2.1", 80),
        blocked("c", "c:32", "192.0.2.2", 443),
        Blocked {
            protocol: Protocol::UDP,
            ..blocked("c", "c:33", "192.0.2.1", 443)
        },
        Blocked {
            domain: Some("a.example".parse().unwrap()),
            ..blocked("c", "c:34", "192.0.2.1", 443)
        },
    ] {
        assert!(ledger.record(other, 9).new);
    }
}

#[test]
fn an_id_that_a_restarted_reader_gives_again_names_both_questions() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:1", "192.0.2.9", 443), 6);
    assert_eq!(ids(&ledger), ["c:1", "c:1.2"], "each has an id of its own");
    let newer = ledger.question(2).unwrap();
    assert_eq!(
        newer.newest_id().as_str(),
        "c:1",
        "Clearance1 shows the reader's"
    );
    let (order, receipt) = claim(&mut ledger, asked("c:1", "c", "192.0.2.9")).unwrap();
    assert_eq!(order.dest().as_str(), "192.0.2.9");
    ledger.settle(receipt, &Outcome::Applied, 9);
    let (order, _receipt) = claim(&mut ledger, WEB).unwrap();
    assert_eq!(order.dest().as_str(), "192.0.2.1");
}

#[test]
fn a_sandbox_that_ends_takes_its_questions_along() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.2", 443), 6);
    ledger.record(blocked("d", "d:1", "192.0.2.1", 443), 7);
    let (_order, receipt) = claim(&mut ledger, WEB).unwrap();
    let void = ledger.clear(&"c".parse().unwrap());
    let ids_of = |w: &Withdrawn| w.question().id().to_string();
    assert_eq!(void.iter().map(ids_of).collect::<Vec<_>>(), ["c:1", "c:2"]);
    assert_eq!(ids(&ledger), ["d:1"]);
    let failed = Outcome::Failed("no".into());
    assert!(!ledger.settle(receipt, &failed, 9).answered.decision.ok);
    assert_eq!(
        ids(&ledger),
        ["d:1"],
        "a failed answer does not bring it back"
    );
    assert_eq!(claim(&mut ledger, WEB).unwrap_err(), Refusal::Unknown);
    assert!(ledger.clear(&"nobody".parse().unwrap()).is_empty());
    assert_eq!(ledger.clear_all().len(), 1);
}

#[test]
fn a_late_settlement_does_not_touch_the_next_question_of_the_same_name() {
    let mut ledger = with_one_question();
    let (_order, receipt) = claim(&mut ledger, WEB).unwrap();
    ledger.clear(&"c".parse().unwrap());
    ledger.record(blocked("c", "c:1", "192.0.2.1", 443), 8);
    assert!(apply(&mut ledger, receipt).is_empty());
    assert_eq!(ids(&ledger), ["c:1"]);
}

#[test]
fn a_full_ledger_evicts_from_whoever_has_most() {
    let mut ledger = Ledger::new(4, true);
    ledger.record(blocked("quiet", "q:1", "192.0.2.1", 1), 1);
    for n in 1..=3 {
        ledger.record(blocked("loud", &format!("l:{n}"), "192.0.2.1", n), 1);
    }
    for n in 4..=50 {
        let recorded = ledger.record(blocked("loud", &format!("l:{n}"), "192.0.2.1", n), 1);
        assert_eq!(recorded.evicted.len(), 1);
        assert_eq!(
            recorded.evicted[0].question().id().as_str(),
            format!("l:{}", n - 3)
        );
    }
    assert_eq!(ids(&ledger), ["q:1", "l:48", "l:49", "l:50"]);
    assert_eq!(ledger.by_name.len(), 4);
    assert_eq!(ledger.by_packet.len(), 4);
}

#[test]
fn long_texts_are_bounded_as_many_questions_are() {
    let mut ledger = ledger();
    ledger.text_limit = 1 << 20;
    let long = "x".repeat(250);
    for n in 0..200 {
        let entry = |key: u32| (format!("{key} {n}").as_str().into(), long.as_str().into());
        let mut blocked = blocked("c", &format!("c:{n}"), "192.0.2.1", n);
        blocked.dossier = Dossier::new((0..50).map(entry).collect());
        let recorded = ledger.record(blocked, 1);
        assert!(
            ledger.question(recorded.number).is_some(),
            "the newest stays"
        );
        assert!(ledger.text <= ledger.text_limit + 20_000);
    }
    assert!((40..100).contains(&ledger.len()), "{}", ledger.len());
    ledger.clear_all();
    assert_eq!(ledger.text, 0);
}

#[test]
fn equal_dossiers_are_kept_once() {
    let mut ledger = ledger();
    let dossier = || Dossier::new([("task".into(), "t".into())].into());
    for n in 1..=3 {
        let mut blocked = blocked("c", &format!("c:{n}"), "192.0.2.1", n);
        blocked.dossier = dossier();
        ledger.record(blocked, 1);
    }
    let first = ledger.question(1).unwrap().dossier().clone();
    for (_, question) in ledger.pending_after(1) {
        assert!(std::sync::Arc::ptr_eq(&first, question.dossier()));
    }
}

#[test]
fn a_decision_is_remembered_under_every_name_of_its_question() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 443), 6);
    ledger.dismiss(WEB, "first".into(), 7).unwrap();
    for name in ["c:1", "c:2"] {
        let refusal = claim(&mut ledger, asked(name, "c", "192.0.2.1"));
        assert!(matches!(refusal, Err(Refusal::Decided(d)) if d.by.as_str() == "first"));
    }
}

#[test]
fn a_rule_answers_every_question_that_it_covers() {
    let name = |n: u64, address: &str, port| Blocked {
        domain: Some("a.example".parse().unwrap()),
        ..blocked("c", &format!("c:{n}"), address, port)
    };
    for (reach, left) in [
        (Reach::Asked, vec!["c:3", "c:4", "d:1"]),
        (Reach::Whole, vec!["c:4", "d:1"]),
    ] {
        let mut ledger = ledger();
        ledger.record(name(1, "192.0.2.1", 443), 1);
        ledger.record(name(2, "2001:db8::1", 443), 1);
        ledger.record(name(5, "2001:db8::1", 443), 1);
        ledger.record(name(3, "192.0.2.1", 80), 1);
        ledger.record(blocked("c", "c:4", "192.0.2.1", 443), 1);
        ledger.record(
            Blocked {
                container: "d".parse().unwrap(),
                request: "d:1".parse().unwrap(),
                ..name(1, "192.0.2.1", 443)
            },
            1,
        );
        let one = asked("c:1", "c", "a.example");
        let (_order, receipt) = ledger
            .claim(one, Action::Allow, reach.clone(), "me".into(), 9)
            .unwrap();
        let covered = apply(&mut ledger, receipt);
        assert_eq!(ids(&ledger), left, "{reach:?}");
        let second = &covered[0];
        assert_eq!(second.decision.request.as_str(), "c:2");
        assert_eq!(
            second.ids,
            ["c:5".parse().unwrap()],
            "older clients know the newest"
        );
        let again = claim(&mut ledger, asked("c:5", "c", "a.example"));
        assert!(matches!(again, Err(Refusal::Decided(first)) if first.request.as_str() == "c:1"));
    }
}

#[test]
fn a_rule_that_answers_thousands_does_it_in_turns() {
    let mut ledger = ledger();
    for port in 0..5_000 {
        ledger.record(blocked("c", &format!("c:{port}"), "192.0.2.1", port), 1);
        ledger.record(blocked("c", &format!("d:{port}"), "192.0.2.2", port), 1);
    }
    let zero = asked("c:0", "c", "192.0.2.1");
    let claimed = ledger.claim(zero, Action::Deny, Reach::Whole, "me".into(), 9);
    let (_order, receipt) = claimed.unwrap();
    let mut cover = ledger.settle(receipt, &Outcome::Applied, 9).covers;
    let mut turns = 0;
    while let Some(rest) = cover {
        let (answered, rest) = ledger.cover(rest);
        assert!(answered.len() <= 1_024);
        turns += 1;
        cover = rest;
    }
    assert!(turns >= 9);
    assert_eq!(ledger.len(), 5_000);
    let names: usize = ledger.history.names().sum();
    assert!(names <= 1 + NAMES_LIMIT, "{names}");
}

#[test]
fn a_failed_rule_answers_nothing() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 80), 6);
    let (_order, receipt) = ledger
        .claim(WEB, Action::Allow, Reach::Whole, "me".into(), 9)
        .unwrap();
    let settled = ledger.settle(receipt, &Outcome::Failed("no".into()), 9);
    assert!(settled.covers.is_none());
    assert_eq!(ids(&ledger), ["c:1", "c:2"]);
}

#[test]
fn a_question_that_somebody_is_answering_is_left_to_them() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 80), 6);
    let (_order, other) = claim(&mut ledger, asked("c:2", "c", "192.0.2.1")).unwrap();
    let (_order, receipt) = ledger
        .claim(WEB, Action::Allow, Reach::Whole, "me".into(), 9)
        .unwrap();
    assert!(apply(&mut ledger, receipt).is_empty());
    assert_eq!(ids(&ledger), ["c:2"]);
    ledger.settle(other, &Outcome::Applied, 9);
    assert!(ledger.is_empty());
}

#[test]
fn only_the_last_thousand_decisions_are_kept() {
    let mut ledger = ledger();
    for n in 0..HISTORY_LIMIT + 10 {
        let id = format!("c:{n}");
        ledger.record(blocked("c", &id, "192.0.2.1", 443), 1);
        ledger
            .dismiss(asked(&id, "c", "192.0.2.1"), "me".into(), 1)
            .unwrap();
    }
    assert_eq!(ledger.decisions().count(), HISTORY_LIMIT);
    let newest = format!("c:{}", HISTORY_LIMIT + 9);
    assert_eq!(ledger.decisions().next().unwrap().request.as_str(), newest);
}

/// One thing that is done to the ledger and to the model.
#[derive(Debug, Clone)]
enum Step {
    Record { container: u8, dest: u8, id: u8 },
    Claim { container: u8, dest: u8, id: u8 },
    Settle { which: usize, applied: bool },
    Drop { which: usize },
    Dismiss { container: u8, dest: u8, id: u8 },
    Clear { container: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let triple = || (0..3_u8, 0..3_u8, 0..4_u8);
    prop_oneof![
        6 => triple().prop_map(|(container, dest, id)| Step::Record { container, dest, id }),
        3 => triple().prop_map(|(container, dest, id)| Step::Claim { container, dest, id }),
        2 => (0..4_usize, any::<bool>()).prop_map(|(which, applied)| Step::Settle { which, applied }),
        1 => (0..4_usize).prop_map(|which| Step::Drop { which }),
        1 => triple().prop_map(|(container, dest, id)| Step::Dismiss { container, dest, id }),
        1 => (0..3_u8).prop_map(|container| Step::Clear { container }),
    ]
}

/// A pending question as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    number: u64,
    container: String,
    dest: String,
    names: Vec<String>,
    count: u64,
    claimed: bool,
}

#[derive(Debug, Default)]
struct Model {
    pending: Vec<Known>,
    newest: u64,
    decided: Vec<String>,
}

impl Model {
    const LIMIT: usize = 5;

    fn record(&mut self, container: &str, dest: &str, id: &str) {
        let same = |k: &&mut Known| k.container == container && k.dest == dest;
        if let Some(known) = self.pending.iter_mut().find(same) {
            known.count += 1;
            if !known.names.iter().any(|name| name == id) {
                known.names.push(id.to_owned());
                if known.names.len() > 9 {
                    known.names.remove(1);
                }
            }
            return;
        }
        if self.pending.len() >= Self::LIMIT {
            let load = |k: &Known| {
                self.pending
                    .iter()
                    .filter(|o| o.container == k.container)
                    .count()
            };
            let most = self
                .pending
                .iter()
                .map(|k| (load(k), k.container.clone()))
                .max();
            let most = most.unwrap().1;
            let oldest = self.pending.iter().position(|k| k.container == most);
            self.pending.remove(oldest.unwrap());
        }
        self.newest += 1;
        let taken = self.pending.iter().any(|k| k.names.iter().any(|n| n == id));
        let names = if taken {
            vec![format!("{id}.{}", self.newest), id.to_owned()]
        } else {
            vec![id.to_owned()]
        };
        self.pending.push(Known {
            number: self.newest,
            container: container.to_owned(),
            dest: dest.to_owned(),
            names,
            count: 1,
            claimed: false,
        });
    }

    /// Returns the number of the question that an answer is about, or why it is refused.
    fn find(&self, container: &str, dest: &str, id: &str) -> Result<u64, &'static str> {
        let named = self
            .pending
            .iter()
            .filter(|k| k.names.iter().any(|n| n == id));
        let fits = |k: &Known| k.container == container && k.dest == dest;
        match named.max_by_key(|k| (fits(k), k.number)) {
            None if self.decided.iter().any(|name| name == id) => Err("decided"),
            None => Err("unknown"),
            Some(known) if known.claimed => Err("deciding"),
            Some(known) if fits(known) => Ok(known.number),
            Some(_) => Err("not asked"),
        }
    }

    fn decide(&mut self, number: u64) {
        self.pending.retain(|known| {
            if known.number == number {
                self.decided.extend(known.names.iter().cloned());
            }
            known.number != number
        });
    }

    fn claimed(&mut self, number: u64, claimed: bool) {
        let known = self.pending.iter_mut().find(|k| k.number == number);
        if let Some(known) = known {
            known.claimed = claimed;
        }
    }
}

fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown",
        Refusal::Deciding(_) => "deciding",
        Refusal::Decided(_) => "decided",
        Refusal::NotAsked(_) => "not asked",
    }
}

proptest! {
    #[test]
    fn the_ledger_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut ledger = Ledger::new(Model::LIMIT, true);
        let mut model = Model::default();
        let mut receipts: Vec<Receipt> = Vec::new();
        let names = |container: u8, dest: u8, id: u8| {
            (format!("c{container}"), format!("192.0.2.{dest}"), format!("id{id}"))
        };
        for step in steps {
            match step {
                Step::Record { container, dest, id } => {
                    let (container, dest, id) = names(container, dest, id);
                    model.record(&container, &dest, &id);
                    ledger.record(blocked(&container, &id, &dest, 443), 1);
                }
                Step::Claim { container, dest, id } => {
                    let (container, dest, id) = names(container, dest, id);
                    let expected = model.find(&container, &dest, &id);
                    match claim(&mut ledger, asked(&id, &container, &dest)) {
                        Ok((order, receipt)) => {
                            prop_assert_eq!(expected, Ok(receipt.number()));
                            prop_assert_eq!(order.dest().as_str(), &dest);
                            prop_assert_eq!(order.container().as_str(), &container);
                            model.claimed(receipt.number(), true);
                            receipts.push(receipt);
                        }
                        Err(refusal) => prop_assert_eq!(expected, Err(word(&refusal))),
                    }
                }
                Step::Settle { which, applied } if !receipts.is_empty() => {
                    let receipt = receipts.remove(which % receipts.len());
                    let number = receipt.number();
                    let outcome = if applied {
                        Outcome::Applied
                    } else {
                        Outcome::Failed("no".into())
                    };
                    let settled = ledger.settle(receipt, &outcome, 2);
                    if let Some(cover) = settled.covers {
                        let (answered, rest) = ledger.cover(cover);
                        prop_assert!(answered.is_empty() && rest.is_none());
                    }
                    let request = settled.answered.decision.request.to_string();
                    model.claimed(number, false);
                    if applied {
                        model.decide(number);
                        model.decided.push(request);
                    }
                }
                Step::Drop { which } if !receipts.is_empty() => {
                    let receipt = receipts.remove(which % receipts.len());
                    model.claimed(receipt.number(), false);
                }
                Step::Settle { .. } | Step::Drop { .. } => {}
                Step::Dismiss { container, dest, id } => {
                    let (container, dest, id) = names(container, dest, id);
                    let expected = model.find(&container, &dest, &id);
                    match ledger.dismiss(asked(&id, &container, &dest), "me".into(), 3) {
                        Ok(_) => model.decide(expected.unwrap()),
                        Err(refusal) => prop_assert_eq!(expected, Err(word(&refusal))),
                    }
                }
                Step::Clear { container } => {
                    let container = format!("c{container}");
                    let gone = ledger.clear(&container.parse().unwrap()).len();
                    let before = model.pending.len();
                    model.pending.retain(|known| known.container != container);
                    prop_assert_eq!(gone, before - model.pending.len());
                }
            }
            let found: Vec<_> = ledger
                .pending_after(0)
                .map(|(number, q)| (number, q.id().to_string(), q.count()))
                .collect();
            let expected: Vec<_> = model
                .pending
                .iter()
                .map(|known| (known.number, known.names[0].clone(), known.count))
                .collect();
            prop_assert_eq!(found, expected);
            let names: usize = model.pending.iter().map(|known| known.names.len()).sum();
            prop_assert_eq!(ledger.by_name.len(), names, "no name outlives its question");
            prop_assert_eq!(ledger.by_packet.len(), model.pending.len());
            let text: usize = ledger.questions.values().map(|entry| entry.text()).sum();
            prop_assert_eq!(ledger.text, text);
            let loads: usize = ledger.fullest.iter().map(|(load, _)| *load).sum();
            prop_assert_eq!(loads, model.pending.len());
        }
    }
}

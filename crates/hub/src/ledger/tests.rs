// SPDX-License-Identifier: Apache-2.0
//! Tests of the ledger's rules.

mod connections;
mod stored;

use terok_clearance::{NetworkZone, Protocol, RuleLifetime, Scope};

use super::*;

pub(super) const fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(super) fn blocked(container: &str, request: &str, dest: &str, port: u16) -> BlockedPacket {
    BlockedPacket {
        container: container.parse().unwrap(),
        request: request.parse().unwrap(),
        address: dest.parse().unwrap(),
        port,
        protocol: Protocol::TCP,
        domain: None,
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    }
}

fn ledger() -> Ledger {
    Ledger::new(MAX_PENDING, ScopeSupport::with_ports(true))
}

pub(super) fn asked<'a>(request: &'a str, container: &'a str, dest: &'a str) -> QuestionTriple<'a> {
    QuestionTriple {
        request,
        container,
        dest,
    }
}

pub(super) fn claim(
    ledger: &mut Ledger,
    asked: QuestionTriple<'_>,
) -> Result<(Claim, ClaimReceipt), ClaimError> {
    ledger.claim(
        asked,
        Action::Allow,
        RequestedScope::Default,
        "me".into(),
        at(9),
    )
}

/// Settles a claim as applied, and returns the other questions that the rule answered.
fn apply(ledger: &mut Ledger, receipt: ClaimReceipt) -> Vec<AnsweredQuestion> {
    let mut sweep = ledger
        .settle(receipt, &EnforcementOutcome::Applied, at(9))
        .sweep;
    let mut all = Vec::new();
    while let Some(rest) = sweep {
        let (answered, rest) = ledger.sweep_rule(rest);
        all.extend(answered);
        sweep = rest;
    }
    all
}

fn ids(ledger: &Ledger) -> Vec<&str> {
    ledger
        .pending_after(0)
        .map(|(_, question)| question.id().as_str())
        .collect()
}

const WEB: QuestionTriple<'static> = QuestionTriple {
    request: "c:1",
    container: "c",
    dest: "192.0.2.1",
};

fn with_one_question() -> Ledger {
    let mut ledger = ledger();
    assert!(
        ledger
            .record(blocked("c", "c:1", "192.0.2.1", 443), at(5))
            .is_new
    );
    ledger
}

#[test]
fn an_applied_claim_consumes_the_question() {
    let mut ledger = with_one_question();
    let (order, receipt) = claim(&mut ledger, WEB).unwrap();
    assert_eq!(order.container().as_str(), "c");
    assert_eq!(order.dest().as_str(), "192.0.2.1");
    let decision = ledger
        .settle(receipt, &EnforcementOutcome::Applied, at(10))
        .answered
        .decision;
    assert!(decision.ok && decision.by.as_str() == "me" && decision.at == at(10));
    assert!(ledger.is_empty());
    let refusal = claim(&mut ledger, WEB).unwrap_err();
    assert_eq!(refusal, ClaimError::AlreadyDecided(Box::new(decision)));
}

#[test]
fn a_failed_claim_leaves_the_question_pending() {
    let mut ledger = with_one_question();
    let (_, receipt) = claim(&mut ledger, WEB).unwrap();
    let failed = EnforcementOutcome::Failed("no".into());
    let decision = ledger.settle(receipt, &failed, at(10)).answered.decision;
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
        matches!(claim(&mut ledger, WEB), Err(ClaimError::BeingDecided(first)) if first.by.as_str() == "me")
    );
    assert!(matches!(
        ledger.dismiss(WEB, "you".into(), at(9)),
        Err(ClaimError::BeingDecided(_))
    ));
    assert_eq!(
        ids(&ledger),
        ["c:1"],
        "the question stays pending until the claim is settled"
    );
    drop(receipt);
    assert!(
        claim(&mut ledger, WEB).is_ok(),
        "dropping the receipt releases the question"
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
            Err(ClaimError::Mismatch(mismatch)) => assert_eq!(mismatch.field, field, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
        assert!(ledger.dismiss(wrong, "me".into(), at(9)).is_err());
    }
    for unknown in ["", "c:2", "C:1", "c:1 "] {
        let refusal = claim(&mut ledger, asked(unknown, "c", "192.0.2.1"));
        assert_eq!(
            refusal.unwrap_err(),
            ClaimError::UnknownRequest,
            "{unknown:?}"
        );
    }
    assert_eq!(ids(&ledger), ["c:1"]);
}

/// Asserts whether an answer of this scope is accepted for TCP port 443 of 192.0.2.1.
fn check_scope(supports_ports: bool, scope: &Scope, expected: Result<(), &str>) {
    let mut ledger = Ledger::new(1, ScopeSupport::with_ports(supports_ports));
    ledger.record(blocked("c", "c:1", "192.0.2.1", 443), at(5));
    let requested = RequestedScope::Explicit(scope.clone());
    let claimed = ledger.claim(WEB, Action::Allow, requested, "me".into(), at(9));
    let found = match &claimed {
        Ok((order, _)) => {
            assert_eq!(order.scope(), scope);
            Ok(())
        }
        Err(ClaimError::Mismatch(mismatch)) => Err(mismatch.field),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(
        found, expected,
        "supports_ports: {supports_ports}, {scope:?}"
    );
}

#[test]
fn a_scope_is_never_wider_than_the_question() {
    let whole = Scope::whole_dest("192.0.2.1".parse().unwrap());
    let supports_ports = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..whole.clone()
    };
    let with = |port, protocol| Scope {
        port,
        protocol,
        ..whole.clone()
    };
    check_scope(true, &supports_ports, Ok(()));
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
    check_scope(false, &supports_ports, Ok(()));
    check_scope(false, &with(Some(80), None), Err("scope.port"));
    check_scope(false, &with(Some(0), None), Err("scope.port"));
    for dest in ["192.0.2.2", "192.0.2.1 ", "0.0.0.0/0"] {
        let other = Scope {
            dest: dest.parse().unwrap(),
            ..supports_ports.clone()
        };
        check_scope(true, &other, Err("scope.dest"));
    }
    let kept = Scope {
        keep: RuleLifetime::Once,
        seconds: Some(5),
        ..supports_ports
    };
    check_scope(true, &kept, Ok(()));
}

#[test]
fn an_answer_without_a_scope_gets_the_default_scope() {
    for (supports_ports, port, requested, expected) in [
        (true, 443, RequestedScope::Default, Some(443)),
        (false, 443, RequestedScope::Default, None),
        (true, 0, RequestedScope::Default, None),
        (true, 443, RequestedScope::WholeDest, None),
        (false, 443, RequestedScope::WholeDest, None),
    ] {
        let mut ledger = Ledger::new(1, ScopeSupport::with_ports(supports_ports));
        ledger.record(blocked("c", "c:1", "192.0.2.1", port), at(5));
        let (order, _receipt) = ledger
            .claim(WEB, Action::Deny, requested.clone(), "me".into(), at(9))
            .unwrap();
        let found = (order.scope().port, order.scope().protocol);
        let keep = if supports_ports {
            RuleLifetime::Sandbox
        } else {
            RuleLifetime::UntilRemoved
        };
        assert_eq!(order.scope().keep, keep, "{supports_ports} {port}");
        let protocol = expected.map(|_| Protocol::TCP);
        assert_eq!(
            found,
            (expected, protocol),
            "{supports_ports} {port} {requested:?}"
        );
    }
}

#[test]
fn a_repeated_packet_is_not_a_new_question() {
    let mut ledger = with_one_question();
    for n in 2..=20 {
        let recorded = ledger.record(blocked("c", &format!("c:{n}"), "192.0.2.1", 443), at(n));
        assert!(!recorded.is_new);
    }
    let question = ledger.question(1).unwrap();
    assert_eq!((question.count(), question.id().as_str()), (20, "c:1"));
    assert_eq!(question.newest_id().as_str(), "c:20");
    assert_eq!(
        (question.first_seen(), question.last_seen()),
        (at(5), at(20))
    );
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
        BlockedPacket {
            protocol: Protocol::UDP,
            ..blocked("c", "c:33", "192.0.2.1", 443)
        },
        BlockedPacket {
            domain: Some("a.example".parse().unwrap()),
            ..blocked("c", "c:34", "192.0.2.1", 443)
        },
    ] {
        assert!(ledger.record(other, at(9)).is_new);
    }
}

#[test]
fn an_id_reused_by_a_restarted_reader_identifies_both_questions() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:1", "192.0.2.9", 443), at(6));
    assert_eq!(
        ids(&ledger),
        ["c:1", "c:1.2"],
        "each question has a unique id"
    );
    let newer = ledger.question(2).unwrap();
    assert_eq!(
        newer.newest_id().as_str(),
        "c:1",
        "Clearance1 has the reader's id"
    );
    let (order, receipt) = claim(&mut ledger, asked("c:1", "c", "192.0.2.9")).unwrap();
    assert_eq!(order.dest().as_str(), "192.0.2.9");
    ledger.settle(receipt, &EnforcementOutcome::Applied, at(9));
    let (order, _receipt) = claim(&mut ledger, WEB).unwrap();
    assert_eq!(order.dest().as_str(), "192.0.2.1");
}

#[test]
fn questions_are_withdrawn_when_their_sandbox_ends() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.2", 443), at(6));
    ledger.record(blocked("d", "d:1", "192.0.2.1", 443), at(7));
    let (_order, receipt) = claim(&mut ledger, WEB).unwrap();
    let withdrawn = ledger.withdraw_container(&"c".parse().unwrap());
    let ids_of = |w: &WithdrawnQuestion| w.question().id().to_string();
    assert_eq!(
        withdrawn.iter().map(ids_of).collect::<Vec<_>>(),
        ["c:1", "c:2"]
    );
    assert_eq!(ids(&ledger), ["d:1"]);
    let failed = EnforcementOutcome::Failed("no".into());
    assert!(!ledger.settle(receipt, &failed, at(9)).answered.decision.ok);
    assert_eq!(
        ids(&ledger),
        ["d:1"],
        "a failed answer does not restore the question"
    );
    assert_eq!(
        claim(&mut ledger, WEB).unwrap_err(),
        ClaimError::UnknownRequest
    );
    assert!(
        ledger
            .withdraw_container(&"unknown".parse().unwrap())
            .is_empty()
    );
    assert_eq!(ledger.withdraw_all().len(), 1);
}

#[test]
fn a_late_outcome_does_not_affect_a_newer_question_with_the_same_id() {
    let mut ledger = with_one_question();
    let (_order, receipt) = claim(&mut ledger, WEB).unwrap();
    ledger.withdraw_container(&"c".parse().unwrap());
    ledger.record(blocked("c", "c:1", "192.0.2.1", 443), at(8));
    assert!(apply(&mut ledger, receipt).is_empty());
    assert_eq!(ids(&ledger), ["c:1"]);
}

#[test]
fn a_full_ledger_evicts_from_the_sandbox_with_the_most_questions() {
    let mut ledger = Ledger::new(4, ScopeSupport::with_ports(true));
    ledger.record(blocked("quiet", "q:1", "192.0.2.1", 1), at(1));
    for n in 1..=3 {
        ledger.record(blocked("loud", &format!("l:{n}"), "192.0.2.1", n), at(1));
    }
    for n in 4..=50 {
        let recorded = ledger.record(blocked("loud", &format!("l:{n}"), "192.0.2.1", n), at(1));
        assert_eq!(recorded.evicted.len(), 1);
        assert_eq!(
            recorded.evicted[0].question().id().as_str(),
            format!("l:{}", n - 3)
        );
    }
    assert_eq!(ids(&ledger), ["q:1", "l:48", "l:49", "l:50"]);
    assert_eq!(ledger.by_id.len(), 4);
    assert_eq!(ledger.by_packet.len(), 4);
}

#[test]
fn the_memory_for_texts_is_bounded() {
    let mut ledger = ledger();
    ledger.max_text_bytes = 1 << 20;
    let long = "x".repeat(250);
    for n in 0..200 {
        let entry = |key: u32| (format!("{key} {n}").as_str().into(), long.as_str().into());
        let mut blocked = blocked("c", &format!("c:{n}"), "192.0.2.1", n);
        blocked.dossier = Dossier::new((0..50).map(entry).collect());
        let recorded = ledger.record(blocked, at(1));
        assert!(
            ledger.question(recorded.number).is_some(),
            "the newest question stays"
        );
        assert!(ledger.text_bytes <= ledger.max_text_bytes + 20_000);
    }
    assert!((40..100).contains(&ledger.len()), "{}", ledger.len());
    ledger.withdraw_all();
    assert_eq!(ledger.text_bytes, 0);
}

#[test]
fn equal_dossiers_are_shared() {
    let mut ledger = ledger();
    let dossier = || Dossier::new([("task".into(), "t".into())].into());
    for n in 1..=3 {
        let mut blocked = blocked("c", &format!("c:{n}"), "192.0.2.1", n);
        blocked.dossier = dossier();
        ledger.record(blocked, at(1));
    }
    let first = ledger.question(1).unwrap().dossier().clone();
    for (_, question) in ledger.pending_after(1) {
        assert!(Arc::ptr_eq(&first, question.dossier()));
    }
}

#[test]
fn a_decision_is_found_by_every_id_of_its_question() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 443), at(6));
    ledger.dismiss(WEB, "first".into(), at(7)).unwrap();
    for name in ["c:1", "c:2"] {
        let refusal = claim(&mut ledger, asked(name, "c", "192.0.2.1"));
        assert!(matches!(refusal, Err(ClaimError::AlreadyDecided(d)) if d.by.as_str() == "first"));
    }
}

#[test]
fn a_rule_answers_every_question_that_it_covers() {
    let name = |n: u64, address: &str, port| BlockedPacket {
        domain: Some("a.example".parse().unwrap()),
        ..blocked("c", &format!("c:{n}"), address, port)
    };
    for (requested, left) in [
        (RequestedScope::Default, vec!["c:3", "c:4", "d:1"]),
        (RequestedScope::WholeDest, vec!["c:4", "d:1"]),
    ] {
        let mut ledger = ledger();
        ledger.record(name(1, "192.0.2.1", 443), at(1));
        ledger.record(name(2, "2001:db8::1", 443), at(1));
        ledger.record(name(5, "2001:db8::1", 443), at(1));
        ledger.record(name(3, "192.0.2.1", 80), at(1));
        ledger.record(blocked("c", "c:4", "192.0.2.1", 443), at(1));
        ledger.record(
            BlockedPacket {
                container: "d".parse().unwrap(),
                request: "d:1".parse().unwrap(),
                ..name(1, "192.0.2.1", 443)
            },
            at(1),
        );
        let one = asked("c:1", "c", "a.example");
        let (_order, receipt) = ledger
            .claim(one, Action::Allow, requested.clone(), "me".into(), at(9))
            .unwrap();
        let covered = apply(&mut ledger, receipt);
        assert_eq!(ids(&ledger), left, "{requested:?}");
        let second = &covered[0];
        assert_eq!(second.decision.request.as_str(), "c:2");
        assert_eq!(
            second.ids,
            ["c:5".parse().unwrap()],
            "Clearance1 clients know the newest id"
        );
        let again = claim(&mut ledger, asked("c:5", "c", "a.example"));
        assert!(
            matches!(again, Err(ClaimError::AlreadyDecided(first)) if first.request.as_str() == "c:1")
        );
    }
}

#[test]
fn a_rule_answers_thousands_of_questions_in_batches() {
    let mut ledger = ledger();
    for port in 0..5_000 {
        ledger.record(blocked("c", &format!("c:{port}"), "192.0.2.1", port), at(1));
        ledger.record(blocked("c", &format!("d:{port}"), "192.0.2.2", port), at(1));
    }
    let zero = asked("c:0", "c", "192.0.2.1");
    let claimed = ledger.claim(
        zero,
        Action::Deny,
        RequestedScope::WholeDest,
        "me".into(),
        at(9),
    );
    let (_order, receipt) = claimed.unwrap();
    let mut sweep = ledger
        .settle(receipt, &EnforcementOutcome::Applied, at(9))
        .sweep;
    let mut turns = 0;
    while let Some(rest) = sweep {
        let (answered, rest) = ledger.sweep_rule(rest);
        assert!(answered.len() <= 1_024);
        turns += 1;
        sweep = rest;
    }
    assert!(turns >= 9);
    assert_eq!(ledger.len(), 5_000);
    let names: usize = ledger.history.id_counts().sum();
    assert!(names <= 1 + MAX_IDS_PER_DECISION, "{names}");
}

#[test]
fn a_failed_rule_answers_no_other_question() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 80), at(6));
    let (_order, receipt) = ledger
        .claim(
            WEB,
            Action::Allow,
            RequestedScope::WholeDest,
            "me".into(),
            at(9),
        )
        .unwrap();
    let settled = ledger.settle(receipt, &EnforcementOutcome::Failed("no".into()), at(9));
    assert!(settled.sweep.is_none());
    assert_eq!(ids(&ledger), ["c:1", "c:2"]);
}

#[test]
fn a_rule_does_not_answer_a_question_with_an_answer_in_progress() {
    let mut ledger = with_one_question();
    ledger.record(blocked("c", "c:2", "192.0.2.1", 80), at(6));
    let (_order, other) = claim(&mut ledger, asked("c:2", "c", "192.0.2.1")).unwrap();
    let (_order, receipt) = ledger
        .claim(
            WEB,
            Action::Allow,
            RequestedScope::WholeDest,
            "me".into(),
            at(9),
        )
        .unwrap();
    assert!(apply(&mut ledger, receipt).is_empty());
    assert_eq!(ids(&ledger), ["c:2"]);
    ledger.settle(other, &EnforcementOutcome::Applied, at(9));
    assert!(ledger.is_empty());
}

#[test]
fn only_the_last_thousand_decisions_are_kept() {
    let mut ledger = ledger();
    for n in 0..MAX_HISTORY + 10 {
        let id = format!("c:{n}");
        ledger.record(blocked("c", &id, "192.0.2.1", 443), at(1));
        ledger
            .dismiss(asked(&id, "c", "192.0.2.1"), "me".into(), at(1))
            .unwrap();
    }
    assert_eq!(ledger.decisions().count(), MAX_HISTORY);
    let newest = format!("c:{}", MAX_HISTORY + 9);
    assert_eq!(ledger.decisions().next().unwrap().request.as_str(), newest);
}

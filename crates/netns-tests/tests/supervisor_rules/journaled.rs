// SPDX-License-Identifier: Apache-2.0
//! A supervisor that begins with the journal of an earlier one.

use super::*;

const START: [&str; 2] = ["flag.test:443", "revoked.test:443"];

fn start_journaled() -> Guarded {
    let mut guarded = Guarded::start_with(LONG, &names);
    guarded.keep_state();
    guarded
}

#[tokio::test]
async fn a_killed_supervisor_leaves_its_answers_and_questions() {
    let mut guarded = start_journaled();
    guarded.end().await;
    guarded.supervise(LONG, names(), &START);
    let mut operator = Operator::connect(&guarded).await;
    let kept = stand_in("kept.test").await;
    let decision = allow(&mut operator, kept, 443, |_| None).await;
    let timed = stand_in("timed.test").await;
    let for_an_hour = for_seconds(RuleLifetime::Sandbox, 3_600);
    allow(&mut operator, timed, 443, for_an_hour).await;
    revoke(&operator, "r2").await;
    let name = stand_in("waits.test").await;
    let waiting = connect(name, 443);
    let question = operator.question().await;
    let before = rules(&operator).await;
    let stays = open(kept, 443).await;
    guarded.kill().await;
    drop(operator);
    assert!(carries(&stays).await, "the firewall lets it pass");

    guarded.supervise(LONG, names(), &START);
    let (mut operator, pending) = Operator::connect_to_pending(&guarded).await;
    let [again] = pending.as_slice() else {
        panic!("{pending:?}");
    };
    assert_eq!(
        (&again.id, again.first_seen),
        (&question.id, question.first_seen)
    );
    assert_eq!(again.dest.as_str(), "waits.test");
    // The answers have their numbers, names and operators; the revoked option stays revoked.
    let listed = rules(&operator).await;
    assert_eq!(
        describe_all(&listed),
        [
            "r3 allow kept.test:443/tcp decision 1",
            "r4 allow timed.test:443/tcp decision 0",
            "r6 allow flag.test:443 flag 0",
        ]
    );
    for (now, then) in listed.iter().zip(&before[1..]) {
        assert_eq!((&now.origin_name, &now.by), (&then.origin_name, &then.by));
        assert_eq!((now.since, now.keep), (then.since, then.keep));
    }
    let request = decision.request.as_str();
    assert_eq!(listed[0].origin_name.as_ref().unwrap().as_str(), request);
    assert!(listed[1].seconds_left.unwrap() > 3_500);
    assert_eq!(stand_in("waits.test").await, name);
    assert!(carries(&stays).await);

    // The connection that waits passes after the answer to its question.
    operator.until(|repeated| repeated.waiting == Some(1)).await;
    operator.answer(&question, DecisionAction::Allow).await;
    waiting.await.unwrap().0.unwrap();
    // A rule of the answer, by its question.
    assert_eq!(revoke(&operator, request).await.ended, 1);
    ended(stays).await;
    guarded.kill().await;

    guarded.supervise(LONG, names(), &START);
    let (operator, pending) = Operator::connect_to_pending(&guarded).await;
    assert!(pending.is_empty(), "{pending:?}");
    let listed = rules(&operator).await;
    let dests: Vec<_> = listed.iter().map(|rule| rule.dest.as_str()).collect();
    let expected = ["timed.test:443/tcp", "waits.test:443/tcp", "flag.test:443"];
    assert_eq!(dests, expected);
}

#[tokio::test]
async fn an_answer_whose_order_is_gone_does_not_come_back() {
    let mut guarded = start_journaled();
    let mut operator = Operator::connect(&guarded).await;
    let name = stand_in("gone.test").await;
    allow(&mut operator, name, 443, |_| None).await;
    assert_eq!(rules(&operator).await.len(), 1);
    guarded.kill().await;
    drop(operator);
    // Somebody else sets the firewall up again.
    let flushed = Command::new("nft").args(["flush", "ruleset"]).status();
    assert!(flushed.unwrap().success());
    guarded.supervise(LONG, names(), &[]);
    let operator = Operator::connect(&guarded).await;
    assert!(rules(&operator).await.is_empty());
}

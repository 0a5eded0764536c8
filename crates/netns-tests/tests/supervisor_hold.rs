// SPDX-License-Identifier: Apache-2.0
//! Tests of connections that wait for an answer, in a namespace that has its own connection.

use std::process::{Command, Stdio};
use std::time::Duration;

use netns_tests::guarded::{Guarded, Operator, connect, expect_refused, held_set, resolver_names};
use netns_tests::internet::tcp;
use supervisor::HoldLimit;
use terok_clearance::DecisionAction;
use terok_clearance::client::Client;
use terok_clearance::wire::clearance2::Event;
use tokio::time::timeout;

const SERVER: [&str; 2] = ["203.0.113.7", "2001:db8:1::7"];
const LONG: HoldLimit = HoldLimit::For(Duration::from_secs(60));
/// Time in which a refusal without a wait arrives.
const AT_ONCE: Duration = Duration::from_millis(900);

#[tokio::test]
async fn without_an_operator_connections_are_refused_at_once() {
    let guarded = Guarded::start(LONG);
    for at in SERVER {
        assert!(expect_refused(connect(at, 443)).await < AT_ONCE, "{at}");
    }
    // The first one who answers is waited for; one who only watches is not.
    let (_watcher, _events) = Client::start(&guarded.hub).await.unwrap();
    assert!(expect_refused(connect(SERVER[0], 80)).await < AT_ONCE);
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect(SERVER[0], 53);
    let request = loop {
        let request = operator.question().await;
        if request.port == 53 {
            break request;
        }
    };
    assert!(!waiting.is_finished());
    operator.answer(&request, DecisionAction::Deny).await;
    expect_refused(waiting).await;
}

#[tokio::test]
async fn without_a_time_to_wait_connections_are_refused_at_once() {
    let guarded = Guarded::start(HoldLimit::Refuse);
    let (client, events) = Client::start_answering(&guarded.hub).await.unwrap();
    let mut operator = Operator { client, events };
    while !matches!(operator.next().await, Event::Synced) {}
    assert!(expect_refused(connect(SERVER[0], 443)).await < AT_ONCE);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow).await;
    tcp(SERVER[0], 443).unwrap();
}

#[tokio::test]
async fn a_waiting_connection_passes_when_it_is_allowed() {
    let guarded = Guarded::start(LONG);
    let mut operator = Operator::connect(&guarded).await;
    for at in SERVER {
        let waiting = connect(at, 443);
        let request = operator.question().await;
        operator.expect_silence().await;
        operator.expect_silence().await;
        assert!(!waiting.is_finished(), "{at}");
        operator.answer(&request, DecisionAction::Allow).await;
        let (result, duration) = waiting.await.unwrap();
        result.unwrap();
        // The program repeats its packet after 1, 2, 3 or 1, 3, 7 seconds.
        assert!(duration > Duration::from_secs(2), "{at}: {duration:?}");
        assert!(duration < Duration::from_secs(5), "{at}: {duration:?}");
    }
    // Only the port of the question is open.
    let waiting = connect(SERVER[0], 80);
    let request = operator.question().await;
    assert_eq!(request.port, 80);
    assert!(!waiting.is_finished());
    operator.answer(&request, DecisionAction::Deny).await;
    expect_refused(waiting).await;
}

#[tokio::test]
async fn a_waiting_connection_is_refused_when_it_is_denied() {
    let guarded = Guarded::start(LONG);
    let mut operator = Operator::connect(&guarded).await;
    for at in SERVER {
        let waiting = connect(at, 443);
        let request = operator.question().await;
        operator.answer(&request, DecisionAction::Deny).await;
        assert!(
            expect_refused(waiting).await < Duration::from_secs(3),
            "{at}"
        );
        assert!(expect_refused(connect(at, 443)).await < AT_ONCE, "{at}");
    }
}

#[tokio::test]
async fn after_the_time_limit_the_answer_serves_the_next_attempt() {
    let guarded = Guarded::start(HoldLimit::For(Duration::from_millis(1_500)));
    let mut operator = Operator::connect(&guarded).await;
    for at in SERVER {
        let waiting = connect(at, 443);
        let request = operator.question().await;
        let duration = expect_refused(waiting).await;
        assert!(
            duration > Duration::from_millis(1_500),
            "{at}: {duration:?}"
        );
        assert!(duration < Duration::from_secs(4), "{at}: {duration:?}");
        // The next attempt is refused without another question.
        assert!(expect_refused(connect(at, 443)).await < AT_ONCE, "{at}");
        operator.expect_silence().await;
        operator.answer(&request, DecisionAction::Allow).await;
        tcp(at, 443).unwrap();
    }
}

#[tokio::test]
async fn a_dismissed_question_does_not_come_back_while_its_connection_waits() {
    let guarded = Guarded::start(HoldLimit::For(Duration::from_secs(3)));
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect(SERVER[0], 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Dismiss).await;
    operator.expect_silence().await;
    expect_refused(waiting).await;
}

#[tokio::test]
async fn when_the_last_operator_leaves_waiting_connections_are_refused() {
    let mut guarded = Guarded::start(LONG);
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect(SERVER[0], 443);
    operator.question().await;
    drop(operator);
    let duration = timeout(Duration::from_secs(15), expect_refused(waiting)).await;
    assert!(duration.unwrap() > Duration::from_secs(5));
    assert!(!held_set().contains("tcp"));

    // The same at the end of the supervisor, and a new one begins without waiting connections.
    let mut operator = Operator::connect(&guarded).await;
    let waiting = connect(SERVER[0], 80);
    while operator.question().await.port != 80 {}
    guarded.end().await;
    assert!(expect_refused(waiting).await < Duration::from_secs(5));
    guarded.supervise(LONG, resolver_names(), &[]);
    assert!(!held_set().contains("tcp"));
    assert!(expect_refused(connect(SERVER[0], 80)).await < AT_ONCE);
}

#[tokio::test]
async fn the_question_tells_who_asks_and_what_waits() {
    let guarded = Guarded::start(LONG);
    let mut operator = Operator::connect(&guarded).await;
    for at in SERVER {
        let code = format!("import socket; socket.create_connection(('{at}', 443), 10)");
        let mut program = Command::new("python3").args(["-c", &code]).spawn().unwrap();
        let request = operator
            .until(|request| request.dest.as_str() == at && request.process.is_some())
            .await;
        let process = request.process.as_ref().unwrap();
        assert_eq!(process.pid, program.id());
        assert_eq!(process.name.as_str(), "python3");
        assert!(process.command[2].as_str().contains(at), "{process:?}");
        // Two more, one of which gives up.
        let second = connect(at, 443);
        operator.until(|request| request.waiting == Some(2)).await;
        program.kill().unwrap();
        program.wait().unwrap();
        let request = operator.until(|request| request.waiting == Some(1)).await;
        assert!(request.waiting_since.is_some());
        operator.answer(&request, DecisionAction::Deny).await;
        expect_refused(second).await;
    }
}

#[tokio::test]
async fn a_program_that_gives_up_leaves_its_question() {
    let guarded = Guarded::start(LONG);
    let mut operator = Operator::connect(&guarded).await;
    let code = format!(
        "import socket; socket.create_connection(('{}', 443), 1.5)",
        SERVER[0]
    );
    let program = Command::new("python3")
        .args(["-c", &code])
        .stderr(Stdio::null())
        .spawn();
    let gave_up = operator
        .until(|request| request.gave_up_after.is_some())
        .await;
    program.unwrap().wait().unwrap();
    assert!(
        (1..20).contains(&gave_up.gave_up_after.unwrap()),
        "{gave_up:?}"
    );
    operator.answer(&gave_up, DecisionAction::Allow).await;
    tcp(SERVER[0], 443).unwrap();
}

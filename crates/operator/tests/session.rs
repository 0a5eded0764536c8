// SPDX-License-Identifier: Apache-2.0
//! A session with a hub on a socket: questions, answers, another operator, and a lost hub.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
use tempfile::TempDir;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{
    Action, BlockedPacket, ContainerId, DecisionAction, Dossier, EnforcementOutcome, NetworkZone,
    Protocol, SandboxEvent,
};
use terok_clearance_operator::inbox::{InboxChange, RowEnd, RowNumber, RowRefusal};
use terok_clearance_operator::{Session, SessionOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Reports every order to the test, and applies it.
struct RecordingEnforcer(mpsc::Sender<(String, Action)>);

impl DecisionEnforcer for RecordingEnforcer {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let order = (claim.dest().to_string(), claim.action());
        self.0.send(order).await.unwrap();
        EnforcementOutcome::Applied
    }
}

/// A runtime directory with at most one hub.
struct HubFixture {
    runtime: RuntimeDir,
    orders: mpsc::Receiver<(String, Action)>,
    sender: mpsc::Sender<(String, Action)>,
    tasks: JoinSet<()>,
    _directory: TempDir,
}

impl HubFixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (sender, orders) = mpsc::channel(100);
        Self {
            runtime: RuntimeDir::new(directory.path()),
            orders,
            sender,
            tasks: JoinSet::new(),
            _directory: directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.runtime.sandbox_sockets(&web(), SocketLayout::D).hub
    }

    fn start_hub(&mut self) -> (Arc<Hub<RecordingEnforcer>>, CancellationToken) {
        let enforcer = RecordingEnforcer(self.sender.clone());
        let hub = Hub::new(enforcer, HubOptions::default());
        let stop = CancellationToken::new();
        let listener = socket::bind(&self.socket()).unwrap();
        let served = hub::serve(Arc::clone(&hub), listener, stop.clone());
        self.tasks.spawn(async move { served.await.unwrap() });
        (hub, stop)
    }

    /// Returns a session that has synced with the hub.
    async fn open_session(&self) -> Session {
        let mut session = Session::discover(self.runtime.clone()).unwrap();
        while !session.is_synced() {
            next(&mut session).await;
        }
        session
    }
}

fn web() -> ContainerId {
    "web".parse().unwrap()
}

fn blocked(name: &str) -> SandboxEvent {
    SandboxEvent::Blocked(BlockedPacket {
        container: web(),
        request: "web:1".parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(name.parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    })
}

async fn next(session: &mut Session) -> Vec<InboxChange> {
    let changes = tokio::time::timeout(TEST_TIMEOUT, session.next()).await;
    changes.expect("a change within the time limit")
}

/// Returns the number of the only row.
fn only_row(session: &Session) -> RowNumber {
    let mut rows = session.inbox().rows();
    let number = rows.next().unwrap().number();
    assert!(rows.next().is_none());
    number
}

/// Waits for a row to end, and returns the reason.
async fn row_end(session: &mut Session, number: RowNumber) -> RowEnd {
    loop {
        for change in next(session).await {
            if let InboxChange::Ended(row, end) = change
                && row.number() == number
            {
                return end;
            }
        }
    }
}

/// Waits for a new row.
async fn added_row(session: &mut Session) -> RowNumber {
    loop {
        for change in next(session).await {
            if let InboxChange::Added(number) = change {
                return number;
            }
        }
    }
}

fn decided_action(end: RowEnd) -> DecisionAction {
    match end {
        RowEnd::Decided(decision) => {
            assert!(decision.ok);
            decision.action
        }
        other => panic!("not decided: {other:?}"),
    }
}

#[tokio::test]
async fn answer_reaches_the_firewall_once_and_ends_the_row() {
    let mut fixture = HubFixture::new();
    let (hub, _stop) = fixture.start_hub();
    hub.report(blocked("one.example"));
    let mut session = fixture.open_session().await;
    let number = only_row(&session);

    session.answer(number, Action::Allow).unwrap();
    assert_eq!(session.unanswered(), 1);
    assert_eq!(
        session.answer(number, Action::Deny),
        Err(RowRefusal::AlreadyAnswering(number, Action::Allow))
    );
    let end = row_end(&mut session, number).await;
    assert_eq!(decided_action(end), DecisionAction::Allow);
    while session.unanswered() > 0 {
        next(&mut session).await;
    }
    assert!(matches!(
        session.answer(number, Action::Deny),
        Err(RowRefusal::Ended(..))
    ));
    assert_eq!(session.unanswered(), 0);
    let order = ("one.example".to_owned(), Action::Allow);
    assert_eq!(fixture.orders.recv().await, Some(order));
    assert!(fixture.orders.try_recv().is_err());
}

#[tokio::test]
async fn two_sessions_that_answer_at_once_make_one_rule() {
    let mut fixture = HubFixture::new();
    let (hub, _stop) = fixture.start_hub();
    hub.report(blocked("one.example"));
    let mut first = fixture.open_session().await;
    let mut second = fixture.open_session().await;
    let numbers = (only_row(&first), only_row(&second));

    first.answer(numbers.0, Action::Allow).unwrap();
    second.answer(numbers.1, Action::Deny).unwrap();
    let first_end = decided_action(row_end(&mut first, numbers.0).await);
    let second_end = decided_action(row_end(&mut second, numbers.1).await);
    assert_eq!(first_end, second_end);
    for session in [&mut first, &mut second] {
        while session.unanswered() > 0 {
            next(session).await;
        }
    }
    let (dest, action) = fixture.orders.recv().await.unwrap();
    assert_eq!(dest, "one.example");
    assert_eq!(DecisionAction::from(action), first_end);
    assert!(fixture.orders.try_recv().is_err());
}

#[tokio::test]
async fn answer_after_the_hub_is_lost_is_refused() {
    let mut fixture = HubFixture::new();
    let (hub, stop) = fixture.start_hub();
    hub.report(blocked("one.example"));
    let mut session = fixture.open_session().await;
    let number = only_row(&session);

    stop.cancel();
    assert_eq!(row_end(&mut session, number).await, RowEnd::HubGone);
    assert_eq!(
        session.answer(number, Action::Allow),
        Err(RowRefusal::Ended(number, RowEnd::HubGone))
    );
    assert_eq!(session.unanswered(), 0);

    // The sandbox asks the next hub again, under a new number.
    let (hub, _stop) = fixture.start_hub();
    hub.report(blocked("one.example"));
    let again = added_row(&mut session).await;
    assert!(again > number);
    session.answer(again, Action::Deny).unwrap();
    row_end(&mut session, again).await;
    let order = ("one.example".to_owned(), Action::Deny);
    assert_eq!(fixture.orders.recv().await, Some(order));
    assert!(fixture.orders.try_recv().is_err());
}

#[tokio::test]
async fn only_a_session_that_answers_counts_as_somebody() {
    let mut fixture = HubFixture::new();
    let (hub, _stop) = fixture.start_hub();
    let mut answerers = hub.answerers();
    let observer = SessionOptions { answers: false };
    let mut watching = Session::at_socket_with(fixture.socket(), observer).unwrap();
    while !watching.is_synced() {
        next(&mut watching).await;
    }
    assert_eq!((hub.subscriber_count(), *answerers.borrow()), (1, 0));
    let answering = fixture.open_session().await;
    assert_eq!((hub.subscriber_count(), *answerers.borrow()), (2, 1));
    drop(answering);
    answerers.wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test]
async fn session_without_changes_does_not_wait() {
    let fixture = HubFixture::new();
    let mut session = Session::at_socket(fixture.socket()).unwrap();
    assert!(session.is_synced());
    assert!(session.try_next().is_none());
}

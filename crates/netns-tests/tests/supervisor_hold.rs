// SPDX-License-Identifier: Apache-2.0
//! Tests of connections that wait for an answer, in a namespace that has its own connection.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use netns::ProcessHandle;
use netns_tests::internet::{Internet, tcp};
use shield::Policy;
use supervisor::{HoldLimit, Supervisor, SupervisorConfig, SupervisorExit};
use tempfile::TempDir;
use terok_clearance::client::{Client, EventStream, StreamUpdate};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{DecisionAction, Dossier};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

const SERVER: [&str; 2] = ["203.0.113.7", "2001:db8:1::7"];
const LONG: HoldLimit = HoldLimit::For(Duration::from_secs(60));
/// Time in which a refusal without a wait arrives.
const AT_ONCE: Duration = Duration::from_millis(900);

/// A supervisor of the test's namespace, and the simulated internet.
struct Guarded {
    _internet: Internet,
    runtime: TempDir,
    stop: CancellationToken,
    task: JoinSet<SupervisorExit>,
    hub: std::path::PathBuf,
}

impl Guarded {
    fn start(hold: HoldLimit) -> Self {
        let internet = Internet::start();
        let runtime = TempDir::new().unwrap();
        let mut guarded = Self {
            _internet: internet,
            hub: runtime.path().to_owned(),
            runtime,
            stop: CancellationToken::new(),
            task: JoinSet::new(),
        };
        guarded.supervise(hold);
        guarded
    }

    fn supervise(&mut self, hold: HoldLimit) {
        let resolver: IpAddr = "198.51.100.53".parse().unwrap();
        let supervisor = Supervisor::start(SupervisorConfig {
            container: "box".parse().unwrap(),
            dossier: Dossier::default(),
            process: ProcessHandle::current().unwrap(),
            policy: Policy::new([resolver]).unwrap(),
            allowed_dests: Vec::new(),
            hold,
            allow_capabilities: true,
            runtime_dir: RuntimeDir::new(self.runtime.path()),
        })
        .unwrap();
        supervisor.hub_path().clone_into(&mut self.hub);
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        self.task
            .spawn(async move { supervisor.serve(stop).await.unwrap() });
    }

    async fn end(&mut self) {
        self.stop.cancel();
        let exit = self.task.join_next().await.unwrap().unwrap();
        assert_eq!(exit, SupervisorExit::Stopped);
    }
}

/// An operator who answers.
struct Operator {
    client: Client,
    events: EventStream,
}

impl Operator {
    /// Connects and waits until connections are held.
    async fn connect(guarded: &Guarded) -> Self {
        let (client, events) = Client::start_answering(&guarded.hub).await.unwrap();
        let mut operator = Self { client, events };
        while !matches!(operator.next().await, Event::Synced) {}
        // The supervisor has seen the operator when the kernel's set has the element.
        let begin = Instant::now();
        while !held_set().contains("tcp") {
            assert!(begin.elapsed() < Duration::from_secs(5));
            tokio::task::yield_now().await;
        }
        operator
    }

    async fn next(&mut self) -> Event {
        loop {
            match self.events.next().await {
                StreamUpdate::Event(event) => return event,
                StreamUpdate::Connected(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn question(&mut self) -> std::sync::Arc<Request> {
        loop {
            match self.next().await {
                Event::Pending(request) => return request,
                Event::Decided(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn answer(&self, request: &Request, action: DecisionAction) {
        assert!(self.client.decide(request, action, None).await.unwrap().ok);
    }

    /// Asserts that no question comes within a second.
    async fn expect_silence(&mut self) {
        let asked = timeout(Duration::from_secs(1), self.question()).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}

fn held_set() -> String {
    let set = ["list", "set", "inet", "terok_shield", "held"];
    let output = std::process::Command::new("nft")
        .args(set)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A connection in a thread, with the time that it took.
fn connect(at: &'static str, port: u16) -> JoinHandle<(io::Result<()>, Duration)> {
    tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let at: IpAddr = at.parse().unwrap();
        (TcpStream::connect((at, port)).map(drop), begin.elapsed())
    })
}

async fn expect_refused(connection: JoinHandle<(io::Result<()>, Duration)>) -> Duration {
    let (result, duration) = connection.await.unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    duration
}

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
    guarded.supervise(LONG);
    assert!(!held_set().contains("tcp"));
    assert!(expect_refused(connect(SERVER[0], 80)).await < AT_ONCE);
}

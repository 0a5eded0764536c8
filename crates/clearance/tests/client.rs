// SPDX-License-Identifier: Apache-2.0
//! The client against hubs that come, go, lie and hang; time is paused where it matters.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/service.rs"]
#[expect(dead_code, reason = "this test needs only the log")]
mod service;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use service::Log;
use tempfile::TempDir;
use terok_clearance::client::{AnswerError, Client, Events, HubError, Speaks, Update};
use terok_clearance::socket::{ConnectError, Peer, bind};
use terok_clearance::varlink::{Call, Closed, Info, Interface, Replies, Service, serve};
use terok_clearance::wire::clearance1::{self, Notice, VerdictError};
use terok_clearance::wire::clearance2::{self, DecideError, Event, Request};
use terok_clearance::{
    Action, Blocked, Decision, DisplayText, Dossier, Protocol, Resolution, Scope,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const OLD: &[Interface] = &[clearance1::INTERFACE];
const BOTH: &[Interface] = &[clearance1::INTERFACE, clearance2::INTERFACE];

/// A hub that says what it is told to.
struct FakeHub {
    interfaces: &'static [Interface],
    /// What every subscriber gets at once.
    frames: Vec<u8>,
    /// Hang up after those frames.
    short: bool,
    /// What becomes of answers to a destination.
    answer: fn(&str) -> Fate,
    gate: watch::Sender<bool>,
    answers: AtomicUsize,
}

/// What becomes of an answer.
enum Fate {
    Applied,
    Refused(DecideError, VerdictError),
    /// The hub closes the connection instead.
    Dropped,
    /// The hub answers when the gate opens.
    Held,
}

impl Default for FakeHub {
    fn default() -> Self {
        let mut frames = Vec::new();
        Event::Pending(request(1)).frame_into(1, &mut frames);
        Event::Synced.frame_into(2, &mut frames);
        Self {
            interfaces: BOTH,
            frames,
            short: false,
            answer: |_| Fate::Applied,
            gate: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }
}

impl FakeHub {
    async fn stream(&self, replies: &mut Replies<'_>) -> Result<(), Closed> {
        let (writer, mut hang_up) = replies.split();
        writer.write(&self.frames).await?;
        if self.short {
            return Err(Closed::Stopping);
        }
        Err(hang_up.wait().await)
    }

    async fn fate(&self, dest: &str) -> Fate {
        self.answers.fetch_add(1, Ordering::Relaxed);
        match (self.answer)(dest) {
            Fate::Held => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.unwrap();
                Fate::Applied
            }
            fate => fate,
        }
    }
}

impl Service for FakeHub {
    fn info(&self) -> Info {
        Info {
            vendor: "test",
            product: "test-hub",
            version: "1",
            url: "https://example.org",
            interfaces: self.interfaces,
        }
    }

    async fn call(
        &self,
        call: Call<'_>,
        _peer: Peer,
        replies: &mut Replies<'_>,
    ) -> Result<(), Closed> {
        if call.interface() == clearance2::INTERFACE.name {
            match clearance2::Method::parse(&call).unwrap() {
                clearance2::Method::Subscribe => self.stream(replies).await,
                clearance2::Method::Decide(answer) => match self.fate(answer.dest.as_str()).await {
                    Fate::Refused(error, _) => replies.error(&error).await,
                    Fate::Dropped => Err(Closed::Stopping),
                    Fate::Applied | Fate::Held => {
                        let decision = decision(answer);
                        replies.send(&clearance2::Decided { decision }).await
                    }
                },
                clearance2::Method::List => {
                    let requests = vec![request(1), request(2)];
                    replies.send(&clearance2::Requests { requests }).await
                }
                clearance2::Method::History { limit } => {
                    let answer = clearance2::Decide {
                        request: "c:1".parse().unwrap(),
                        container: "c".parse().unwrap(),
                        dest: "a.example".parse().unwrap(),
                        action: Resolution::Deny,
                        scope: None,
                    };
                    let newest = Arc::new(decision(answer));
                    let decisions = std::iter::repeat_n(newest, limit.min(3)).collect();
                    replies.send(&clearance2::Decisions { decisions }).await
                }
            }
        } else {
            match clearance1::Method::parse(&call).unwrap() {
                clearance1::Method::Subscribe => self.stream(replies).await,
                clearance1::Method::Verdict(verdict) => match self.fate(&verdict.dest).await {
                    Fate::Refused(_, error) => replies.error(&error).await,
                    Fate::Dropped => Err(Closed::Stopping),
                    Fate::Applied | Fate::Held => {
                        replies.send(&clearance1::Applied { ok: true }).await
                    }
                },
            }
        }
    }
}

fn blocked(number: u32) -> Blocked {
    Blocked {
        container: "c".parse().unwrap(),
        request: format!("c:{number}").parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some("a.example".parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
    }
}

fn request(number: u32) -> Arc<Request> {
    let blocked = blocked(number);
    let scope = Scope::whole(blocked.dest().clone());
    Arc::new(Request::new(blocked, scope, 1))
}

fn request_for(dest: &str) -> Request {
    Request {
        dest: dest.parse().unwrap(),
        ..Arc::unwrap_or_clone(request(1))
    }
}

fn decision(answer: clearance2::Decide) -> Decision {
    Decision {
        request: answer.request,
        container: answer.container,
        dest: answer.dest,
        action: answer.action,
        scope: answer.scope,
        by: "test".into(),
        at: 1,
        ok: true,
        reason: None,
    }
}

/// A hub at a path; it is gone once this is dropped.
struct Running {
    hub: Arc<FakeHub>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    fn start(path: &Path, hub: FakeHub) -> Self {
        let hub = Arc::new(hub);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let serving = serve(bind(path).unwrap(), Arc::clone(&hub), stop.clone());
        tasks.spawn(async { serving.await.unwrap() });
        Self { hub, stop, tasks }
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    (directory, path)
}

async fn next_event(events: &mut Events) -> Event {
    match events.next().await {
        Update::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

async fn connected(events: &mut Events) -> Speaks {
    match events.next().await {
        Update::Connected(speaks) => speaks,
        other => panic!("{other:?}"),
    }
}

async fn disconnected(events: &mut Events) -> Duration {
    match events.next().await {
        Update::Disconnected { retry, .. } => retry,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hub_that_is_down_at_the_start_is_an_error() {
    let (_directory, path) = place();
    match Client::start(&path).await {
        Err(HubError::Connect(ConnectError::NobodyListens { .. })) => {}
        other => panic!("{other:?}"),
    }
    let hub = FakeHub {
        interfaces: &[],
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    match Client::start(&path).await {
        Err(HubError::NoHub { product, .. }) => assert_eq!(product.as_str(), "test-hub"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_accepts_and_says_nothing_is_no_hub() {
    let (_directory, path) = place();
    let _listener = bind(&path).unwrap();
    assert!(matches!(
        Client::start(&path).await,
        Err(HubError::Silent { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_stream_outlives_its_hub() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
    let (_client, mut events) = Client::start(&path).await.unwrap();
    assert_eq!(connected(&mut events).await, Speaks::Clearance2);
    assert_eq!(next_event(&mut events).await, Event::Pending(request(1)));
    assert_eq!(next_event(&mut events).await, Event::Synced);
    running.end().await;
    assert_eq!(disconnected(&mut events).await, Duration::from_millis(100));
    // It returns as another hub does: with an older interface.
    let mut frames = Vec::new();
    Notice::Blocked(&blocked(7)).frame_into(clearance1::Dialect::D, &mut frames);
    let _running = Running::start(
        &path,
        FakeHub {
            interfaces: OLD,
            frames,
            ..FakeHub::default()
        },
    );
    assert_eq!(connected(&mut events).await, Speaks::Clearance1);
    match next_event(&mut events).await {
        Event::Pending(request) => assert_eq!(request.id.as_str(), "c:7"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_longer_each_time_and_ten_seconds_at_most() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
    let (client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    next_event(&mut events).await;
    next_event(&mut events).await;
    // While all is well, this changes nothing, however often it is said.
    client.poke_reconnect();
    client.poke_reconnect();
    running.end().await;
    let mut waits = Vec::new();
    let mut waited = Vec::new();
    let mut last = Instant::now();
    for _ in 0..10 {
        waits.push(disconnected(&mut events).await.as_millis());
        waited.push(last.elapsed().as_millis());
        last = Instant::now();
    }
    assert_eq!(
        waits,
        [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]
    );
    // Each wait was kept to: time is paused, so it is exact but for the timer's millisecond.
    for (waited, expected) in waited.iter().skip(1).zip(&waits) {
        assert!(
            (*expected..=expected + 2).contains(waited),
            "{waited} for {expected}"
        );
    }
    // A poke ends the wait, once.
    client.poke_reconnect();
    client.poke_reconnect();
    assert_eq!(disconnected(&mut events).await.as_secs(), 10);
    assert!(
        last.elapsed() < Duration::from_millis(5),
        "{:?}",
        last.elapsed()
    );
    let last = Instant::now();
    assert_eq!(disconnected(&mut events).await.as_secs(), 10);
    assert!(last.elapsed() >= Duration::from_secs(10));
    // And after an event came, it starts anew.
    let running = Running::start(&path, FakeHub::default());
    connected(&mut events).await;
    next_event(&mut events).await;
    next_event(&mut events).await;
    running.end().await;
    assert_eq!(disconnected(&mut events).await.as_millis(), 100);
}

/// A poke comes from another task, in the middle of the wait.
#[tokio::test(start_paused = true)]
async fn a_poke_ends_a_wait_that_has_begun() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
    let (client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    running.end().await;
    while !matches!(events.next().await, Update::Disconnected { retry, .. } if retry.as_secs() >= 10)
    {
    }
    let start = Instant::now();
    let _running = Running::start(&path, FakeHub::default());
    let poke = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        client.poke_reconnect();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = poke => {}
        speaks = connected(&mut events) => assert_eq!(speaks, Speaks::Clearance2),
    }
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// A hub that accepts, greets and hangs up is no reason to connect ten times a second forever.
#[tokio::test(start_paused = true)]
async fn a_hub_that_hangs_up_without_an_event_is_waited_for_longer_and_longer() {
    let (_directory, path) = place();
    let hub = FakeHub {
        frames: Vec::new(),
        short: true,
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    let mut waits = Vec::new();
    while waits.len() < 4 {
        connected(&mut events).await;
        waits.push(disconnected(&mut events).await.as_millis());
    }
    assert_eq!(waits, [100, 200, 400, 800]);
}

#[tokio::test]
async fn what_makes_no_sense_is_skipped_with_a_reason() {
    let (log, _guard) = Log::start();
    let (_directory, path) = place();
    let mut frames = Vec::new();
    for bad in [
        "not json",
        "[]",
        r#"{"continues":true,"parameters":{"event":{"seq":1,"kind":"pending"}}}"#,
        r#"{"continues":true,"parameters":{"event":7}}"#,
        r#"{"continues":true}"#,
        r#"{"continues":true,"parameters":{"event":{"seq":1,"kind":"shield","container":"../up","state":"up"}}}"#,
        r#"{"continues":true,"parameters":{"event":{"seq":3,"kind":"from the future"}}}"#,
    ] {
        frames.extend_from_slice(bad.as_bytes());
        frames.push(0);
    }
    Event::Synced.frame_into(9, &mut frames);
    let hub = FakeHub {
        frames,
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    assert_eq!(next_event(&mut events).await, Event::Synced);
    let text = log.text();
    assert_eq!(text.matches("skipped a").count(), 6, "{text}");
    assert!(text.contains("missing field `request`"), "{text}");
}

#[tokio::test]
async fn a_bad_handler_does_not_end_the_stream() {
    let (log, _guard) = Log::start();
    let (_directory, path) = place();
    let mut frames = Vec::new();
    for number in 0..4 {
        Event::Pending(request(number)).frame_into(1, &mut frames);
    }
    let hub = FakeHub {
        frames,
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    let (_client, events) = Client::start(&path).await.unwrap();
    let (seen, mut done) = watch::channel(0);
    let each = events.each(async |update| {
        if let Update::Event(Event::Pending(request)) = update {
            seen.send_modify(|seen| *seen += 1);
            tokio::task::yield_now().await;
            match request.id.as_str() {
                "c:0" => return Err("failed\u{1b}[2J"),
                "c:1" => panic!("a bad handler"),
                _ => {}
            }
        }
        Ok(())
    });
    tokio::select! {
        () = each => {}
        _ = done.wait_for(|seen| *seen == 4) => {}
    }
    let text = log.text();
    assert!(text.contains("an event's handler failed"), "{text}");
    assert!(text.contains("an event's handler panicked"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn answers_lists_and_histories_come_back() {
    let (_directory, path) = place();
    let _running = Running::start(&path, FakeHub::default());
    let (client, _events) = Client::start(&path).await.unwrap();
    let scope = Scope {
        port: Some(443),
        ..Scope::whole("a.example".parse().unwrap())
    };
    let decision = client
        .decide(&request(1), Resolution::Allow, Some(scope.clone()))
        .await
        .unwrap();
    assert_eq!(
        (decision.action, decision.scope),
        (Resolution::Allow, Some(scope))
    );
    let verdict = clearance1::Verdict {
        container: "c".to_owned(),
        request_id: "c:1".to_owned(),
        dest: "a.example".to_owned(),
        action: Action::Deny.to_string(),
    };
    client.verdict(&verdict).await.unwrap();
    assert_eq!(client.list().await.unwrap(), [request(1), request(2)]);
    assert_eq!(client.history(None).await.unwrap().len(), 3);
    assert_eq!(client.history(Some(2)).await.unwrap().len(), 2);
}

fn refusals(dest: &str) -> Fate {
    let text = str::to_owned;
    let request = || "c:1".parse().unwrap();
    let (two, one) = match dest {
        "unknown" => (
            DecideError::NoSuchRequest { request: request() },
            VerdictError::UnknownRequest {
                request_id: text("c:1"),
            },
        ),
        "other" => (
            DecideError::NotWhatWasAsked {
                request: request(),
                field: "dest".into(),
                asked: "a.example".into(),
                got: "other".into(),
            },
            VerdictError::VerdictTupleMismatch {
                expected_container: text("c"),
                expected_dest: text("a.example"),
                got_container: text("c"),
                got_dest: text("other"),
            },
        ),
        _ => (
            DecideError::EnforcementFailed {
                request: request(),
                reason: "no".into(),
            },
            VerdictError::ShieldCliFailed {
                action: text("allow"),
                stderr: text("no"),
            },
        ),
    };
    Fate::Refused(two, one)
}

#[tokio::test]
async fn a_refusal_reads_the_same_from_either_interface() {
    for interfaces in [BOTH, OLD] {
        let (_directory, path) = place();
        let hub = FakeHub {
            interfaces,
            answer: refusals,
            ..FakeHub::default()
        };
        let _running = Running::start(&path, hub);
        let (client, _events) = Client::start(&path).await.unwrap();
        for dest in ["unknown", "other", "failing"] {
            let request = request_for(dest);
            let Err(AnswerError::Refused(refusal)) =
                client.decide(&request, Resolution::Allow, None).await
            else {
                panic!("{dest} was not refused");
            };
            let Fate::Refused(expected, _) = refusals(dest) else {
                unreachable!()
            };
            assert_eq!(refusal, expected);
        }
    }
}

/// It has no word for less than a destination, and what was meant narrow must not open wide.
#[tokio::test]
async fn an_older_hub_gets_no_answer_that_it_would_widen() {
    let (_directory, path) = place();
    let hub = FakeHub {
        interfaces: OLD,
        ..FakeHub::default()
    };
    let running = Running::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let answers = || running.hub.answers.load(Ordering::Relaxed);
    let request = request(1);
    for scope in [
        Scope {
            port: Some(443),
            ..request.scope.clone()
        },
        Scope {
            protocol: Some(Protocol::TCP),
            ..request.scope.clone()
        },
        Scope {
            seconds: Some(5),
            ..request.scope.clone()
        },
        Scope {
            keep: terok_clearance::Keep::Once,
            ..request.scope.clone()
        },
        Scope::whole("b.example".parse().unwrap()),
    ] {
        let answer = client
            .decide(&request, Resolution::Allow, Some(scope))
            .await;
        assert!(matches!(answer, Err(AnswerError::TooOld(_))), "{answer:?}");
    }
    assert!(matches!(client.list().await, Err(AnswerError::TooOld(_))));
    assert!(matches!(
        client.history(None).await,
        Err(AnswerError::TooOld(_))
    ));
    // Putting a question away is nothing that the hub has to know.
    client
        .decide(&request, Resolution::Dismiss, None)
        .await
        .unwrap();
    assert_eq!(answers(), 0);
    let whole = request.scope.clone();
    let decision = client
        .decide(&request, Resolution::Allow, Some(whole.clone()))
        .await
        .unwrap();
    assert_eq!(decision.scope, Some(whole));
    assert_eq!(answers(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_a_hub_that_returns_and_fails_when_it_does_not() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
    let (client, _events) = Client::start(&path).await.unwrap();
    client
        .decide(&request(1), Resolution::Deny, None)
        .await
        .unwrap();
    running.end().await;
    let returning = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Running::start(&path, FakeHub::default())
    };
    let request = request(1);
    let answer = client.decide(&request, Resolution::Deny, None);
    let (answer, running) = tokio::join!(answer, returning);
    answer.unwrap();
    assert_eq!(running.hub.answers.load(Ordering::Relaxed), 1, "sent once");
    running.end().await;
    let start = Instant::now();
    match client.decide(&request, Resolution::Deny, None).await {
        Err(AnswerError::NoHub(HubError::Connect(ConnectError::NobodyListens { .. }))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(start.elapsed().as_secs(), AnswerError::LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_answered_is_an_error_that_says_so() {
    let (_directory, path) = place();
    let hub = FakeHub {
        answer: |dest| {
            if dest == "held" {
                Fate::Held
            } else {
                Fate::Dropped
            }
        },
        ..FakeHub::default()
    };
    let running = Running::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let dropped = client
        .decide(&request_for("dropped"), Resolution::Allow, None)
        .await;
    assert!(
        matches!(dropped, Err(AnswerError::Unanswered(_))),
        "{dropped:?}"
    );
    assert_eq!(
        running.hub.answers.load(Ordering::Relaxed),
        1,
        "never sent twice"
    );
    let start = Instant::now();
    let held = client
        .decide(&request_for("held"), Resolution::Allow, None)
        .await;
    assert!(matches!(held, Err(AnswerError::TimedOut(_))), "{held:?}");
    assert_eq!(
        start.elapsed().as_secs(),
        AnswerError::REPLY_LIMIT.as_secs()
    );
}

#[tokio::test]
async fn a_slow_firewall_delays_no_other_answer() {
    let (_directory, path) = place();
    let hub = FakeHub {
        answer: |dest| {
            if dest == "held" {
                Fate::Held
            } else {
                Fate::Applied
            }
        },
        ..FakeHub::default()
    };
    let running = Running::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let (slow, quick) = (request_for("held"), request_for("quick"));
    let held = client.decide(&slow, Resolution::Allow, None);
    let others = async {
        for _ in 0..20 {
            client
                .decide(&quick, Resolution::Allow, None)
                .await
                .unwrap();
        }
        running.hub.gate.send_replace(true);
    };
    let (held, ()) = tokio::join!(held, others);
    held.unwrap();
}

#[tokio::test]
async fn an_older_hubs_events_read_like_a_newer_ones() {
    let (log, _guard) = Log::start();
    let (_directory, path) = place();
    let mut frames = Vec::new();
    let container = "c".parse().unwrap();
    let dossier = Dossier::default();
    let exited = DisplayText::new("poststop");
    let mut say = |notice: Notice<'_>| notice.frame_into(clearance1::Dialect::A, &mut frames);
    say(Notice::ContainerStarted {
        container: &container,
        dossier: &dossier,
    });
    say(Notice::Blocked(&blocked(1)));
    say(Notice::Blocked(&blocked(2)));
    let applied = |ok, request| Notice::VerdictApplied {
        container: &container,
        request,
        action: Action::Allow,
        ok,
    };
    let (first, unheard) = ("c:1".parse().unwrap(), "c:99".parse().unwrap());
    say(applied(false, &first));
    say(applied(true, &first));
    say(applied(true, &unheard));
    say(Notice::Shield {
        container: &container,
        state: terok_clearance::ShieldState::Disengaged,
        dossier: &dossier,
    });
    say(Notice::ContainerExited {
        container: &container,
        reason: &exited,
        dossier: &dossier,
    });
    for odd in [
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"c","request_id":"c:3","dest":"203.0.113.7","port":-1,"proto":6}}}"#,
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"","request_id":"c:3","dest":"203.0.113.7","port":1,"proto":6}}}"#,
        r#"{"continues":true,"parameters":{"event":{"type":"moonrise","container":"c"}}}"#,
    ] {
        frames.extend_from_slice(odd.as_bytes());
        frames.push(0);
    }
    Notice::ContainerStarted {
        container: &container,
        dossier: &dossier,
    }
    .frame_into(clearance1::Dialect::D, &mut frames);
    let hub = FakeHub {
        interfaces: OLD,
        frames,
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    assert_eq!(connected(&mut events).await, Speaks::Clearance1);
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(match next_event(&mut events).await {
            Event::Pending(request) => {
                assert_eq!(request.scope, Scope::whole(request.dest.clone()));
                format!(
                    "pending {} {} {}",
                    request.id, request.dest, request.protocol
                )
            }
            Event::Decided(decision) => {
                format!(
                    "decided {} {} {}",
                    decision.request, decision.dest, decision.ok
                )
            }
            Event::Withdrawn { request, reason } => format!("withdrawn {} {reason}", request.id),
            Event::Shield { state, .. } => format!("shield {}", state.as_str()),
            Event::Container { state, .. } => format!("container {state:?}"),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(
        seen,
        [
            "container Started",
            "pending c:1 a.example tcp",
            "pending c:2 a.example tcp",
            "decided c:1 a.example false",
            "decided c:1 a.example true",
            "withdrawn c:2 shield",
            "shield disengaged",
            "container Exited",
            "container Started",
        ]
    );
    let text = log.text();
    assert!(text.contains("port: -1 is out of range"), "{text}");
    assert!(text.contains("container: the id is empty"), "{text}");
}

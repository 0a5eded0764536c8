// SPDX-License-Identifier: Apache-2.0
//! The event stream survives restarts of the hub and invalid messages.

use serde_json::json;
use std::time::Duration;
use terok_clearance::client::{Client, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::{SocketConnectError, bind};
use terok_clearance::varlink::VarlinkInterface;
use terok_clearance::wire::clearance1;
use terok_clearance::wire::clearance1::ClearanceEventRef;
use terok_clearance::wire::clearance2::Event;
use test_support::captured_log::CapturedLog;
use test_support::fake_hub::{
    BOTH_INTERFACES, CLEARANCE1_ONLY, CallReply, FakeHub, RunningHub, request,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::harness::{blocked, connected, disconnected, hub_path, next_event, serve_slowly};

#[tokio::test]
async fn a_missing_hub_is_an_error_at_the_start() {
    let (_directory, path) = hub_path();
    match Client::start(&path).await {
        Err(HubError::Connect(SocketConnectError::NoListener { .. })) => {}
        other => panic!("{other:?}"),
    }
    let hub = FakeHub {
        interfaces: &[],
        ..FakeHub::default()
    };
    let _running = RunningHub::start(&path, hub);
    match Client::start(&path).await {
        Err(HubError::NotAHub { product, .. }) => assert_eq!(product.as_str(), "test-hub"),
        other => panic!("{other:?}"),
    }
}

/// A Clearance2 hub of a release that knows no parameter of `Subscribe`.
const OLDER_CLEARANCE2: &[VarlinkInterface] = &[VarlinkInterface {
    name: "org.terok.Clearance2",
    description: "interface org.terok.Clearance2\nmethod Subscribe() -> (event: int)\n\
                  method Other(answers: bool) -> ()\n",
}];

#[tokio::test]
async fn a_hub_is_told_whether_somebody_answers_if_it_knows_the_parameter() {
    for (interfaces, answers, expected) in [
        (BOTH_INTERFACES, true, json!({"answers": true})),
        (BOTH_INTERFACES, false, json!({})),
        (OLDER_CLEARANCE2, true, json!({})),
        (CLEARANCE1_ONLY, true, json!({})),
    ] {
        let (_directory, path) = hub_path();
        let (told, mut heard) = watch::channel(None);
        let hub = FakeHub::silent(interfaces).with_script(move |method, parameters| {
            assert_eq!(method, "Subscribe");
            told.send_replace(Some(parameters.clone()));
            CallReply::Never
        });
        let _running = RunningHub::start(&path, hub);
        let started = if answers {
            Client::start_answering(&path).await
        } else {
            Client::start(&path).await
        };
        let _connected = started.unwrap();
        let parameters = heard.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(parameters, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_is_an_error_at_the_start() {
    let (_directory, path) = hub_path();
    let _listener = bind(&path).unwrap();
    assert!(matches!(
        Client::start(&path).await,
        Err(HubError::TimedOut { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_stream_reconnects_to_a_restarted_hub() {
    let (_directory, path) = hub_path();
    let running = RunningHub::start(&path, FakeHub::default());
    let (_client, mut events) = Client::start(&path).await.unwrap();
    assert_eq!(connected(&mut events).await, ProtocolVersion::Clearance2);
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(events.hub_pid(), Some(us));
    assert_eq!(next_event(&mut events).await, Event::Pending(request(1)));
    assert_eq!(next_event(&mut events).await, Event::Synced);
    running.end().await;
    assert_eq!(disconnected(&mut events).await, Duration::from_millis(100));
    assert_eq!(events.hub_pid(), None);
    // The restarted hub has the older interface.
    let mut frames = Vec::new();
    ClearanceEventRef::Blocked(&blocked(7))
        .append_frame(clearance1::Clearance1Dialect::D, &mut frames);
    let _running = RunningHub::start(
        &path,
        FakeHub {
            interfaces: CLEARANCE1_ONLY,
            frames,
            ..FakeHub::default()
        },
    );
    assert_eq!(connected(&mut events).await, ProtocolVersion::Clearance1);
    match next_event(&mut events).await {
        Event::Pending(request) => assert_eq!(request.id.as_str(), "c:7"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_back_off_doubles_up_to_ten_seconds() {
    let (_directory, path) = hub_path();
    let running = RunningHub::start(&path, FakeHub::default());
    let (client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    next_event(&mut events).await;
    next_event(&mut events).await;
    // No effect on a connected stream.
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
    // The waits are exact but for the timer's millisecond, because time is paused.
    for (waited, expected) in waited.iter().skip(1).zip(&waits) {
        assert!(
            (*expected..=expected + 2).contains(waited),
            "{waited} for {expected}"
        );
    }
    // A poke ends one wait.
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
    // An event resets the back-off.
    let running = RunningHub::start(&path, FakeHub::default());
    connected(&mut events).await;
    next_event(&mut events).await;
    next_event(&mut events).await;
    running.end().await;
    assert_eq!(disconnected(&mut events).await.as_millis(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_poke_from_another_task_ends_a_wait() {
    let (_directory, path) = hub_path();
    let running = RunningHub::start(&path, FakeHub::default());
    let (client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    running.end().await;
    while !matches!(events.next().await, StreamUpdate::Disconnected { retry, .. } if retry.as_secs() >= 10)
    {
    }
    let start = Instant::now();
    let _running = RunningHub::start(&path, FakeHub::default());
    let poke = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        client.poke_reconnect();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = poke => {}
        version = connected(&mut events) => assert_eq!(version, ProtocolVersion::Clearance2),
    }
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// The reply to `GetInfo` alone does not reset the back-off.
#[tokio::test(start_paused = true)]
async fn the_back_off_grows_for_a_hub_that_disconnects_without_an_event() {
    let (_directory, path) = hub_path();
    let hub = FakeHub {
        frames: Vec::new(),
        hang_up: true,
        ..FakeHub::default()
    };
    let _running = RunningHub::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    let mut waits = Vec::new();
    while waits.len() < 4 {
        connected(&mut events).await;
        waits.push(disconnected(&mut events).await.as_millis());
    }
    assert_eq!(waits, [100, 200, 400, 800]);
}

#[tokio::test]
async fn invalid_messages_are_skipped_and_logged() {
    let (log, _guard) = CapturedLog::start();
    let (_directory, path) = hub_path();
    let mut frames = Vec::new();
    for bad in [
        "not json",
        "[]",
        r#"{"continues":true,"parameters":{"event":{"seq":1,"kind":"pending"}}}"#,
        r#"{"continues":true,"parameters":{"event":7}}"#,
        r#"{"continues":true}"#,
        r#"{"continues":true,"parameters":{"event":{"seq":1,"kind":"shield","container":"../up","state":"up"}}}"#,
        r#"{"continues":true,"parameters":{"event":{"seq":1,"kind":7}}}"#,
    ] {
        frames.extend_from_slice(bad.as_bytes());
        frames.push(0);
    }
    Event::Synced.append_frame(9, &mut frames);
    let hub = FakeHub {
        frames,
        ..FakeHub::default()
    };
    let _running = RunningHub::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    assert_eq!(next_event(&mut events).await, Event::Synced);
    let text = log.text();
    assert_eq!(text.matches("skipped an invalid").count(), 7, "{text}");
    assert!(text.contains("missing field `request`"), "{text}");
}

/// Documented behaviour of the Python client: unknown types are forwarded unchanged.
#[tokio::test]
async fn an_event_of_an_unknown_type_arrives_unchanged() {
    let old = [
        r#"{"type":"moonrise","container":"c"}"#,
        r#"{ "type": "moon\u001bset", "container": "", "port": "none", "new": {"a": [1.50, "é"]} }"#,
    ];
    let new = [
        r#"{"seq":3,"kind":"rule_added","rule":{"id":7}}"#,
        r#"{"seq":4,"kind":"container_paused","container":null,"state":1,"request":"?"}"#,
    ];
    for (interfaces, events) in [(CLEARANCE1_ONLY, old), (BOTH_INTERFACES, new)] {
        let (_directory, path) = hub_path();
        let mut frames = Vec::new();
        for event in events {
            let frame = format!(r#"{{"continues":true,"parameters":{{"event":{event}}}}}"#);
            frames.extend_from_slice(frame.as_bytes());
            frames.push(0);
        }
        let hub = FakeHub {
            interfaces,
            frames,
            ..FakeHub::default()
        };
        let _running = RunningHub::start(&path, hub);
        let (_client, stream) = Client::start(&path).await.unwrap();
        let (seen, mut done) = watch::channel(Vec::new());
        let each = stream.for_each(async |update| {
            if let StreamUpdate::UnknownEvent(event) = update {
                assert!(event.to_ascii_json().is_ascii());
                let text = (event.kind().to_string(), event.json().to_owned());
                seen.send_modify(|seen| seen.push(text));
            }
            Ok::<(), std::convert::Infallible>(())
        });
        tokio::select! {
            () = each => {}
            _ = done.wait_for(|seen| seen.len() == events.len()) => {}
        }
        let seen = seen.borrow();
        let json: Vec<_> = seen.iter().map(|(_, json)| json.as_str()).collect();
        assert_eq!(json, events);
        let kinds: Vec<_> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
        let expected = [["moonrise", "moon set"], ["rule_added", "container_paused"]];
        assert!(
            expected.iter().any(|expected| kinds == *expected),
            "{kinds:?}"
        );
    }
}

#[tokio::test]
async fn an_error_or_a_panic_of_the_handler_does_not_end_the_stream() {
    let (log, _guard) = CapturedLog::start();
    let (_directory, path) = hub_path();
    let mut frames = Vec::new();
    for number in 0..4 {
        Event::Pending(request(number)).append_frame(1, &mut frames);
    }
    let hub = FakeHub {
        frames,
        ..FakeHub::default()
    };
    let _running = RunningHub::start(&path, hub);
    let (_client, events) = Client::start(&path).await.unwrap();
    let (seen, mut done) = watch::channel(0);
    let each = events.for_each(async |update| {
        if let StreamUpdate::Event(Event::Pending(request)) = update {
            seen.send_modify(|seen| *seen += 1);
            tokio::task::yield_now().await;
            match request.id.as_str() {
                "c:0" => return Err("failed\u{1b}[2J"),
                "c:1" => panic!("the handler panics"),
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
    assert!(text.contains("the event handler failed"), "{text}");
    assert!(text.contains("the event handler panicked"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

/// A user interface drops the call of `next` for every key and timer.
#[tokio::test(start_paused = true)]
async fn a_program_that_often_drops_the_call_reconnects_to_a_slow_hub() {
    let (_directory, path) = hub_path();
    let running = RunningHub::start(&path, FakeHub::default());
    let (_client, mut events) = Client::start(&path).await.unwrap();
    connected(&mut events).await;
    next_event(&mut events).await;
    next_event(&mut events).await;
    running.end().await;
    disconnected(&mut events).await;
    let program = async {
        let start = Instant::now();
        loop {
            tokio::select! {
                biased;
                update = events.next() => break update,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            assert!(start.elapsed() < Duration::from_secs(10), "not reconnected");
        }
    };
    let update = tokio::select! {
        update = program => update,
        () = serve_slowly(&path, Duration::from_millis(200)) => unreachable!("the hub serves forever"),
    };
    assert!(
        matches!(update, StreamUpdate::Connected(ProtocolVersion::Clearance2)),
        "{update:?}"
    );
}

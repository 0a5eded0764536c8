// SPDX-License-Identifier: Apache-2.0
//! The event stream outlives its hub, and nothing in it ends it.

use crate::rig::{
    FakeHub, OLD, Running, blocked, connected, disconnected, next_event, place, request,
    serve_slowly,
};
use crate::service::Log;
use std::time::Duration;
use terok_clearance::client::{Client, HubError, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::{SocketConnectError, bind};
use terok_clearance::wire::clearance1;
use terok_clearance::wire::clearance1::ClearanceEventRef;
use terok_clearance::wire::clearance2::Event;
use tokio::sync::watch;
use tokio::time::Instant;

#[tokio::test]
async fn a_hub_that_is_down_at_the_start_is_an_error() {
    let (_directory, path) = place();
    match Client::start(&path).await {
        Err(HubError::Connect(SocketConnectError::NoListener { .. })) => {}
        other => panic!("{other:?}"),
    }
    let hub = FakeHub {
        interfaces: &[],
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    match Client::start(&path).await {
        Err(HubError::NotAHub { product, .. }) => assert_eq!(product.as_str(), "test-hub"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_accepts_and_says_nothing_is_no_hub() {
    let (_directory, path) = place();
    let _listener = bind(&path).unwrap();
    assert!(matches!(
        Client::start(&path).await,
        Err(HubError::TimedOut { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_stream_outlives_its_hub() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
    let (_client, mut events) = Client::start(&path).await.unwrap();
    assert_eq!(connected(&mut events).await, ProtocolVersion::Clearance2);
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(events.hub_pid(), Some(us));
    assert_eq!(next_event(&mut events).await, Event::Pending(request(1)));
    assert_eq!(next_event(&mut events).await, Event::Synced);
    running.end().await;
    assert_eq!(disconnected(&mut events).await, Duration::from_millis(100));
    assert_eq!(events.hub_pid(), None);
    // It returns as another hub does: with an older interface.
    let mut frames = Vec::new();
    ClearanceEventRef::Blocked(&blocked(7))
        .append_frame(clearance1::Clearance1Dialect::D, &mut frames);
    let _running = Running::start(
        &path,
        FakeHub {
            interfaces: OLD,
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
    while !matches!(events.next().await, StreamUpdate::Disconnected { retry, .. } if retry.as_secs() >= 10)
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
        speaks = connected(&mut events) => assert_eq!(speaks, ProtocolVersion::Clearance2),
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
    Event::Synced.append_frame(9, &mut frames);
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
        Event::Pending(request(number)).append_frame(1, &mut frames);
    }
    let hub = FakeHub {
        frames,
        ..FakeHub::default()
    };
    let _running = Running::start(&path, hub);
    let (_client, events) = Client::start(&path).await.unwrap();
    let (seen, mut done) = watch::channel(0);
    let each = events.for_each(async |update| {
        if let StreamUpdate::Event(Event::Pending(request)) = update {
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

/// A user interface looks at keys and clocks between events; a hub that takes its time to say what
/// it is must get through all the same.
#[tokio::test(start_paused = true)]
async fn a_program_that_looks_elsewhere_all_the_time_gets_through_to_a_slow_hub() {
    let (_directory, path) = place();
    let running = Running::start(&path, FakeHub::default());
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
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "never got through"
            );
        }
    };
    let update = tokio::select! {
        update = program => update,
        () = serve_slowly(&path, Duration::from_millis(200)) => unreachable!("it serves forever"),
    };
    assert!(
        matches!(update, StreamUpdate::Connected(ProtocolVersion::Clearance2)),
        "{update:?}"
    );
}

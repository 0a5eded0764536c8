// SPDX-License-Identifier: Apache-2.0
//! The client with the Python stack's hub: what it shows and answers there is the same.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use terok_clearance::client::{AnswerError, Client, Events, Speaks, Update};
use terok_clearance::socket::{ConnectError, RuntimeDir};
use terok_clearance::wire::clearance2::{DecideError, Event};
use terok_clearance::{Resolution, Scope, ShieldState};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Starts the hub, and waits until it takes connections.
async fn start(runtime: &RuntimeDir) -> (Child, Client, Events) {
    let python = std::env::var_os("FOREIGN_PYTHON")
        .expect("FOREIGN_PYTHON names a Python that has terok-clearance 0.8.1");
    let mut hub = Command::new(Path::new(&python).with_file_name("terok-clearance-hub"))
        .arg("serve")
        .env("XDG_RUNTIME_DIR", runtime.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    loop {
        let ended = hub.try_wait().unwrap();
        assert!(ended.is_none(), "the hub ended: {ended:?}");
        match Client::start(runtime.classic().hub).await {
            Ok((client, events)) => return (hub, client, events),
            Err(terok_clearance::client::HubError::Connect(ConnectError::NobodyListens {
                ..
            })) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn event(events: &mut Events) -> Event {
    loop {
        match events.next().await {
            Update::Event(event) => return event,
            Update::Connected(speaks) => assert_eq!(speaks, Speaks::Clearance1),
            Update::Disconnected { reason, .. } => panic!("{reason}"),
        }
    }
}

#[tokio::test]
#[ignore = "needs PyPI's terok-clearance: see tests/foreign/README.md"]
async fn the_python_hub_is_understood_and_answered() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::new(directory.path().join("run"));
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).create(runtime.path()).unwrap();
    let (_hub, client, mut events) = start(&runtime).await;
    let mut reader = UnixStream::connect(runtime.classic().ingester)
        .await
        .unwrap();
    let mut say = async |line: &str| {
        reader.write_all(line.as_bytes()).await.unwrap();
        reader.write_all(b"\n").await.unwrap();
    };
    // That hub says nothing to a new subscriber, so only an event tells that it is heard; one that
    // was told before the subscription took effect is lost.
    let up = r#"{"type":"shield_up","container":"0123456789ab"}"#;
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = again.tick() => say(up).await,
            heard = event(&mut events) => {
                assert!(matches!(heard, Event::Shield { state: ShieldState::Up, .. }), "{heard:?}");
                break;
            }
        }
    }
    say(r#"{"type":"pending","container":"0123456789ab","id":"0123456789ab:1","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","dossier":{"project":"p"},"ts":""}"#).await;
    let request = loop {
        match event(&mut events).await {
            Event::Shield { .. } => {}
            Event::Pending(request) => break request,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(request.dest.as_str(), "api.example.com");
    assert_eq!(request.scope, Scope::whole(request.dest.clone()));
    // No verdict helper runs, so the hub cannot carry the answer out, and says so twice.
    let refused = client.decide(&request, Resolution::Allow, None).await;
    let Err(AnswerError::Refused(DecideError::EnforcementFailed { reason, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.as_str().starts_with("verdict helper unreachable"),
        "{reason}"
    );
    let Event::Decided(decision) = event(&mut events).await else {
        panic!("nothing decided");
    };
    assert!(
        !decision.ok && decision.dest == request.dest,
        "{decision:?}"
    );
    say(r#"{"type":"container_exited","container":"0123456789ab","reason":"poststop"}"#).await;
    let withdrawn = event(&mut events).await;
    assert!(
        matches!(&withdrawn, Event::Withdrawn { .. }),
        "{withdrawn:?}"
    );
    let refused = client.decide(&request, Resolution::Allow, None).await;
    let Err(AnswerError::Refused(DecideError::NoSuchRequest { request: unknown })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(unknown, request.id);
}

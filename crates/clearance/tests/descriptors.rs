// SPDX-License-Identifier: Apache-2.0
//! Descriptors: no leak after a disconnect, and the server survives a lack of descriptors.
//!
//! One test in a process of its own, because both parts count or limit all its descriptors.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

#[path = "support/service.rs"]
#[expect(dead_code, reason = "this test needs only a part of it")]
mod service;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::TestServer;
use terok_clearance::varlink::{CallError, NoParameters, ServiceLimits, VarlinkConnection};
use test_support::captured_log::CapturedLog;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn check_alive(server: &TestServer) {
    let mut other = VarlinkConnection::connect(&server.path).await.unwrap();
    let note = other.call::<_, NoParameters>("org.example.Test1.Note", &NoParameters {});
    note.await.unwrap();
}

#[tokio::test]
async fn descriptors_are_released_and_a_lack_of_them_is_survived() {
    let (log, _guard) = CapturedLog::start();
    let server = TestServer::start(ServiceLimits::default());
    check_alive(&server).await;
    // The clients' ends are in this process too.
    for _ in 0..4 {
        subscribe_and_leave(&server, 125).await;
    }
    exhaust_descriptors(&server, &log).await;
    check_alive(&server).await;
}

/// Former subscribers hold no descriptor, also without an event after their disconnect.
async fn subscribe_and_leave(server: &TestServer, subscribers: usize) {
    let mut count = server.service.streams.subscribe();
    let before = open_descriptors();
    let mut streams = Vec::new();
    for _ in 0..subscribers {
        let connection = VarlinkConnection::connect(&server.path).await.unwrap();
        let none = NoParameters {};
        streams.push(
            connection
                .call_more("org.example.Test1.Stream", &none)
                .await
                .unwrap(),
        );
    }
    count.wait_for(|count| *count == subscribers).await.unwrap();
    assert!(open_descriptors() >= 2 * subscribers);
    drop(streams);
    count.wait_for(|count| *count == 0).await.unwrap();
    // The last connection's socket closes right after its stream has ended.
    check_alive(server).await;
    let after = open_descriptors();
    assert!(
        after <= before + 4,
        "{before} descriptors before, {after} after"
    );
}

/// Without a free descriptor the server waits, and does not loop.
async fn exhaust_descriptors(server: &TestServer, log: &CapturedLog) {
    let mut first = VarlinkConnection::connect(&server.path).await.unwrap();
    let note = "org.example.Test1.Note";
    let nothing = NoParameters {};
    first.call::<_, NoParameters>(note, &nothing).await.unwrap();
    let usual = getrlimit(Resource::Nofile);
    let tight = Rlimit {
        current: Some(u64::try_from(open_descriptors()).unwrap() + 10),
        ..usual
    };
    setrlimit(Resource::Nofile, tight).unwrap();
    let mut waiting = Vec::new();
    while let Ok(connection) = VarlinkConnection::connect(&server.path).await {
        waiting.push(connection);
    }
    // Accepted connections are served, queued ones wait.
    first.call::<_, NoParameters>(note, &nothing).await.unwrap();
    while !log.text().contains("cannot accept a connection") {
        tokio::task::yield_now().await;
    }
    setrlimit(Resource::Nofile, usual).unwrap();
    let mut last = waiting.pop().unwrap();
    let reply: Result<NoParameters, CallError> = last.call(note, &nothing).await;
    assert!(reply.is_ok(), "{reply:?}");
    let lines = log.text().matches("cannot accept").count();
    assert!(lines < 50, "{lines} log lines");
}

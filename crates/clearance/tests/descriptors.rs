// SPDX-License-Identifier: Apache-2.0
//! Descriptors: none is kept for a client that left, and a lack of them ends nothing.
//!
//! One test alone in its process, for both parts count or limit the whole process's descriptors.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

#[path = "support/service.rs"]
#[expect(dead_code, reason = "this test needs only a part of it")]
mod service;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::{Log, Server};
use terok_clearance::varlink::{CallError, NoParameters, ServiceLimits, VarlinkConnection};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn check_alive(server: &Server) {
    let mut other = VarlinkConnection::connect(&server.path).await.unwrap();
    let note = other.call::<_, NoParameters>("org.example.Test1.Note", &NoParameters {});
    note.await.unwrap();
}

#[tokio::test]
async fn descriptors_come_and_go() {
    let (log, _guard) = Log::start();
    let server = Server::start(ServiceLimits::default());
    check_alive(&server).await;
    // Half for the clients' ends, which are in this process too.
    for _ in 0..4 {
        come_and_go(&server, 125).await;
    }
    run_out(&server, &log).await;
    check_alive(&server).await;
}

/// Subscribers that came and went hold no descriptor, though no event was ever sent to them.
async fn come_and_go(server: &Server, subscribers: usize) {
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

/// With no descriptor left, the server waits for one, and does so without eating the processor.
async fn run_out(server: &Server, log: &Log) {
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
    // Who is in is served; who is in the queue is not, and not turned away either.
    first.call::<_, NoParameters>(note, &nothing).await.unwrap();
    while !log
        .text()
        .contains("could not accept a connection, trying again")
    {
        tokio::task::yield_now().await;
    }
    setrlimit(Resource::Nofile, usual).unwrap();
    let mut last = waiting.pop().unwrap();
    let reply: Result<NoParameters, CallError> = last.call(note, &nothing).await;
    assert!(reply.is_ok(), "{reply:?}");
    let lines = log.text().matches("could not accept").count();
    assert!(lines < 50, "{lines} lines were logged");
}

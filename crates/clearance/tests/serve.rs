// SPDX-License-Identifier: Apache-2.0
//! The server over real sockets: replies, limits and hostile clients.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

#[path = "support/service.rs"]
mod service;

use std::io::{self, Write as _};
use std::time::Duration;

use service::TestServer;
use terok_clearance::varlink::{
    CallError, MAX_CALL_BYTES, NoParameters, ServiceLimits, StandardError, VarlinkConnection,
    VarlinkServeError,
};
use test_support::captured_log::CapturedLog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const ECHO: &str = "org.example.Test1.Echo";

async fn echo(connection: &mut VarlinkConnection, text: &str) -> String {
    let parameters = serde_json::json!({ "text": text });
    let reply: serde_json::Value = connection.call(ECHO, &parameters).await.unwrap();
    reply["text"].as_str().unwrap().to_owned()
}

/// Asserts that the server answers another client.
async fn check_alive(server: &TestServer) {
    let mut other = VarlinkConnection::connect(&server.path).await.unwrap();
    assert_eq!(echo(&mut other, "still here").await, "still here");
}

/// Sends `bytes`, and returns the replies until the server closes the connection.
async fn send(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn every_service_describes_itself() {
    let server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let info: serde_json::Value = connection
        .call("org.varlink.service.GetInfo", &NoParameters {})
        .await
        .unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&info).unwrap(), @r#"
    {
      "interfaces": [
        "org.example.Test1",
        "org.varlink.service"
      ],
      "product": "test",
      "url": "https://example.org",
      "vendor": "test",
      "version": "1"
    }
    "#);
    for name in ["org.example.Test1", "org.varlink.service"] {
        let description: serde_json::Value = connection
            .call(
                "org.varlink.service.GetInterfaceDescription",
                &serde_json::json!({ "interface": name }),
            )
            .await
            .unwrap();
        let text = description["description"].as_str().unwrap();
        let parsed = zlink_idl::Interface::try_from(text).unwrap();
        assert_eq!(parsed.name(), name);
    }
}

#[tokio::test]
async fn unknown_names_are_standard_errors() {
    let server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut check = async |method: &str, parameters: serde_json::Value, expected| {
        let error = connection
            .call::<_, serde_json::Value>(method, &parameters)
            .await
            .unwrap_err();
        let CallError::Refused(reply) = error else {
            panic!("{method}: {error}");
        };
        assert_eq!(reply.decode::<StandardError>(), Some(expected), "{method}");
    };
    let none = || serde_json::json!({});
    check(
        "org.example.Nope.Echo",
        none(),
        StandardError::InterfaceNotFound {
            interface: "org.example.Nope".to_owned(),
        },
    )
    .await;
    check(
        "org.example.Test1.Nope",
        none(),
        StandardError::MethodNotFound {
            method: "Nope".to_owned(),
        },
    )
    .await;
    check(
        "org.varlink.service.Nope",
        none(),
        StandardError::MethodNotFound {
            method: "Nope".to_owned(),
        },
    )
    .await;
    check(
        "org.varlink.service.GetInterfaceDescription",
        serde_json::json!({ "interface": "org.nope" }),
        StandardError::InterfaceNotFound {
            interface: "org.nope".to_owned(),
        },
    )
    .await;
    check(ECHO, none(), StandardError::invalid_parameter("text")).await;
    check(
        "org.varlink.service.GetInfo",
        serde_json::json!({ "x": 1 }),
        StandardError::invalid_parameter("x"),
    )
    .await;
    // The connection survives all these errors.
    assert_eq!(echo(&mut connection, "a").await, "a");
}

#[tokio::test]
async fn pipelined_calls_in_pieces_are_answered_in_order() {
    let server = TestServer::start(ServiceLimits::default());
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let mut calls = Vec::new();
    for text in 0..100 {
        let call = format!(r#"{{"method":"{ECHO}","parameters":{{"text":"{text}"}}}}"#);
        calls.extend_from_slice(call.as_bytes());
        calls.push(0);
    }
    let (first, second) = calls.split_at(1000);
    stream.write_all(first).await.unwrap();
    // The frames before the incomplete one are answered.
    let mut reply = [0; 31];
    stream.read_exact(&mut reply).await.unwrap();
    stream.write_all(second).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut replies = reply.to_vec();
    stream.read_to_end(&mut replies).await.unwrap();
    let expected = (0..100).map(|text| format!("{{\"parameters\":{{\"text\":\"{text}\"}}}}\0"));
    let expected = expected.collect::<Vec<_>>().concat();
    assert_eq!(String::from_utf8(replies).unwrap(), expected);
}

#[tokio::test]
async fn a_oneway_call_has_no_reply() {
    let server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let none = NoParameters {};
    connection
        .call_oneway("org.example.Test1.Note", &none)
        .await
        .unwrap();
    connection
        .call_oneway("org.example.Test1.Nope", &none)
        .await
        .unwrap();
    connection.call_oneway("org.nope.X.Y", &none).await.unwrap();
    // The next reply belongs to the next call.
    assert_eq!(echo(&mut connection, "b").await, "b");
    assert_eq!(*server.service.notes.borrow(), 1);
}

#[tokio::test]
async fn an_invalid_call_closes_the_connection_with_a_logged_reason() {
    let (log, _guard) = CapturedLog::start();
    let limits = ServiceLimits::default();
    for (frame, reason) in [
        (&b"not json\0"[..], "not a call"),
        (b"\0", "not a call"),
        (b"[]\0", "not an object"),
        (
            b"[\"org.example.Test1.Echo\",{\"text\":\"a\"}]\0",
            "not an object",
        ),
        (b"{}\0", "missing field `method`"),
        (b"{\"method\":7}\0", "not a call"),
        (b"{\"method\":\"nodots\"}\0", "is not a method name"),
        (b"{\"method\":\"one.Dot\"}\0", "is not a method name"),
        (b"{\"method\":\"a..B\"}\0", "is not a method name"),
        (b"{\"method\":\"a.b.\"}\0", "is not a method name"),
        (
            b"{\"method\":\"a.b.\\u001b[2J\"}\0",
            "\"a.b. [2J\" is not a method name",
        ),
        (
            b"{\"method\":\"a.b.C\",\"parameters\":[]}\0",
            "the parameters are not an object",
        ),
        (b"{\"method\":\"a.b.C\",\"more\":1}\0", "not a call"),
        (
            b"{\"method\":\"a.b.C\",\"more\":true,\"oneway\":true}\0",
            "more than one of more, oneway and upgrade",
        ),
        (
            b"{\"method\":\"a.b.C\",\"method\":\"a.b.D\"}\0",
            "duplicate field",
        ),
        (b"{\"method\":\"a.b.C\xff\"}\0", "not a call"),
        (b"\xff\xfe\xfd\0", "not a call"),
        (b"{\"method\":\"a.b.C\"} trailing\0", "not a call"),
        (b"half a frame", "never written"),
    ] {
        let server = TestServer::start(limits);
        if reason == "never written" {
            let mut stream = UnixStream::connect(&server.path).await.unwrap();
            stream.write_all(frame).await.unwrap();
            drop(stream);
        } else {
            assert_eq!(send(&server, frame).await, "", "{frame:?}");
        }
        check_alive(&server).await;
        server.socket.stop.cancel();
        let mut server = server;
        server.socket.ended().await.unwrap();
        let text = log.text();
        let expected = if reason == "never written" {
            "ended inside a frame"
        } else {
            reason
        };
        assert!(text.contains(expected), "{frame:?}: {text}");
        assert!(
            !text.contains('\u{1b}'),
            "an escape sequence reached the log"
        );
    }
}

/// A recursive parser would overflow the stack and end the process.
#[tokio::test]
async fn deep_nesting_does_not_end_the_server() {
    let server = TestServer::start(ServiceLimits::default());
    let deep = "[".repeat(500_000);
    let unclosed = format!("{{\"method\":\"{ECHO}\",\"parameters\":{{\"text\":{deep}\0");
    assert_eq!(send(&server, unclosed.as_bytes()).await, "");
    let closed = "]".repeat(500_000);
    let nested = format!("{{\"method\":\"{ECHO}\",\"parameters\":{{\"text\":{deep}{closed}}}}}\0");
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(nested.as_bytes()).await.unwrap();
    let mut reply = vec![0; 512];
    let read = stream.read(&mut reply).await.unwrap();
    let reply = std::str::from_utf8(&reply[..read]).unwrap();
    assert!(reply.contains("InvalidParameter"), "{reply}");
    let ignored = format!("{{\"method\":\"{ECHO}\",\"x\":{deep}{closed}}}\0");
    stream.write_all(ignored.as_bytes()).await.unwrap();
    check_alive(&server).await;
}

/// The number of accepted bytes bounds the server's memory.
#[tokio::test]
async fn an_endless_frame_closes_the_connection_at_the_limit() {
    let (log, _guard) = CapturedLog::start();
    let server = TestServer::start(ServiceLimits::default());
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let piece = vec![b'a'; 1 << 16];
    let mut sent = 0_usize;
    let error = loop {
        match stream.write(&piece).await {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 100 << 20, "the server accepted 100 MB without a NUL");
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(
        sent < MAX_CALL_BYTES + (1 << 20),
        "the server accepted {sent} bytes"
    );
    check_alive(&server).await;
    assert!(
        log.text().contains("a frame is longer than 1048576 bytes"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_call_of_the_maximum_length_is_answered_and_a_longer_one_is_not() {
    let server = TestServer::start(ServiceLimits::default());
    let call = |length: usize| {
        let empty = format!(r#"{{"method":"{ECHO}","parameters":{{"text":""}}}}"#);
        let text = "x".repeat(length - empty.len());
        format!("{{\"method\":\"{ECHO}\",\"parameters\":{{\"text\":\"{text}\"}}}}\0")
    };
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream
        .write_all(call(MAX_CALL_BYTES).as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert!(reply.len() > MAX_CALL_BYTES / 2);
    assert_eq!(send(&server, call(MAX_CALL_BYTES + 1).as_bytes()).await, "");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_the_log_stays_short() {
    let (log, _guard) = CapturedLog::start();
    let server = TestServer::start(ServiceLimits {
        max_connections: 4,
        ..ServiceLimits::default()
    });
    let mut members = Vec::new();
    for _ in 0..4 {
        let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
        echo(&mut connection, "in").await;
        members.push(connection);
    }
    for _ in 0..200 {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
    // The accepted connections stay usable, and a closed one makes room.
    for connection in &mut members {
        assert_eq!(echo(connection, "on").await, "on");
    }
    members.pop();
    loop {
        let mut next = VarlinkConnection::connect(&server.path).await.unwrap();
        let parameters = serde_json::json!({ "text": "" });
        if next
            .call::<_, serde_json::Value>(ECHO, &parameters)
            .await
            .is_ok()
        {
            break;
        }
    }
    let lines = log
        .text()
        .matches("the limit of 4 connections is reached")
        .count();
    assert!((1..=20).contains(&lines), "{lines} log lines");
}

/// Another thread sends faster than the server replies: a loop without a yield would serve no other
/// client before the flood ends.
#[tokio::test]
async fn a_flooding_client_does_not_starve_the_others() {
    let server = TestServer::start(ServiceLimits::default());
    let mut noisy = std::os::unix::net::UnixStream::connect(&server.path).unwrap();
    let call =
        format!("{{\"method\":\"{ECHO}\",\"parameters\":{{\"text\":\"a\"}},\"oneway\":true}}\0");
    let calls = call.repeat(1000);
    let (sent, mut is_sent) = tokio::sync::watch::channel(0);
    let flood = std::thread::spawn(move || {
        for round in 0..150 {
            noisy.write_all(calls.as_bytes()).unwrap();
            sent.send_replace(round);
        }
    });
    is_sent.wait_for(|round| *round > 2).await.unwrap();
    for _ in 0..20 {
        check_alive(&server).await;
    }
    assert!(*is_sent.borrow() < 149, "served only after the flood");
    is_sent.wait_for(|round| *round == 149).await.unwrap();
    flood.join().unwrap();
}

#[tokio::test]
async fn a_disconnect_is_noticed_without_a_write() {
    let server = TestServer::start(ServiceLimits::default());
    let mut count = server.service.streams.subscribe();
    let connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut stream = connection
        .call_more("org.example.Test1.Stream", &NoParameters {})
        .await
        .unwrap();
    assert!(stream.next::<NoParameters>().await.unwrap().is_some());
    count.wait_for(|count| *count == 1).await.unwrap();
    drop(stream);
    count.wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test]
async fn a_call_during_a_stream_closes_the_connection() {
    let (log, _guard) = CapturedLog::start();
    let server = TestServer::start(ServiceLimits::default());
    let stream_call = r#"{"method":"org.example.Test1.Stream","more":true}"#;
    let echo_call = format!(r#"{{"method":"{ECHO}","parameters":{{"text":"a"}}}}"#);
    // Both calls at once, then the second after the first reply.
    let both = format!("{stream_call}\0{echo_call}\0");
    assert_eq!(
        send(&server, both.as_bytes())
            .await
            .matches("continues")
            .count(),
        1
    );
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream
        .write_all(format!("{stream_call}\0").as_bytes())
        .await
        .unwrap();
    assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
    stream
        .write_all(format!("{echo_call}\0").as_bytes())
        .await
        .unwrap();
    assert_eq!(stream.read(&mut [0; 512]).await.unwrap_or(0), 0);
    check_alive(&server).await;
    let reason = "the peer sent data during a stream of replies";
    assert_eq!(log.text().matches(reason).count(), 2, "{}", log.text());
}

/// Paused time advances when every task waits.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected_after_five_seconds() {
    let (log, _guard) = CapturedLog::start();
    let server = TestServer::start(ServiceLimits::default());
    let start = tokio::time::Instant::now();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream
        .write_all(b"{\"method\":\"org.example.Test1.Pour\",\"more\":true}\0")
        .await
        .unwrap();
    let mut server = server;
    while !log.text().contains("the peer read nothing for 5s") {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log.text());
    }
    assert!(start.elapsed() >= Duration::from_secs(5));
    server.socket.stop.cancel();
    server.socket.ended().await.unwrap();
}

#[tokio::test]
async fn calls_in_progress_end_before_the_server_does() {
    let (log, _guard) = CapturedLog::start();
    let mut server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let _idle = VarlinkConnection::connect(&server.path).await.unwrap();
    let streaming = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut stream = streaming
        .call_more("org.example.Test1.Stream", &NoParameters {})
        .await
        .unwrap();
    stream.next::<NoParameters>().await.unwrap();
    let mut notes = server.service.notes.subscribe();
    let call = connection.call::<_, serde_json::Value>("org.example.Test1.Wait", &NoParameters {});
    let stopping = async {
        notes.wait_for(|notes| *notes == 1).await.unwrap();
        server.socket.stop.cancel();
        // The stream ends at once, and new connections are refused.
        assert!(matches!(
            stream.next::<NoParameters>().await,
            Err(CallError::Closed)
        ));
        assert!(!server.path.exists(), "the socket is still there");
        server.service.gate.send_replace(true);
    };
    let (reply, ()) = tokio::join!(call, stopping);
    assert_eq!(reply.unwrap()["opened"], true);
    server.socket.ended().await.unwrap();
    // No call had to be cancelled.
    assert!(
        !log.text().contains("calls were cancelled"),
        "{}",
        log.text()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_is_cancelled_at_the_end_of_the_drain_time_out() {
    let (log, _guard) = CapturedLog::start();
    let mut server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut notes = server.service.notes.subscribe();
    let call = connection.call::<_, serde_json::Value>("org.example.Test1.Wait", &NoParameters {});
    let stopping = async {
        notes.wait_for(|notes| *notes == 1).await.unwrap();
        server.socket.stop.cancel();
        server.socket.ended().await.unwrap();
    };
    let (reply, ()) = tokio::join!(call, stopping);
    assert!(matches!(reply, Err(CallError::Closed)));
    assert!(
        log.text()
            .contains("calls were cancelled at the end of the drain time-out")
    );
}

#[tokio::test]
async fn a_panic_ends_the_server() {
    let mut server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let reply = connection
        .call::<_, NoParameters>("org.example.Test1.Panic", &NoParameters {})
        .await;
    assert!(matches!(reply, Err(CallError::Closed)));
    let Err(VarlinkServeError::Panicked(text)) = server.socket.ended().await else {
        panic!("the server did not end");
    };
    assert_eq!(text.as_str(), "asked to [2J");
}

#[tokio::test]
async fn a_connection_is_unusable_after_a_dropped_call() {
    let server = TestServer::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut notes = server.service.notes.subscribe();
    tokio::select! {
        _ = connection.call::<_, serde_json::Value>("org.example.Test1.Wait", &NoParameters {}) => {}
        _ = notes.wait_for(|notes| *notes == 1) => {}
    }
    assert!(!connection.is_idle());
    server.service.gate.send_replace(true);
    let parameters = serde_json::json!({ "text": "a" });
    let reply = connection
        .call::<_, serde_json::Value>(ECHO, &parameters)
        .await;
    assert!(matches!(reply, Err(CallError::Closed)), "{reply:?}");
}

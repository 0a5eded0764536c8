// SPDX-License-Identifier: Apache-2.0
//! The accept loop over real sockets: what it answers, and what it survives.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

#[path = "support/service.rs"]
mod service;

use std::io::{self, Write as _};
use std::time::Duration;

use service::{Log, Server};
use terok_clearance::varlink::{
    CallError, MAX_CALL_BYTES, NoParameters, ServiceLimits, StandardError, VarlinkConnection,
    VarlinkServeError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const ECHO: &str = "org.example.Test1.Echo";

async fn echo(connection: &mut VarlinkConnection, text: &str) -> String {
    let parameters = serde_json::json!({ "text": text });
    let reply: serde_json::Value = connection.call(ECHO, &parameters).await.unwrap();
    reply["text"].as_str().unwrap().to_owned()
}

/// Asserts that the server still answers somebody else.
async fn check_alive(server: &Server) {
    let mut other = VarlinkConnection::connect(&server.path).await.unwrap();
    assert_eq!(echo(&mut other, "still here").await, "still here");
}

/// Sends `bytes`, and returns all that comes back until the server closes.
async fn send(server: &Server, bytes: &[u8]) -> String {
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
    let server = Server::start(ServiceLimits::default());
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
async fn what_is_not_there_is_a_standard_error() {
    let server = Server::start(ServiceLimits::default());
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
    // After all these errors the connection goes on.
    assert_eq!(echo(&mut connection, "a").await, "a");
}

#[tokio::test]
async fn pipelined_calls_are_answered_in_order_and_pieces_are_put_together() {
    let server = Server::start(ServiceLimits::default());
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let mut calls = Vec::new();
    for text in 0..100 {
        let call = format!(r#"{{"method":"{ECHO}","parameters":{{"text":"{text}"}}}}"#);
        calls.extend_from_slice(call.as_bytes());
        calls.push(0);
    }
    let (first, second) = calls.split_at(1000);
    stream.write_all(first).await.unwrap();
    // Half a frame alone is not answered; what came before it is.
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
async fn a_oneway_call_is_done_and_not_answered() {
    let server = Server::start(ServiceLimits::default());
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
    // The next reply is the next call's.
    assert_eq!(echo(&mut connection, "b").await, "b");
    assert_eq!(*server.service.notes.borrow(), 1);
}

#[tokio::test]
async fn what_is_no_call_closes_its_connection_with_a_reason() {
    let (log, _guard) = Log::start();
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
        (b"{\"method\":\"nodots\"}\0", "names no method"),
        (b"{\"method\":\"one.Dot\"}\0", "names no method"),
        (b"{\"method\":\"a..B\"}\0", "names no method"),
        (b"{\"method\":\"a.b.\"}\0", "names no method"),
        (
            b"{\"method\":\"a.b.\\u001b[2J\"}\0",
            "\"a.b. [2J\" names no method",
        ),
        (
            b"{\"method\":\"a.b.C\",\"parameters\":[]}\0",
            "the parameters are no object",
        ),
        (b"{\"method\":\"a.b.C\",\"more\":1}\0", "not a call"),
        (
            b"{\"method\":\"a.b.C\",\"more\":true,\"oneway\":true}\0",
            "exclude each other",
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
        let server = Server::start(limits);
        if reason == "never written" {
            let mut stream = UnixStream::connect(&server.path).await.unwrap();
            stream.write_all(frame).await.unwrap();
            drop(stream);
        } else {
            assert_eq!(send(&server, frame).await, "", "{frame:?}");
        }
        check_alive(&server).await;
        server.stop.cancel();
        let mut server = server;
        server.end().await.unwrap();
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

/// A parser that recurses would overflow its stack, and take everybody with it.
#[tokio::test]
async fn deep_nesting_harms_nobody() {
    let server = Server::start(ServiceLimits::default());
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

/// What the server does not take it cannot keep: the bytes it accepted bound its memory.
#[tokio::test]
async fn a_frame_that_never_ends_is_cut_off_at_the_limit() {
    let (log, _guard) = Log::start();
    let server = Server::start(ServiceLimits::default());
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let piece = vec![b'a'; 1 << 16];
    let mut sent = 0_usize;
    let error = loop {
        match stream.write(&piece).await {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 100 << 20, "the server took 100 MB without a NUL");
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(
        sent < MAX_CALL_BYTES + (1 << 20),
        "the server took {sent} bytes"
    );
    check_alive(&server).await;
    assert!(
        log.text().contains("a frame is longer than 1048576 bytes"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_call_of_the_most_bytes_is_answered_and_of_one_more_is_not() {
    let server = Server::start(ServiceLimits::default());
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
    let (log, _guard) = Log::start();
    let server = Server::start(ServiceLimits {
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
    // Those who are in are members all the while, and a place that is given up is free again.
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
        .matches("there are 4 connections already")
        .count();
    assert!((1..=20).contains(&lines), "{lines} lines were logged");
}

/// The noise comes from another thread, faster than it can be answered: a loop that never yields
/// would serve nobody else before it ends.
#[tokio::test]
async fn a_peer_that_always_has_more_to_say_starves_nobody() {
    let server = Server::start(ServiceLimits::default());
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
async fn a_hang_up_is_seen_while_nothing_is_sent() {
    let server = Server::start(ServiceLimits::default());
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
    let (log, _guard) = Log::start();
    let server = Server::start(ServiceLimits::default());
    let stream_call = r#"{"method":"org.example.Test1.Stream","more":true}"#;
    let echo_call = format!(r#"{{"method":"{ECHO}","parameters":{{"text":"a"}}}}"#);
    // Both at once, and the second only after the first reply.
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
    let reason = "the peer sent more while a stream was on its way";
    assert_eq!(log.text().matches(reason).count(), 2, "{}", log.text());
}

/// Time is paused: it moves on as soon as nothing else can.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_after_five_seconds() {
    let (log, _guard) = Log::start();
    let server = Server::start(ServiceLimits::default());
    let start = tokio::time::Instant::now();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream
        .write_all(b"{\"method\":\"org.example.Test1.Pour\",\"more\":true}\0")
        .await
        .unwrap();
    let mut server = server;
    while !log.text().contains("the peer took nothing for 5s") {
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log.text());
    }
    assert!(start.elapsed() >= Duration::from_secs(5));
    server.stop.cancel();
    server.end().await.unwrap();
}

#[tokio::test]
async fn calls_in_progress_end_before_the_server_does() {
    let (log, _guard) = Log::start();
    let mut server = Server::start(ServiceLimits::default());
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
        server.stop.cancel();
        // The stream ends at once, and nobody new gets in.
        assert!(matches!(
            stream.next::<NoParameters>().await,
            Err(CallError::Closed)
        ));
        assert!(!server.path.exists(), "the socket is still there");
        server.service.gate.send_replace(true);
    };
    let (reply, ()) = tokio::join!(call, stopping);
    assert_eq!(reply.unwrap()["opened"], true);
    server.end().await.unwrap();
    // Connections without a call did not have to be cut off.
    assert!(!log.text().contains("calls went on"), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_does_not_keep_the_server_from_ending() {
    let (log, _guard) = Log::start();
    let mut server = Server::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let mut notes = server.service.notes.subscribe();
    let call = connection.call::<_, serde_json::Value>("org.example.Test1.Wait", &NoParameters {});
    let stopping = async {
        notes.wait_for(|notes| *notes == 1).await.unwrap();
        server.stop.cancel();
        server.end().await.unwrap();
    };
    let (reply, ()) = tokio::join!(call, stopping);
    assert!(matches!(reply, Err(CallError::Closed)));
    assert!(
        log.text()
            .contains("calls went on when the time to stop was over")
    );
}

#[tokio::test]
async fn a_panic_ends_the_server() {
    let mut server = Server::start(ServiceLimits::default());
    let mut connection = VarlinkConnection::connect(&server.path).await.unwrap();
    let reply = connection
        .call::<_, NoParameters>("org.example.Test1.Panic", &NoParameters {})
        .await;
    assert!(matches!(reply, Err(CallError::Closed)));
    let Err(VarlinkServeError::Panicked(text)) = server.end().await else {
        panic!("the server went on");
    };
    assert_eq!(text.as_str(), "asked to [2J");
}

#[tokio::test]
async fn a_connection_whose_call_was_given_up_is_not_used_again() {
    let server = Server::start(ServiceLimits::default());
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

// SPDX-License-Identifier: Apache-2.0

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::RelayEnd;
use super::*;

/// An app and a server with a checked relay for `a.example` between their connections.
struct CheckedEnds {
    app: TcpStream,
    server: TcpStream,
    relay: JoinHandle<Result<RelaySummary, ServerNameRefusal>>,
}

impl CheckedEnds {
    #[expect(clippy::disallowed_methods, reason = "a test ends with its tasks")]
    async fn connect() -> Self {
        let (app, inside) = connected().await;
        let (server, outside) = connected().await;
        app.set_nodelay(true).unwrap();
        let relay = tokio::spawn(async move {
            let stats = RelayStats::default();
            let accepts = |name: &str| name.eq_ignore_ascii_case("a.example");
            relay_tcp_checked(inside, outside, &stats, accepts).await
        });
        Self { app, server, relay }
    }

    async fn assert_passed(mut self, sent: &[u8]) {
        let mut received = vec![0; sent.len()];
        self.server.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
        self.server.write_all(b"answer").await.unwrap();
        self.app.read_exact(&mut [0; 6]).await.unwrap();
        drop(self.app);
        drop(self.server);
        let summary = self.relay.await.unwrap().unwrap();
        assert_eq!(summary.bytes_out, u64::try_from(sent.len()).unwrap());
    }

    async fn assert_refused(mut self, found: &str) {
        let refusal = self.relay.await.unwrap().unwrap_err();
        assert_eq!(refusal.found.as_str(), found);
        for side in [&mut self.app, &mut self.server] {
            let error = side.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OTHER_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n";

#[tokio::test]
async fn first_bytes_with_the_accepted_name_pass() {
    let mut ends = CheckedEnds::connect().await;
    ends.app.write_all(REQUEST).await.unwrap();
    ends.assert_passed(REQUEST).await;
}

#[tokio::test]
async fn first_bytes_with_another_name_reset_both_sides() {
    let mut ends = CheckedEnds::connect().await;
    ends.app.write_all(OTHER_REQUEST).await.unwrap();
    ends.assert_refused("b.example").await;
    let mut ends = CheckedEnds::connect().await;
    ends.app.write_all(&[22, 3, 1, 0, 0]).await.unwrap();
    ends.assert_refused("a malformed TLS greeting").await;
}

#[tokio::test]
async fn first_bytes_in_segments_are_held_back_until_the_name_is_complete() {
    let mut ends = CheckedEnds::connect().await;
    for byte in &OTHER_REQUEST[..OTHER_REQUEST.len() - 1] {
        ends.app.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let nothing = ends.server.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    ends.app.write_all(b"\n").await.unwrap();
    ends.assert_refused("b.example").await;

    let mut ends = CheckedEnds::connect().await;
    for piece in REQUEST.chunks(7) {
        ends.app.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    ends.assert_passed(REQUEST).await;
}

#[tokio::test]
async fn a_server_speaks_first_and_the_first_bytes_are_checked_all_the_same() {
    let mut ends = CheckedEnds::connect().await;
    ends.server.write_all(b"220 ready\r\n").await.unwrap();
    ends.app.read_exact(&mut [0; 11]).await.unwrap();
    ends.app.write_all(b"EHLO x\r\n").await.unwrap();
    ends.assert_passed(b"EHLO x\r\n").await;

    let mut ends = CheckedEnds::connect().await;
    ends.server.write_all(b"220 ready\r\n").await.unwrap();
    ends.app.read_exact(&mut [0; 11]).await.unwrap();
    ends.app.write_all(OTHER_REQUEST).await.unwrap();
    ends.assert_refused("b.example").await;
}

#[tokio::test]
async fn a_server_that_speaks_and_ends_is_passed_on() {
    let mut ends = CheckedEnds::connect().await;
    ends.server.write_all(b"noon").await.unwrap();
    ends.server.shutdown().await.unwrap();
    let mut said = Vec::new();
    ends.app.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"noon");
    drop(ends.app);
    let summary = ends.relay.await.unwrap().unwrap();
    assert_eq!(summary.end, RelayEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn undecided_bytes_pass_after_a_time_and_are_watched_further() {
    // The clock stands while sockets are awaited: auto-advance needs an idle runtime.
    let mut ends = CheckedEnds::connect().await;
    let (head, tail) = OTHER_REQUEST.split_at(10);
    let start = Instant::now();
    ends.app.write_all(head).await.unwrap();
    ends.server.read_exact(&mut [0; 10]).await.unwrap();
    assert!(start.elapsed() >= PATIENCE);
    ends.app.write_all(tail).await.unwrap();
    ends.assert_refused("b.example").await;

    let mut ends = CheckedEnds::connect().await;
    let (head, tail) = REQUEST.split_at(10);
    ends.app.write_all(head).await.unwrap();
    ends.server.read_exact(&mut [0; 10]).await.unwrap();
    ends.app.write_all(tail).await.unwrap();
    let mut received = vec![0; tail.len()];
    ends.server.read_exact(&mut received).await.unwrap();
    assert_eq!(received, tail);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_checked_whenever_it_speaks() {
    let mut ends = CheckedEnds::connect().await;
    tokio::time::advance(PATIENCE * 10).await;
    ends.app.write_all(OTHER_REQUEST).await.unwrap();
    ends.assert_refused("b.example").await;
}

#[tokio::test]
async fn the_end_of_the_stream_completes_a_request() {
    let mut ends = CheckedEnds::connect().await;
    ends.app
        .write_all(OTHER_REQUEST.trim_ascii_end())
        .await
        .unwrap();
    ends.app.shutdown().await.unwrap();
    ends.assert_refused("b.example").await;

    let mut ends = CheckedEnds::connect().await;
    ends.app.write_all(b"QUIT").await.unwrap();
    ends.app.shutdown().await.unwrap();
    ends.assert_passed(b"QUIT").await;
}

#[tokio::test]
async fn a_reset_during_the_check_resets_the_other_side() {
    let mut ends = CheckedEnds::connect().await;
    ends.app.write_all(b"GET").await.unwrap();
    tokio::task::yield_now().await;
    ends.server.set_zero_linger().unwrap();
    drop(ends.server);
    let error = ends.app.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let summary = ends.relay.await.unwrap().unwrap();
    assert_eq!(summary.end, RelayEnd::Reset(RelaySide::Outside));
}

#[tokio::test]
async fn endless_first_bytes_are_refused() {
    let mut ends = CheckedEnds::connect().await;
    let endless = [b"GET / HTTP/1.1\r\nX: ", &[b'x'; MAX_FIRST_BYTES][..]].concat();
    ends.app.write_all(&endless).await.unwrap();
    ends.assert_refused("a greeting that is too long to check")
        .await;
}

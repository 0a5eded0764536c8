// SPDX-License-Identifier: Apache-2.0
//! Serves the DNS queries of one TCP connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{DnsStreamDecoder, encode_stream_message};

/// Longest pause between two queries of a TCP connection.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers the queries of one TCP connection with `answer`, one after the other, until its end, an
/// error, a pause, or a query for which `answer` returns `None`.
pub async fn serve_dns_stream<F>(mut stream: TcpStream, answer: impl Fn(Vec<u8>) -> F)
where
    F: Future<Output = Option<Vec<u8>>>,
{
    let mut decoder = DnsStreamDecoder::new();
    let mut buffer = [0; 2048];
    // The sandbox alone notices an error: its query stays without a reply.
    while let Ok(Ok(length @ 1..)) = timeout(STREAM_IDLE_TIMEOUT, stream.read(&mut buffer)).await {
        let bytes = buffer.get(..length).unwrap_or_default();
        if decoder.push(bytes).is_err() {
            return;
        }
        while let Ok(Some(query)) = decoder.next_message() {
            let Some(reply) = answer(query).await else {
                return;
            };
            let Ok(framed) = encode_stream_message(&reply) else {
                return;
            };
            let sent = timeout(STREAM_IDLE_TIMEOUT, stream.write_all(&framed)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }
}

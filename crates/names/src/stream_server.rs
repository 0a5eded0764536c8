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
        loop {
            let query = match decoder.next_message() {
                Ok(Some(query)) => query,
                Ok(None) => break,
                Err(_) => return, // the rest cannot be divided into messages
            };
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_stream_without_framing_is_closed_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(&[0x10, 0x01]).await.unwrap();
        let serving = serve_dns_stream(stream, |_| async { panic!("no query") });
        let ended = timeout(STREAM_IDLE_TIMEOUT / 2, serving).await;
        ended.expect("the connection is closed");
    }
}

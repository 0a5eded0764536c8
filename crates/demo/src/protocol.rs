// SPDX-License-Identifier: Apache-2.0
//! The messages between the demo's processes: one JSON object per line.
//!
//! The program runs inside the sandbox, so its messages are untrusted: every string is a
//! [`DisplayText`], and every line has a limit.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use terok_clearance::DisplayText;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::error::ChildMessageError;

/// Maximum length of a line.
const MAX_LINE_BYTES: u64 = 4096;

/// A message of the simulated internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InternetMessage {
    /// Serving.
    Ready {
        /// The reason, if IPv6 is missing.
        without_v6: Option<DisplayText>,
    },
    /// A host accepted a connection.
    Reached {
        /// Address and port of the host.
        host: SocketAddr,
    },
    /// The name server was asked for a name.
    LookedUp {
        /// The name, without the trailing dot.
        name: DisplayText,
    },
    /// A failure.
    Failed {
        /// The error.
        error: DisplayText,
    },
}

/// A message of the program in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkloadMessage {
    /// The program runs with these privileges.
    Ready(WorkloadConfinement),
    /// The first packet of a connection was sent; the program waits.
    Connecting(SentPacket),
    /// An attempt ended.
    Tried(FetchAttempt),
}

/// A line that makes the program end an attempt that waits. Other lines are numbers of hosts.
pub(crate) const GIVE_UP_COMMAND: &str = "give up";

/// The privileges of a process according to `/proc/self/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkloadConfinement {
    /// Process id inside the PID namespace.
    pub(crate) pid: u32,
    /// User id inside the user namespace.
    pub(crate) uid: u32,
    /// Effective capabilities as a hexadecimal mask (`CapEff`).
    pub(crate) capabilities: DisplayText,
    /// Whether executed programs cannot gain privileges (`NoNewPrivs`).
    pub(crate) no_new_privileges: bool,
    /// Whether system calls are filtered (`Seccomp`).
    pub(crate) seccomp: bool,
}

/// The first packet of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentPacket {
    /// The destination; a stand-in address for a name.
    pub(crate) address: SocketAddr,
    /// Duration of the name lookup, in microseconds.
    pub(crate) lookup_us: Option<u64>,
    /// Time just before `connect()`, which sends the packet, in microseconds of the monotonic
    /// clock.
    pub(crate) at: u64,
}

/// The result of an attempt. Times are on the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FetchAttempt {
    /// The first packet; `None` if the name was not found.
    pub(crate) sent: Option<SentPacket>,
    /// Time when `connect()` succeeded.
    pub(crate) connected_at: Option<u64>,
    /// Time of the result.
    pub(crate) done_at: u64,
    /// The first line of the page, or the error.
    pub(crate) result: Result<DisplayText, DisplayText>,
}

impl FetchAttempt {
    /// Returns the text of the result.
    pub(crate) fn text(&self) -> DisplayText {
        match &self.result {
            Ok(words) | Err(words) => words.clone(),
        }
    }

    /// Returns the time from `connect()` until its success or error.
    pub(crate) fn waited_us(&self) -> Option<u64> {
        let until = self.connected_at.unwrap_or(self.done_at);
        self.sent.map(|sent| until.saturating_sub(sent.at))
    }
}

/// Sends a message on standard output, which is a pipe to the demo.
pub(crate) fn send_message(message: &impl Serialize) -> Result<(), ChildMessageError> {
    let line = encode_line(message)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    Ok(stdout.flush()?)
}

fn encode_line(message: &impl Serialize) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    Ok(line)
}

/// Reads a message; `None` at the end of input.
///
/// Cancel safe: `buffer` keeps an incomplete line for the next call.
pub(crate) async fn read_message<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<T>, ChildMessageError> {
    let rest = MAX_LINE_BYTES.saturating_sub(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
    (&mut *from).take(rest).read_until(b'\n', buffer).await?;
    if buffer.is_empty() {
        return Ok(None);
    }
    if buffer.last() != Some(&b'\n') {
        return Err(ChildMessageError::LineTooLong(MAX_LINE_BYTES));
    }
    let message = serde_json::from_slice(buffer)?;
    buffer.clear();
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<InternetMessage>, String> {
        let mut from = bytes;
        let mut buffer = Vec::new();
        read_message(&mut from, &mut buffer)
            .await
            .map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_message_survives_the_round_trip() {
        let reached = InternetMessage::Reached {
            host: "[2001:db8::1]:80".parse().unwrap(),
        };
        let line = encode_line(&reached).unwrap();
        assert_eq!(read(line.as_bytes()).await, Ok(Some(reached)));
        assert_eq!(read(b"").await, Ok(None));
    }

    #[tokio::test]
    async fn endless_incomplete_and_unknown_lines_are_refused() {
        assert!(
            read(&b"x".repeat(10_000))
                .await
                .unwrap_err()
                .contains("4096")
        );
        assert!(read(b"{\"ready\":").await.is_err());
        assert!(read(b"{\"owned\":true}\n").await.is_err());
    }

    #[tokio::test]
    async fn control_characters_in_messages_are_removed() {
        let evil = b"{\"failed\":{\"error\":\"\\u001b[2J\"}}\n";
        let error = DisplayText::new(" [2J");
        assert_eq!(
            read(evil).await,
            Ok(Some(InternetMessage::Failed { error }))
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the demo's processes tell each other: one JSON object per line.
//!
//! The program is inside the sandbox, so what it says is text from outside: every string in here
//! is a [`DisplayText`], and every line has a limit.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use terok_clearance::DisplayText;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// The longest line.
const MAX_LINE_BYTES: u64 = 4096;

/// What the pretend internet says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InternetMessage {
    /// It is joined to the sandbox and serves.
    Ready {
        /// Why there is no IPv6 on this machine, where there is none.
        without_v6: Option<DisplayText>,
    },
    /// Somebody reached a host of it.
    Reached {
        /// Which.
        host: SocketAddr,
    },
    /// It did not come up.
    Failed {
        /// Why.
        error: DisplayText,
    },
}

/// What the program says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkloadMessage {
    /// It runs, and this is what it is.
    Ready(WorkloadConfinement),
    /// It tried to fetch something.
    Tried(FetchAttempt),
}

/// What a process may do, as `/proc/self/status` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkloadConfinement {
    /// Its process id, in its own process id namespace.
    pub(super) pid: u32,
    /// Its user id, in its own user namespace.
    pub(super) uid: u32,
    /// The capabilities it has, as a hexadecimal mask (`CapEff`).
    pub(super) capabilities: DisplayText,
    /// Whether no program it executes can gain rights (`NoNewPrivs`).
    pub(super) no_new_privileges: bool,
    /// Whether its system calls are filtered (`Seccomp`).
    pub(super) seccomp: bool,
}

/// One try to fetch something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FetchAttempt {
    /// Where the name led, where there is one.
    pub(super) address: Option<SocketAddr>,
    /// How long the name server took, in microseconds.
    pub(super) lookup_us: Option<u64>,
    /// When it began to connect, in microseconds of the machine's monotonic clock: the packet is
    /// on its way at once.
    pub(super) connect_at: u64,
    /// When it knew.
    pub(super) done_at: u64,
    /// The first line of what the host sent, or what went wrong.
    pub(super) result: Result<DisplayText, DisplayText>,
}

/// Writes one line for [`read`].
pub(super) fn encode_line(what: &impl Serialize) -> anyhow::Result<String> {
    let mut line = serde_json::to_string(what)?;
    line.push('\n');
    Ok(line)
}

/// Reads one line; nothing where there is none any more. It may be dropped before it is done: what
/// it has read of the line is in `buffer`, for the next call.
pub(super) async fn read_message<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Option<T>> {
    let rest = MAX_LINE_BYTES.saturating_sub(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
    (&mut *from).take(rest).read_until(b'\n', buffer).await?;
    if buffer.is_empty() {
        return Ok(None);
    }
    if buffer.last() != Some(&b'\n') {
        bail!("a line of more than {MAX_LINE_BYTES} bytes, or half a line");
    }
    let told = serde_json::from_slice(buffer).context("a line that is not understood");
    buffer.clear();
    told.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(bytes: &[u8]) -> Result<Option<InternetMessage>, String> {
        let mut from = bytes;
        let mut buffer = Vec::new();
        read_message(&mut from, &mut buffer)
            .await
            .map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_line_comes_back_as_it_was_meant() {
        let reached = InternetMessage::Reached {
            host: "[2001:db8::1]:80".parse().unwrap(),
        };
        let line = encode_line(&reached).unwrap();
        assert_eq!(told(line.as_bytes()).await, Ok(Some(reached)));
        assert_eq!(told(b"").await, Ok(None));
    }

    #[tokio::test]
    async fn endless_halved_and_foreign_lines_are_refused() {
        assert!(
            told(&b"x".repeat(10_000))
                .await
                .unwrap_err()
                .contains("4096")
        );
        assert!(told(b"{\"ready\":").await.is_err());
        assert!(told(b"{\"owned\":true}\n").await.is_err());
    }

    #[tokio::test]
    async fn what_a_host_says_cannot_paint_on_the_terminal() {
        let evil = b"{\"failed\":{\"error\":\"\\u001b[2J\"}}\n";
        let error = DisplayText::new(" [2J");
        assert_eq!(
            told(evil).await,
            Ok(Some(InternetMessage::Failed { error }))
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The supervisor's end of a hook's connection.

use std::io;
use std::time::Duration;

use terok_clearance::socket::{PeerRefusal, check_hook_peer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::start_request::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION, StartReply, StartRequest};

/// Maximum time for a message of a hook, which sends it at once.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection of a hook that waits for its reply.
#[derive(Debug)]
pub struct StartConnection {
    stream: UnixStream,
}

/// A connection did not bring a request. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartConnectionError {
    /// The client is not a hook of the operator.
    #[error("the client of the start socket is refused")]
    Peer(#[from] PeerRefusal),
    /// No message came, or no complete one.
    #[error("the client of the start socket sent no request")]
    Read(#[source] io::Error),
    /// The message is not a request.
    #[error("the client of the start socket sent something else than a request")]
    Parse(#[from] serde_json::Error),
    /// The hook is of another release.
    #[error(
        "the hook speaks version {0}, this supervisor version {PROTOCOL_VERSION}: run \
         \"terok-clearance setup\" again"
    )]
    Version(u32),
}

impl StartConnection {
    /// Checks the client and reads its request.
    pub async fn receive(stream: UnixStream) -> Result<(Self, StartRequest), StartConnectionError> {
        check_hook_peer(&stream)?;
        let mut connection = Self { stream };
        let message = timeout(MESSAGE_TIMEOUT, read_line(&mut connection.stream)).await;
        let message = message.map_err(|elapsed| StartConnectionError::Read(elapsed.into()))?;
        let message = message.map_err(StartConnectionError::Read)?;
        let request: StartRequest = serde_json::from_slice(&message)?;
        if request.version != PROTOCOL_VERSION {
            return Err(StartConnectionError::Version(request.version));
        }
        Ok((connection, request))
    }

    /// Sends the reply. An error means that the hook is gone, and the container will not start.
    pub async fn reply(mut self, reply: &StartReply) -> io::Result<()> {
        write_line(&mut self.stream, reply).await
    }
}

/// Sends `request` to another supervisor, and returns its reply.
pub(crate) async fn pass_on(
    stream: &mut UnixStream,
    request: &StartRequest,
) -> io::Result<StartReply> {
    write_line(stream, request).await?;
    Ok(serde_json::from_slice(&read_line(stream).await?)?)
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    // One line each way: nothing of a next one is lost with the buffer.
    let mut reader = BufReader::new(stream.take(limit));
    reader.read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

async fn write_line(stream: &mut UnixStream, message: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

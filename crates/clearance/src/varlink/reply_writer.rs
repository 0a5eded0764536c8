// SPDX-License-Identifier: Apache-2.0
//! Replies to a client: single replies and streams.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{FrameReader, append_error, append_reply};

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionClosed {
    /// The peer disconnected.
    #[error("the peer disconnected")]
    HungUp,
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// The peer read nothing for the whole write time-out.
    #[error("the peer read nothing for {0:?}")]
    Stalled(Duration),
    /// The client sent data during a stream of replies.
    #[error("the peer sent data during a stream of replies")]
    UnexpectedData,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ConnectionClosed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::HungUp,
            _ => Self::Io(error),
        }
    }
}

/// A writer of encoded frames. A clone writes to the same client.
///
/// Concurrent writes would mix their frames: only one task may write at a time.
#[derive(Debug, Clone)]
pub struct FrameWriter {
    stream: Arc<UnixStream>,
    write_timeout: Duration,
}

impl FrameWriter {
    pub(super) const fn new(stream: Arc<UnixStream>, write_timeout: Duration) -> Self {
        Self {
            stream,
            write_timeout,
        }
    }

    /// Writes all of `bytes`, one or several frames.
    ///
    /// Fails with [`ConnectionClosed::Stalled`] when the client reads nothing for
    /// [`ServiceLimits::write_timeout`](super::ServiceLimits::write_timeout). Not cancel safe:
    /// after an error or a drop part of a frame may be written, and the connection must be closed.
    pub async fn write(&self, mut bytes: &[u8]) -> Result<(), ConnectionClosed> {
        consume_budget().await;
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match timeout(self.write_timeout, self.writable()).await {
                        Ok(ready) => ready?,
                        Err(_) => return Err(ConnectionClosed::Stalled(self.write_timeout)),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes as much of `bytes` as the socket accepts now, and returns the number of bytes.
    ///
    /// After [`io::ErrorKind::WouldBlock`] wait for [`FrameWriter::writable`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.try_write(bytes) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Returns `true` if the peer is connected and the socket has no unread data.
    pub(super) fn is_connected(&self) -> bool {
        // A system call, because the reactor may not have seen a hang-up yet.
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0; 1], flags) == Err(Errno::AGAIN)
    }

    /// Waits until the socket accepts data. Cancel safe; no time-out.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }
}

/// Watches for the end of a stream of replies.
#[derive(Debug)]
pub struct HangUpWatcher<'c> {
    stream: &'c UnixStream,
    data_pending: bool,
    stop: &'c CancellationToken,
}

impl HangUpWatcher<'_> {
    /// Waits for the end of the stream, and returns the reason: [`ConnectionClosed::HungUp`],
    /// [`ConnectionClosed::Stopping`], or [`ConnectionClosed::UnexpectedData`] after another call
    /// of the client. Cancel safe.
    pub async fn wait(&mut self) -> ConnectionClosed {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => ConnectionClosed::Stopping,
            closed = self.watch_peer() => closed,
        }
    }

    async fn watch_peer(&mut self) -> ConnectionClosed {
        loop {
            if self.data_pending {
                return ConnectionClosed::UnexpectedData;
            }
            if let Err(error) = self.stream.readable().await {
                return ConnectionClosed::Io(error);
            }
            match self.stream.try_read(&mut [0; 64]) {
                Ok(0) => return ConnectionClosed::HungUp,
                Ok(_) => self.data_pending = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.into(),
            }
        }
    }
}

/// The writer of the replies to one call. For a `oneway` call nothing is sent.
///
/// A stream sends frames of [`append_reply`] with `continues` through [`ReplyWriter::split`], and
/// ends by returning the result of [`HangUpWatcher::wait`].
#[derive(Debug)]
pub struct ReplyWriter<'c> {
    pub(super) stream: &'c Arc<UnixStream>,
    pub(super) frames: &'c FrameReader,
    pub(super) write_timeout: Duration,
    pub(super) stop: &'c CancellationToken,
    pub(super) oneway: bool,
}

impl ReplyWriter<'_> {
    /// Sends the only or last reply.
    pub async fn send<T: Serialize + Sync + ?Sized>(
        &mut self,
        parameters: &T,
    ) -> Result<(), ConnectionClosed> {
        self.write_reply(|out| append_reply(out, parameters, false))
            .await
    }

    /// Sends a reply that is not the last. The call must have `more`.
    ///
    /// A long stream needs [`ReplyWriter::split`], to notice that the client disconnects.
    pub async fn send_continuing<T: Serialize + Sync + ?Sized>(
        &mut self,
        parameters: &T,
    ) -> Result<(), ConnectionClosed> {
        self.write_reply(|out| append_reply(out, parameters, true))
            .await
    }

    /// Sends an error reply; see [`append_error`].
    pub async fn send_error<E: Serialize + Sync + ?Sized>(
        &mut self,
        error: &E,
    ) -> Result<(), ConnectionClosed> {
        self.write_reply(|out| append_error(out, error)).await
    }

    /// Sends encoded frames.
    pub async fn send_frames(&mut self, frames: &[u8]) -> Result<(), ConnectionClosed> {
        if self.oneway {
            return Ok(());
        }
        self.writer().write(frames).await
    }

    /// Splits the connection for a stream: one half writes, the other watches the client.
    ///
    /// [`HangUpWatcher::wait`] must be polled whenever there is nothing to write.
    pub fn split(&mut self) -> (FrameWriter, HangUpWatcher<'_>) {
        let hang_up = HangUpWatcher {
            stream: self.stream,
            data_pending: self.frames.has_buffered_bytes(),
            stop: self.stop,
        };
        (self.writer(), hang_up)
    }

    fn writer(&self) -> FrameWriter {
        FrameWriter::new(Arc::clone(self.stream), self.write_timeout)
    }

    async fn write_reply(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ConnectionClosed> {
        if self.oneway {
            return Ok(());
        }
        let mut out = Vec::new();
        write(&mut out);
        self.writer().write(&out).await
    }
}

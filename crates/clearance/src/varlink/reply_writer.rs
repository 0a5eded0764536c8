// SPDX-License-Identifier: Apache-2.0
//! The way back to a client: single replies, and streams that notice when nobody listens.

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

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionClosed {
    /// The client went away.
    #[error("the peer hung up")]
    HungUp,
    /// The service is asked to stop.
    #[error("the service is stopping")]
    Stopping,
    /// The client took nothing for as long as a write may take.
    #[error("the peer took nothing for {0:?}")]
    Stalled(Duration),
    /// The client sent something while its last call was still being answered with a stream.
    #[error("the peer sent more while a stream was on its way")]
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

/// Writes ready frames to a client; a clone writes to the same one.
///
/// Two that write at once would mix their frames: one task at a time.
#[derive(Debug, Clone)]
pub struct FrameWriter {
    stream: Arc<UnixStream>,
    write_timeout: Duration,
}

impl FrameWriter {
    pub(super) const fn new(stream: Arc<UnixStream>, patience: Duration) -> Self {
        Self {
            stream,
            write_timeout: patience,
        }
    }

    /// Writes all of `bytes`, which may be many frames.
    ///
    /// Fails with [`Closed::Stalled`] when the client takes nothing at all for 5 s
    /// ([`super::Limits::write`]). When it fails or is dropped, part of a frame may be written:
    /// close the connection.
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

    /// Writes as much of `bytes` as the socket takes now, and returns how many bytes that were.
    ///
    /// [`io::ErrorKind::WouldBlock`] when it takes none: wait for [`Writer::writable`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.try_write(bytes) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Says whether the other end is there and has sent nothing that nobody read.
    pub(super) fn is_connected(&self) -> bool {
        // Asks the kernel, and not the reactor, which may not have heard of a hang-up yet.
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut [0; 1], flags) == Err(Errno::AGAIN)
    }

    /// Waits until the socket takes something again; has no time limit of its own.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }
}

/// Resolves when the client of a stream is gone, or the service stops.
#[derive(Debug)]
pub struct HangUpWatcher<'c> {
    stream: &'c UnixStream,
    data_pending: bool,
    stop: &'c CancellationToken,
}

impl HangUpWatcher<'_> {
    /// Waits for the end of the stream, and says which it was: [`Closed::HungUp`],
    /// [`Closed::Stopping`], or [`Closed::Spoke`] for a client that sent another call.
    ///
    /// It may be dropped and called again.
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

/// The replies to one call; to a `oneway` call nothing is sent.
///
/// For a stream, send frames that continue ([`reply_into`] with `continues`) through
/// [`Replies::split`], and end it by returning what [`HangUp::wait`] gave.
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

    /// Sends a reply that others follow; the client must have called with `more`.
    ///
    /// For a stream that may last, use [`Replies::split`], which sees the client leave.
    pub async fn send_continuing<T: Serialize + Sync + ?Sized>(
        &mut self,
        parameters: &T,
    ) -> Result<(), ConnectionClosed> {
        self.write_reply(|out| append_reply(out, parameters, true))
            .await
    }

    /// Sends an error, a value that serialises as `{"error": …, "parameters": …}`.
    pub async fn send_error<E: Serialize + Sync + ?Sized>(
        &mut self,
        error: &E,
    ) -> Result<(), ConnectionClosed> {
        self.write_reply(|out| append_error(out, error)).await
    }

    /// Sends bytes that are whole frames already.
    pub async fn send_frames(&mut self, frames: &[u8]) -> Result<(), ConnectionClosed> {
        if self.oneway {
            return Ok(());
        }
        self.writer().write(frames).await
    }

    /// Splits the connection for a stream: one half writes, the other sees the client leave.
    ///
    /// Poll [`HangUp::wait`] all the time that there is nothing to write.
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

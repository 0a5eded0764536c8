// SPDX-License-Identifier: Apache-2.0
//! Cuts a stream of bytes into frames, in linear time and bounded memory.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::net::UnixStream;
use tokio::task::coop::consume_budget;
use tokio_util::codec::{Decoder, Encoder};

/// Finds the NUL that ends a frame.
///
/// It remembers how far it has looked, so that a frame which comes in many pieces is searched
/// once, and gives up as soon as a frame is over its limit.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    limit: usize,
    searched: usize,
}

/// Why no frame came of the bytes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame has more bytes than it may have.
    #[error("a frame is longer than {limit} bytes")]
    TooLong {
        /// The bytes it may have.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {length} bytes")]
    Cut {
        /// The bytes of it that came.
        length: usize,
    },
    /// The frame to send holds a NUL, so it would be two.
    #[error("a frame holds a NUL")]
    Nul,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
}

impl FrameCodec {
    /// Makes a codec for frames of at most `limit` bytes, the NUL not counted.
    pub const fn new(limit: usize) -> Self {
        Self { limit, searched: 0 }
    }
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let fresh = bytes.get(self.searched..).unwrap_or_default();
        let end = memchr::memchr(0, fresh).map(|at| self.searched.saturating_add(at));
        let length = end.unwrap_or(bytes.len());
        if length > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        let Some(end) = end else {
            self.searched = length;
            return Ok(None);
        };
        self.searched = 0;
        let mut frame = bytes.split_to(end.saturating_add(1));
        frame.truncate(end);
        Ok(Some(frame))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        match self.decode(bytes)? {
            None if !bytes.is_empty() => Err(FrameError::Cut {
                length: bytes.len(),
            }),
            frame => Ok(frame),
        }
    }
}

impl Encoder<&[u8]> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: &[u8], bytes: &mut BytesMut) -> Result<(), FrameError> {
        if frame.len() > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        if memchr::memchr(0, frame).is_some() {
            return Err(FrameError::Nul);
        }
        bytes.reserve(frame.len().saturating_add(1));
        bytes.put_slice(frame);
        bytes.put_u8(0);
        Ok(())
    }
}

/// The frames that come in on a socket.
///
/// It holds no buffer while it waits for a frame to start, and reads in pieces that grow with the
/// traffic.
#[derive(Debug)]
pub struct Frames {
    stream: Arc<UnixStream>,
    codec: FrameCodec,
    buffer: BytesMut,
    piece: usize,
}

impl Frames {
    const SMALL: usize = 512;
    const LARGE: usize = 64 << 10;

    /// Reads frames of at most `limit` bytes from `stream`.
    pub fn new(stream: Arc<UnixStream>, limit: usize) -> Self {
        Self {
            stream,
            codec: FrameCodec::new(limit),
            buffer: BytesMut::new(),
            piece: Self::SMALL,
        }
    }

    /// Returns the next frame without its NUL, `None` once the stream has ended between frames.
    ///
    /// A call that is dropped before it is done loses nothing: the next one goes on.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, FrameError> {
        // A peer that always has more to say must not keep the thread for itself.
        consume_budget().await;
        loop {
            if let Some(frame) = self.codec.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.read().await? == 0 {
                return self.codec.decode_eof(&mut self.buffer);
            }
        }
    }

    /// Says whether bytes have come that belong to no frame that was returned.
    pub fn is_ahead(&self) -> bool {
        !self.buffer.is_empty()
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && self.buffer.capacity() > self.piece {
            self.buffer = BytesMut::new();
        }
        loop {
            self.stream.readable().await?;
            self.buffer.reserve(self.piece);
            let room = self.buffer.capacity().saturating_sub(self.buffer.len());
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(read) => {
                    if read == room {
                        self.piece = self.piece.saturating_mul(2).min(Self::LARGE);
                    } else if read < self.piece / 4 {
                        self.piece = (self.piece / 2).max(Self::SMALL);
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

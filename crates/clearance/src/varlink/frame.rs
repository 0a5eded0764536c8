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
    searched_bytes: usize,
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
    Truncated {
        /// The bytes of it that came.
        length: usize,
    },
    /// The frame to send holds a NUL, so it would be two.
    #[error("a frame holds a NUL")]
    EmbeddedNul,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
}

impl FrameCodec {
    /// Makes a codec for frames of at most `limit` bytes, the NUL not counted.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            searched_bytes: 0,
        }
    }
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        let fresh = bytes.get(self.searched_bytes..).unwrap_or_default();
        let end = memchr::memchr(0, fresh).map(|at| self.searched_bytes.saturating_add(at));
        let length = end.unwrap_or(bytes.len());
        if length > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        let Some(end) = end else {
            self.searched_bytes = length;
            return Ok(None);
        };
        self.searched_bytes = 0;
        let mut frame = bytes.split_to(end.saturating_add(1));
        frame.truncate(end);
        Ok(Some(frame))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<BytesMut>, FrameError> {
        match self.decode(bytes)? {
            None if !bytes.is_empty() => Err(FrameError::Truncated {
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
            return Err(FrameError::EmbeddedNul);
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
pub struct FrameReader {
    stream: Arc<UnixStream>,
    codec: FrameCodec,
    buffer: BytesMut,
    read_size: usize,
}

impl FrameReader {
    const MIN_READ_BYTES: usize = 512;
    const MAX_READ_BYTES: usize = 64 << 10;

    /// Reads frames of at most `limit` bytes from `stream`.
    pub fn new(stream: Arc<UnixStream>, limit: usize) -> Self {
        Self {
            stream,
            codec: FrameCodec::new(limit),
            buffer: BytesMut::new(),
            read_size: Self::MIN_READ_BYTES,
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
            if self.fill_buffer().await? == 0 {
                return self.codec.decode_eof(&mut self.buffer);
            }
        }
    }

    /// Says whether bytes have come that belong to no frame that was returned.
    pub fn has_buffered_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    async fn fill_buffer(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && self.buffer.capacity() > self.read_size {
            self.buffer = BytesMut::new();
        }
        loop {
            self.stream.readable().await?;
            self.buffer.reserve(self.read_size);
            let room = self.buffer.capacity().saturating_sub(self.buffer.len());
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(read) => {
                    if read == room {
                        self.read_size = self.read_size.saturating_mul(2).min(Self::MAX_READ_BYTES);
                    } else if read < self.read_size / 4 {
                        self.read_size = (self.read_size / 2).max(Self::MIN_READ_BYTES);
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16;

    /// Decodes `bytes` given in pieces of `size`: the frames, and whether it ended in an error.
    fn decode(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
        let mut codec = FrameCodec::new(LIMIT);
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match codec.decode(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
            assert!(buffer.len() <= LIMIT, "more is kept than a frame may have");
        }
        let failed = codec.decode_eof(&mut buffer).is_err();
        (frames, failed)
    }

    fn check(bytes: &[u8], expected: &[&[u8]], fails: bool) {
        let frames = expected.iter().map(|frame| frame.to_vec()).collect();
        assert_eq!(decode(bytes, 1), (frames, fails), "of {bytes:?}");
    }

    #[test]
    fn a_frame_ends_at_its_nul() {
        check(b"", &[], false);
        check(b"\0", &[b""], false);
        check(b"a\0bc\0", &[b"a", b"bc"], false);
        check(b"a\0b", &[b"a"], true);
        check(
            b"0123456789abcdef\0x\0",
            &[b"0123456789abcdef", b"x"],
            false,
        );
        check(b"0123456789abcdef0\0x\0", &[], true);
        check(b"0123456789abcdef0", &[], true);
    }

    #[test]
    fn a_frame_with_a_nul_or_too_long_is_not_sent() {
        let mut codec = FrameCodec::new(LIMIT);
        let mut bytes = BytesMut::new();
        assert!(matches!(
            codec.encode(b"a\0b", &mut bytes),
            Err(FrameError::EmbeddedNul)
        ));
        let long = codec.encode(&[b'a'; LIMIT + 1], &mut bytes);
        assert!(matches!(long, Err(FrameError::TooLong { limit: LIMIT })));
        assert!(bytes.is_empty());
    }

    /// Looking at every byte again with each piece would make this take minutes.
    #[test]
    fn a_frame_in_many_pieces_is_searched_once() {
        let mut codec = FrameCodec::new(1 << 22);
        let mut buffer = BytesMut::new();
        for _ in 0..1 << 22 {
            buffer.put_u8(b'a');
            assert_eq!(codec.searched_bytes, buffer.len() - 1);
            assert!(codec.decode(&mut buffer).unwrap().is_none());
        }
        buffer.put_u8(0);
        assert_eq!(codec.decode(&mut buffer).unwrap().unwrap().len(), 1 << 22);
        assert_eq!(codec.searched_bytes, 0);
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back_however_it_is_cut(
            frames in vec(vec(1..=u8::MAX, 0..=LIMIT), 0..8),
            size in 1_usize..40,
        ) {
            let mut codec = FrameCodec::new(LIMIT);
            let mut bytes = BytesMut::new();
            for frame in &frames {
                codec.encode(frame, &mut bytes).unwrap();
            }
            prop_assert_eq!(decode(&bytes, size), (frames, false));
        }

        #[test]
        fn any_bytes_decode_the_same_however_they_are_cut(
            bytes in vec(prop_oneof![Just(0), any::<u8>()], 0..200),
            size in 1_usize..40,
        ) {
            prop_assert_eq!(decode(&bytes, size), decode(&bytes, 1));
        }
    }

    /// An idle connection costs no buffer, whatever has been through it.
    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut frames = FrameReader::new(Arc::new(ours), 1 << 20);
        let mut big = vec![b'a'; 1 << 20];
        big.push(0);
        for bytes in [big.as_slice(), b"small\0"] {
            let send = async {
                let mut rest = bytes;
                while !rest.is_empty() {
                    theirs.writable().await.unwrap();
                    if let Ok(written) = theirs.try_write(rest) {
                        rest = &rest[written..];
                    }
                }
            };
            let (frame, ()) = tokio::join!(frames.next(), send);
            assert_eq!(frame.unwrap().unwrap().len(), bytes.len() - 1);
        }
        let idle = frames.next();
        tokio::select! {
            biased;
            frame = idle => panic!("{frame:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert!(
            frames.buffer.capacity() <= FrameReader::MAX_READ_BYTES,
            "{}",
            frames.buffer.capacity()
        );
    }
}

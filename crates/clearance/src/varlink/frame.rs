// SPDX-License-Identifier: Apache-2.0
//! Frames: decoding in linear time and bounded memory.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::net::UnixStream;
use tokio::task::coop::consume_budget;
use tokio_util::codec::{Decoder, Encoder};

/// A codec for frames that end with a NUL.
///
/// Every byte is searched once, also in a frame that arrives in many pieces, and a frame over the
/// limit is an error as soon as the limit is passed.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    limit: usize,
    searched_bytes: usize,
}

/// An error while reading or encoding a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is too long.
    #[error("a frame is longer than {limit} bytes")]
    TooLong {
        /// Maximum bytes of a frame.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {length} bytes")]
    Truncated {
        /// Received bytes of the frame.
        length: usize,
    },
    /// The frame to send contains a NUL.
    #[error("a frame contains a NUL")]
    EmbeddedNul,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
}

impl FrameCodec {
    /// Creates a codec for frames of at most `limit` bytes without the NUL.
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

/// A reader of frames from a socket.
///
/// The size of a read grows with the traffic, and an idle reader holds no buffer.
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

    /// Creates a reader for frames of at most `limit` bytes.
    pub fn new(stream: Arc<UnixStream>, limit: usize) -> Self {
        Self {
            stream,
            codec: FrameCodec::new(limit),
            buffer: BytesMut::new(),
            read_size: Self::MIN_READ_BYTES,
        }
    }

    /// Returns the next frame without the NUL, `None` at the end of the stream. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, FrameError> {
        // A peer that sends without a pause must not keep the thread.
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

    /// Returns `true` if bytes of a further frame have been received.
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

    /// Decodes `bytes` in pieces of `size`: the frames, and `true` after an error.
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
            assert!(buffer.len() <= LIMIT, "the buffer exceeds the limit");
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
    fn a_frame_with_a_nul_or_over_the_limit_is_not_encoded() {
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

    /// A search from the start for every piece would take minutes.
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
        fn encoded_frames_decode_in_pieces_of_any_size(
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
        fn the_size_of_the_pieces_does_not_change_the_result(
            bytes in vec(prop_oneof![Just(0), any::<u8>()], 0..200),
            size in 1_usize..40,
        ) {
            prop_assert_eq!(decode(&bytes, size), decode(&bytes, 1));
        }
    }

    /// A large frame leaves no large buffer behind.
    #[tokio::test]
    async fn an_idle_connection_holds_no_large_buffer() {
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

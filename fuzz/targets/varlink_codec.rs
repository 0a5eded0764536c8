// SPDX-License-Identifier: Apache-2.0
//! Frames come out the same however the bytes were cut, and a call that parses is one.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use terok_clearance::varlink::{Call, FrameCodec, FrameError};
use terok_clearance::wire::{clearance1, clearance2, verdict1};
use tokio_util::codec::Decoder as _;

const LIMIT: usize = 512;

/// The frames that come before the first error, the bytes that are left, and the error.
fn cut(pieces: &[&[u8]]) -> (Vec<BytesMut>, usize, bool) {
    let mut codec = FrameCodec::new(LIMIT);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(FrameError::TooLong { limit: LIMIT }) => return (frames, 0, true),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(buffer.len() <= LIMIT, "more is kept than a frame may have");
    }
    (frames, buffer.len(), false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = cut(&[bytes]);
    let pieces: Vec<_> = bytes.chunks(usize::from(size).max(1)).collect();
    assert_eq!(whole, cut(&pieces), "where the bytes were cut must not matter");
    for frame in &whole.0 {
        assert!(frame.len() <= LIMIT && !frame.contains(&0));
        let Ok(call) = Call::parse(frame) else {
            continue;
        };
        assert_eq!(format!("{}.{}", call.interface(), call.method()), call.name());
        assert!(!(call.more && call.oneway));
        // None of these may panic, whatever the method is said to be.
        let _unused = (
            clearance1::Method::parse(&call),
            clearance2::Method::parse(&call),
            verdict1::Method::parse(&call),
        );
    }
});

// SPDX-License-Identifier: Apache-2.0
//! Frames do not depend on the chunking of the input, and a parsed call is consistent.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use terok_clearance::varlink::{FrameCodec, FrameError, VarlinkCall};
use terok_clearance::wire::{clearance1, clearance2, verdict1};
use tokio_util::codec::Decoder as _;

const LIMIT: usize = 512;

/// Returns the frames before the first error, the number of bytes left, and whether an error
/// occurred.
fn split_frames(chunks: &[&[u8]]) -> (Vec<BytesMut>, usize, bool) {
    let mut codec = FrameCodec::new(LIMIT);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(FrameError::TooLong { limit: LIMIT }) => return (frames, 0, true),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(buffer.len() <= LIMIT, "the buffer exceeds the frame limit");
    }
    (frames, buffer.len(), false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = split_frames(&[bytes]);
    let chunks: Vec<_> = bytes.chunks(usize::from(size).max(1)).collect();
    assert_eq!(whole, split_frames(&chunks), "the chunking must not matter");
    for frame in &whole.0 {
        assert!(frame.len() <= LIMIT && !frame.contains(&0));
        let Ok(call) = VarlinkCall::parse(frame) else {
            continue;
        };
        assert_eq!(
            format!("{}.{}", call.interface(), call.method()),
            call.name()
        );
        assert!(!(call.more && call.oneway));
        // No method may panic, whatever its claimed interface.
        let _unused = (
            clearance1::Clearance1Method::parse(&call),
            clearance2::Clearance2Method::parse(&call),
            verdict1::ClearanceVerdict1Method::parse(&call),
        );
    }
});

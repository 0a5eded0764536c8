// SPDX-License-Identifier: Apache-2.0
//! The first bytes of a connection, whole and cut off.
#![no_main]

use egress::server_name::{FirstBytes, MAX_FIRST_BYTES};
use libfuzzer_sys::fuzz_target;

// The first number is where the bytes are cut off.
fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let whole = FirstBytes::inspect(bytes);
    let part = &bytes[..usize::from(cut).min(bytes.len())];
    match FirstBytes::inspect(part) {
        FirstBytes::Incomplete { needed } => {
            assert!(part.len() < needed && needed <= MAX_FIRST_BYTES);
            let early = &bytes[..needed.saturating_sub(1).min(bytes.len())];
            assert!(matches!(
                FirstBytes::inspect(early),
                FirstBytes::Incomplete { .. }
            ));
        }
        // More bytes do not change a decision.
        decided => assert_eq!(decided, whole),
    }
    let ended = FirstBytes::inspect_at_end(bytes);
    assert!(!matches!(whole, FirstBytes::Names(_)) || ended == whole);
    if let FirstBytes::Names(names) = ended {
        assert!(!names.is_empty());
    }
});

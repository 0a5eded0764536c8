// SPDX-License-Identifier: Apache-2.0
//! Encoding of replies as frames.

use bytes::Bytes;
use serde::Serialize;

/// Appends a reply with these parameters to `out`, the NUL included.
///
/// `continues` announces further replies to the same call. Parameters without a JSON form (a map
/// with keys that are not text: a defect of the program) become an empty object and a log line.
pub fn append_reply<T: Serialize + ?Sized>(out: &mut Vec<u8>, parameters: &T, continues: bool) {
    out.extend_from_slice(if continues {
        b"{\"continues\":true,\"parameters\":"
    } else {
        b"{\"parameters\":"
    });
    append_json(out, parameters);
    out.extend_from_slice(b"}\0");
}

/// Returns a reply as a frame, the NUL included; see [`append_reply`].
pub fn encode_reply<T: Serialize + ?Sized>(parameters: &T, continues: bool) -> Bytes {
    let mut out = Vec::with_capacity(256);
    append_reply(&mut out, parameters, continues);
    out.into()
}

/// Appends an error reply to `out`, the NUL included.
///
/// `error` serialises as `{"error": …, "parameters": …}`, like every error enum of
/// [`crate::wire`] and [`super::StandardError`].
pub fn append_error<E: Serialize + ?Sized>(out: &mut Vec<u8>, error: &E) {
    append_json(out, error);
    out.push(0);
}

/// Returns an error reply as a frame, the NUL included; see [`append_error`].
pub fn encode_error<E: Serialize + ?Sized>(error: &E) -> Bytes {
    let mut out = Vec::with_capacity(128);
    append_error(&mut out, error);
    out.into()
}

/// Appends `value` as JSON to `out`, or an empty object if `value` has no JSON form.
pub(crate) fn append_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        tracing::error!(%error, "a value has no JSON form; sent an empty object");
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
}

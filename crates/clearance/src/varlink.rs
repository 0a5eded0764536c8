// SPDX-License-Identifier: Apache-2.0
//! Varlink over a unix socket: JSON messages that end with a NUL byte, <https://varlink.org>.
//!
//! Written here and not taken from a library, because the servers that exist let one subscriber
//! that never reads stall the others, end when descriptors run out, or starve a pool of threads.
//! Everything is bounded: the length of a frame, the depth of its JSON, the time of a write, the
//! number of connections.

mod call;
mod connection;
mod frame;
mod reply_encoding;
mod reply_writer;
mod serve;
mod standard;

pub(crate) use call::is_json_object;
pub use call::{CallParameters, CallParseError, VarlinkCall};
pub use connection::{CallError, ErrorReply, ReplyStream, VarlinkConnection};
pub use frame::{FrameCodec, FrameError, FrameReader};
pub(crate) use reply_encoding::append_json;
pub use reply_encoding::{append_error, append_reply, encode_error, encode_reply};
pub use reply_writer::{ConnectionClosed, FrameWriter, HangUpWatcher, ReplyWriter};
pub use serve::{
    ServiceInfo, ServiceLimits, VarlinkServeError, VarlinkService, serve, serve_with_limits,
};
pub use standard::{SERVICE_INTERFACE, StandardError};

/// The most bytes that a call may have, its NUL not counted: 1 MiB.
pub const MAX_CALL_BYTES: usize = 1 << 20;

/// The most bytes that a client takes as one reply: 64 MiB, as much as a full ledger's list needs.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

/// An interface that a service implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VarlinkInterface {
    /// Its name, `org.example.Thing1`.
    pub name: &'static str,
    /// Its description in varlink's interface definition language.
    pub description: &'static str,
}

/// The parameters of a method that has none, and the reply of one that returns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct NoParameters {}

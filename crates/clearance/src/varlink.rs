// SPDX-License-Identifier: Apache-2.0
//! Varlink over a unix socket: JSON messages that end with a NUL byte, <https://varlink.org>.
//!
//! An implementation of its own, because the existing servers stall when a subscriber does not
//! read, end when descriptors run out, or starve a pool of threads. Every resource has a bound:
//! frame length, JSON depth, duration of a write, number of connections.

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
    ServiceInfo, ServiceLimits, VarlinkServeError, VarlinkService, serve, serve_sandbox,
    serve_with_limits,
};
pub use standard::{SERVICE_INTERFACE, StandardError};

/// Maximum bytes of a call, without the NUL: 1 MiB.
pub const MAX_CALL_BYTES: usize = 1 << 20;

/// Maximum bytes of a reply: 64 MiB, enough for the list of a full ledger.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

/// A varlink interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VarlinkInterface {
    /// The name, such as `org.example.Thing1`.
    pub name: &'static str,
    /// The description in varlink's interface definition language.
    pub description: &'static str,
}

/// The parameters of a method without parameters, and an empty reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct NoParameters {}

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
mod replies;
mod reply;
mod serve;
mod standard;

pub(crate) use call::is_object;
pub use call::{Call, Parameters, Violation};
pub use connection::{CallError, Connection, ErrorReply, ReplyStream};
pub use frame::{FrameCodec, FrameError, Frames};
pub use replies::{Closed, HangUp, Replies, Writer};
pub(crate) use reply::json_into;
pub use reply::{error_frame, error_into, reply_frame, reply_into};
pub use serve::{Info, Limits, ServeError, Service, serve, serve_within};
pub use standard::{SERVICE, StandardError};

/// The most bytes that a call may have, its NUL not counted: 1 MiB.
pub const FRAME_LIMIT: usize = 1 << 20;

/// The most bytes that a client takes as one reply: 64 MiB, as much as a full ledger's list needs.
pub const REPLY_LIMIT: usize = 64 << 20;

/// An interface that a service implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its name, `org.example.Thing1`.
    pub name: &'static str,
    /// Its description in varlink's interface definition language.
    pub description: &'static str,
}

/// The parameters of a method that has none, and the reply of one that returns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct NoParameters {}

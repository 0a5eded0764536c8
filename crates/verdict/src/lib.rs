// SPDX-License-Identifier: Apache-2.0
//! Turns an answer into an order to the shield: `ClearanceVerdict1` server, client, backends.
//!
//! An [`Order`] is parsed anew here, whoever sends it. A [`Backend`] carries it out: in this
//! process ([`NativeBackend`]), by running a `terok-shield` program ([`ExecBackend`]), or in
//! another process ([`VerdictClient`]). None of them ever fails in another way than by a
//! [`Reply`] that says so, and none opens more than the order's scope.

mod backend;
mod client;
mod exec;
mod native;
mod order;
mod serve;

pub use backend::{SanitizedStderr, VerdictBackend, VerdictReply};
pub use client::VerdictClient;
pub use exec::{ExecBackend, PASSED_ENVIRONMENT, find_program};
pub use native::NativeBackend;
pub use order::{VerdictOrder, VerdictOrderError};
pub use serve::serve;

// SPDX-License-Identifier: Apache-2.0
//! Turns answers into orders to the shield: server, client and backends of `ClearanceVerdict1`.
//!
//! A [`VerdictOrder`] is parsed here, whatever its sender has checked. A [`VerdictBackend`] applies
//! it: in this process ([`NativeBackend`]), with a `terok-shield` program ([`ExecBackend`]), or in
//! another process ([`VerdictClient`]). Failures are always a [`VerdictReply`], and no backend
//! opens more than the order's scope.

mod backend;
mod client;
mod exec;
mod native;
mod order;
mod serve;

pub use backend::{SanitizedStderr, VerdictBackend, VerdictReply};
pub use client::VerdictClient;
pub use exec::{ExecBackend, PASSED_ENVIRONMENT, ProcessGroup, find_shield_program};
pub use native::NativeBackend;
pub use order::{VerdictOrder, VerdictOrderError};
pub use serve::serve;

// SPDX-License-Identifier: Apache-2.0
//! The options of a hub.

use std::time::Duration;

use terok_clearance::wire::clearance1::Clearance1Dialect;

use crate::fanout::MAX_BACKLOG_BYTES;
use crate::ledger::MAX_PENDING;

/// Options of a hub.
#[derive(Debug, Clone, Copy)]
pub struct HubOptions {
    /// The event format for clients of `org.terok.Clearance1`.
    pub dialect: Clearance1Dialect,
    /// `true` for the hub of one sandbox: a `shield` event then applies to every question, because
    /// the Python stack names the sandbox differently in `shield` events and in questions.
    pub single_sandbox: bool,
    /// Maximum pending questions.
    pub max_pending: usize,
    /// Maximum backlog of a subscriber in bytes; a slower subscriber skips events.
    pub max_backlog_bytes: usize,
    /// Time-out of the enforcer for one claim.
    pub enforce_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            dialect: Clearance1Dialect::default(),
            single_sandbox: false,
            max_pending: MAX_PENDING,
            max_backlog_bytes: MAX_BACKLOG_BYTES,
            enforce_timeout: Duration::from_secs(15),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a hub serves.

use serde::{Deserialize, Serialize};

use crate::{DisplayText, Timestamp};

/// What a hub serves, without its questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// The way out of the sandbox: [`HubStatus::DIALED`] or [`HubStatus::FILTERED`]. Absent where
    /// the hub does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<DisplayText>,
    /// Whether the sandbox is guarded: [`HubStatus::GUARDED`], [`HubStatus::BYPASS`], or a state of
    /// the firewall that a reader has reported. Absent for the hub of several sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<DisplayText>,
    /// The time at which the hub began.
    pub since: Timestamp,
    /// The number of rules in force; absent where they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<u64>,
    /// The number of connected clients that can answer.
    pub answerers: u64,
    /// The published ports of the sandbox: `127.0.0.1:8080 -> 80/tcp`.
    #[serde(default)]
    pub published: Vec<DisplayText>,
}

impl HubStatus {
    /// The supervisor makes each allowed connection.
    pub const DIALED: &str = "dialed";
    /// The sandbox has a connection of its own, behind rules.
    pub const FILTERED: &str = "filtered";
    /// Nothing passes without a rule.
    pub const GUARDED: &str = "guarded";
    /// The internet is open for a time, except for what rules deny.
    pub const BYPASS: &str = "bypass";
}

/// The reply to `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// What the hub serves.
    pub status: HubStatus,
}

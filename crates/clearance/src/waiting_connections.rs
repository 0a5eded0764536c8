// SPDX-License-Identifier: Apache-2.0
//! The connections of a sandbox that are held until a question is answered.

use crate::Timestamp;

/// The connections that are held for one question. The default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WaitingConnections {
    /// Number of connections held now.
    pub count: u32,
    /// Start of the longest wait.
    pub since: Option<Timestamp>,
    /// The end of the last wait that ended without an answer.
    pub gave_up: Option<GaveUp>,
}

/// A wait that the program in the sandbox ended before an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GaveUp {
    /// Length of the wait in seconds.
    pub after_seconds: u32,
}

impl WaitingConnections {
    /// Returns `true` if a connection is held, or was held and given up.
    pub const fn is_known(&self) -> bool {
        self.count > 0 || self.gave_up.is_some()
    }
}

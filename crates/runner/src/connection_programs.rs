// SPDX-License-Identifier: Apache-2.0
//! Which program made a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use supervisor::TraceEvent;
use terok_clearance::DisplayText;

/// The programs that made the open connections; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionPrograms(Arc<Mutex<BTreeMap<u64, Option<DisplayText>>>>);

impl ConnectionPrograms {
    /// Follows an event. Returns the program of a connection that has ended.
    pub(crate) fn observe(&self, event: &TraceEvent<'_>) -> Option<DisplayText> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            TraceEvent::Connected { connection, .. } => {
                open.insert(connection.id, None);
            }
            TraceEvent::ProcessFound {
                connection,
                process,
            } => {
                // A connection that ended before its process was found has none.
                if let Some(program) = open.get_mut(connection) {
                    *program = Some(process.name.clone());
                }
            }
            TraceEvent::Closed(closed) => return open.remove(&closed.connection.id)?,
            _ => {}
        }
        None
    }
}

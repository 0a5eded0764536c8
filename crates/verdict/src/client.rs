// SPDX-License-Identifier: Apache-2.0
//! A client of a verdict helper in another process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use terok_clearance::varlink::{CallError, VarlinkConnection};
use terok_clearance::wire::verdict1::{APPLY, ApplyParameters, ApplyReply};
use tokio::time::timeout;

use crate::{ExecBackend, SanitizedStderr, VerdictBackend, VerdictOrder, VerdictReply};

/// Calls `org.terok.ClearanceVerdict1.Apply` on the helper at a socket.
///
/// Connections are opened on demand and kept for later orders. Concurrent orders use separate
/// connections and do not wait for each other.
#[derive(Debug)]
pub struct VerdictClient {
    socket: PathBuf,
    timeout: Duration,
    idle_connections: Mutex<Vec<VarlinkConnection>>,
}

impl VerdictClient {
    /// Timeout for a call: the timeout of the helper's program plus five seconds.
    pub const CALL_TIMEOUT: Duration =
        ExecBackend::RUN_TIMEOUT.saturating_add(Duration::from_secs(5));

    /// Maximum number of idle connections.
    const MAX_IDLE_CONNECTIONS: usize = 8;

    /// Creates a client of the helper at `socket` without connecting.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: Self::CALL_TIMEOUT,
            idle_connections: Mutex::default(),
        }
    }

    /// Replaces [`Self::CALL_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(self, limit: Duration) -> Self {
        Self {
            timeout: limit,
            ..self
        }
    }

    /// Calls over an idle connection if available. A broken one (restarted helper) is replaced by a
    /// new connection; applying an order twice is harmless.
    async fn call_apply(&self, apply: &ApplyParameters) -> VerdictReply {
        let kept = self.lock_idle().pop();
        if let Some(mut connection) = kept.filter(VarlinkConnection::is_idle) {
            match connection.call(APPLY, apply).await {
                Err(CallError::Closed | CallError::Io(_)) => {}
                reply => return self.finish_call(connection, reply),
            }
        }
        match VarlinkConnection::connect(&self.socket).await {
            Ok(mut connection) => {
                let reply = connection.call(APPLY, apply).await;
                self.finish_call(connection, reply)
            }
            Err(error) => VerdictReply::from_error(UNREACHABLE_PREFIX, &error),
        }
    }

    fn finish_call(
        &self,
        connection: VarlinkConnection,
        reply: Result<ApplyReply, CallError>,
    ) -> VerdictReply {
        match reply {
            Ok(applied) => {
                let mut idle = self.lock_idle();
                if idle.len() < Self::MAX_IDLE_CONNECTIONS {
                    idle.push(connection);
                }
                VerdictReply {
                    ok: applied.ok,
                    stderr: SanitizedStderr::new(applied.stderr.as_bytes()),
                }
            }
            Err(error) => VerdictReply::from_error(UNREACHABLE_PREFIX, &error),
        }
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<VarlinkConnection>> {
        self.idle_connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const UNREACHABLE_PREFIX: &str = "verdict helper unreachable: ";

impl VerdictBackend for VerdictClient {
    /// The interface covers whole destinations only.
    fn supports_ports(&self) -> bool {
        false
    }

    async fn apply(&self, order: &VerdictOrder) -> VerdictReply {
        let Some(apply) = order.to_apply_call() else {
            return VerdictReply::unsupported_scope();
        };
        timeout(self.timeout, self.call_apply(&apply))
            .await
            .unwrap_or_else(|_elapsed| {
                let seconds = self.timeout.as_secs_f64();
                VerdictReply::failed(&format!(
                    "{UNREACHABLE_PREFIX}no answer within {seconds:.1}s"
                ))
            })
    }
}

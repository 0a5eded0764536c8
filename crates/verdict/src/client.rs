// SPDX-License-Identifier: Apache-2.0
//! Orders to a verdict helper in another process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use terok_clearance::varlink::{CallError, VarlinkConnection};
use terok_clearance::wire::verdict1::{APPLY, ApplyParameters, ApplyReply};
use tokio::time::timeout;

use crate::{ExecBackend, SanitizedStderr, VerdictBackend, VerdictOrder, VerdictReply};

/// Calls `org.terok.ClearanceVerdict1.Apply` on the helper at a socket.
///
/// It connects when it needs to and keeps connections for later orders. Orders given at once go
/// over a connection each, so that none waits for another.
#[derive(Debug)]
pub struct VerdictClient {
    socket: PathBuf,
    timeout: Duration,
    idle_connections: Mutex<Vec<VarlinkConnection>>,
}

impl VerdictClient {
    /// For how long a helper may take: as long as its program may, and some time for the way.
    pub const CALL_TIMEOUT: Duration =
        ExecBackend::RUN_TIMEOUT.saturating_add(Duration::from_secs(5));

    /// The most connections that are kept.
    const MAX_IDLE_CONNECTIONS: usize = 8;

    /// Makes a client of the helper at `socket`; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: Self::CALL_TIMEOUT,
            idle_connections: Mutex::default(),
        }
    }

    /// Lets the helper take `limit` instead.
    #[must_use]
    pub fn with_timeout(self, limit: Duration) -> Self {
        Self {
            timeout: limit,
            ..self
        }
    }

    /// Calls over a kept connection if there is one, and once more over a new one if that breaks:
    /// the helper may have been restarted since. An order carried out twice is carried out once.
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
                let mut keeper = self.lock_idle();
                if keeper.len() < Self::MAX_IDLE_CONNECTIONS {
                    keeper.push(connection);
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
    /// The interface knows whole destinations only.
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

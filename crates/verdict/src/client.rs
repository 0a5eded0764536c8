// SPDX-License-Identifier: Apache-2.0
//! Orders to a verdict helper in another process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use terok_clearance::varlink::{CallError, VarlinkConnection};
use terok_clearance::wire::verdict1::{APPLY, ApplyParameters, ApplyReply};
use tokio::time::timeout;

use crate::{Backend, ExecBackend, Order, Reply, Said};

/// Calls `org.terok.ClearanceVerdict1.Apply` on the helper at a socket.
///
/// It connects when it needs to and keeps connections for later orders. Orders given at once go
/// over a connection each, so that none waits for another.
#[derive(Debug)]
pub struct VerdictClient {
    socket: PathBuf,
    limit: Duration,
    idle: Mutex<Vec<VarlinkConnection>>,
}

impl VerdictClient {
    /// For how long a helper may take: as long as its program may, and some time for the way.
    pub const LIMIT: Duration = ExecBackend::LIMIT.saturating_add(Duration::from_secs(5));

    /// The most connections that are kept.
    const KEPT: usize = 8;

    /// Makes a client of the helper at `socket`; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            limit: Self::LIMIT,
            idle: Mutex::default(),
        }
    }

    /// Lets the helper take `limit` instead.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Calls over a kept connection if there is one, and once more over a new one if that breaks:
    /// the helper may have been restarted since. An order carried out twice is carried out once.
    async fn call(&self, apply: &ApplyParameters) -> Reply {
        let kept = self.keeper().pop();
        if let Some(mut connection) = kept.filter(VarlinkConnection::is_idle) {
            match connection.call(APPLY, apply).await {
                Err(CallError::Closed | CallError::Io(_)) => {}
                reply => return self.answered(connection, reply),
            }
        }
        match VarlinkConnection::connect(&self.socket).await {
            Ok(mut connection) => {
                let reply = connection.call(APPLY, apply).await;
                self.answered(connection, reply)
            }
            Err(error) => Reply::error(UNREACHABLE, &error),
        }
    }

    fn answered(
        &self,
        connection: VarlinkConnection,
        reply: Result<ApplyReply, CallError>,
    ) -> Reply {
        match reply {
            Ok(applied) => {
                let mut keeper = self.keeper();
                if keeper.len() < Self::KEPT {
                    keeper.push(connection);
                }
                Reply {
                    ok: applied.ok,
                    said: Said::new(applied.stderr.as_bytes()),
                }
            }
            Err(error) => Reply::error(UNREACHABLE, &error),
        }
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, Vec<VarlinkConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const UNREACHABLE: &str = "verdict helper unreachable: ";

impl Backend for VerdictClient {
    /// The interface knows whole destinations only.
    fn is_narrow(&self) -> bool {
        false
    }

    async fn apply(&self, order: &Order) -> Reply {
        let Some(apply) = order.apply() else {
            return Reply::too_narrow();
        };
        timeout(self.limit, self.call(&apply))
            .await
            .unwrap_or_else(|_elapsed| {
                let seconds = self.limit.as_secs_f64();
                Reply::failed(&format!("{UNREACHABLE}no answer within {seconds:.1}s"))
            })
    }
}

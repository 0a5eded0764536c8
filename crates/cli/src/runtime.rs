// SPDX-License-Identifier: Apache-2.0
//! The one runtime, on the one thread, and the signals that end it.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::CommandStatus;

/// Runs `work` to its end on a runtime of this thread alone.
///
/// It is made when it is needed, so that a command may fork before: nothing here starts a thread.
pub fn block_on<T, F, E>(work: F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<anyhow::Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(work);
    // A read of standard input may still wait in a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    done
}

/// Takes as many descriptors as this user may have: each hub, reader and person needs one.
///
/// Only for commands that run nothing else: a child would inherit it.
pub(crate) fn raise_fd_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::debug!(%error, "could not raise the limit of open files");
    }
}

/// SIGINT and SIGTERM, caught from the moment it is made.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Catches both signals from now on. Must be called within the runtime.
    pub fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them and returns the status that a shell has for it.
    pub async fn wait(&mut self) -> CommandStatus {
        tokio::select! {
            _ = self.interrupt.recv() => CommandStatus::INTERRUPTED,
            _ = self.terminate.recv() => CommandStatus::TERMINATED,
        }
    }

    /// Waits for one of them and then says stop through `token`.
    pub async fn wait_and_cancel(&mut self, token: &CancellationToken) -> CommandStatus {
        let status = self.wait().await;
        token.cancel();
        status
    }
}

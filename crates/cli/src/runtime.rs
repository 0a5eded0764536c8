// SPDX-License-Identifier: Apache-2.0
//! The tokio runtime, and the signals that end the program.

use anyhow::Context as _;
use terok_clearance::service::{ShutdownSignal, ShutdownSignals};
use tokio_util::sync::CancellationToken;

use crate::CommandStatus;

/// Runs `work` on a single-threaded runtime.
///
/// The runtime is created here, so that a command can fork before. No thread is started.
pub fn block_on<T, F, E>(work: F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: From<anyhow::Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A thread may still be blocked in a read of standard input, and must not delay the end.
    runtime.shutdown_background();
    done
}

/// Catches SIGINT and SIGTERM.
#[derive(Debug)]
pub struct StopSignals(ShutdownSignals);

impl StopSignals {
    /// Catches both signals. Must be called within a tokio runtime.
    pub fn catch() -> anyhow::Result<Self> {
        ShutdownSignals::catch()
            .context("cannot catch signals")
            .map(Self)
    }

    /// Waits for a signal and returns the exit status that a shell uses for the signal.
    pub async fn wait(&mut self) -> CommandStatus {
        match self.0.next().await {
            ShutdownSignal::Interrupt => CommandStatus::INTERRUPTED,
            ShutdownSignal::Terminate => CommandStatus::TERMINATED,
        }
    }

    /// Waits for a signal and then cancels `token`.
    pub async fn wait_and_cancel(&mut self, token: &CancellationToken) -> CommandStatus {
        let status = self.wait().await;
        token.cancel();
        status
    }
}

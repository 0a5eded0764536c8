// SPDX-License-Identifier: Apache-2.0
//! The hub of one sandbox with both sockets, from the sandbox's start to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub::{DecisionEnforcer, Hub, HubOptions, RestoredQuestions};
use netns::SandboxProcesses;
use terok_clearance::socket::{
    RuntimeDir, SameUserListener, SandboxRecord, SandboxRecordFile, SocketBindError, SocketLayout,
    bind_in_runtime_dir,
};
use terok_clearance::{ContainerId, DisplayText, SandboxEvent};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{DossierSource, SupervisorExit, SupervisorServeError};

/// The bound sockets of one sandbox's hub.
#[derive(Debug)]
pub(crate) struct SandboxService {
    container: ContainerId,
    dossier: DossierSource,
    processes: SandboxProcesses,
    operators: SameUserListener,
    readers: SameUserListener,
    /// `None` if the file cannot be written: clients then take an ended sandbox for one that lost
    /// its hub.
    record: Option<SandboxRecordFile>,
}

impl SandboxService {
    /// Binds the sockets, and removes what killed hubs have left of other sandboxes. The end
    /// of the last of `processes` is the sandbox's.
    pub(crate) fn bind(
        container: ContainerId,
        dossier: DossierSource,
        processes: SandboxProcesses,
        runtime_dir: &RuntimeDir,
    ) -> Result<Self, SocketBindError> {
        let paths = runtime_dir.sandbox_sockets(&container, SocketLayout::D);
        let removed = runtime_dir.remove_leftovers();
        if removed > 0 {
            tracing::info!(removed, "removed the sockets of sandboxes that have ended");
        }
        let operators = bind_in_runtime_dir(runtime_dir, &paths.hub)?;
        let readers = bind_in_runtime_dir(runtime_dir, &paths.ingester)?.accept_engine_hooks();
        let name = dossier.read().get(&DisplayText::new("name")).cloned();
        let record = SandboxRecord::new(name, processes.first_pid()).write(&paths.hub);
        let record = record.inspect_err(|error| tracing::warn!(%error, "cannot write a record"));
        Ok(Self {
            operators,
            readers,
            record: record.ok(),
            container,
            dossier,
            processes,
        })
    }

    pub(crate) fn hub_path(&self) -> &Path {
        self.operators.path()
    }

    pub(crate) fn ingester_path(&self) -> &Path {
        self.readers.path()
    }

    pub(crate) const fn processes(&self) -> &SandboxProcesses {
        &self.processes
    }

    /// Creates the hub, with the questions of an earlier one.
    pub(crate) fn create_hub<E: DecisionEnforcer>(
        enforcer: E,
        earlier: Option<RestoredQuestions>,
    ) -> Arc<Hub<E>> {
        let options = HubOptions {
            single_sandbox: true,
            ..HubOptions::default()
        };
        Hub::with_questions(enforcer, options, earlier)
    }

    /// Serves operators and readers, and runs `work`, until the sandbox ends or `work` returns.
    ///
    /// After the sandbox's end, `work` is dropped and `release` called first, to release the
    /// namespaces; then operators are notified (`container_exited`), queued events are delivered,
    /// and the socket files are removed.
    pub(crate) async fn serve<E: DecisionEnforcer>(
        self,
        hub: Arc<Hub<E>>,
        work: impl Future<Output = Result<(), SupervisorServeError>>,
        release: impl FnOnce(),
    ) -> Result<SupervisorExit, SupervisorServeError> {
        let Self {
            container,
            dossier,
            processes,
            operators,
            readers,
            record,
        } = self;
        hub.report(SandboxEvent::ContainerStarted {
            container: container.clone(),
            dossier: dossier.read(),
        });
        let directories = [&operators, &readers].map(|of| of.path().parent().map(PathBuf::from));

        let drain = CancellationToken::new();
        let mut servers: JoinSet<Result<(), SupervisorServeError>> = JoinSet::new();
        servers.spawn({
            let served = hub::serve(Arc::clone(&hub), operators, drain.clone());
            async { Ok(served.await?) }
        });
        servers.spawn({
            let ingested = hub::ingest::ingest(Arc::clone(&hub), readers, drain.clone());
            async { Ok(ingested.await?) }
        });

        let exit = {
            // Dropped, together with the sockets, at the end of this block.
            let mut work = std::pin::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    ended = processes.wait_for_all_exits() => {
                        break ended
                            .map(|()| SupervisorExit::SandboxEnded)
                            .map_err(SupervisorServeError::WatchProcess);
                    }
                    worked = &mut work => {
                        break worked.map(|()| SupervisorExit::Stopped);
                    }
                    Some(server) = servers.join_next() => {
                        if let Err(error) = join_result(server) {
                            break Err(error);
                        }
                    }
                }
            }
        };
        release();
        if matches!(exit, Ok(SupervisorExit::SandboxEnded)) {
            tracing::info!(%container, "the sandbox ended");
            hub.report(SandboxEvent::ContainerExited {
                container,
                reason: DisplayText::new("eof"),
                dossier: dossier.read(),
            });
        }
        drain.cancel();
        while let Some(server) = servers.join_next().await {
            join_result(server)?;
        }
        drop(record);
        if matches!(exit, Ok(SupervisorExit::SandboxEnded)) {
            // The directories may contain other sandboxes' sockets; only empty ones are removed.
            for directory in directories.into_iter().flatten() {
                drop(std::fs::remove_dir(directory));
            }
        }
        exit
    }
}

/// Flattens the result of a server task.
fn join_result(
    server: Result<Result<(), SupervisorServeError>, JoinError>,
) -> Result<(), SupervisorServeError> {
    server.unwrap_or_else(|panic| {
        Err(SupervisorServeError::Panicked(DisplayText::new(
            &panic.to_string(),
        )))
    })
}

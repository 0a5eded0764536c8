// SPDX-License-Identifier: Apache-2.0
//! A varlink service at a path, served by the caller's runtime.

use std::path::Path;
use std::sync::Arc;

use terok_clearance::socket::bind;
use terok_clearance::varlink::{
    ServiceLimits, VarlinkServeError, VarlinkService, serve_with_limits,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A running service, stopped on drop.
#[derive(Debug)]
pub struct ServedSocket {
    /// Stops the service regularly.
    pub stop: CancellationToken,
    task: JoinSet<Result<(), VarlinkServeError>>,
}

impl ServedSocket {
    /// Binds `path` and serves with the default limits.
    pub fn start(path: &Path, service: Arc<impl VarlinkService>) -> Self {
        Self::start_with_limits(path, service, ServiceLimits::default())
    }

    /// Binds `path` and serves with these limits.
    pub fn start_with_limits(
        path: &Path,
        service: Arc<impl VarlinkService>,
        limits: ServiceLimits,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let serving = serve_with_limits(bind(path).unwrap(), service, limits, stop.clone());
        task.spawn(serving);
        Self { stop, task }
    }

    /// Waits for the end of the service.
    pub async fn ended(&mut self) -> Result<(), VarlinkServeError> {
        self.task.join_next().await.unwrap().unwrap()
    }

    /// Stops the service and waits for the end. Panics if the service failed.
    pub async fn end(mut self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }
}

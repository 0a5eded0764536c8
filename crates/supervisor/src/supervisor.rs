// SPDX-License-Identifier: Apache-2.0
//! The parts of one sandbox, put together.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::{Config, Observer};

/// One sandbox's reader, hub and shield: the ruleset is in force and the sockets are bound.
#[expect(missing_debug_implementations, reason = "an observer is a closure")]
pub struct Supervisor {
    config: Config,
    observer: Option<Observer>,
    hub: PathBuf,
    ingester: PathBuf,
}

/// Why a supervisor could not start. The sandbox must not start then: what was in force before
/// still is.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandbox's network namespace could not be entered.
    #[error("the sandbox's network namespace could not be entered")]
    Enter(#[from] netns::EnterError),
    /// The packet log could not be listened to.
    #[error("the packet log could not be listened to")]
    Reader(#[from] reader::nflog::BindError),
    /// The ruleset is not in force.
    #[error("the ruleset could not be put in force")]
    Shield(#[from] shield::ShieldError),
    /// What is allowed from the start could not be opened.
    #[error("{dest} could not be allowed")]
    Allow {
        /// The destination.
        dest: terok_clearance::Target,
        /// Why.
        #[source]
        source: shield::OrderError,
    },
}

/// Why a supervisor ended before its sandbox did. The ruleset stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The packet log can no longer be read.
    #[error("the packet log can no longer be read")]
    Reader(#[from] reader::RunError),
}

/// Why a supervisor ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The sandbox ended.
    Sandbox,
    /// It was told to stop; the sandbox stays under its ruleset.
    Stopped,
}

impl Supervisor {
    /// Puts the policy in force in the sandbox's network namespace, or takes over a ruleset of
    /// ours that is in force there, verifies it, listens to the packet log, and binds both
    /// sockets. Returns when all of this is done; questions wait in the kernel until
    /// [`serve`](Self::serve).
    ///
    /// Call it within a tokio runtime of one thread.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let directory = |kind: &str, file: &str| {
            let short = config.container.short();
            config
                .runtime
                .join("terok")
                .join(kind)
                .join(short)
                .join(file)
        };
        Ok(Self {
            hub: directory("clearance", "hub.sock"),
            ingester: directory("events", "ingester.sock"),
            config,
            observer: None,
        })
    }

    /// Has `observer` called at each step of a packet's way.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns the path of the socket where operators subscribe and answer.
    pub fn hub(&self) -> &Path {
        &self.hub
    }

    /// Returns the path of the socket that takes events from other readers.
    pub fn ingester(&self) -> &Path {
        &self.ingester
    }

    /// Asks and enforces until the sandbox ends or `stop` is cancelled.
    ///
    /// When the sandbox has ended its sockets close first, so that its namespaces are free; then
    /// operators are told (`container_exited`), what is on its way to them is delivered, and the
    /// sockets' files go.
    pub async fn serve(self, stop: CancellationToken) -> Result<Ended, ServeError> {
        let _ = &self.observer;
        tokio::select! {
            _ended = self.config.process.ended() => Ok(Ended::Sandbox),
            () = stop.cancelled() => Ok(Ended::Stopped),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Finds a sandbox's network namespace and binds its packet log.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use netns::{EnterError, NetnsRef, ProcessHandle, SocketSpec};
use terok_clearance::nflog::DNS_ANSWERS_GROUP;
use terok_clearance::{ContainerId, DisplayText};
use tokio::process::Command;

use crate::nflog::NflogBindError;
use crate::{NflogOwner, NflogSockets, find_nflog_owner};

/// The network namespace of a sandbox.
#[derive(Debug)]
pub struct AttachedNetns {
    netns: NetnsRef,
    /// The container's process, unless the reader was started inside.
    process: Option<ProcessHandle>,
}

/// A sandbox's packet log could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// podman did not name the process of the container.
    #[error("asking podman for the process of {container}")]
    Inspect {
        /// The container.
        container: ContainerId,
        /// The cause.
        source: InspectContainerError,
    },
    /// The process of the container was not found.
    #[error("finding process {pid}, the first of {container}")]
    FindProcess {
        /// The process id.
        pid: u32,
        /// The container.
        container: ContainerId,
        /// The kernel error.
        source: io::Error,
    },
    /// No sockets could be opened in the network namespace.
    #[error("opening sockets in the sandbox's network namespace")]
    OpenSockets(#[source] EnterError),
    /// The packet log could not be bound.
    #[error("listening to the sandbox's packet log")]
    Bind(#[source] NflogBindError),
}

/// podman did not name the process of a container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectContainerError {
    /// The program could not be run.
    #[error("running {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The kernel error.
        source: io::Error,
    },
    /// The program failed.
    #[error("{status}: {stderr}")]
    Failed {
        /// The exit status.
        status: ExitStatus,
        /// The error message of the program.
        stderr: DisplayText,
    },
    /// The container is not running.
    #[error("the container is not running")]
    NotRunning,
    /// The output is not a process id.
    #[error("expected a process id, got {0:?}")]
    BadOutput(DisplayText),
}

impl AttachedNetns {
    /// Returns the network namespace of this process.
    pub const fn current() -> Self {
        Self {
            netns: NetnsRef::Current,
            process: None,
        }
    }

    /// Finds the network namespace of a container by asking the program `podman`.
    pub async fn of_container(container: &ContainerId, podman: &Path) -> Result<Self, AttachError> {
        let inspected = inspect_container_pid(container, podman).await;
        let pid = inspected.map_err(|source| AttachError::Inspect {
            container: container.clone(),
            source,
        })?;
        let find = || {
            let process = ProcessHandle::open(pid)?;
            Ok(Self {
                process: Some(process.try_clone()?),
                netns: NetnsRef::OfProcess(process),
            })
        };
        find().map_err(|source| AttachError::FindProcess {
            pid,
            container: container.clone(),
            source,
        })
    }

    /// Returns `true` if the reader runs outside the sandbox's network namespace.
    pub(super) const fn is_entered_from_outside(&self) -> bool {
        self.process.is_some()
    }

    /// Binds the packet log.
    pub fn bind_nflog_sockets(&self) -> Result<NflogSockets, AttachError> {
        let [questions, answers] = self.open_sockets()?;
        let mut bound = NflogSockets::bind(questions, answers);
        if let Err(NflogBindError::GroupTaken(DNS_ANSWERS_GROUP)) = bound {
            // A Python shield does not log answers, so the other listener has another purpose.
            tracing::info!(
                group = DNS_ANSWERS_GROUP,
                "another program listens for DNS answers"
            );
            let [questions, _] = self.open_sockets()?;
            bound = NflogSockets::bind_questions_only(questions);
        }
        bound.map_err(AttachError::Bind)
    }

    /// Returns the owner of a log group in this network namespace.
    pub fn find_nflog_owner(&self, group: u16) -> io::Result<Option<NflogOwner>> {
        find_nflog_owner(group, self.process.as_ref().map(ProcessHandle::pid))
    }

    fn open_sockets(&self) -> Result<[OwnedFd; 2], AttachError> {
        let opened = self.netns.open_sockets(&[SocketSpec::Netfilter; 2]);
        let opened = opened.map_err(AttachError::OpenSockets)?;
        <[_; 2]>::try_from(opened)
            .map_err(|_other_count| AttachError::OpenSockets(EnterError::BadReply))
    }

    /// Waits for the end of the container's process, if there is one.
    pub(super) async fn wait_for_exit(&self) {
        match &self.process {
            Some(process) => {
                if let Err(error) = process.wait_for_exit().await {
                    tracing::warn!(%error, "could not wait for the container's end");
                    pending::<()>().await;
                }
            }
            None => pending().await,
        }
    }
}

/// Asks podman for the process id of a container.
async fn inspect_container_pid(
    container: &ContainerId,
    podman: &Path,
) -> Result<u32, InspectContainerError> {
    let mut command = Command::new(podman);
    command
        .args(["inspect", "--format", "{{.State.Pid}}", container.as_str()])
        .kill_on_drop(true);
    let inspected = command.output().await;
    let inspected = inspected.map_err(|source| InspectContainerError::Run {
        program: podman.to_owned(),
        source,
    })?;
    if !inspected.status.success() {
        let errors = String::from_utf8_lossy(&inspected.stderr);
        return Err(InspectContainerError::Failed {
            status: inspected.status,
            stderr: DisplayText::new(errors.trim()),
        });
    }
    let text = String::from_utf8_lossy(&inspected.stdout);
    match text.trim().parse() {
        Ok(0) => Err(InspectContainerError::NotRunning),
        Ok(pid) => Ok(pid),
        Err(_) => Err(InspectContainerError::BadOutput(DisplayText::new(&text))),
    }
}

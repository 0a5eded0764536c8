// SPDX-License-Identifier: Apache-2.0
//! Where the sandbox's network is, and listening there.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use netns::{NetnsRef, ProcessHandle, SocketSpec};
use reader::NflogSockets;
use reader::nflog::NflogBindError;
use terok_clearance::nflog::DNS_ANSWERS_GROUP;
use terok_clearance::{ContainerId, DisplayText};
use tokio::process::Command;

use crate::{CommandFailure, CommandStatus, ErrorExt as _, UserEnvironment};

/// The network namespace whose packets are read.
pub(super) struct AttachedNetns {
    netns: NetnsRef,
    /// The container's process, unless we were started inside.
    process: Option<ProcessHandle>,
}

/// Says, set to `1`, that the process was started inside the sandbox's network namespace.
const INSIDE_NETNS_VARIABLE: &str = "_TEROK_SHIELD_NFLOG_NSENTER";

impl AttachedNetns {
    /// Finds the network namespace of `container`: this process's own if the environment says so,
    /// else that of the process that podman names.
    pub(super) async fn find(
        container: &ContainerId,
        environment: &UserEnvironment,
    ) -> Result<Self, CommandFailure> {
        if environment.is_inside_netns() {
            return Ok(Self {
                netns: NetnsRef::Current,
                process: None,
            });
        }
        let pid = inspect_container_pid(container, environment)
            .await
            .with_context(|| format!("asking podman for the process of {container}"))
            .with_hint(format!(
                "inside the sandbox's network namespace already? then set {INSIDE_NETNS_VARIABLE}=1"
            ))?;
        let process = ProcessHandle::open(pid)
            .with_context(|| format!("finding process {pid}, the first of {container}"))?;
        let watched = process.try_clone().context("watching the container")?;
        Ok(Self {
            netns: NetnsRef::OfProcess(process),
            process: Some(watched),
        })
    }

    /// Says whether the sandbox was entered by us, not by whoever started us.
    pub(super) const fn is_entered_from_outside(&self) -> bool {
        self.process.is_some()
    }

    /// Listens to the packet log there.
    pub(super) fn bind_nflog_sockets(&self) -> Result<NflogSockets, CommandFailure> {
        let [questions, answers] = self.open()?;
        let mut bound = NflogSockets::bind(questions, answers);
        if let Err(NflogBindError::GroupTaken(DNS_ANSWERS_GROUP)) = bound {
            // A Python shield logs no answers; whoever listens to that group wants something else.
            tracing::info!(
                group = DNS_ANSWERS_GROUP,
                "somebody else listens for DNS answers"
            );
            let [questions, _] = self.open()?;
            bound = NflogSockets::bind_questions_only(questions);
        }
        let taken = match &bound {
            Err(NflogBindError::GroupTaken(group)) => Some(*group),
            Ok(_) | Err(_) => None,
        };
        let bound = bound.context("listening to the sandbox's packet log");
        let Some(group) = taken else {
            return Ok(bound?);
        };
        let holder = reader::find_nflog_owner(group, self.process.as_ref().map(ProcessHandle::pid));
        let hint = match holder {
            Ok(Some(holder)) => match &holder.process {
                Some(process) => format!("it is {holder}; `kill {}` ends it", process.pid),
                None => format!("it is {holder}"),
            },
            Ok(None) => "it has gone in the meantime: try again".into(),
            Err(error) => format!("who it is could not be found out: {error}"),
        };
        bound
            .with_hint(hint)
            .with_status(CommandStatus::RESOURCE_BUSY)
    }

    fn open(&self) -> Result<[OwnedFd; 2], CommandFailure> {
        let opened = self.netns.open_sockets(&[SocketSpec::Netfilter; 2]);
        let opened = opened
            .context("opening sockets in the sandbox's network namespace")
            .with_hint("without root, the namespace must belong to a user namespace of yours")?;
        let pair = <[_; 2]>::try_from(opened).ok();
        Ok(pair.context("opening two sockets")?)
    }

    /// Waits for the end of the container, if it is watched.
    pub(super) async fn ended(&self) {
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
    environment: &UserEnvironment,
) -> anyhow::Result<u32> {
    let podman = environment
        .find_program("podman")
        .unwrap_or_else(|| PathBuf::from("/usr/bin/podman"));
    let mut command = Command::new(&podman);
    command
        .args(["inspect", "--format", "{{.State.Pid}}", container.as_str()])
        .kill_on_drop(true);
    let asked = command.output().await;
    let asked = asked.with_context(|| format!("running {}", podman.display()))?;
    if !asked.status.success() {
        let errors = String::from_utf8_lossy(&asked.stderr);
        bail!("{}: {}", asked.status, DisplayText::new(errors.trim()));
    }
    let text = String::from_utf8_lossy(&asked.stdout);
    match text.trim().parse() {
        Ok(0) => bail!("the container does not run"),
        Ok(pid) => Ok(pid),
        Err(_) => bail!("it says {:?}, no process id", DisplayText::new(&text)),
    }
}

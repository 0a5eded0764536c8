// SPDX-License-Identifier: Apache-2.0
//! What systemd keeps of a supervisor, for a process that takes its place after a failure.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;

use containers::{MAX_MESSAGE_BYTES, StartRequest};
use netns::gateway::GatewayNetns;
use netns::{ProcessHandle, SandboxProcesses};
use rustix::fs::{MemfdFlags, memfd_create};
use supervisor::StateJournal;

use super::keep;
use crate::service_manager::PassedFiles;

/// A file with the request of the first container.
const REQUEST_FILE: &str = "request";
/// The process of a container.
const PROCESS_FILE: &str = "process";
/// The gateway's network namespace, with IPv6 and without.
const GATEWAY_FILES: [(&str, bool); 2] = [("gateway-v6", true), ("gateway-v4", false)];

/// The rules, questions and names.
const STATE_FILE: &str = "state";

/// The containers of a supervisor that has failed.
#[derive(Debug)]
pub(super) struct KeptContainers {
    pub(super) request: StartRequest,
    pub(super) processes: SandboxProcesses,
    pub(super) state: KeptState,
}

/// What a supervisor needs of a former one.
#[derive(Debug)]
pub(super) struct KeptState {
    /// The rules, questions and names.
    pub(super) journal: StateJournal,
    /// The gateway of the dialed way.
    pub(super) gateway: Option<GatewayNetns>,
}

impl KeptContainers {
    /// Takes the containers of a former process over; `None` if there was none.
    pub(super) fn take(passed: &mut PassedFiles) -> io::Result<Option<Self>> {
        let Some(request) = passed.take(REQUEST_FILE) else {
            return Ok(None);
        };
        let request = read_request(request.into())?;
        let gateways = GATEWAY_FILES.into_iter();
        let mut gateways = gateways.filter_map(|(name, has_ipv6)| {
            let netns = passed.take(name)?;
            Some(GatewayNetns::from_fd(netns, has_ipv6))
        });
        let gateway = gateways.next();
        drop(gateways);
        let journal = match passed.take(STATE_FILE) {
            Some(file) => StateJournal::from_fd(file),
            None => StateJournal::create()?,
        };
        let state = KeptState { journal, gateway };
        // Those that have ended have no process.
        let processes = passed.take_all(PROCESS_FILE).into_iter();
        let mut processes = processes.filter_map(|pidfd| ProcessHandle::from_pidfd(pidfd).ok());
        let Some(first) = processes.next() else {
            return Ok(None);
        };
        let all = SandboxProcesses::new(first);
        for process in processes {
            if !all.add(process) {
                break;
            }
        }
        Ok(Some(Self {
            request,
            processes: all,
            state,
        }))
    }
}

/// Has a container's process kept.
pub(super) fn keep_process(process: &ProcessHandle) {
    keep(PROCESS_FILE, process);
}

/// Has the first container kept, with the state of its supervisor.
pub(super) fn keep_container(
    request: &StartRequest,
    processes: &SandboxProcesses,
    state: &KeptState,
) -> io::Result<()> {
    let file = memfd_create("terok-clearance-request", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(request)?)?;
    if let Some(process) = processes.first_alive() {
        keep_process(&process);
    }
    let KeptState { journal, gateway } = state;
    keep(STATE_FILE, journal);
    if let Some(gateway) = gateway {
        let names = GATEWAY_FILES.into_iter();
        let mut names = names.filter(|(_, has_ipv6)| *has_ipv6 == gateway.has_ipv6());
        if let Some((name, _)) = names.next() {
            keep(name, &gateway.as_fd());
        }
    }
    // Last: without it, nothing of the others counts.
    keep(REQUEST_FILE, &file);
    Ok(())
}

fn read_request(mut file: File) -> io::Result<StartRequest> {
    let mut json = Vec::new();
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    file.rewind()?;
    file.take(limit).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

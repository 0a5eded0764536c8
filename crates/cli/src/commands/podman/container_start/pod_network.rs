// SPDX-License-Identifier: Apache-2.0
//! The network of an existing pod, which its containers share.

use std::path::Path;
use std::process::{Command, Stdio};

use terok_clearance::DisplayText;

use crate::commands::podman::PodmanCommandError;

/// Returns `true` if the pod has a network namespace, without any network; `false` if its
/// containers have a network each. Other pods are refused.
pub(super) fn check_pod(podman: &Path, pod: &str) -> Result<bool, PodmanCommandError> {
    let infra = ask_podman(
        podman,
        pod,
        &[
            "pod",
            "inspect",
            "--format",
            "{{.InfraContainerID}}",
            "--",
            pod,
        ],
    )?;
    if infra.is_empty() {
        return Ok(false);
    }
    let network = ask_podman(
        podman,
        pod,
        &[
            "container",
            "inspect",
            "--format",
            "{{.HostConfig.NetworkMode}}",
            "--",
            &infra,
        ],
    )?;
    if network == "none" {
        return Ok(true);
    }
    Err(PodmanCommandError::Pod {
        pod: DisplayText::new(pod),
        network: DisplayText::new(&network),
    })
}

fn ask_podman(podman: &Path, pod: &str, arguments: &[&str]) -> Result<String, PodmanCommandError> {
    let asked = Command::new(podman)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = asked.map_err(|source| PodmanCommandError::Execute {
        path: podman.to_owned(),
        source,
    })?;
    if !output.status.success() {
        return Err(PodmanCommandError::InspectPod {
            pod: DisplayText::new(pod),
            message: DisplayText::from_program_output(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

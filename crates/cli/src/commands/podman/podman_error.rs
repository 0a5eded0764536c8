// SPDX-License-Identifier: Apache-2.0
//! The errors of `podman`.

use std::io;
use std::path::PathBuf;

use containers::hooks_in_force::HookFault;
use containers::podman_command::PodmanRefusal;
use containers::policy_annotation::{PolicyKeyError, PolicySizeError};
use terok_clearance::DisplayText;

/// A container was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodmanCommandError {
    /// podman is not installed.
    #[error("podman is not installed: no such program in PATH")]
    NoPodman,
    /// podman-compose is not installed.
    #[error("podman-compose is not installed: no such program in PATH")]
    NoCompose,
    /// The program that podman-compose calls cannot be written.
    #[error("cannot write {}", path.display())]
    WriteEngine {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// podman would talk to a service elsewhere.
    #[error(
        "the variable {0} is set: podman would start the container elsewhere, where it cannot be \
         proven that the hooks are in force"
    )]
    Remote(&'static str),
    /// podman's arguments are refused.
    #[error(transparent)]
    Refused(#[from] PodmanRefusal),
    /// The key of the policies cannot be used.
    #[error(transparent)]
    Key(PolicyKeyError),
    /// The policy is too large.
    #[error(transparent)]
    Policy(PolicySizeError),
    /// The hooks would not guard the container.
    #[error("the container would not be guarded: {}", first_fault(.0))]
    NotInForce(Vec<HookFault>),
    /// The pod has a network.
    #[error("the pod {pod} has the network {network}, which is not guarded")]
    Pod {
        /// The name of the pod.
        pod: DisplayText,
        /// Its network.
        network: DisplayText,
    },
    /// The pod cannot be looked at.
    #[error("cannot look at the pod {pod}: {message}")]
    InspectPod {
        /// The name of the pod.
        pod: DisplayText,
        /// podman's message.
        message: DisplayText,
    },
    /// A mount would let the container answer its own questions.
    #[error(
        "the mount of {} is refused: with {} the container could answer its own questions or start \
         programs outside",
        source_path.display(),
        exposed.display()
    )]
    Exposed {
        /// The path that is mounted.
        source_path: PathBuf,
        /// The path that guards the container.
        exposed: PathBuf,
    },
    /// The listener for supervisors did not start.
    #[error("the listener that starts supervisors did not come up: {0}")]
    Listener(DisplayText),
    /// podman was not executed.
    #[error("cannot execute {}", path.display())]
    Execute {
        /// The program.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

fn first_fault(faults: &[HookFault]) -> String {
    let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl PodmanCommandError {
    /// Returns what to do about the error.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::NotInForce(faults) => {
                let mut hints: Vec<String> = Vec::new();
                for hint in faults.iter().map(HookFault::remedy) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                hints
            }
            Self::Remote(variable) => vec![format!(
                "unset {variable}, or run this command on that machine"
            )],
            Self::Pod { .. } => vec![
                "make the pod with `podman pod create --network none`, or let --pod new:NAME make \
                 it"
                .to_owned(),
            ],
            Self::Exposed { .. } => vec![
                "mount the directories that it needs instead".to_owned(),
                "--trust-mounts mounts it all the same".to_owned(),
            ],
            Self::NoCompose => vec![
                "other compose programs: put what `terok-clearance podman annotations --form \
                 compose` prints under each service"
                    .to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

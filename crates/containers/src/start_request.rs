// SPDX-License-Identifier: Apache-2.0
//! The messages between a hook and the supervisor that it has started: one line of JSON each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use terok_clearance::ContainerId;

use crate::annotation_keys;

/// Maximum bytes of a message with its line end.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// The version of the messages. A program of another version is refused.
pub const PROTOCOL_VERSION: u32 = 1;

/// A container that is about to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// The id.
    pub id: ContainerId,
    /// The first process. It waits for the hook, and the runtime does not reap it meanwhile: the
    /// number is not used again.
    pub pid: u32,
    /// The directory with the container's configuration.
    pub bundle: PathBuf,
    /// The way out.
    pub network: ContainerNetwork,
    /// The annotations that a supervisor reads.
    pub annotations: BTreeMap<String, String>,
    /// The container's `/etc/resolv.conf` names no server: its programs ask `127.0.0.1`.
    pub asks_loopback: bool,
}

/// The way out of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerNetwork {
    /// The supervisor makes each allowed connection.
    Dialed,
    /// The container has a connection of its own, behind rules.
    Filtered,
}

/// The answer to a [`StartRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartReply {
    /// The way out is in place and guarded.
    Ready,
    /// The container must not start, for this reason.
    Refused(String),
}

/// An annotation does not name a way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation org.terok.clearance.network is {0:?}, which is neither dialed nor filtered"
)]
pub struct ContainerNetworkError(String);

impl ContainerNetwork {
    /// Parses the value of [`annotation_keys::NETWORK`].
    pub fn parse(value: &str) -> Result<Self, ContainerNetworkError> {
        match value {
            annotation_keys::NETWORK_DIALED => Ok(Self::Dialed),
            annotation_keys::NETWORK_FILTERED => Ok(Self::Filtered),
            other => Err(ContainerNetworkError(other.chars().take(64).collect())),
        }
    }

    /// Returns the value of the annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialed => annotation_keys::NETWORK_DIALED,
            Self::Filtered => annotation_keys::NETWORK_FILTERED,
        }
    }
}

/// Returns the annotations that a supervisor reads.
pub(crate) fn select_annotations(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const PREFIXES: [&str; 3] = [
        "org.terok.clearance.",
        "ai.terok.",
        annotation_keys::DOSSIER_PREFIX,
    ];
    let is_read = |key: &str| PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let selected = all.iter().filter(|(key, _)| is_read(key));
    selected
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_values_name_a_way_out() {
        for network in [ContainerNetwork::Dialed, ContainerNetwork::Filtered] {
            assert_eq!(ContainerNetwork::parse(network.as_str()), Ok(network));
        }
        for other in ["", "Dialed", "open", "dialed "] {
            assert!(ContainerNetwork::parse(other).is_err());
        }
    }

    #[test]
    fn the_annotations_of_other_programs_stay_behind() {
        let all = [
            "org.terok.clearance.policy",
            "dossier.task",
            "ai.terok.task",
            "io.x",
            "dossier",
        ];
        let all = all.map(|key| (key.to_owned(), "v".to_owned())).into();
        let selected = select_annotations(&all);
        let keys: Vec<_> = selected.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "ai.terok.task",
                "dossier.task",
                "org.terok.clearance.policy"
            ]
        );
    }
}

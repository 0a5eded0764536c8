// SPDX-License-Identifier: Apache-2.0
//! The state of a container, as an OCI runtime passes it to a hook (OCI runtime specification,
//! "State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use terok_clearance::ContainerId;

/// Maximum bytes of a state. Annotations of an image are part of it.
pub(crate) const MAX_STATE_BYTES: usize = 1024 * 1024;

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciState {
    /// The id.
    pub id: ContainerId,
    /// The first process; `None` after the container has ended.
    pub pid: Option<u32>,
    /// The directory with the container's configuration.
    pub bundle: PathBuf,
    /// The annotations, of the command line and of the image.
    pub annotations: BTreeMap<String, String>,
}

/// A text is not the state of a container.
#[derive(Debug, thiserror::Error)]
#[error("the runtime passed no state of a container")]
pub struct OciStateError(#[from] serde_json::Error);

impl OciState {
    /// Parses a state.
    pub fn parse(json: &[u8]) -> Result<Self, OciStateError> {
        #[derive(Deserialize)]
        struct Fields {
            id: ContainerId,
            #[serde(default)]
            pid: Option<u32>,
            bundle: PathBuf,
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
        }
        let Fields {
            id,
            pid,
            bundle,
            annotations,
        } = serde_json::from_slice(json)?;
        Ok(Self {
            id,
            // runc reports 0 for a container that has ended.
            pid: pid.filter(|pid| *pid != 0),
            bundle,
            annotations: annotations.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_runtime_is_parsed() {
        let json = r#"{"ociVersion":"1.0.2-dev","id":"17aa51f7","status":"creating","pid":10899,
            "bundle":"/var/lib/x/userdata","annotations":{"org.terok.x":"1"}}"#;
        let state = OciState::parse(json.as_bytes()).unwrap();
        assert_eq!(state.id.to_string(), "17aa51f7");
        assert_eq!(state.pid, Some(10899));
        assert_eq!(state.annotations.get("org.terok.x").unwrap(), "1");
    }

    #[test]
    fn an_ended_container_has_no_process() {
        for pid in ["", r#","pid":0"#, r#","pid":null"#] {
            let json = format!(r#"{{"id":"web","bundle":"/b"{pid},"annotations":null}}"#);
            assert_eq!(OciState::parse(json.as_bytes()).unwrap().pid, None);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"id":"../up","bundle":"/b"}"#,
            r#"{"id":"web","bundle":"/b","pid":-1}"#,
            r#"{"id":"web","bundle":"/b","annotations":{"a":1}}"#,
        ] {
            assert!(OciState::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}

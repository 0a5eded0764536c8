// SPDX-License-Identifier: Apache-2.0
//! Finds containers: what podman says about one, and its state directory.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use terok_clearance::{ContainerId, DisplayText};

use crate::program_runner::{ProgramError, ProgramRunner};
use crate::state_bundle::StateBundle;

/// The limit for podman. The verdict helper of the Python stack ends an order after ten seconds.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(6);

/// The name or id of a container: a file name that is no option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShieldContainerName(String);

/// A text is no name of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unsafe container name: {0:?}")]
pub struct ShieldContainerNameError(DisplayText);

/// The id of a container, 12 to 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullContainerId(ContainerId);

/// A text is no id of a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unsafe container id: {0:?}")]
pub struct FullContainerIdError(DisplayText);

/// What podman says about a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PodmanContainer {
    /// The first process, if the container runs.
    pub(crate) pid: Option<u32>,
    /// The annotation with the state directory.
    pub(crate) state_dir: Option<PathBuf>,
}

/// A container or its state directory was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindContainerError {
    /// Podman does not know the container.
    #[error("cannot ask podman about container '{container}'")]
    Inspect {
        /// The container.
        container: ShieldContainerName,
        /// The cause.
        #[source]
        source: ProgramError,
    },
    /// Podman's answer is not understood.
    #[error("podman says nothing usable about container '{container}'")]
    Answer {
        /// The container.
        container: ShieldContainerName,
    },
    /// The container was not prepared.
    #[error(
        "container '{container}' has no 'terok.shield.state_dir' annotation: it was not started \
         with the arguments of `prepare` or by `run`"
    )]
    NoAnnotation {
        /// The container.
        container: ShieldContainerName,
    },
}

impl ShieldContainerName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShieldContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShieldContainerName {
    type Err = ShieldContainerNameError;

    fn from_str(text: &str) -> Result<Self, ShieldContainerNameError> {
        let mut bytes = text.bytes();
        let first = bytes.next();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_name = first.is_some_and(is_word)
            && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
            && text.len() <= 255;
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(ShieldContainerNameError(DisplayText::new(text)))
        }
    }
}

impl FullContainerId {
    /// Returns the id as sockets are named after it.
    pub(crate) const fn as_container_id(&self) -> &ContainerId {
        &self.0
    }
}

impl FromStr for FullContainerId {
    type Err = FullContainerIdError;

    fn from_str(text: &str) -> Result<Self, FullContainerIdError> {
        let is_id =
            (12..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_id.then(|| text.parse().ok()).flatten();
        id.map(Self)
            .ok_or_else(|| FullContainerIdError(DisplayText::new(text)))
    }
}

/// Asks podman about a container.
pub(crate) async fn inspect_container(
    runner: &ProgramRunner,
    container: &ShieldContainerName,
) -> Result<PodmanContainer, FindContainerError> {
    let arguments = [
        "inspect",
        "--type=container",
        "--format=json",
        "--",
        container.as_str(),
    ];
    let output = runner
        .run("podman", &arguments.map(OsStr::new), None, INSPECT_TIMEOUT)
        .await
        .map_err(|source| FindContainerError::Inspect {
            container: container.clone(),
            source,
        })?;
    parse_inspect(&output).ok_or_else(|| FindContainerError::Answer {
        container: container.clone(),
    })
}

fn parse_inspect(output: &str) -> Option<PodmanContainer> {
    let records: Value = serde_json::from_str(output).ok()?;
    let record = records.get(0)?;
    let pid = record.pointer("/State/Pid").and_then(Value::as_u64);
    let state_dir = record
        .pointer("/Config/Annotations/terok.shield.state_dir")
        .and_then(Value::as_str)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    Some(PodmanContainer {
        pid: pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0),
        state_dir,
    })
}

/// Returns the state directory of a container below `root`.
pub fn state_below(root: &Path, container: &str) -> StateBundle {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    StateBundle::new(root.join("containers").join(container))
}

/// Returns the state directory in the annotation of a container.
pub(crate) fn annotated_state(
    container: &ShieldContainerName,
    podman: &PodmanContainer,
) -> Result<StateBundle, FindContainerError> {
    let annotated = podman.state_dir.as_ref();
    let annotated = annotated.ok_or_else(|| FindContainerError::NoAnnotation {
        container: container.clone(),
    })?;
    let resolved = annotated.canonicalize();
    Ok(StateBundle::new(
        resolved.unwrap_or_else(|_| annotated.clone()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_options_and_no_paths() {
        for name in ["box", "_box", "a.b-c_d", "0"] {
            assert_eq!(name.parse::<ShieldContainerName>().unwrap().as_str(), name);
        }
        for wrong in [
            "",
            "-box",
            ".box",
            "a/b",
            "a b",
            "..",
            "a\n",
            "ä",
            &"x".repeat(256),
        ] {
            assert!(wrong.parse::<ShieldContainerName>().is_err(), "{wrong}");
        }
        let error = "../x".parse::<ShieldContainerName>().unwrap_err();
        assert_eq!(error.to_string(), "Unsafe container name: \"../x\"");
    }

    #[test]
    fn ids_are_hexadecimal() {
        let id: FullContainerId = "0123456789abcdef".parse().unwrap();
        assert_eq!(id.as_container_id().short(), "0123456789ab");
        for wrong in ["", "0123456789a", "../../../../etc", &"a".repeat(65)] {
            assert!(wrong.parse::<FullContainerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn podmans_description_is_read() {
        let parse = |text: &str| parse_inspect(text);
        let whole = r#"[{"State":{"Pid":42},"Config":{"Annotations":
            {"terok.shield.state_dir":"/s"}}}]"#;
        let expected = PodmanContainer {
            pid: Some(42),
            state_dir: Some("/s".into()),
        };
        assert_eq!(parse(whole), Some(expected));
        let stopped = r#"[{"State":{"Pid":0},"Config":{"Annotations":
            {"terok.shield.state_dir":"relative"}}}]"#;
        assert_eq!(parse(stopped), Some(PodmanContainer::default()));
        assert_eq!(
            parse(r#"[{"Config":{"Annotations":null}}]"#),
            Some(PodmanContainer::default())
        );
        for wrong in ["", "[]", "{}", "nothing"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

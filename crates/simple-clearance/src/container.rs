// SPDX-License-Identifier: Apache-2.0
//! Finds a container and its state directory in the same way as `terok-shield`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use terok_clearance::{ContainerId, DisplayText};

use crate::absolute_path::absolute_path;
use crate::{PodmanInspectError, SimpleClearanceConfig, SimpleClearanceError};

/// A container of `terok-shield`.
#[derive(Debug)]
pub(crate) struct ShieldContainer {
    name: ContainerId,
    /// Id in the container engine, if known. Hub sockets are named after this id.
    id: Option<ContainerId>,
    /// First process, if known.
    pid: Option<u32>,
    state_dir: PathBuf,
}

/// JSON pointer to the annotation in podman's description of a container.
const STATE_DIR_POINTER: &str = "/Config/Annotations/terok.shield.state_dir";

impl ShieldContainer {
    /// Finds the configured container, by name or by state directory.
    pub(crate) fn find(config: &SimpleClearanceConfig) -> Result<Self, SimpleClearanceError> {
        let target = &config.target;
        let name = config.container.clone();
        if !target.contains('/') && name.is_none() {
            let parsed = target.parse();
            let name = parsed.map_err(|source| SimpleClearanceError::ContainerName {
                target: DisplayText::new(target),
                source,
            })?;
            return Self::find_by_name(name, config);
        }
        let state = absolute_path(Path::new(target))?;
        if !state.is_dir() {
            return Err(SimpleClearanceError::NoStateDir { path: state });
        }
        let state = canonical_state_dir(&state)?;
        let id = read_container_id(&state);
        let name = name
            .or_else(|| id.clone())
            .or_else(|| name_from_state_dir(&state));
        let Some(name) = name else {
            return Err(SimpleClearanceError::UnnamedStateDir { path: state });
        };
        let inspected = podman_inspect(&name, config).ok();
        let told = inspected.as_ref();
        Ok(Self {
            id: told.and_then(inspected_id).or(id),
            pid: told.and_then(inspected_pid),
            name,
            state_dir: state,
        })
    }

    fn find_by_name(
        name: ContainerId,
        config: &SimpleClearanceConfig,
    ) -> Result<Self, SimpleClearanceError> {
        let inspected = podman_inspect(&name, config);
        let told = inspected.as_ref().ok();
        let below = |root: &PathBuf| -> Result<PathBuf, SimpleClearanceError> {
            Ok(absolute_path(root)?.join("containers").join(name.as_str()))
        };
        let annotated = told
            .and_then(|told| told.pointer(STATE_DIR_POINTER)?.as_str())
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let state = match (&config.state_root, annotated) {
            (Some(root), _) => below(root)?,
            (None, Some(annotated)) => annotated,
            (None, None) => {
                let root = config.default_state_root.as_ref();
                let state = root.map(below).transpose()?;
                match state.filter(|state| state.is_dir()) {
                    Some(state) => state,
                    None => {
                        return Err(SimpleClearanceError::NoAnnotation {
                            container: name,
                            source: inspected.err(),
                        });
                    }
                }
            }
        };
        if !state.is_dir() {
            return Err(SimpleClearanceError::MissingStateDir {
                container: name,
                path: state,
            });
        }
        let state = canonical_state_dir(&state)?;
        Ok(Self {
            id: told
                .and_then(inspected_id)
                .or_else(|| read_container_id(&state)),
            pid: told.and_then(inspected_pid),
            name,
            state_dir: state,
        })
    }

    /// Returns the name in the container engine and in `terok-shield`.
    pub(crate) const fn name(&self) -> &ContainerId {
        &self.name
    }

    /// Returns the id, if known.
    pub(crate) const fn id(&self) -> Option<&ContainerId> {
        self.id.as_ref()
    }

    /// Returns the first process, if it is known to run.
    pub(crate) const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the state directory.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

fn canonical_state_dir(state: &Path) -> Result<PathBuf, SimpleClearanceError> {
    let found = state.canonicalize();
    found.map_err(|source| SimpleClearanceError::FindPath {
        path: state.to_owned(),
        source,
    })
}

/// Returns the id that the hook wrote to a state directory.
fn read_container_id(state: &Path) -> Option<ContainerId> {
    let mut text = String::new();
    let file = std::fs::File::open(state.join("container.id")).ok()?;
    file.take(1024).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Returns the name in a path `…/containers/NAME`.
fn name_from_state_dir(state: &Path) -> Option<ContainerId> {
    let parent = state.parent()?.file_name()?;
    let name = state.file_name()?.to_str()?;
    (parent == "containers").then(|| name.parse().ok())?
}

fn inspected_id(record: &Value) -> Option<ContainerId> {
    record.get("Id")?.as_str()?.parse().ok()
}

fn inspected_pid(record: &Value) -> Option<u32> {
    let pid = record.pointer("/State/Pid")?.as_u64()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Returns podman's description of a container.
fn podman_inspect(
    name: &ContainerId,
    config: &SimpleClearanceConfig,
) -> Result<Value, PodmanInspectError> {
    let podman = config
        .find_program("podman")
        .ok_or(PodmanInspectError::NotFound)?;
    let output = Command::new(&podman)
        .args([
            "inspect",
            "--type=container",
            "--format=json",
            "--",
            name.as_str(),
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PodmanInspectError::Run {
            program: podman,
            source,
        })?;
    if !output.status.success() {
        return Err(PodmanInspectError::UnknownContainer {
            container: name.clone(),
            stderr: DisplayText::new(String::from_utf8_lossy(&output.stderr).trim()),
        });
    }
    let records: Value =
        serde_json::from_slice(&output.stdout).map_err(PodmanInspectError::Parse)?;
    let first = records.get(0).cloned();
    first.ok_or_else(|| PodmanInspectError::NoDescription(name.clone()))
}

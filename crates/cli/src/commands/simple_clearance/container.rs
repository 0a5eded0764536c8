// SPDX-License-Identifier: Apache-2.0
//! Finds a container and its state directory in the same way as `terok-shield`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use terok_clearance::{ContainerId, DisplayText};

use super::absolute_path;
use crate::{CommandFailure, ErrorExt as _, UserEnvironment};

/// A container of `terok-shield`.
#[derive(Debug)]
pub(super) struct ShieldContainer {
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
    /// Finds the container `target`, given by name or by state directory.
    pub(super) fn find(
        target: &str,
        name: Option<ContainerId>,
        root: Option<&Path>,
        environment: &UserEnvironment,
    ) -> Result<Self, CommandFailure> {
        if !target.contains('/') && name.is_none() {
            let shown = DisplayText::new(target);
            let name = target
                .parse()
                .with_context(|| format!("{shown:?} is not the name of a container"))
                .with_hint("a state directory needs a slash, as in ./state")?;
            return Self::find_by_name(name, root, environment);
        }
        let state = absolute_path(Path::new(target))?;
        if !state.is_dir() {
            let missing = anyhow!("there is no directory {}", state.display());
            return Err(missing).with_hint("give the container's state directory or its name");
        }
        let state = canonical_state_dir(&state)?;
        let id = read_container_id(&state);
        let name = name
            .or_else(|| id.clone())
            .or_else(|| name_from_state_dir(&state));
        let name = name
            .ok_or_else(|| anyhow!("{} does not name its container", state.display()))
            .with_hint("add the name of the container")?;
        let inspected = podman_inspect(&name, environment).ok();
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
        root: Option<&Path>,
        environment: &UserEnvironment,
    ) -> Result<Self, CommandFailure> {
        let inspected = podman_inspect(&name, environment);
        let told = inspected.as_ref().ok();
        let below = |root: &Path| -> anyhow::Result<PathBuf> {
            Ok(absolute_path(root)?.join("containers").join(name.as_str()))
        };
        let annotated = told
            .and_then(|told| told.pointer(STATE_DIR_POINTER)?.as_str())
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let state = match (root, annotated) {
            (Some(root), _) => below(root)?,
            (None, Some(annotated)) => annotated,
            (None, None) => {
                let other = environment.shield_state_dir().map(below).transpose()?;
                match other.filter(|state| state.is_dir()) {
                    Some(state) => state,
                    None => return Err(missing_state_failure(&name, inspected.as_ref().err())),
                }
            }
        };
        if !state.is_dir() {
            let missing = anyhow!("{name} has no state directory {}", state.display());
            return Err(missing)
                .with_hint("--state-dir takes the directory that contains `containers`");
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
    pub(super) const fn name(&self) -> &ContainerId {
        &self.name
    }

    /// Returns the id, if known.
    pub(super) const fn id(&self) -> Option<&ContainerId> {
        self.id.as_ref()
    }

    /// Returns the first process, if known to run.
    pub(super) const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the state directory.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

fn missing_state_failure(name: &ContainerId, error: Option<&anyhow::Error>) -> CommandFailure {
    let what = format!("container '{name}' has no 'terok.shield.state_dir' annotation");
    let error = match error {
        Some(error) => anyhow!("{error:#}").context(what),
        None => anyhow!(what),
    };
    let advised = Err::<(), _>(error)
        .with_hint("was it started through terok-shield?")
        .with_hint(
            "pass --state-dir=<root>, or its state directory, if you know where its state is",
        );
    match advised {
        Err(failure) => failure,
        Ok(()) => anyhow!("unknown error").into(),
    }
}

fn canonical_state_dir(state: &Path) -> anyhow::Result<PathBuf> {
    state
        .canonicalize()
        .with_context(|| format!("cannot find {}", state.display()))
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
fn podman_inspect(name: &ContainerId, environment: &UserEnvironment) -> anyhow::Result<Value> {
    let podman = environment
        .find_program("podman")
        .ok_or_else(|| anyhow!("podman is not on the PATH"))?;
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
        .with_context(|| format!("cannot run {}", podman.display()))?;
    if !output.status.success() {
        let said = DisplayText::new(String::from_utf8_lossy(&output.stderr).trim());
        return Err(anyhow!("podman knows no container {name}: {said}"));
    }
    let records: Value =
        serde_json::from_slice(&output.stdout).context("cannot parse the output of podman")?;
    let first = records.get(0).cloned();
    first.ok_or_else(|| anyhow!("podman did not describe {name}"))
}

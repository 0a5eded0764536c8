// SPDX-License-Identifier: Apache-2.0
//! Checks one of our hook files, `oci-hooks(5)`: what it calls, and for which containers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::annotation_keys;

/// A hook file is not ours, or podman would not run it for our containers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookFileProblem {
    /// The file cannot be read.
    #[error("{0}")]
    Read(String),
    /// The file is no JSON.
    #[error("it is not JSON")]
    Json,
    /// podman knows no such version.
    #[error("its version is not 1.0.0")]
    Version,
    /// It names no program.
    #[error("it names no program by an absolute path")]
    Program,
    /// It calls the program in another way.
    #[error("it does not call `hook {0}`")]
    Arguments(String),
    /// It is for another stage.
    #[error("it is not for the stage {0}")]
    Stage(String),
    /// It is for other containers.
    #[error(
        "it is not for every container with the annotation {}",
        annotation_keys::NETWORK
    )]
    Condition,
}

/// Regular expressions that match every value of the annotation.
const ANY_VALUE: [&str; 7] = [
    "",
    ".*",
    ".+",
    "^.*$",
    "^.+$",
    "^(dialed|filtered)$",
    "^(filtered|dialed)$",
];

/// Checks the hook file of `stage`, and returns the program that it calls.
pub(super) fn check_hook_file(json: &[u8], stage: &str) -> Result<PathBuf, HookFileProblem> {
    let file: Value = serde_json::from_slice(json).map_err(|_syntax| HookFileProblem::Json)?;
    if file.get("version").and_then(Value::as_str) != Some("1.0.0") {
        return Err(HookFileProblem::Version);
    }
    let hook = file.get("hook");
    let part = |name| hook.and_then(|hook| hook.get(name));
    let program = part("path").and_then(Value::as_str).map(Path::new);
    let program = program.filter(|path| path.is_absolute());
    let program = program.ok_or(HookFileProblem::Program)?;
    let arguments = part("args").map(strings).unwrap_or_default();
    if !arguments.ends_with(&["hook", stage]) {
        return Err(HookFileProblem::Arguments(stage.to_owned()));
    }
    let stages = file.get("stages").map(strings).unwrap_or_default();
    if !stages.contains(&stage) {
        return Err(HookFileProblem::Stage(stage.to_owned()));
    }
    match file.get("when") {
        Some(when) if is_for_our_containers(when) => Ok(program.to_owned()),
        _ => Err(HookFileProblem::Condition),
    }
}

/// Returns `true` if the condition holds for every container with our annotation: it names no other
/// condition, all of which would have to hold.
fn is_for_our_containers(when: &Value) -> bool {
    let Some(when) = when.as_object() else {
        return false;
    };
    let known = ["annotations", "or"];
    if when.keys().any(|key| !known.contains(&key.as_str())) {
        return false;
    }
    let annotations = when.get("annotations").and_then(Value::as_object);
    let Some(annotations) = annotations.filter(|annotations| annotations.len() == 1) else {
        return false;
    };
    annotations.iter().all(|(key, value)| {
        let is_any = value
            .as_str()
            .is_some_and(|value| ANY_VALUE.contains(&value));
        is_our_key(key) && is_any
    })
}

/// Returns `true` for a regular expression that matches our annotation: its name, also with anchors
/// and escaped dots.
fn is_our_key(pattern: &str) -> bool {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let pattern = pattern.strip_suffix('$').unwrap_or(pattern);
    pattern.replace("\\.", ".") == annotation_keys::NETWORK
}

fn strings(value: &Value) -> Vec<&str> {
    let values = value.as_array().into_iter().flatten();
    values.filter_map(Value::as_str).collect()
}

// SPDX-License-Identifier: Apache-2.0
//! The hooks that podman's runtime calls, and their installation.
//!
//! Two hooks for each container with the annotation `terok.shield.profiles`: one loads the rules,
//! and a failure of it is the end of the start; the other one starts the reader, which a container
//! can do without. Both run inside podman's user namespace, as its root.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netns::ProcessHandle;
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::{Map, Value, json};
use terok_clearance::{ContainerId, DisplayText};

use crate::container_dnsmasq::{DnsmasqError, start_dnsmasq, stop_dnsmasq};
use crate::containers_conf::ContainersConfPaths;
use crate::environment_check::{HOOK_DESCRIPTORS, find_hook_problem};
use crate::namespace_firewall::{FirewallError, NamespaceFirewall};
use crate::posture::ShieldPosture;
use crate::program_runner::ProgramRunner;
use crate::state_bundle::{
    BUNDLE_VERSION, StateBundle, StateBundleError, read_file, remove_file, write_file,
};

/// What a hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OciHookRole {
    /// Loads the rules and starts dnsmasq.
    Rules,
    /// Starts the reader.
    Reader,
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OciHookStage {
    /// Before the first program of the container.
    CreateRuntime,
    /// After its end.
    Poststop,
}

/// A hook failed, or was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciHookError {
    /// The description of the container is not understood.
    #[error("the runtime's description of the container has no usable {0}")]
    Description(&'static str),
    /// The state directory could be another user's.
    #[error("the state directory {} is refused: {reason}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// The container was prepared by another release.
    #[error(
        "the container was prepared for layout {found:?}, and this hook has {BUNDLE_VERSION}: make \
         the container anew"
    )]
    Version {
        /// The version in the annotation.
        found: DisplayText,
    },
    /// There are no rules to load.
    #[error("{} is missing", path.display())]
    NoRuleset {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error(transparent)]
    State(#[from] StateBundleError),
    /// The rules were not loaded.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// dnsmasq was not started.
    #[error(transparent)]
    Dnsmasq(#[from] DnsmasqError),
    /// The reader was not started.
    #[error("cannot start the reader")]
    Reader(#[source] io::Error),
    /// The hooks do not work after their installation.
    #[error("the hooks were written, but {problem}")]
    Installed {
        /// The problem.
        problem: String,
    },
}

/// The container, as the runtime describes it to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HookedContainer {
    id: Option<ContainerId>,
    pid: Option<u32>,
    annotations: Map<String, Value>,
    bundle: StateBundle,
}

/// Performs a hook. `description` is the state of the container in the format of the Open
/// Container Initiative, `program` this program.
pub async fn run_oci_hook(
    runner: &ProgramRunner,
    role: OciHookRole,
    stage: OciHookStage,
    description: &str,
    program: &Path,
) -> Result<(), OciHookError> {
    let container = HookedContainer::parse(description)?;
    let result = match (role, stage) {
        (OciHookRole::Rules, OciHookStage::CreateRuntime) => load_rules(runner, &container).await,
        (OciHookRole::Rules, OciHookStage::Poststop) => {
            stop_dnsmasq(&container.bundle).await.map_err(Into::into)
        }
        (OciHookRole::Reader, OciHookStage::CreateRuntime) => start_reader(&container, program),
        (OciHookRole::Reader, OciHookStage::Poststop) => stop_reader(&container, program).await,
    };
    if let Err(error) = &result {
        append_error(&container.bundle, error);
    }
    result
}

impl HookedContainer {
    fn parse(description: &str) -> Result<Self, OciHookError> {
        let missing = OciHookError::Description;
        let state: Value = serde_json::from_str(description).map_err(|_invalid| missing("JSON"))?;
        let annotations = state.get("annotations").and_then(Value::as_object);
        let annotations = annotations.ok_or_else(|| missing("annotations"))?.clone();
        let state_dir = annotations
            .get("terok.shield.state_dir")
            .and_then(Value::as_str);
        let state_dir = Path::new(state_dir.ok_or_else(|| missing("state directory"))?);
        let pid = state.get("pid").and_then(Value::as_u64);
        Ok(Self {
            id: state
                .get("id")
                .and_then(Value::as_str)
                .and_then(|id| id.parse().ok()),
            pid: pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid > 0),
            bundle: StateBundle::new(check_state_dir(state_dir)?),
            annotations,
        })
    }

    fn id(&self) -> Result<&ContainerId, OciHookError> {
        self.id.as_ref().ok_or(OciHookError::Description("id"))
    }

    fn annotation(&self, key: &str) -> &str {
        let value = self.annotations.get(key).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// Returns the facts about the task: the annotations `dossier.*`.
    fn dossier(&self) -> Map<String, Value> {
        let facts = self.annotations.iter().filter_map(|(key, value)| {
            let text = value.as_str()?;
            Some((key.strip_prefix("dossier.")?.to_owned(), text.into()))
        });
        facts.collect()
    }
}

/// Returns the state directory without symbolic links. The annotation is not trusted: the
/// directory must be the caller's, and not writable for other users.
fn check_state_dir(path: &Path) -> Result<PathBuf, OciHookError> {
    let refused = |reason| OciHookError::StateDir {
        path: path.to_owned(),
        reason,
    };
    if !path.is_absolute() {
        return Err(refused("it is a relative path"));
    }
    let found = path
        .symlink_metadata()
        .map_err(|_gone| refused("it does not exist"))?;
    if !found.is_dir() {
        return Err(refused("it is no directory"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(refused("another user owns it"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused("other users can write to it"));
    }
    path.canonicalize()
        .map_err(|_gone| refused("it does not exist"))
}

async fn load_rules(
    runner: &ProgramRunner,
    container: &HookedContainer,
) -> Result<(), OciHookError> {
    let version = container.annotation("terok.shield.version");
    if version != BUNDLE_VERSION.to_string() {
        return Err(OciHookError::Version {
            found: DisplayText::new(version),
        });
    }
    let bundle = &container.bundle;
    let pid = container.pid.ok_or(OciHookError::Description("pid"))?;
    write_file(
        &bundle.container_id(),
        &format!("{}\n", container.id()?.short()),
    )?;
    let path = bundle.ruleset();
    let ruleset = read_file(&path)?.ok_or(OciHookError::NoRuleset { path })?;
    let firewall = NamespaceFirewall::open(runner.clone(), pid)?;
    firewall.commit(&ruleset).await?;
    firewall.verify(ShieldPosture::Up).await?;
    Ok(start_dnsmasq(runner, &firewall, bundle).await?)
}

fn start_reader(container: &HookedContainer, program: &Path) -> Result<(), OciHookError> {
    let bundle = &container.bundle;
    let id = container.id()?;
    let dossier = container.dossier();
    if let Some(meta_path) = dossier.get("meta_path").and_then(Value::as_str) {
        write_file(&bundle.meta_path(), meta_path)?;
    }
    if reader_of(bundle, program).is_some() {
        return Ok(());
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(bundle.reader_log());
    let log = log.map_err(OciHookError::Reader)?;
    let errors = log.try_clone().map_err(OciHookError::Reader)?;
    // A session of its own: the reader outlives the hook, and is ended as a group.
    let child = Command::new("setsid")
        .arg(program)
        .arg("reader")
        .arg(bundle.directory())
        .arg(id.short())
        .arg("--emit=socket")
        .arg(format!("--annotations={}", Value::Object(dossier)))
        .arg(format!("--container-id={id}"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(OciHookError::Reader)?;
    Ok(write_file(
        &bundle.reader_pid(),
        &format!("{}\n", child.id()),
    )?)
}

async fn stop_reader(container: &HookedContainer, program: &Path) -> Result<(), OciHookError> {
    let bundle = &container.bundle;
    if let Some((pid, process)) = reader_of(bundle, program) {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let end = |signal| {
            if let Some(group) = group
                && let Err(error) = kill_process_group(group, signal)
            {
                tracing::debug!(%error, "the reader has ended already");
            }
        };
        end(Signal::TERM);
        let ended = process.wait_for_exit();
        if tokio::time::timeout(READER_END_TIMEOUT, ended)
            .await
            .is_err()
        {
            end(Signal::KILL);
        }
    }
    Ok(remove_file(&bundle.reader_pid())?)
}

/// The time for a reader to end after SIGTERM.
const READER_END_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Returns the recorded reader, if the process is one of this container.
fn reader_of(bundle: &StateBundle, program: &Path) -> Option<(u32, ProcessHandle)> {
    let pid = fs::read_to_string(bundle.reader_pid()).ok()?;
    let pid = pid.trim().parse().ok()?;
    let process = ProcessHandle::open(pid).ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments: Vec<_> = arguments.split(|byte| *byte == 0).collect();
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let is_reader = [
        bytes(program),
        b"reader".to_vec(),
        bytes(bundle.directory()),
    ]
    .iter()
    .all(|word| arguments.contains(&word.as_slice()));
    is_reader.then_some((pid, process))
}

/// Appends an error to the file that tells why a container did not start.
fn append_error(bundle: &StateBundle, error: &OciHookError) {
    let path = bundle.directory().join("hook-error.log");
    let line = format!(
        "terok-clearance hook: {}\n",
        terok_clearance::error_chain(error)
    );
    let opened = OpenOptions::new().append(true).create(true).open(path);
    // The runtime shows standard error, too.
    drop(opened.and_then(|mut file| file.write_all(line.as_bytes())));
}

/// Writes the descriptions of both hooks, and tells podman where they are.
///
/// They have the names of the Python package's, whose hooks they replace: two hooks for one
/// container would load the rules twice.
pub fn install_oci_hooks(
    hooks: &Path,
    containers_conf: &ContainersConfPaths,
    program: &Path,
) -> Result<(), OciHookError> {
    for name in HOOK_DESCRIPTORS {
        let role = if name.contains("bridge") {
            "reader"
        } else {
            "rules"
        };
        let stage = if name.contains("poststop") {
            "poststop"
        } else {
            "createRuntime"
        };
        let descriptor = json!({
            "version": "1.0.0",
            "hook": {
                "path": program,
                "args": [program, "shield", "hook", role, stage],
            },
            "when": {"annotations": {"terok.shield.profiles": ".*"}},
            "stages": [stage],
        });
        write_file(&hooks.join(name), &format!("{descriptor:#}\n"))?;
    }
    containers_conf.add_hooks_directory(hooks)?;
    match find_hook_problem(containers_conf, hooks) {
        Some(problem) => Err(OciHookError::Installed { problem }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn description(state_dir: &Path) -> String {
        json!({
            "id": "0123456789abcdef",
            "pid": 42,
            "annotations": {
                "terok.shield.state_dir": state_dir,
                "terok.shield.version": "18",
                "dossier.task": "t",
                "dossier.meta_path": "/m",
                "other": "x",
            },
        })
        .to_string()
    }

    #[test]
    fn a_description_is_read_and_its_directory_checked() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("box");
        let parse = |path: &Path| HookedContainer::parse(&description(path));
        let reason = |path: &Path| parse(path).unwrap_err().to_string();
        assert!(reason(&state).contains("does not exist"));
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let container = parse(&state).unwrap();
        assert_eq!(container.pid, Some(42));
        assert_eq!(container.id().unwrap().short(), "0123456789ab");
        let dossier = json!({"task": "t", "meta_path": "/m"});
        assert_eq!(Value::Object(container.dossier()), dossier);
        assert_eq!(container.annotation("terok.shield.version"), "18");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(reason(&state).contains("other users can write"));
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        assert!(reason(&link).contains("no directory"));
        assert!(reason(Path::new("relative")).contains("relative"));
        for wrong in ["", "[]", "{}", "{\"annotations\":{}}"] {
            assert!(HookedContainer::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn installed_hooks_are_found_whole() {
        let place = tempfile::tempdir().unwrap();
        let conf = ContainersConfPaths {
            user: place.path().join("config/containers.conf"),
            system: Vec::new(),
            is_root: false,
            home: place.path().to_owned(),
        };
        let hooks = place.path().join("hooks");
        let program = place.path().join("terok-clearance");
        let missing = install_oci_hooks(&hooks, &conf, &program).unwrap_err();
        assert!(missing.to_string().contains("is gone"));
        fs::write(&program, "").unwrap();
        install_oci_hooks(&hooks, &conf, &program).unwrap();
        install_oci_hooks(&hooks, &conf, &program).unwrap();
        assert_eq!(fs::read_dir(&hooks).unwrap().count(), 4);
        let text = fs::read_to_string(hooks.join("terok-shield-bridge-poststop.json")).unwrap();
        let descriptor: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(descriptor["hook"]["args"][3], "reader");
        assert_eq!(descriptor["stages"], json!(["poststop"]));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Container records from `podman inspect`, with a time limit.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use terok_clearance::{ContainerId, DisplayText};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{ContainerInfo, ContainerInspector};

/// The time limit of one `podman inspect`.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum output of one `podman inspect`.
const MAX_INSPECT_BYTES: u64 = 4 * 1024 * 1024;
/// An unknown container is not looked up again for this time.
const MISSING_RETRY_DELAY: Duration = Duration::from_secs(30);
/// Maximum containers in the cache.
const MAX_CACHED_CONTAINERS: usize = 1024;

/// Runs `podman inspect`, once for each existing container.
#[derive(Debug)]
pub struct PodmanInspector {
    program: PathBuf,
    inspect_timeout: Duration,
    cache: Mutex<HashMap<ContainerId, InspectCacheEntry>>,
}

#[derive(Debug, Clone)]
enum InspectCacheEntry {
    Found(ContainerInfo),
    Missing(Instant),
}

impl PodmanInspector {
    /// Returns an inspector that runs the podman at `program`.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            inspect_timeout: INSPECT_TIMEOUT,
            cache: Mutex::default(),
        }
    }

    /// Sets the time limit of one `podman inspect`; the default is five seconds.
    #[must_use]
    pub const fn with_timeout(mut self, inspect_timeout: Duration) -> Self {
        self.inspect_timeout = inspect_timeout;
        self
    }

    fn lock_cache(&self) -> MutexGuard<'_, HashMap<ContainerId, InspectCacheEntry>> {
        // A panic leaves no change of the map incomplete.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContainerInspector for PodmanInspector {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        match self.lock_cache().get(container) {
            Some(InspectCacheEntry::Found(info)) => return info.clone(),
            Some(InspectCacheEntry::Missing(since)) if since.elapsed() < MISSING_RETRY_DELAY => {
                return ContainerInfo::default();
            }
            _ => {}
        }
        // At the timeout, podman is killed by dropping the future.
        let inspected = timeout(self.inspect_timeout, run_inspect(&self.program, container)).await;
        let info = inspected.ok().flatten().unwrap_or_default();
        let known = if info.container_id.is_empty() {
            tracing::debug!(%container, "podman does not know the container");
            InspectCacheEntry::Missing(Instant::now())
        } else {
            InspectCacheEntry::Found(info.clone())
        };
        let mut all = self.lock_cache();
        if all.len() >= MAX_CACHED_CONTAINERS {
            all.clear();
        }
        all.insert(container.clone(), known);
        info
    }

    fn forget(&self, container: &ContainerId) {
        self.lock_cache().remove(container);
    }
}

async fn run_inspect(program: &Path, container: &ContainerId) -> Option<ContainerInfo> {
    let mut podman = Command::new(program)
        .args(["inspect", "--type", "container", "--format", "json", "--"])
        .arg(container.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut json = Vec::new();
    let output = podman.stdout.take()?;
    output
        .take(MAX_INSPECT_BYTES.saturating_add(1))
        .read_to_end(&mut json)
        .await
        .ok()?;
    let too_much = u64::try_from(json.len()).is_ok_and(|length| length > MAX_INSPECT_BYTES);
    if too_much || !podman.wait().await.ok()?.success() {
        return None;
    }
    parse_inspect_output(&json)
}

/// Parses the record of the first container.
fn parse_inspect_output(json: &[u8]) -> Option<ContainerInfo> {
    let containers: Vec<InspectedContainer> = serde_json::from_slice(json).ok()?;
    let InspectedContainer {
        id,
        name,
        state,
        config,
    } = containers.into_iter().next()?;
    let name = name.strip_prefix('/').unwrap_or(&name);
    let short: String = id.chars().take(12).collect();
    Some(ContainerInfo {
        container_id: DisplayText::new(&short),
        name: DisplayText::name(name),
        state: DisplayText::new(&state.status),
        annotations: config.annotations,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedContainer {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    state: InspectedState,
    #[serde(default)]
    config: InspectedConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedState {
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedConfig {
    #[serde(deserialize_with = "or_none")]
    annotations: BTreeMap<String, String>,
}

fn or_none<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::{IdentityResolver, NullInspector};
    use crate::notifier::ContainerIdentity;

    const WEB: &str = r#"[{"Id": "0123456789abcdef0123", "Name": "/web",
        "State": {"Status": "running", "Pid": 7}, "Config": {"Annotations":
        {"ai.terok.project": "warp", "dossier.task": "b42", "dossier.name": "a\u001b[31mname"}}}]"#;

    fn web() -> ContainerId {
        "0123456789ab".parse().unwrap()
    }

    /// Returns the working directory and the path of a fake podman that runs `script`.
    fn podman(script: &str) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("podman");
        std::fs::write(
            &program,
            format!("#!/bin/sh\ncd {:?}\n{script}\n", place.path()),
        )
        .unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        (place, program)
    }

    #[test]
    fn a_record_is_parsed_and_a_malformed_one_is_none() {
        let info = parse_inspect_output(WEB.as_bytes()).unwrap();
        assert_eq!(info.container_id.as_str(), "0123456789ab");
        assert_eq!(info.name.as_str(), "web");
        assert_eq!(info.state.as_str(), "running");
        assert_eq!(info.annotations["dossier.task"], "b42");
        let bare =
            parse_inspect_output(br#"[{"Id": "ab", "Config": {"Annotations": null}}]"#).unwrap();
        assert!(bare.annotations.is_empty());
        for nothing in ["", "[]", "{}", "[{}]", "[{\"Id\": 7}]", "null", "\u{0}"] {
            assert_eq!(
                parse_inspect_output(nothing.as_bytes()),
                None,
                "{nothing:?}"
            );
        }
    }

    #[tokio::test]
    async fn podman_runs_once_and_again_after_the_container_ended() {
        let script = format!("echo \"$@\" >>asked\ncat <<'EOT'\n{WEB}\nEOT");
        let (place, program) = podman(&script);
        let resolver = IdentityResolver::new(Some(PodmanInspector::new(program)));
        let expected = ContainerIdentity {
            container_id: "0123456789ab".to_owned(),
            container_name: "web".to_owned(),
            project: "warp".to_owned(),
            task_id: "b42".to_owned(),
            task_name: "a [31mname".to_owned(),
        };
        assert_eq!(resolver.resolve(&web()).await, expected);
        assert_eq!(resolver.resolve(&web()).await, expected);
        let asked = || std::fs::read_to_string(place.path().join("asked")).unwrap();
        let once = "inspect --type container --format json -- 0123456789ab\n";
        assert_eq!(asked(), once);
        resolver.forget(&web());
        resolver.resolve(&web()).await;
        assert_eq!(asked(), once.repeat(2));
    }

    #[tokio::test]
    async fn a_podman_that_fails_hangs_floods_or_is_missing_finds_nothing() {
        let patience = Duration::from_secs(1);
        for script in [
            "exit 125",
            "echo nonsense",
            "exec sleep 600",
            "exec cat /dev/zero",
            &format!("cat <<'EOT'\n{WEB}\nEOT\nexit 1"),
        ] {
            let (_place, program) = podman(script);
            let inspector = PodmanInspector::new(program).with_timeout(patience);
            let info = inspector.inspect(&web()).await;
            assert_eq!(info, ContainerInfo::default(), "{script:?}");
        }
        let nowhere = PodmanInspector::new("/nonexistent/podman".into());
        assert_eq!(nowhere.inspect(&web()).await, ContainerInfo::default());
        let unknown = IdentityResolver::new(NullInspector);
        assert_eq!(unknown.resolve(&web()).await, ContainerIdentity::default());
    }
}

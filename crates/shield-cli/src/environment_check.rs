// SPDX-License-Identifier: Apache-2.0
//! Checks that containers can be started with a firewall: hooks, podman, programs for names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::containers_conf::ContainersConfPaths;
use crate::dns_tier::DnsTier;
use crate::podman_host::PodmanHost;
use crate::program_runner::ProgramRunner;
use crate::state_bundle::StateBundle;

/// The limit for `dnsmasq --test` and `--version`.
const DNSMASQ_TIMEOUT: Duration = Duration::from_secs(10);

/// The files that podman reads, one for each hook and stage.
pub(crate) const HOOK_DESCRIPTORS: [&str; 4] = [
    "terok-shield-createRuntime.json",
    "terok-shield-poststop.json",
    "terok-shield-bridge-createRuntime.json",
    "terok-shield-bridge-poststop.json",
];

/// The state of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentReport {
    /// The installed podman.
    pub podman: PodmanHost,
    /// The hooks are installed for every container.
    pub has_hooks: bool,
    /// What is missing or limited.
    pub issues: Vec<String>,
}

impl EnvironmentReport {
    /// Checks the environment. `hooks` is the directory of the installed hooks.
    pub async fn check(
        runner: &ProgramRunner,
        containers_conf: &ContainersConfPaths,
        hooks: &Path,
        dnsmasq_path: Option<&Path>,
    ) -> Self {
        let podman = PodmanHost::inspect(runner).await;
        let mut issues = Vec::new();
        let dnsmasq = match find_dnsmasq(runner, dnsmasq_path) {
            Ok(found) => found,
            Err(problem) => {
                issues.push(problem);
                None
            }
        };
        let detected = detect_dns_tier(runner, dnsmasq.as_deref(), None).await;
        if let Some(limitation) = detected.tier.limitation() {
            issues.push(format!("DNS tier {}: {limitation}", detected.tier));
        }
        for program in ["podman", "nft", "nsenter"] {
            if runner.find(program).is_none() {
                issues.push(format!("{program} is not installed"));
            }
        }
        let missing = find_hook_problem(containers_conf, hooks);
        let has_hooks = missing.is_none();
        issues.extend(missing);
        Self {
            podman,
            has_hooks,
            issues,
        }
    }

    /// Returns the word for the hooks.
    pub const fn hooks(&self) -> &'static str {
        if self.has_hooks {
            "global"
        } else {
            "not-installed"
        }
    }

    /// Returns the word for the whole environment.
    pub const fn health(&self) -> &'static str {
        if self.has_hooks { "ok" } else { "setup-needed" }
    }
}

/// Returns why the hooks do not start with every container; `None` if they do.
pub(crate) fn find_hook_problem(
    containers_conf: &ContainersConfPaths,
    hooks: &Path,
) -> Option<String> {
    for name in HOOK_DESCRIPTORS {
        let path = hooks.join(name);
        let descriptor = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let Some(descriptor) = descriptor else {
            return Some(format!("the hook {} is not installed", path.display()));
        };
        let program = descriptor.pointer("/hook/path").and_then(Value::as_str);
        let arguments = descriptor.pointer("/hook/args").and_then(Value::as_array);
        let arguments = arguments.into_iter().flatten().filter_map(Value::as_str);
        let mut needed = program
            .into_iter()
            .chain(arguments.filter(|word| word.starts_with('/')));
        if program.is_none() {
            return Some(format!("the hook {} names no program", path.display()));
        }
        if let Some(gone) = needed.find(|file| !Path::new(file).is_file()) {
            return Some(format!(
                "the hook {} needs {gone}, which is gone",
                path.display()
            ));
        }
    }
    let is_known = containers_conf.user_has_hooks_directory(hooks);
    (!is_known).then(|| {
        format!(
            "{} does not name the directory of the hooks, {}",
            containers_conf.user.display(),
            hooks.display()
        )
    })
}

/// Returns the dnsmasq to start, as `dnsmasq.command` has it.
pub(crate) fn find_dnsmasq(
    runner: &ProgramRunner,
    configured: Option<&Path>,
) -> Result<Option<String>, String> {
    let Some(path) = configured else {
        return Ok(runner.find("dnsmasq").map(|_| "dnsmasq".to_owned()));
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = path.to_string_lossy().into_owned();
    if runner.find(&name).is_some() {
        Ok(Some(name))
    } else {
        Err(format!("dnsmasq_path {name} is not an executable file"))
    }
}

/// The best way to look names up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DetectedTier {
    pub(crate) tier: DnsTier,
    /// dnsmasq must not read the state directory, as with `AppArmor`.
    pub(crate) is_confined: bool,
}

/// Detects the best way to look names up. dnsmasq must be able to read the state directory.
pub(crate) async fn detect_dns_tier(
    runner: &ProgramRunner,
    dnsmasq: Option<&str>,
    bundle: Option<&StateBundle>,
) -> DetectedTier {
    let fallback = if runner.find("dig").is_some() || runner.find("drill").is_some() {
        DnsTier::Lookup
    } else {
        DnsTier::Getent
    };
    let Some(dnsmasq) = dnsmasq else {
        return DetectedTier {
            tier: fallback,
            is_confined: false,
        };
    };
    if let Some(bundle) = bundle
        && !can_read_state(runner, dnsmasq, bundle).await
    {
        return DetectedTier {
            tier: fallback,
            is_confined: true,
        };
    }
    let version = [OsStr::new("--version")];
    let version = runner
        .run_any(dnsmasq, &version, None, DNSMASQ_TIMEOUT)
        .await;
    let options = version.map(|output| output.stdout).unwrap_or_default();
    let mut words = options.split_whitespace();
    let tier = if words.any(|word| word == "nftset") {
        DnsTier::DnsmasqLive
    } else {
        DnsTier::DnsmasqStatic
    };
    DetectedTier {
        tier,
        is_confined: false,
    }
}

async fn can_read_state(runner: &ProgramRunner, dnsmasq: &str, bundle: &StateBundle) -> bool {
    // Profiles of `AppArmor` that allow the state directory allow files of this name.
    let probe: PathBuf = bundle.directory().join("dnsmasq.apparmor-probe.conf");
    if fs::write(&probe, "# probe\n").is_err() {
        return true;
    }
    let mut option = std::ffi::OsString::from("--conf-file=");
    option.push(&probe);
    let arguments = [OsStr::new("--test"), &option];
    let tested = runner
        .run_any(dnsmasq, &arguments, None, DNSMASQ_TIMEOUT)
        .await;
    drop(fs::remove_file(&probe));
    tested.map_or(true, |output| {
        output.is_success
            || !output
                .stderr
                .to_ascii_lowercase()
                .contains("permission denied")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_best_tier_is_found() {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path());
        let runner = ProgramRunner::new(place.path().into());
        let detect = async || {
            let dnsmasq = find_dnsmasq(&runner, None).unwrap();
            let found = detect_dns_tier(&runner, dnsmasq.as_deref(), Some(&bundle)).await;
            (found.tier, found.is_confined)
        };
        assert_eq!(detect().await, (DnsTier::Getent, false));
        program(place.path(), "drill", "");
        assert_eq!(detect().await, (DnsTier::Lookup, false));
        program(place.path(), "dnsmasq", "echo options: IPv6 no-nftset");
        assert_eq!(detect().await, (DnsTier::DnsmasqStatic, false));
        program(place.path(), "dnsmasq", "echo options: IPv6 nftset auth");
        assert_eq!(detect().await, (DnsTier::DnsmasqLive, false));
        program(
            place.path(),
            "dnsmasq",
            "echo 'cannot read: Permission denied' >&2; exit 3",
        );
        assert_eq!(detect().await, (DnsTier::Lookup, true));
        let missing = find_dnsmasq(&runner, Some(Path::new("/nonexistent/dnsmasq")));
        assert!(missing.is_err());
    }

    #[test]
    fn hooks_must_be_whole_and_known_to_podman() {
        let place = tempfile::tempdir().unwrap();
        let conf = ContainersConfPaths {
            user: place.path().join("containers.conf"),
            system: Vec::new(),
            is_root: false,
            home: place.path().to_owned(),
        };
        let hooks = place.path().join("hooks");
        fs::create_dir(&hooks).unwrap();
        let problem = || find_hook_problem(&conf, &hooks).unwrap_or_default();
        assert!(problem().contains("is not installed"));
        program(place.path(), "hook", "");
        let path = place.path().join("hook");
        for name in HOOK_DESCRIPTORS {
            let descriptor = serde_json::json!({"hook": {"path": path, "args": [path, "-I"]}});
            fs::write(hooks.join(name), descriptor.to_string()).unwrap();
        }
        assert!(problem().contains("does not name the directory"));
        let line = format!("[engine]\nhooks_dir = [\"{}\"]\n", hooks.display());
        fs::write(&conf.user, line).unwrap();
        assert_eq!(problem(), "");
        fs::remove_file(&path).unwrap();
        assert!(problem().contains("is gone"));
    }
}

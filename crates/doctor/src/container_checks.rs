// SPDX-License-Identifier: Apache-2.0
//! Checks of podman, its runtime, and what a rootless container needs.

use std::path::{Path, PathBuf};

use crate::HostDescription;
use crate::containers_conf::read_runtime;
use crate::finding::{Check, Finding};
use crate::package_manager::SystemPackage;
use crate::program_output::{QueriedOutput, run_program};

const PODMAN: Check = Check::of_containers("podman");
const RUNTIME: Check = Check::of_containers("oci-runtime");
const CONTAINERS_CONF: Check = Check::of_containers("containers-conf");
const SUBORDINATE_IDS: Check = Check::of_containers("subordinate-ids");
const FILTERED_NETWORK: Check = Check::of_containers("filtered-network");

/// The releases of podman that were tried.
const OLDEST_PODMAN: (u32, u32) = (4, 3);
const NEWEST_PODMAN_MAJOR: u32 = 5;
/// Podman's runtimes in the order in which it looks for them.
const KNOWN_RUNTIMES: [&str; 2] = ["crun", "runc"];
/// A directory in which nothing can be created: crun makes its state directory in `XDG_RUNTIME_DIR`
/// even to print its version.
const NO_RUNTIME_DIR: &str = "/proc/nonexistent";
/// Podman looks here, too, whatever `PATH` is.
const RUNTIME_DIRECTORIES: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/sbin",
];

/// Checks podman. `has_hooks`: this program's hooks are installed, so that containers are expected.
pub(crate) async fn check_podman(host: &HostDescription, has_hooks: bool) -> Finding {
    let packages = [
        SystemPackage::Podman,
        SystemPackage::Crun,
        SystemPackage::Uidmap,
    ];
    let install = host.package_manager().install_command(&packages, host);
    let Some(podman) = host.find_program("podman") else {
        return if has_hooks {
            PODMAN.failure(
                "hooks for containers are installed, and podman is not",
                &install,
            )
        } else {
            PODMAN.warning(
                "not installed: no containers to guard; `run` works without",
                &install,
            )
        };
    };
    let output = run_program(&podman, &["--version"], &host.runtime_dir, host.time_limit).await;
    let text = match output {
        Ok(output) if output.status.success() => output.stdout,
        Ok(QueriedOutput { stderr, .. }) => {
            return PODMAN.failure(&format!("`podman --version` failed: {stderr}"), &install);
        }
        Err(error) => return PODMAN.failure(&error.describe("podman"), &install),
    };
    judge_podman(&text, &podman)
}

fn judge_podman(text: &str, podman: &Path) -> Finding {
    let found = format!("{} ({})", text.trim(), podman.display());
    match parse_version(text) {
        Some(version) if version < OLDEST_PODMAN => PODMAN.warning(
            &format!("{found} is older than 4.3, the oldest that was tried"),
            "install podman 4.3 or newer, of a newer release of your distribution",
        ),
        Some((major, _)) if major > NEWEST_PODMAN_MAJOR => PODMAN.warning(
            &format!("{found} is newer than 5, the newest that was tried"),
            "terok-clearance podman run --dry-run shows what is added; report what fails",
        ),
        Some(_) => PODMAN.pass(&found),
        None => PODMAN.warning(&format!("{found}: no version"), "podman --version"),
    }
}

/// Returns the first version number of a text: major and minor.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split_ascii_whitespace().find_map(|word| {
        let mut numbers = word.split(['.', '-', '+']);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

/// Checks that podman can parse its configuration.
pub(crate) fn check_containers_conf(host: &HostDescription) -> Option<Finding> {
    let error = host.hook_check.podman.read_hooks_directories().err()?;
    let found = format!("podman starts no container: {error}");
    let fix = format!("correct {}", error.path().display());
    Some(CONTAINERS_CONF.failure(&found, &fix))
}

/// Checks the OCI runtime that podman uses.
pub(crate) async fn check_runtime(host: &HostDescription) -> Finding {
    let install = host
        .package_manager()
        .install_command(&[SystemPackage::Crun], host);
    let named = read_runtime(host);
    let named = named.as_deref();
    let Some(runtime) = find_runtime(host, named) else {
        let found = match named {
            Some(named) => format!("containers.conf names the runtime {named}, which is missing"),
            None => "neither crun nor runc is installed".to_owned(),
        };
        return RUNTIME.failure(&found, &install);
    };
    let nowhere = Path::new(NO_RUNTIME_DIR);
    let output = run_program(&runtime, &["--version"], nowhere, host.time_limit).await;
    let version = match output {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            let found = format!(
                "`{} --version` failed: {}",
                runtime.display(),
                output.stderr
            );
            return RUNTIME.failure(&found, &install);
        }
        Err(error) => return RUNTIME.failure(&error.describe("the runtime"), &install),
    };
    let version = version.lines().next().unwrap_or_default();
    let found = format!("{version} ({})", runtime.display());
    let name = runtime.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| KNOWN_RUNTIMES.contains(&name)) {
        RUNTIME.pass(&found)
    } else {
        RUNTIME.warning(&format!("{found} was not tried with hooks"), &install)
    }
}

fn find_runtime(host: &HostDescription, named: Option<&str>) -> Option<PathBuf> {
    let in_directories = |name: &str| {
        let mut paths = RUNTIME_DIRECTORIES
            .iter()
            .map(|directory| host.system_path(directory).join(name));
        host.find_program(name)
            .or_else(|| paths.find(|path| path.is_file()))
    };
    match named {
        Some(path) if path.starts_with('/') => {
            let path = PathBuf::from(path);
            path.is_file().then_some(path)
        }
        Some(name) => in_directories(name),
        None => KNOWN_RUNTIMES.into_iter().find_map(in_directories),
    }
}

/// Checks that a rootless container gets user ids; `None` for root, who needs none.
pub(crate) fn check_subordinate_ids(host: &HostDescription) -> Option<Finding> {
    if host.is_root() {
        return None;
    }
    let user = &host.user;
    let has_range = |path: &str| {
        let text = host.read_system_file(path).unwrap_or_default();
        text.lines().any(|line| is_range_of(line, user, host.uid))
    };
    let missing: Vec<_> = ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .filter(|path| !has_range(path))
        .collect();
    if !missing.is_empty() {
        let add = host.as_root(&format!(
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        ));
        let fix = format!("{add}; podman system migrate");
        let found = format!("{user} has no range in {}", missing.join(" and "));
        return Some(SUBORDINATE_IDS.failure(&found, &fix));
    }
    let programs = ["newuidmap", "newgidmap"];
    let absent: Vec<_> = programs
        .into_iter()
        .filter(|program| host.find_program(program).is_none())
        .collect();
    if !absent.is_empty() {
        let install = host
            .package_manager()
            .install_command(&[SystemPackage::Uidmap], host);
        let found = format!("{} missing", absent.join(" and "));
        return Some(SUBORDINATE_IDS.failure(&found, &install));
    }
    let found = format!("{user} has ranges of user and group ids, and newuidmap");
    Some(SUBORDINATE_IDS.pass(&found))
}

/// Returns `true` for a line `NAME-OR-UID:FIRST:COUNT` of the user (`subuid(5)`).
fn is_range_of(line: &str, user: &str, uid: u32) -> bool {
    let mut fields = line.trim().split(':');
    let owner = fields.next();
    let is_own = owner == Some(user) || owner.and_then(|text| text.parse().ok()) == Some(uid);
    let count = fields.nth(1).and_then(|count| count.parse::<u64>().ok());
    is_own && count.is_some_and(|count| count > 0)
}

/// Checks the programs that connect a container of the filtered way.
pub(crate) fn check_filtered_network(host: &HostDescription) -> Finding {
    let found = ["pasta", "slirp4netns"]
        .into_iter()
        .filter_map(|name| host.find_program(name));
    let found: Vec<_> = found.map(|path| path.display().to_string()).collect();
    if found.is_empty() {
        let install = host
            .package_manager()
            .install_command(&[SystemPackage::Passt], host);
        return FILTERED_NETWORK.warning(
            "neither pasta nor slirp4netns is installed: only the dialed way works",
            &install,
        );
    }
    FILTERED_NETWORK.pass(&found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckStatus;

    #[test]
    fn the_version_of_podman_is_judged() {
        let status = |text: &str| judge_podman(text, Path::new("/usr/bin/podman")).status;
        for text in [
            "podman version 4.3.1",
            "podman version 5.6.0-dev",
            "podman version 5.0",
        ] {
            assert_eq!(status(text), CheckStatus::Pass, "{text}");
        }
        for text in ["podman version 3.4.4", "podman version 6.0.0", "", "podman"] {
            assert_eq!(status(text), CheckStatus::Warning, "{text}");
        }
    }

    #[test]
    fn a_range_is_that_of_the_name_or_the_number_of_the_user() {
        assert!(is_range_of("op:100000:65536", "op", 1000));
        assert!(is_range_of("1000:100000:65536", "op", 1000));
        for line in [
            "op2:100000:65536",
            "op:100000:0",
            "op:100000",
            "# op:1:1",
            "",
        ] {
            assert!(!is_range_of(line, "op", 1000), "{line}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Checks of the service manager that starts supervisors and the notifier.

use std::path::PathBuf;

use crate::HostDescription;
use crate::finding::{Check, Finding};
use crate::program_output::run_program;

const MANAGER: Check = Check::of_containers("service-manager");
const LINGER: Check = Check::of_containers("linger");

/// The service manager of the user, for root the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceManager {
    /// It answers.
    Reachable,
    /// There is none, or it does not answer.
    Absent,
}

impl ServiceManager {
    pub(crate) const fn is_reachable(self) -> bool {
        matches!(self, Self::Reachable)
    }
}

/// Returns the command that controls the service manager of the user.
pub(crate) const fn systemctl_command(host: &HostDescription) -> &'static str {
    if host.is_root() {
        "systemctl"
    } else {
        "systemctl --user"
    }
}

/// Returns the directories in which units are installed, by the user, the administrator and
/// packages (`systemd.unit(5)`).
pub(crate) fn unit_directories(host: &HostDescription) -> Vec<PathBuf> {
    let kind = if host.is_root() { "system" } else { "user" };
    let system = ["/etc", "/usr/local/lib", "/usr/lib", "/lib"]
        .map(|parent| host.system_path(parent).join("systemd").join(kind));
    let own = (!host.is_root()).then(|| host.config_home.join("systemd/user"));
    own.into_iter().chain(system).collect()
}

/// Checks that the service manager answers.
pub(crate) async fn check_manager(host: &HostDescription) -> (ServiceManager, Finding) {
    let alternative = "log in over a session of systemd (ssh, machinectl shell), or start \
                       containers with `terok-clearance podman run`";
    let absent = |found: &str| {
        let found = format!("{found}: nothing starts supervisors for hooks");
        (ServiceManager::Absent, MANAGER.warning(&found, alternative))
    };
    let Some(systemctl) = host.find_program("systemctl") else {
        return absent("systemd is not installed");
    };
    let scope: &[&str] = if host.is_root() { &[] } else { &["--user"] };
    let arguments = [scope, &["is-system-running"]].concat();
    let ran = run_program(&systemctl, &arguments, &host.runtime_dir, host.time_limit).await;
    let state = match &ran {
        Ok(output) => output.stdout.trim(),
        Err(error) => return absent(&error.describe("systemctl")),
    };
    let whose = if host.is_root() { "system" } else { "user" };
    match state {
        "running" | "starting" | "initializing" | "degraded" | "maintenance" => {
            let found = format!("systemd's {whose} manager answers: {state}");
            (ServiceManager::Reachable, MANAGER.pass(&found))
        }
        _ => absent(&format!("systemd's {whose} manager cannot be reached")),
    }
}

/// Checks that the service manager of a user without a desktop survives the last logout; `None`
/// where that does not matter.
pub(crate) fn check_linger(host: &HostDescription, manager: ServiceManager) -> Option<Finding> {
    if host.is_root() || host.has_display || !manager.is_reachable() {
        return None;
    }
    let file = host.system_path("/var/lib/systemd/linger").join(&host.user);
    Some(if file.exists() {
        LINGER.pass("your services run without a login")
    } else {
        LINGER.warning(
            "your services end with your last login, and supervisors of containers with them",
            "loginctl enable-linger",
        )
    })
}

// SPDX-License-Identifier: Apache-2.0
//! Finds the parts of other stacks on the host: those of the Python packages.

use std::fs;
use std::path::PathBuf;

use terok_clearance::socket::RuntimeDir;

use crate::HostDescription;
use crate::finding::{Check, Finding};
use crate::systemd_checks::{systemctl_command, unit_directories};

const OTHER_STACKS: Check = Check::of_containers("other-stacks");

/// The prefix of the hooks of `terok-shield`.
const SHIELD_HOOK_PREFIX: &str = "terok-shield-";
/// The units of the Python package; the last one of releases before 0.6.
const PYTHON_UNITS: [&str; 4] = [
    "terok-clearance-hub.service",
    "terok-clearance-verdict.service",
    "terok-clearance-notifier.service",
    "terok-dbus.service",
];

/// Looks for parts of other stacks: a line for each, or one that there is none.
pub(crate) fn check_other_stacks(host: &HostDescription) -> Vec<Finding> {
    let parts = [
        shield_hooks(host),
        python_units(host),
        removed_units(host),
        removed_socket(host),
    ];
    let found: Vec<_> = parts.into_iter().flatten().collect();
    if found.is_empty() {
        return vec![OTHER_STACKS.pass("none was found")];
    }
    found
}

fn shield_hooks(host: &HostDescription) -> Option<Finding> {
    let known = host.hook_check.podman.read_hooks_directories();
    let mut directories = known.map_or_else(|_error| Vec::new(), |known| known.all());
    directories.push(host.data_home.join("terok/shield/hooks"));
    let has_hook = |directory: &PathBuf| {
        let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(SHIELD_HOOK_PREFIX) && name.ends_with(".json")
        })
    };
    let directory = directories.into_iter().find(has_hook)?;
    let found = format!("hooks of terok-shield: {}", directory.display());
    Some(OTHER_STACKS.warning(
        &found,
        "start a container with the annotations of one stack only; docs/shield.md",
    ))
}

fn python_units(host: &HostDescription) -> Option<Finding> {
    let directories = unit_directories(host);
    let installed = PYTHON_UNITS.into_iter().filter(|unit| {
        let mut paths = directories.iter().map(|directory| directory.join(unit));
        paths.any(|path| path.exists())
    });
    let installed: Vec<_> = installed.collect();
    if installed.is_empty() {
        return None;
    }
    let units = installed.join(" ");
    let systemctl = systemctl_command(host);
    Some(OTHER_STACKS.warning(
        &format!("units of the classic layout: {units}"),
        &format!("if another program serves your hubs: {systemctl} disable --now {units}"),
    ))
}

/// Finds enabled units whose files are gone: `terok-sandbox setup` removes those of the classic
/// layout, also ours.
fn removed_units(host: &HostDescription) -> Option<Finding> {
    let wants = host.config_home.join("systemd/user/default.target.wants");
    let removed: Vec<_> = PYTHON_UNITS
        .into_iter()
        .filter(|unit| {
            let link = wants.join(unit);
            fs::symlink_metadata(&link).is_ok() && !link.exists()
        })
        .collect();
    if removed.is_empty() {
        return None;
    }
    Some(OTHER_STACKS.warning(
        &format!(
            "enabled, and removed by `terok-sandbox setup`: {}",
            removed.join(" ")
        ),
        "terok-clearance setup",
    ))
}

/// Finds a classic hub whose socket for readers was removed.
fn removed_socket(host: &HostDescription) -> Option<Finding> {
    let runtime = RuntimeDir::new(&host.runtime_dir);
    let is_classic_live = runtime
        .live_hubs()
        .iter()
        .any(|hub| hub.container.is_none());
    let ingester = runtime.shared_hub_sockets().ingester;
    if !is_classic_live || ingester.exists() {
        return None;
    }
    let found = format!(
        "a classic hub runs, and its {} was removed, as by `terok-sandbox setup`: no reader \
         reaches it",
        ingester.display()
    );
    Some(OTHER_STACKS.failure(&found, "end the hub (`serve`), and start it again"))
}

// SPDX-License-Identifier: Apache-2.0
//! Checks of what `setup` installs: hooks, units and the socket that starts supervisors.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use containers::hooks_in_force::{HookFault, is_listening};
use containers::host_layout::{
    HOOK_FILES, NOTIFIER_UNIT, SOCKET_UNIT, START_SOCKET, SUPERVISOR_UNIT,
};
use host_setup::{ClassicUnits, SetupScope, UnitFile, UnitProgram, unit_version};

use crate::HostDescription;
use crate::finding::{Check, Finding};
use crate::systemd_checks::{ServiceManager, systemctl_command, unit_directories};

pub(crate) const HOOKS: Check = Check::of_containers("hooks");
const UNITS: Check = Check::of_containers("units");
const SOCKET: Check = Check::of_containers("start-socket");

const SETUP: &str = "terok-clearance setup";

/// Returns `true` if a hook of this program is installed.
pub(crate) fn has_hooks(host: &HostDescription) -> bool {
    let directory = &host.hook_check.hooks_directory;
    HOOK_FILES.iter().any(|file| directory.join(file).exists())
}

/// Checks that podman runs the hooks in each container that asks for them. May start the program
/// of the hooks, for its version.
pub(crate) fn check_hooks(host: &HostDescription) -> Finding {
    if !has_hooks(host) {
        return HOOKS.warning("not installed: containers are not guarded", SETUP);
    }
    let faults = host.hook_check.find_faults();
    // The socket has a line of its own.
    let mut faults = faults
        .iter()
        .filter(|fault| !matches!(fault, HookFault::NotListening { .. }));
    match faults.next() {
        None => HOOKS.pass(&format!(
            "in force, in {}",
            host.hook_check.hooks_directory.display()
        )),
        Some(fault) => {
            let more = match faults.count() {
                0 => String::new(),
                more => format!("; {more} more"),
            };
            HOOKS.failure(&format!("not in force: {fault}{more}"), &fault.remedy())
        }
    }
}

/// Checks the units of this program. `None` if nothing is installed, which the hooks say already.
pub(crate) fn check_units(host: &HostDescription) -> Option<Finding> {
    let (socket, service) = (
        find_unit(host, SOCKET_UNIT),
        find_unit(host, SUPERVISOR_UNIT),
    );
    match (&socket, &service) {
        (Some(socket), Some(_)) => Some(match find_outdated(host) {
            Some(outdated) => UNITS.warning(&outdated, SETUP),
            None => UNITS.pass(&format!("installed, current: {}", socket.display())),
        }),
        (None, None) if !has_hooks(host) => None,
        (None, None) => {
            let found = "not installed: only `terok-clearance podman` starts supervisors";
            Some(UNITS.warning(found, SETUP))
        }
        (socket, _) => {
            let missing = if socket.is_none() {
                SOCKET_UNIT
            } else {
                SUPERVISOR_UNIT
            };
            Some(UNITS.failure(&format!("half-installed: {missing} is missing"), SETUP))
        }
    }
}

/// Returns `true` if both units of supervisors are installed.
pub(crate) fn has_units(host: &HostDescription) -> bool {
    find_unit(host, SOCKET_UNIT).is_some() && find_unit(host, SUPERVISOR_UNIT).is_some()
}

/// Returns the file of a unit that the service manager uses: the first one in its directories.
fn find_unit(host: &HostDescription, unit: &str) -> Option<PathBuf> {
    let mut paths = unit_directories(host)
        .into_iter()
        .map(|directory| directory.join(unit));
    paths.find(|path| path.exists())
}

/// Returns what is outdated among the units of this program, in words.
fn find_outdated(host: &HostDescription) -> Option<String> {
    let program = UnitProgram::new(&host.program).ok()?;
    let scope = if host.is_root() {
        SetupScope::Machine
    } else {
        SetupScope::User
    };
    let [socket, service] = UnitFile::of_supervisors(&program, scope);
    let notifier = UnitFile::of_notifier(&program);
    [socket, service, notifier].into_iter().find_map(|unit| {
        let text = fs::read_to_string(find_unit(host, unit.name)?).ok()?;
        let installed = unit_version(unit.name, &text);
        let expected = unit_version(unit.name, &unit.text)?;
        if installed >= Some(expected) {
            return None;
        }
        let installed = installed.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let name = unit.name;
        Some(format!(
            "{name} is outdated: version {installed}, and {expected} is expected"
        ))
    })
}

/// Checks the units of the classic layout, with the words of the Python stack. `None` if they are
/// current, or not installed.
pub(crate) fn check_classic_units(host: &HostDescription) -> Option<Finding> {
    let units = ClassicUnits {
        directory: host.config_home.join("systemd/user"),
        systemctl: None,
    };
    let outdated = units.check_units_outdated()?;
    Some(UNITS.warning(&outdated, SETUP))
}

/// Checks that a hook can have a supervisor started. `None` without hooks and units.
pub(crate) fn check_start_socket(
    host: &HostDescription,
    manager: ServiceManager,
) -> Option<Finding> {
    let has_units = has_units(host);
    if !has_units && !has_hooks(host) {
        return None;
    }
    let path = host.hook_check.runtime_dir.join(START_SOCKET);
    let shown = path.display();
    let starts = manager.is_reachable() && has_units;
    let fix = if starts {
        format!("{} enable --now {SOCKET_UNIT}", systemctl_command(host))
    } else {
        "start containers with `terok-clearance podman run`, which starts the supervisor".to_owned()
    };
    let Ok(found) = fs::symlink_metadata(&path) else {
        let found = format!("no socket at {shown}: a guarded container does not start");
        return Some(if starts {
            SOCKET.failure(&found, &fix)
        } else {
            SOCKET.warning(&found, &fix)
        });
    };
    let is_private = found.uid() == host.uid && found.mode() & 0o777 == 0o600;
    if !found.file_type().is_socket() || !is_private {
        let found = format!("{shown} is no socket that only you can use");
        return Some(SOCKET.failure(&found, &format!("rm {shown}; {fix}")));
    }
    // A connection would start a supervisor.
    Some(if is_listening(&path) {
        SOCKET.pass(&format!("accepts connections: {shown}"))
    } else if starts {
        SOCKET.failure(&format!("nothing listens at {shown}"), &fix)
    } else {
        SOCKET.warning(&format!("nothing listens at {shown}"), &fix)
    })
}

/// Returns `true` if the unit of the notifier is installed.
pub(crate) fn has_notifier_unit(host: &HostDescription) -> bool {
    // The notifier is a user's, also for root.
    let mut directories = unit_directories(host);
    directories.push(host.config_home.join("systemd/user"));
    directories
        .iter()
        .any(|directory| directory.join(NOTIFIER_UNIT).exists())
}

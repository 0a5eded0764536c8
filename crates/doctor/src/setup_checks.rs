// SPDX-License-Identifier: Apache-2.0
//! Checks of what `setup` installs: hooks, units and the socket that starts supervisors.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use containers::host_layout::{
    HOOK_FILES, HOOKS_DIRECTORY, SOCKET_UNIT, START_SOCKET, SUPERVISOR_UNIT,
};
use serde_json::Value;

use crate::HostDescription;
use crate::containers_conf::ContainersConf;
use crate::finding::{Check, Finding};
use crate::systemd_checks::{ServiceManager, systemctl_command, unit_directories};

const HOOKS: Check = Check::of_containers("hooks");
const UNITS: Check = Check::of_containers("units");
const SOCKET: Check = Check::of_containers("start-socket");

const SETUP: &str = "terok-clearance setup";
/// The flag of a listening socket in `/proc/net/unix` (`__SO_ACCEPTCON`).
const LISTENING: u32 = 0x1_0000;

/// Returns the directory of the hooks.
fn hooks_directory(host: &HostDescription) -> PathBuf {
    if host.is_root() {
        host.system_path("/etc").join(HOOKS_DIRECTORY)
    } else {
        host.data_home.join(HOOKS_DIRECTORY)
    }
}

/// Returns `true` if a hook of ours is installed.
pub(crate) fn has_hooks(host: &HostDescription) -> bool {
    let directory = hooks_directory(host);
    HOOK_FILES.iter().any(|file| directory.join(file).exists())
}

/// Checks that podman runs the hooks in each container that asks for them.
pub(crate) fn check_hooks(host: &HostDescription, conf: &ContainersConf) -> Finding {
    let directory = hooks_directory(host);
    let found = format!("in force, in {}", directory.display());
    if !has_hooks(host) {
        return HOOKS.warning("not installed: containers are not guarded", SETUP);
    }
    match &host.setup.hooks_in_force {
        Some(Ok(())) => HOOKS.pass(&found),
        Some(Err(reason)) => HOOKS.failure(reason.as_str(), SETUP),
        None => match hook_fault(&directory, &conf.all_hook_directories(host)) {
            None => HOOKS.pass(&found),
            Some(fault) => HOOKS.failure(&fault, SETUP),
        },
    }
}

/// Returns why podman would start a container without the hooks, which it does silently.
fn hook_fault(directory: &Path, known: &[PathBuf]) -> Option<String> {
    if !known.iter().any(|known| known == directory) {
        let directory = directory.display();
        return Some(format!(
            "not in force: containers.conf does not name {directory}"
        ));
    }
    HOOK_FILES.iter().find_map(|file| {
        let path = directory.join(file);
        let shown = path.display();
        let Ok(text) = fs::read_to_string(&path) else {
            return Some(format!("not in force: {shown} is missing"));
        };
        let Ok(hook) = serde_json::from_str::<Value>(&text) else {
            return Some(format!("podman starts no container: {shown} is no JSON"));
        };
        let program = hook.pointer("/hook/path").and_then(Value::as_str);
        let is_executable = program.is_some_and(|program| {
            let found = fs::metadata(program);
            found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        });
        let program = program.unwrap_or("no program");
        (!is_executable).then(|| format!("not in force: {shown} names {program}, which is missing"))
    })
}

/// Checks the units of supervisors. `None` if nothing is installed, which the hooks say already.
pub(crate) fn check_units(host: &HostDescription) -> Option<Finding> {
    let directories = unit_directories(host);
    let find = |unit: &str| {
        let mut paths = directories.iter().map(|directory| directory.join(unit));
        paths.find(|path| path.exists())
    };
    let (socket, service) = (find(SOCKET_UNIT), find(SUPERVISOR_UNIT));
    if let [first, ..] = host.setup.outdated_units.as_slice() {
        return Some(UNITS.warning(first.as_str(), SETUP));
    }
    match (&socket, &service) {
        (Some(socket), Some(_)) => {
            Some(UNITS.pass(&format!("installed, current: {}", socket.display())))
        }
        (None, None) if !has_hooks(host) => None,
        (None, None) => Some(UNITS.warning(
            "not installed: only `terok-clearance podman` starts supervisors",
            SETUP,
        )),
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

/// Checks that a hook can have a supervisor started. `None` without hooks and units.
pub(crate) fn check_start_socket(
    host: &HostDescription,
    manager: ServiceManager,
    has_units: bool,
) -> Option<Finding> {
    if !has_units && !has_hooks(host) {
        return None;
    }
    let runtime = if host.is_root() {
        host.system_path("/run")
    } else {
        host.runtime_dir.clone()
    };
    let path = runtime.join(START_SOCKET);
    let shown = path.display();
    let fix = if manager.is_reachable() && has_units {
        format!("{} enable --now {SOCKET_UNIT}", systemctl_command(host))
    } else {
        "start containers with `terok-clearance podman run`, which starts the supervisor".to_owned()
    };
    let Ok(found) = fs::symlink_metadata(&path) else {
        let found = format!("no socket at {shown}: a guarded container does not start");
        return Some(if manager.is_reachable() && has_units {
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
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    Some(if is_listening(&sockets, &path) {
        SOCKET.pass(&format!("accepts connections: {shown}"))
    } else {
        SOCKET.failure(&format!("nothing listens at {shown}"), &fix)
    })
}

/// Returns `true` if the text of `/proc/net/unix` has a listening socket with this path.
fn is_listening(sockets: &str, path: &Path) -> bool {
    sockets.lines().skip(1).any(|line| {
        // Num, RefCount, Protocol, Flags, Type, St, Inode, Path
        let mut fields = line.split_ascii_whitespace();
        let flags = fields
            .nth(3)
            .and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let bound = fields.nth(3);
        flags.is_some_and(|flags| flags & LISTENING != 0)
            && bound.is_some_and(|bound| Path::new(bound) == path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_in_force_if_podman_finds_them_and_their_program() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("hooks.d");
        let known = [directory.clone()];
        let fault = |known: &[PathBuf]| hook_fault(&directory, known).unwrap_or_default();
        assert!(fault(&[]).contains("containers.conf does not name"));
        assert!(fault(&known).contains("createRuntime.json is missing"));
        fs::create_dir(&directory).unwrap();
        let write = |text: &str| {
            for file in HOOK_FILES {
                fs::write(directory.join(file), text).unwrap();
            }
        };
        write("{");
        assert!(fault(&known).contains("starts no container"));
        write(r#"{"hook":{"path":"/nonexistent/program"}}"#);
        assert!(fault(&known).contains("/nonexistent/program, which is missing"));
        write(r#"{"hook":{"path":"/bin/sh"}}"#);
        assert_eq!(fault(&known), "");
    }

    #[test]
    fn a_listening_socket_is_found_without_a_connection() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("start.sock");
        let sockets = || fs::read_to_string("/proc/net/unix").unwrap();
        assert!(!is_listening(&sockets(), &path));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(is_listening(&sockets(), &path));
        drop(listener);
        assert!(!is_listening(&sockets(), &path));
        let _datagrams = std::os::unix::net::UnixDatagram::bind(place.path().join("d")).unwrap();
        assert!(!is_listening(&sockets(), &place.path().join("d")));
    }
}

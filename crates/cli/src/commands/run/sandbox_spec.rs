// SPDX-License-Identifier: Apache-2.0
//! What the command gets of its caller's world: everything but the doors that are shut.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use netns::sandbox::{SandboxSpec, TerminalSpec, WorkloadSpec};

use crate::UserEnvironment;

/// Variables that lead to somebody who listens where the command cannot reach, or that say
/// something of our own process which is not true of it.
const DROPPED_VARIABLES: &[&str] = &[
    "ALACRITTY_SOCKET",
    "BUILDKIT_HOST",
    "CONTAINERD_ADDRESS",
    "CONTAINER_HOST",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_STARTER_ADDRESS",
    "DBUS_STARTER_BUS_TYPE",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DISPLAY",
    "DOCKER_HOST",
    "GNOME_KEYRING_CONTROL",
    "GPG_AGENT_INFO",
    "HYPRLAND_INSTANCE_SIGNATURE",
    "I3SOCK",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "KITTY_LISTEN_ON",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MANAGERPID",
    "NOTIFY_SOCKET",
    "NVIM",
    "PIPEWIRE_REMOTE",
    "PULSE_SERVER",
    "SESSION_MANAGER",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "STY",
    "SWAYSOCK",
    "TMUX",
    "TMUX_PANE",
    "VSCODE_GIT_IPC_HANDLE",
    "VSCODE_IPC_HOOK_CLI",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "WAYLAND_DISPLAY",
    "WAYLAND_SOCKET",
    "WEZTERM_UNIX_SOCKET",
    "XDG_RUNTIME_DIR",
];

/// Sockets of container engines and the like outside `/run`, in case their owners are not in our
/// own network namespace, where every bound socket is found without being named.
const ENGINE_SOCKETS: &[&str] = &[
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/snap/docker/common/run/docker.sock",
];
/// The same, in the home directory.
const HOME_ENGINE_SOCKETS: &[&str] = &[
    ".colima/default/docker.sock",
    ".docker/desktop/docker.sock",
    ".docker/run/docker.sock",
    ".lima",
    ".local/share/containers/podman/machine",
    ".orbstack/run/docker.sock",
    ".rd/docker.sock",
];

/// Returns the sandbox to build for `command`, which is not empty.
pub(super) fn build_sandbox_spec(
    command: &[OsString],
    environment: &UserEnvironment,
    resolver: Option<IpAddr>,
    terminal: Option<TerminalSpec>,
) -> anyhow::Result<SandboxSpec> {
    let (program, arguments) = command.split_first().context("no command")?;
    let directory = std::env::current_dir().context("finding the working directory")?;
    let value = |name: &str| {
        let found = environment
            .variables()
            .iter()
            .find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str())
    };
    let mut withheld: Vec<_> = [
        environment.runtime_dir(),
        environment.config_dir(),
        environment.state_dir(),
    ]
    .map(to_path_buf)
    .into();
    // What belongs to the other tools of this family.
    for parent in [
        environment.config_dir().parent(),
        environment.state_dir().parent(),
    ] {
        withheld.extend(parent.into_iter().flat_map(list_terok_dirs));
    }
    let tmux = value("TMUX_TMPDIR")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| OsStr::new("/tmp"));
    let mut hidden: Vec<_> = ENGINE_SOCKETS.iter().map(PathBuf::from).collect();
    if let Some(home) = value("HOME")
        .map(Path::new)
        .filter(|home| home.is_absolute())
    {
        hidden.extend(HOME_ENGINE_SOCKETS.iter().map(|path| home.join(path)));
    }
    let doors = environment.variables().iter();
    let doors = doors.filter(|(name, _)| DROPPED_VARIABLES.iter().any(|dropped| name == dropped));
    hidden.extend(doors.filter_map(|(_, value)| parse_socket_path(value)));
    Ok(SandboxSpec {
        workload: WorkloadSpec {
            program: program.clone(),
            arguments: arguments.to_vec(),
            environment: filter_variables(environment.variables()),
            directory,
            ..WorkloadSpec::default()
        },
        protected_paths: withheld,
        tmpfs_paths: vec![Path::new(tmux).join(format!("tmux-{}", environment.uid()))],
        masked_paths: hidden,
        resolvers: resolver.into_iter().collect(),
        terminal,
    })
}

fn to_path_buf(path: &Path) -> PathBuf {
    path.to_owned()
}

/// The directories of `parent` whose names begin as ours do.
fn list_terok_dirs(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"terok"));
    ours.map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn filter_variables(variables: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let keep =
        |(name, _): &&(OsString, OsString)| DROPPED_VARIABLES.iter().all(|dropped| name != dropped);
    variables.iter().filter(keep).cloned().collect()
}

/// The path of the socket that a variable leads to: `unix:///p`, `unix:path=/p,…`, `/p`.
fn parse_socket_path(value: &OsStr) -> Option<PathBuf> {
    let value = value.to_str()?;
    let path = value
        .strip_prefix("unix://")
        .or_else(|| value.strip_prefix("unix:path="));
    let path = path.unwrap_or(value).split([',', ';']).next()?;
    // A directory, such as XDG_RUNTIME_DIR, is dealt with elsewhere.
    let path = Path::new(path);
    (path.is_absolute() && !path.is_dir()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_lead_to_shut_doors_are_dropped() {
        let variables = |names: &[&str]| {
            let variable = |name: &&str| (OsString::from(name), OsString::from("1"));
            names.iter().map(variable).collect::<Vec<_>>()
        };
        let before = [
            "PATH",
            "TMUX",
            "HOME",
            "DBUS_SESSION_BUS_ADDRESS",
            "DISPLAYS",
        ];
        assert_eq!(
            filter_variables(&variables(&before)),
            variables(&["PATH", "HOME", "DISPLAYS"])
        );
    }

    #[test]
    fn the_socket_behind_a_variable_is_found() {
        let check = |value: &str, expected: Option<&str>| {
            assert_eq!(
                parse_socket_path(OsStr::new(value)),
                expected.map(PathBuf::from),
                "{value}"
            );
        };
        check("unix:///srv/docker.sock", Some("/srv/docker.sock"));
        check("unix:path=/srv/bus,guid=0", Some("/srv/bus"));
        check("/srv/agent", Some("/srv/agent"));
        check("/srv/tmux,123,0", Some("/srv/tmux"));
        check("tcp://127.0.0.1:2375", None);
        check("unix:abstract=/tmp/dbus-x", None);
        check("/", None);
        check(":0", None);
    }
}

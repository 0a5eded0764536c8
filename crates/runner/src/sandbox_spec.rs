// SPDX-License-Identifier: Apache-2.0
//! The sandbox for a command: the caller's files and environment, without the sockets and
//! variables of services outside the sandbox.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use names::read_search_domains;
use netns::gateway::GATEWAY_V4;
use netns::sandbox::{SandboxSpec, TerminalSpec, WorkloadSpec};

use crate::ssh_config::find_ssh_config_files;
use crate::{NetworkChoice, RunConfig, RunError};

/// Variables of services outside the sandbox, and variables about the calling process alone.
const DROPPED_VARIABLES: &[&str] = &[
    "ALACRITTY_SOCKET",
    "ALL_PROXY",
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
    "HTTPS_PROXY",
    "HTTP_PROXY",
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
    "NO_PROXY",
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
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Sockets of container engines outside `/run`, for engines in another network namespace. Bound
/// sockets of the caller's network namespace are found without a list.
const ENGINE_SOCKETS: &[&str] = &[
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/snap/docker/common/run/docker.sock",
];
/// Sockets of container engines in the home directory.
const HOME_ENGINE_SOCKETS: &[&str] = &[
    ".colima/default/docker.sock",
    ".docker/desktop/docker.sock",
    ".docker/run/docker.sock",
    ".lima",
    ".local/share/containers/podman/machine",
    ".orbstack/run/docker.sock",
    ".rd/docker.sock",
];

/// Returns the configuration of the sandbox.
pub(crate) fn build_sandbox_spec(
    config: &RunConfig,
    terminal: Option<TerminalSpec>,
) -> Result<SandboxSpec, RunError> {
    let (program, arguments) = config.command.split_first().ok_or(RunError::NoCommand)?;
    let value = |name: &str| {
        let found = config.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str())
    };
    let mut protected = vec![
        config.runtime_dir.clone(),
        config.config_dir.clone(),
        config.state_dir.clone(),
    ];
    // The directories of the other Terok tools.
    for parent in [config.config_dir.parent(), config.state_dir.parent()] {
        protected.extend(parent.into_iter().flat_map(list_terok_dirs));
    }
    let tmux = value("TMUX_TMPDIR")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| OsStr::new("/tmp"));
    let mut masked: Vec<_> = ENGINE_SOCKETS.iter().map(PathBuf::from).collect();
    if let Some(home) = value("HOME")
        .map(Path::new)
        .filter(|home| home.is_absolute())
    {
        masked.extend(HOME_ENGINE_SOCKETS.iter().map(|path| home.join(path)));
    }
    let dropped = config.variables.iter().filter(|(name, _)| is_dropped(name));
    masked.extend(dropped.filter_map(|(_, value)| parse_socket_path(value)));
    let uid = rustix::process::geteuid().as_raw();
    Ok(SandboxSpec {
        workload: WorkloadSpec {
            program: program.clone(),
            arguments: arguments.to_vec(),
            environment: merge_variables(
                filter_variables(&config.variables),
                &config.written_variables,
            ),
            directory: config.working_dir.clone(),
            ..WorkloadSpec::default()
        },
        protected_paths: protected,
        tmpfs_paths: vec![Path::new(tmux).join(format!("tmux-{uid}"))],
        masked_paths: masked,
        read_only_programs: config.own_program.iter().cloned().collect(),
        owned_files: find_ssh_config_files(value("HOME").map(Path::new)),
        root_keeps_ids: true,
        limits: config.limits,
        root_may_nest: config.root_may_nest,
        resolvers: match config.network {
            NetworkChoice::Dialed => vec![GATEWAY_V4.into()],
            NetworkChoice::None => Vec::new(),
        },
        search_domains: read_search_domains(&config.resolv_conf),
        terminal,
    })
}

/// Returns the directories in `parent` whose names begin with `terok`.
fn list_terok_dirs(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"terok"));
    ours.map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn filter_variables(variables: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let kept = variables.iter().filter(|(name, _)| !is_dropped(name));
    kept.cloned().collect()
}

/// Returns `variables` with those of `written`, the last one of each name.
fn merge_variables(
    mut variables: Vec<(OsString, OsString)>,
    written: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    for (name, value) in written {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), value.clone()));
    }
    variables
}

fn is_dropped(name: &OsStr) -> bool {
    DROPPED_VARIABLES.iter().any(|dropped| name == *dropped)
}

/// Returns the path of the socket in a variable: `unix:///p`, `unix:path=/p,…`, `/p`.
fn parse_socket_path(value: &OsStr) -> Option<PathBuf> {
    let value = value.to_str()?;
    let path = value
        .strip_prefix("unix://")
        .or_else(|| value.strip_prefix("unix:path="));
    let path = path.unwrap_or(value).split([',', ';']).next()?;
    // A directory, such as XDG_RUNTIME_DIR, is protected above.
    let path = Path::new(path);
    (path.is_absolute() && !path.is_dir()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_outside_are_dropped() {
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
    fn variables_that_the_operator_wrote_are_set_even_if_they_are_dropped_otherwise() {
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect::<Vec<_>>()
        };
        let callers = pairs(&[("PATH", "/bin"), ("HTTPS_PROXY", "http://p:1"), ("A", "1")]);
        let written = pairs(&[("A", "2"), ("HTTPS_PROXY", "http://q:2"), ("A", "3")]);
        assert_eq!(
            merge_variables(filter_variables(&callers), &written),
            pairs(&[("PATH", "/bin"), ("HTTPS_PROXY", "http://q:2"), ("A", "3")])
        );
    }

    #[test]
    fn the_path_of_a_socket_in_a_variable_is_found() {
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

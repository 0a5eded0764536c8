// SPDX-License-Identifier: Apache-2.0
//! The sandbox for a command: the caller's files and environment, without the variables of
//! services outside the sandbox.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use names::read_search_domains;
use netns::gateway::GATEWAY_V4;
use netns::sandbox::{PlacedSocket, SandboxSpec, TerminalSpec, WorkloadSpec};

use terok_clearance::socket::SandboxSocket;
use terok_clearance::wire::request1;

use crate::ssh_config::find_ssh_config_files;
use crate::stream_relay::ReplacedStreams;
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

/// Returns the configuration of the sandbox.
pub(crate) fn build_sandbox_spec(
    config: &RunConfig,
    terminal: Option<TerminalSpec>,
    streams: ReplacedStreams,
    requests: &SandboxSocket,
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
    for path in &config.shared_sockets {
        let real = path.canonicalize().unwrap_or_else(|_missing| path.clone());
        let is_within = |directory: &PathBuf| {
            let directory = directory.canonicalize();
            directory.is_ok_and(|directory| real.starts_with(directory))
        };
        if is_own_socket(&real, &config.runtime_dir) || protected.iter().skip(1).any(is_within) {
            return Err(RunError::SharedOwnSocket { path: path.clone() });
        }
    }
    let uid = rustix::process::geteuid().as_raw();
    Ok(SandboxSpec {
        workload: WorkloadSpec {
            program: program.clone(),
            arguments: arguments.to_vec(),
            environment: merge_variables(
                merge_variables(
                    filter_variables(&config.variables, &config.shared_sockets),
                    &config.written_variables,
                ),
                &[(
                    request1::SOCKET_VARIABLE.into(),
                    request1::SOCKET_PATH.into(),
                )],
            ),
            directory: config.working_dir.clone(),
            stdio: streams,
        },
        protected_paths: protected,
        tmpfs_paths: vec![Path::new(tmux).join(format!("tmux-{uid}"))],
        shared_sockets: config.shared_sockets.clone(),
        placed_socket: Some(PlacedSocket {
            path: requests.path().to_owned(),
            shown_at: request1::SOCKET_PATH.into(),
        }),
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

/// Returns the variables that are not dropped, and those that name a shared socket.
fn filter_variables(
    variables: &[(OsString, OsString)],
    shared_sockets: &[PathBuf],
) -> Vec<(OsString, OsString)> {
    let is_shared =
        |value: &OsStr| parse_socket_path(value).is_some_and(|path| shared_sockets.contains(&path));
    let kept = variables
        .iter()
        .filter(|(name, value)| !is_dropped(name) || is_shared(value));
    kept.cloned().collect()
}

/// Returns `true` for a socket of this program or of the classic stack in the runtime directory:
/// `terok-clearance.sock`, `terok/clearance/<id>/hub.sock` and the like.
fn is_own_socket(path: &Path, runtime_dir: &Path) -> bool {
    let below = runtime_dir
        .canonicalize()
        .ok()
        .and_then(|runtime| path.strip_prefix(runtime).ok().map(Path::to_owned));
    let first = below.as_deref().and_then(|below| below.iter().next());
    first.is_some_and(|name| name.as_encoded_bytes().starts_with(b"terok"))
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
            filter_variables(&variables(&before), &[]),
            variables(&["PATH", "HOME", "DISPLAYS"])
        );
    }

    #[test]
    fn the_variable_of_a_shared_socket_is_kept() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let variables = [
            variable("SSH_AUTH_SOCK", "/srv/agent"),
            variable("DOCKER_HOST", "unix:///srv/docker.sock"),
            variable("TMUX", "/srv/tmux,1,0"),
        ];
        let kept = |shared: &[&str]| {
            let shared: Vec<_> = shared.iter().map(PathBuf::from).collect();
            let kept = filter_variables(&variables, &shared);
            kept.into_iter()
                .map(|(name, _)| name.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&["/srv/agent"]), ["SSH_AUTH_SOCK"]);
        assert_eq!(kept(&["/srv/docker.sock"]), ["DOCKER_HOST"]);
        assert!(kept(&["/srv"]).is_empty());
    }

    #[test]
    fn sockets_of_this_program_are_recognised() {
        let runtime = tempfile::tempdir().unwrap();
        let runtime = runtime.path().canonicalize().unwrap();
        for (path, expected) in [
            ("terok-clearance.sock", true),
            ("terok/clearance/1/hub.sock", true),
            ("bus", false),
            ("gnupg/S.gpg-agent", false),
        ] {
            assert_eq!(
                is_own_socket(&runtime.join(path), &runtime),
                expected,
                "{path}"
            );
        }
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
            merge_variables(filter_variables(&callers, &[]), &written),
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

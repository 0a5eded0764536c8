// SPDX-License-Identifier: Apache-2.0
//! Mounts with which a container could answer its own questions, or start programs outside.

use std::path::{Path, PathBuf};

use crate::UserEnvironment;

/// In a runtime directory: hubs and supervisors, container engines, service managers, buses.
const OF_RUNTIME_DIRS: [&str; 8] = [
    "terok",
    "podman",
    "docker.sock",
    "docker",
    "containerd",
    "crio",
    "systemd",
    "bus",
];

/// Beside these, of the machine.
const OF_MACHINE: [&str; 2] = ["/run/dbus", "/var/run/docker.sock"];

/// Returns a path that `source` would give to a container, and that guards it.
pub(super) fn find_exposed(source: &Path, environment: &UserEnvironment) -> Option<PathBuf> {
    // A path that does not exist yet exposes nothing, as podman refuses to mount it.
    let source = source.canonicalize().ok()?;
    let runtime_dirs = [environment.runtime_dir(), Path::new("/run")];
    let of_runtime_dirs = runtime_dirs
        .iter()
        .flat_map(|directory| OF_RUNTIME_DIRS.map(|name| directory.join(name)));
    let own = [environment.config_dir(), environment.state_dir()];
    let own = own.into_iter().map(Path::to_owned);
    let of_machine = OF_MACHINE.into_iter().map(PathBuf::from);
    of_runtime_dirs
        .chain(own)
        .chain(of_machine)
        .find(|protected| {
            let resolved = resolve(protected);
            resolved.starts_with(&source) || source.starts_with(&resolved)
        })
}

/// Resolves the links of a path, of which the last parts may not exist yet.
fn resolve(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(resolved), _, _) => resolved,
        (Err(_), Some(parent), Some(name)) => resolve(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_guards_the_container_is_not_mounted() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["home/project/src", "run/terok", "run/user/wayland"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("home"), at("link")).unwrap();
        let environment = UserEnvironment::of_variables(&[
            ("HOME", at("home").to_str().unwrap()),
            ("XDG_RUNTIME_DIR", at("run").to_str().unwrap()),
        ]);
        let exposed = |name: &str| find_exposed(&at(name), &environment);
        assert_eq!(exposed("home/project"), None);
        assert_eq!(exposed("run/user/wayland"), None);
        assert_eq!(exposed("missing"), None);
        let config = at("home/.config/terok-clearance");
        assert_eq!(exposed("home"), Some(config.clone()));
        assert_eq!(exposed("link"), Some(config));
        assert_eq!(exposed("run"), Some(at("run/terok")));
        assert_eq!(exposed("run/terok"), Some(at("run/terok")));
        assert!(find_exposed(Path::new("/"), &environment).is_some());
        fs::create_dir_all(at("home/.local/state/terok-clearance/x")).unwrap();
        let state = at("home/.local/state/terok-clearance");
        assert_eq!(exposed("home/.local/state/terok-clearance/x"), Some(state));
    }
}

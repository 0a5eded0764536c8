// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime that podman's configuration names (`containers.conf(5)`).
//!
//! [`PodmanConfigFiles`](containers::hooks_in_force::PodmanConfigFiles) reads the same files for
//! the directories of hooks, and reports their errors.

use std::path::{Path, PathBuf};

use toml_edit::{Document, Item};

use crate::HostDescription;

/// Returns the runtime that the files name, by name or path: that of the last one.
pub(crate) fn read_runtime(host: &HostDescription) -> Option<String> {
    let texts = configuration_files(host)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    texts.filter_map(|text| runtime_in(&text)).next_back()
}

/// Returns the files in podman's order: the distribution's, the administrator's, the user's.
fn configuration_files(host: &HostDescription) -> Vec<PathBuf> {
    let podman = &host.hook_check.podman;
    if let Some(only) = &podman.only {
        return vec![only.clone()];
    }
    let mut files = vec![host.system_path("/usr/share/containers/containers.conf")];
    let mut add = |file: PathBuf| {
        let parts = file.with_extension("conf.d");
        files.push(file);
        files.extend(sorted_parts(&parts));
    };
    add(host.system_path("/etc/containers/containers.conf"));
    if !host.is_root() {
        add(podman.user_config_dir.join("containers/containers.conf"));
    }
    files.extend(podman.last.clone());
    files
}

fn runtime_in(text: &str) -> Option<String> {
    let parsed = text.parse::<Document<String>>().ok()?;
    let runtime = parsed.get("engine")?.get("runtime");
    runtime.and_then(Item::as_str).map(str::to_owned)
}

/// Returns the files `*.conf` of a directory in alphabetical order.
fn sorted_parts(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut parts: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    parts.sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_is_that_of_the_section_engine() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(runtime_in(text).as_deref(), expected, "{text}");
        };
        check("[engine]\nruntime = 'runc'\n", Some("runc"));
        check("[engine]\nhooks_dir = ['/a']\n", None);
        check("[containers]\nruntime = 'runc'\n", None);
        check("[engine\n", None);
    }
}

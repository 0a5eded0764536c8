// SPDX-License-Identifier: Apache-2.0
//! What podman's `containers.conf` says about hooks and runtimes (`containers.conf(5)`).

use std::path::{Path, PathBuf};

use toml_edit::{Document, Item};

use crate::HostDescription;

/// Podman's hook directories without any in `containers.conf`.
const DEFAULT_HOOK_DIRECTORIES: [&str; 2] = [
    "/usr/share/containers/oci/hooks.d",
    "/etc/containers/oci/hooks.d",
];

/// The values of all files together: those of later files replace those of earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainersConf {
    /// The OCI runtime, by name or path.
    pub(crate) runtime: Option<String>,
    /// The directories of hooks; `None` if no file names any.
    pub(crate) hook_directories: Option<Vec<PathBuf>>,
    /// The first file that podman cannot parse, and the reason: it then starts no container.
    pub(crate) error: Option<(PathBuf, String)>,
}

impl ContainersConf {
    /// Reads the files in podman's order: the distribution's, the administrator's, the user's.
    pub(crate) fn read(host: &HostDescription) -> Self {
        let mut files = vec![host.system_path("/usr/share/containers/containers.conf")];
        let mut add = |file: PathBuf| {
            let parts = file.with_extension("conf.d");
            files.push(file);
            files.extend(sorted_parts(&parts));
        };
        add(host.system_path("/etc/containers/containers.conf"));
        if !host.is_root() {
            add(host.config_home.join("containers/containers.conf"));
        }
        let mut merged = Self::default();
        for file in files {
            if let Ok(text) = std::fs::read_to_string(&file) {
                merged.add_file(&file, &text);
            }
        }
        merged
    }

    fn add_file(&mut self, file: &Path, text: &str) {
        let parsed = match text.parse::<Document<String>>() {
            Ok(parsed) => parsed,
            Err(error) => {
                let reason = error.message().to_owned();
                self.error.get_or_insert_with(|| (file.to_owned(), reason));
                return;
            }
        };
        let Some(engine) = parsed.get("engine") else {
            return;
        };
        if let Some(runtime) = engine.get("runtime").and_then(Item::as_str) {
            self.runtime = Some(runtime.to_owned());
        }
        if let Some(list) = engine.get("hooks_dir").and_then(Item::as_array) {
            let named = list.iter().filter_map(|value| value.as_str());
            let named: Vec<_> = named.map(PathBuf::from).collect();
            // `append=true` in the list adds to the files before.
            let appends = list.iter().any(|value| {
                let table = value.as_inline_table();
                let append = table.and_then(|table| table.get("append"));
                append.and_then(toml_edit::Value::as_bool) == Some(true)
            });
            let mut all = if appends {
                self.hook_directories.take().unwrap_or_default()
            } else {
                Vec::new()
            };
            all.extend(named);
            self.hook_directories = Some(all);
        }
    }

    /// Returns the directories in which podman finds hooks.
    pub(crate) fn all_hook_directories(&self, host: &HostDescription) -> Vec<PathBuf> {
        match &self.hook_directories {
            Some(named) => named.clone(),
            None => DEFAULT_HOOK_DIRECTORIES
                .iter()
                .map(|directory| host.system_path(directory))
                .collect(),
        }
    }
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
    fn later_files_replace_the_values_of_earlier_ones() {
        let mut conf = ContainersConf::default();
        let file = Path::new("/c");
        conf.add_file(file, "[engine]\nruntime = 'runc'\nhooks_dir = ['/a']\n");
        conf.add_file(file, "[containers]\npids_limit = 0\n");
        conf.add_file(file, "[engine]\nhooks_dir = ['/b', {append=true}]\n");
        assert_eq!(conf.runtime.as_deref(), Some("runc"));
        let expected: Vec<PathBuf> = vec!["/a".into(), "/b".into()];
        assert_eq!(conf.hook_directories, Some(expected));
        conf.add_file(file, "[engine]\nhooks_dir = []\n");
        assert_eq!(conf.hook_directories, Some(Vec::new()));
        assert_eq!(conf.error, None);
        conf.add_file(file, "[engine\n");
        assert!(conf.error.is_some());
    }
}

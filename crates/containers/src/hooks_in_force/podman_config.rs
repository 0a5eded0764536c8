// SPDX-License-Identifier: Apache-2.0
//! Reads which hook directories podman uses, `containers.conf(5)`.
//!
//! Each file replaces the list of the files before it, or adds to it (`{append=true}`, podman 5).
//! The files differ by version: only podman 5 reads the file in the home directory for root, and
//! files for rootless users in `/etc`. Where versions disagree, every possible list is returned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Value};

/// podman's list without a configuration.
const DEFAULT_DIRECTORY: &str = "/usr/share/containers/oci/hooks.d";

/// The files of podman's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanConfigFiles {
    /// The user.
    pub uid: u32,
    /// The root directory, `/`.
    pub root: PathBuf,
    /// The user's configuration directory, `~/.config`.
    pub user_config_dir: PathBuf,
    /// The variable `CONTAINERS_CONF`: the only file.
    pub only: Option<PathBuf>,
    /// The variable `CONTAINERS_CONF_OVERRIDE`: the last file.
    pub last: Option<PathBuf>,
}

/// A file of podman's configuration cannot be used; podman would not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PodmanConfigError {
    path: PathBuf,
    reason: String,
}

/// The hook directories of podman, by version. Of files with the same name, that of the last
/// directory counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksDirectories {
    lists: Vec<Vec<PathBuf>>,
}

impl PodmanConfigError {
    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl PodmanConfigFiles {
    /// Reads the lists.
    pub fn read_hooks_directories(&self) -> Result<HooksDirectories, PodmanConfigError> {
        let mut lists = Vec::new();
        for is_podman_5 in [false, true] {
            let list = self.read_list(is_podman_5)?;
            if !lists.contains(&list) {
                lists.push(list);
            }
        }
        Ok(HooksDirectories { lists })
    }

    fn read_list(&self, is_podman_5: bool) -> Result<Vec<PathBuf>, PodmanConfigError> {
        let mut list = vec![PathBuf::from(DEFAULT_DIRECTORY)];
        let mut appends = false;
        for path in self.files(is_podman_5)? {
            let Some(read) = read_file(&path)? else {
                continue;
            };
            if let Some(append) = read.append {
                appends = append;
            }
            let directories = read.directories.into_iter().map(PathBuf::from);
            if appends && is_podman_5 {
                list.extend(directories);
            } else {
                list = directories.collect();
            }
        }
        Ok(list)
    }

    fn files(&self, is_podman_5: bool) -> Result<Vec<PathBuf>, PodmanConfigError> {
        const NAME: &str = "containers/containers.conf";
        let mut files = Vec::new();
        if let Some(only) = &self.only {
            files.push(only.clone());
        } else {
            let etc = self.root.join("etc").join(NAME);
            files.push(self.root.join("usr/share").join(NAME));
            files.push(etc.clone());
            files.extend(drop_ins(&etc)?);
            if is_podman_5 && self.uid != 0 {
                let rootless = self.root.join("etc/containers/containers.rootless.conf");
                files.push(rootless.clone());
                files.extend(drop_ins(&rootless)?);
                let own = with_suffix(&rootless, ".d").join(self.uid.to_string());
                files.extend(conf_files(&own)?);
            }
            if is_podman_5 || self.uid != 0 {
                let user = self.user_config_dir.join(NAME);
                files.push(user.clone());
                files.extend(drop_ins(&user)?);
            }
        }
        if is_podman_5 {
            files.extend(self.last.clone());
        }
        Ok(files)
    }
}

impl HooksDirectories {
    /// Returns `true` if every version of podman uses `directory`.
    pub fn always_include(&self, directory: &Path) -> bool {
        self.lists
            .iter()
            .all(|list| list.iter().any(|known| known == directory))
    }

    /// Returns the directories of all versions.
    pub fn all(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = Vec::new();
        for directory in self.lists.iter().flatten() {
            if !all.contains(directory) {
                all.push(directory.clone());
            }
        }
        all
    }

    /// Returns the directories that some version reads after `directory`.
    pub fn after(&self, directory: &Path) -> Vec<PathBuf> {
        let later = self.lists.iter().flat_map(|list| {
            let at = list.iter().rposition(|known| known == directory);
            let from = at.map_or(0, |at| at.saturating_add(1));
            list.get(from..).unwrap_or_default()
        });
        later.cloned().collect()
    }
}

/// The list of one file.
#[derive(Debug)]
struct FileList {
    directories: Vec<String>,
    append: Option<bool>,
}

/// Reads the list of a file; `None` if there is none.
fn read_file(path: &Path) -> Result<Option<FileList>, PodmanConfigError> {
    let failed = |reason: String| PodmanConfigError {
        path: path.to_owned(),
        reason,
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let document = text.parse::<Document<String>>();
    let document = document.map_err(|error| failed(error.message().to_owned()))?;
    let engine = document.get("engine").and_then(|item| item.as_table_like());
    let Some(value) = engine.and_then(|engine| engine.get("hooks_dir")) else {
        return Ok(None);
    };
    let array = value.as_array();
    let array = array.ok_or_else(|| failed("hooks_dir is not a list".to_owned()))?;
    let mut list = FileList {
        directories: Vec::new(),
        append: None,
    };
    for value in array {
        match value {
            Value::String(directory) => list.directories.push(directory.value().clone()),
            Value::InlineTable(table) => {
                list.append = table.get("append").and_then(Value::as_bool);
            }
            _ => return Err(failed("hooks_dir has an entry that is no text".to_owned())),
        }
    }
    Ok(Some(list))
}

fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, PodmanConfigError> {
    conf_files(&with_suffix(file, ".d"))
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the files `*.conf` of a directory in the order of their names.
fn conf_files(directory: &Path) -> Result<Vec<PathBuf>, PodmanConfigError> {
    let failed = |error: &io::Error| PodmanConfigError {
        path: directory.to_owned(),
        reason: error.to_string(),
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
            && !path.is_dir()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

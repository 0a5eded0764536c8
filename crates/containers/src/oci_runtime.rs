// SPDX-License-Identifier: Apache-2.0
//! An OCI runtime in front of another one, for engines without hook directories: Docker, nerdctl.
//!
//! Before `create` and `run` it adds the hooks to the container's `config.json` and takes two
//! capabilities away. Everything else is passed on as it is.

mod config_edit;
mod runtime_arguments;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::oci_config::MAX_CONFIG_BYTES;
use crate::start_request::ContainerNetwork;

pub use config_edit::{ConfigEditError, ConfigHooks, edit_config};
pub use runtime_arguments::RuntimeArguments;

/// A container's configuration was not changed; the container must not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleEditError {
    /// The configuration cannot be read.
    #[error("cannot read the container's configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be written.
    #[error("cannot write the container's configuration {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration is not understood.
    #[error("cannot guard the container of {}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ConfigEditError,
    },
}

/// Guards the container of a bundle; returns `false` for a container that does not ask for it.
/// `network` is the way out of every container; without it, a container asks by its annotation.
pub fn edit_bundle(
    bundle: &Path,
    network: Option<ContainerNetwork>,
    hooks: &ConfigHooks,
) -> Result<bool, BundleEditError> {
    let path = bundle.join("config.json");
    let json = read_config(&path).map_err(|source| BundleEditError::Read {
        path: path.clone(),
        source,
    })?;
    let edited = edit_config(&json, network, hooks).map_err(|source| BundleEditError::Edit {
        path: path.clone(),
        source,
    })?;
    let Some(edited) = edited else {
        return Ok(false);
    };
    let written = replace_file(&path, &edited);
    written.map_err(|source| BundleEditError::Write { path, source })?;
    Ok(true)
}

fn read_config(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut json = Vec::new();
    file.take(MAX_CONFIG_BYTES.saturating_add(1))
        .read_to_end(&mut json)?;
    if u64::try_from(json.len()).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(io::Error::other("the file is too large"));
    }
    Ok(json)
}

/// Replaces a file at once, with its permissions.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o777)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary)); // the error above is the one to report
    }
    written
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_configuration_of_a_bundle_is_replaced() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        let hooks = ConfigHooks::of_program("/usr/bin/terok-clearance");
        let edit = || edit_bundle(bundle.path(), Some(ContainerNetwork::Dialed), &hooks);
        assert!(matches!(edit(), Err(BundleEditError::Read { .. })));
        fs::write(&path, "{}").unwrap();
        assert!(matches!(edit(), Err(BundleEditError::Edit { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        let config = json!({"linux": {"namespaces": [{"type": "network"}]}});
        fs::write(&path, config.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(edit().unwrap());
        let edited: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(edited["hooks"]["createRuntime"][0]["args"][1], "hook");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
        // A second time nothing is added.
        let before = fs::read(&path).unwrap();
        assert!(edit().unwrap());
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The directories of `terok-shield` and the configuration files of podman.

use std::path::{Path, PathBuf};

use shield_cli::ContainersConfPaths;

use super::UserEnvironment;

impl UserEnvironment {
    /// Returns the root of the state directories: `TEROK_SHIELD_STATE_DIR`, else
    /// `terok/shield` in the user's directory of state.
    pub fn shield_state_root(&self) -> PathBuf {
        let users = || self.state_dir.with_file_name("terok").join("shield");
        self.shield_state_dir.clone().unwrap_or_else(users)
    }

    /// Returns the directory of `config.yml` and the profiles of `terok-shield`.
    pub fn shield_config_root(&self) -> PathBuf {
        let users = || self.config_dir.with_file_name("terok").join("shield");
        self.shield_config_dir.clone().unwrap_or_else(users)
    }

    /// Returns the directory of the hooks of `terok-shield`.
    pub fn shield_data_dir(&self) -> &Path {
        &self.shield_data_dir
    }

    /// Returns the configuration files of podman.
    pub fn containers_conf(&self) -> ContainersConfPaths {
        ContainersConfPaths {
            user: self.config_dir.with_file_name("containers/containers.conf"),
            system: [
                "/etc/containers/containers.conf",
                "/usr/share/containers/containers.conf",
            ]
            .map(PathBuf::from)
            .into(),
            is_root: self.uid == 0,
            home: self.home.clone(),
        }
    }
}

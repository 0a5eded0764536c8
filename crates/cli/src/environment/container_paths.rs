// SPDX-License-Identifier: Apache-2.0
//! The places of containers: hooks, sockets and podman's configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use containers::hooks_in_force::PodmanConfigFiles;
use containers::host_layout::HOOKS_DIRECTORY;

use super::UserEnvironment;

/// Variables that name a proxy; podman passes them on to a container.
const PROXY_VARIABLES: [&str; 3] = ["http_proxy", "https_proxy", "ftp_proxy"];

/// Variables by which podman talks to a service elsewhere.
const REMOTE_VARIABLES: [&str; 2] = ["CONTAINER_HOST", "CONTAINER_CONNECTION"];

impl UserEnvironment {
    /// Returns the directory of our OCI hooks.
    pub(crate) fn hooks_dir(&self) -> PathBuf {
        if netns::sandbox::is_machine_root() {
            return Path::new("/etc").join(HOOKS_DIRECTORY);
        }
        let data = self.directory_variable("XDG_DATA_HOME");
        let data = data.unwrap_or_else(|| self.home().join(".local/share"));
        data.join(HOOKS_DIRECTORY)
    }

    /// Returns the files of podman's configuration.
    pub(crate) fn podman_config_files(&self) -> PodmanConfigFiles {
        let config = self.directory_variable("XDG_CONFIG_HOME");
        PodmanConfigFiles {
            uid: self.uid(),
            root: "/".into(),
            user_config_dir: config.unwrap_or_else(|| self.home().join(".config")),
            only: self.set_variable("CONTAINERS_CONF").map(PathBuf::from),
            last: self
                .set_variable("CONTAINERS_CONF_OVERRIDE")
                .map(PathBuf::from),
        }
    }

    /// Returns `true` if podman would pass a proxy on to a container.
    pub(crate) fn has_proxy_variables(&self) -> bool {
        self.variables().iter().any(|(name, value)| {
            let name = name.to_string_lossy().to_ascii_lowercase();
            PROXY_VARIABLES.contains(&name.as_str()) && !value.is_empty()
        })
    }

    /// Returns the variable by which podman would talk to a service elsewhere.
    pub(crate) fn remote_podman_variable(&self) -> Option<&'static str> {
        let is_set = |name: &&str| self.set_variable(name).is_some();
        REMOTE_VARIABLES.into_iter().find(is_set)
    }

    fn set_variable(&self, name: &str) -> Option<&OsString> {
        let mut variables = self.variables().iter();
        let (_, value) = variables.find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }

    fn directory_variable(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.set_variable(name)?);
        path.is_absolute().then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_variables_are_found() {
        let of = UserEnvironment::of_variables;
        let plain = of(&[("HOME", "/home/op")]);
        assert!(!plain.has_proxy_variables());
        assert_eq!(plain.remote_podman_variable(), None);
        let files = plain.podman_config_files();
        assert_eq!(files.user_config_dir, Path::new("/home/op/.config"));
        assert_eq!((files.only, files.last), (None, None));
        let all = of(&[
            ("HTTPS_PROXY", "http://p"),
            ("CONTAINER_HOST", "ssh://x"),
            ("CONTAINERS_CONF", "/c"),
            ("CONTAINERS_CONF_OVERRIDE", "/o"),
            ("XDG_CONFIG_HOME", "/x"),
        ]);
        assert!(all.has_proxy_variables());
        assert_eq!(all.remote_podman_variable(), Some("CONTAINER_HOST"));
        let files = all.podman_config_files();
        assert_eq!(files.user_config_dir, Path::new("/x"));
        assert_eq!(files.only, Some("/c".into()));
        assert_eq!(files.last, Some("/o".into()));
        assert!(!of(&[("http_proxy", "")]).has_proxy_variables());
    }
}

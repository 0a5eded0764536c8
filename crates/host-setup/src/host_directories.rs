// SPDX-License-Identifier: Apache-2.0
//! The places of a host where parts are installed.

use std::path::{Path, PathBuf};

use containers::host_layout::HOOKS_DIRECTORY;

/// For whom a host is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupScope {
    /// For the calling user.
    User,
    /// For the machine's root.
    Machine,
}

/// The base directories of a user (XDG Base Directory Specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDirectories {
    /// The home directory.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME`.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME`.
    pub state: PathBuf,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
}

/// The directories of each part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDirectories {
    /// For whom the host is set up.
    pub scope: SetupScope,
    /// The OCI hooks.
    pub hooks: PathBuf,
    /// podman's configuration file that names the hooks directory.
    pub containers_conf: PathBuf,
    /// Files that podman reads before [`Self::containers_conf`], in this order. An entry that ends
    /// in `.d` is a directory of them.
    pub earlier_containers_confs: Vec<PathBuf>,
    /// The supervisor's units.
    pub supervisor_units: PathBuf,
    /// The user units of the caller.
    pub user_units: PathBuf,
    /// The links to the program.
    pub programs: PathBuf,
    /// Completions of bash.
    pub bash_completions: PathBuf,
    /// Completions of zsh.
    pub zsh_completions: PathBuf,
    /// Completions of fish.
    pub fish_completions: PathBuf,
    /// Manual pages of section 1.
    pub man_pages: PathBuf,
    /// Symbolic icons of the icon theme.
    pub icons: PathBuf,
    /// `AppArmor` profiles; only root installs them.
    pub apparmor: Option<PathBuf>,
    /// The list of what was installed.
    pub state: PathBuf,
    /// The runtime directory of the hooks and supervisors.
    pub runtime: PathBuf,
    /// The runtime directory of the caller's user manager.
    pub user_runtime: PathBuf,
}

const ICONS: &str = "icons/hicolor/symbolic/apps";
const CONTAINERS_CONF: &str = "containers/containers.conf";

impl HostDirectories {
    /// Returns the directories of a user. `root` is the root directory of the machine.
    pub fn of_user(user: &UserDirectories, root: &Path) -> Self {
        let data = &user.data;
        Self {
            scope: SetupScope::User,
            hooks: data.join(HOOKS_DIRECTORY),
            containers_conf: user.config.join(CONTAINERS_CONF),
            earlier_containers_confs: vec![
                root.join("usr/share").join(CONTAINERS_CONF),
                root.join("etc").join(CONTAINERS_CONF),
                root.join("etc/containers/containers.conf.d"),
            ],
            supervisor_units: user.config.join("systemd/user"),
            user_units: user.config.join("systemd/user"),
            programs: user.home.join(".local/bin"),
            bash_completions: data.join("bash-completion/completions"),
            zsh_completions: data.join("zsh/site-functions"),
            fish_completions: data.join("fish/vendor_completions.d"),
            man_pages: data.join("man/man1"),
            icons: data.join(ICONS),
            apparmor: None,
            state: user.state.join("terok-clearance"),
            runtime: user.runtime.clone(),
            user_runtime: user.runtime.clone(),
        }
    }

    /// Returns the directories of the machine's root, whose own directories are `user`. `root` is
    /// the root directory of the machine.
    pub fn of_machine(user: &UserDirectories, root: &Path) -> Self {
        let share = root.join("usr/local/share");
        Self {
            scope: SetupScope::Machine,
            hooks: root.join("etc").join(HOOKS_DIRECTORY),
            containers_conf: root.join("etc").join(CONTAINERS_CONF),
            earlier_containers_confs: vec![root.join("usr/share").join(CONTAINERS_CONF)],
            supervisor_units: root.join("etc/systemd/system"),
            user_units: user.config.join("systemd/user"),
            programs: root.join("usr/local/bin"),
            bash_completions: share.join("bash-completion/completions"),
            zsh_completions: share.join("zsh/site-functions"),
            fish_completions: share.join("fish/vendor_completions.d"),
            man_pages: share.join("man/man1"),
            icons: share.join(ICONS),
            apparmor: Some(root.join("etc/apparmor.d")),
            state: root.join("var/lib/terok-clearance"),
            runtime: root.join("run"),
            user_runtime: user.runtime.clone(),
        }
    }

    /// Returns the directory of files that podman reads after [`Self::containers_conf`].
    pub fn later_containers_confs(&self) -> PathBuf {
        let mut name = self.containers_conf.clone().into_os_string();
        name.push(".d");
        name.into()
    }
}

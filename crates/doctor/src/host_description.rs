// SPDX-License-Identifier: Apache-2.0
//! The values that the checks get: directories, the user, and what the caller knows.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use containers::hooks_in_force::HookCheck;

use crate::package_manager::PackageManager;

/// A host and the user who asks.
#[derive(Debug, Clone)]
pub struct HostDescription {
    /// The effective user id.
    pub uid: u32,
    /// The name of the user in `passwd`, or the id.
    pub user: String,
    /// The directory of the user's sockets.
    pub runtime_dir: PathBuf,
    /// `XDG_CONFIG_HOME`, or its default.
    pub config_home: PathBuf,
    /// `XDG_DATA_HOME`, or its default.
    pub data_home: PathBuf,
    /// The directory of this program's state.
    pub state_dir: PathBuf,
    /// `PATH`, in which programs are found.
    pub search_path: OsString,
    /// The address of the session bus.
    pub session_bus: Option<String>,
    /// The session has a display.
    pub has_display: bool,
    /// This program, for the probe of the kernel.
    pub program: PathBuf,
    /// The files of the record.
    pub records: Vec<PathBuf>,
    /// The configuration of the user and of the organisation.
    pub configuration: ConfigurationState,
    /// What the hooks of containers depend on.
    pub hook_check: HookCheck,
    /// The root of the system's own files, `/`.
    pub system_root: PathBuf,
    /// The time limit of each check.
    pub time_limit: Duration,
}

/// Whether the files of the configuration can be used: `true` if the file exists.
#[derive(Debug, Clone)]
pub struct ConfigurationState {
    /// The path of the user's file.
    pub user_path: PathBuf,
    /// The user's file, or its error.
    pub user: Result<bool, String>,
    /// The path of the organisation's file.
    pub organisation_path: PathBuf,
    /// The organisation's file, or its error.
    pub organisation: Result<bool, String>,
}

impl HostDescription {
    /// The time limit of a check that leaves a report within three seconds.
    pub const TIME_LIMIT: Duration = Duration::from_secs(2);

    /// Returns `true` for root.
    pub(crate) const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Returns a path of the system, such as `/etc/subuid`.
    pub(crate) fn system_path(&self, path: &str) -> PathBuf {
        self.system_root.join(path.trim_start_matches('/'))
    }

    /// Returns the text of a file of the system.
    pub(crate) fn read_system_file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.system_path(path)).ok()
    }

    /// Returns the program called `name`.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        netns::find_program(name, &self.search_path)
    }

    /// Returns the package manager of the distribution.
    pub(crate) fn package_manager(&self) -> PackageManager {
        let text = self
            .read_system_file("/etc/os-release")
            .or_else(|| self.read_system_file("/usr/lib/os-release"));
        text.map_or(PackageManager::Unknown, |text| {
            PackageManager::of_os_release(&text)
        })
    }

    /// Returns a command as this user gives it to change the system.
    pub(crate) fn as_root(&self, command: &str) -> String {
        if self.is_root() {
            command.to_owned()
        } else {
            format!("sudo {command}")
        }
    }

    /// Returns the command that writes a setting of the kernel.
    pub(crate) fn sysctl_fix(&self, setting: &str) -> String {
        let set = self.as_root(&format!("sysctl -w '{setting}'"));
        format!("{set} (to keep it: a line in a file in /etc/sysctl.d)")
    }
}

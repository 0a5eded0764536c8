// SPDX-License-Identifier: Apache-2.0
//! Proves that a container which asks for a guard gets one, before it is started.
//!
//! Podman starts a container silently *without* a hook whose directory, file or program is missing.
//! [`HookCheck::find_faults`] reads what podman would read, and looks at the program and at the
//! socket that starts supervisors. It changes nothing, and does not connect: each connection would
//! start a supervisor.

mod hook_file;
mod listening_socket;
mod podman_config;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use terok_clearance::DisplayText;

use crate::host_layout::{HOOK_FILES, SOCKET_UNIT, START_SOCKET};
use hook_file::check_hook_file;

pub use hook_file::HookFileProblem;
pub use listening_socket::is_listening;
pub use podman_config::{HooksDirectories, PodmanConfigError, PodmanConfigFiles};

/// The parts of a host on which the hooks depend.
#[derive(Debug, Clone)]
pub struct HookCheck {
    /// The directory of our hooks.
    pub hooks_directory: PathBuf,
    /// podman's configuration.
    pub podman: PodmanConfigFiles,
    /// The runtime directory with the socket that starts supervisors.
    pub runtime_dir: PathBuf,
    /// The running program.
    pub program: PathBuf,
    /// The version of the running program.
    pub version: &'static str,
}

/// A reason why a container would start without a guard, or would not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookFault {
    /// A hook file is missing.
    #[error("the hook {} is missing", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// A hook file is not ours, or broken.
    #[error("the hook {} is not usable: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: HookFileProblem,
    },
    /// A later directory has a file of the same name, which replaces ours.
    #[error("{} replaces the hook of the same name", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// The program of the hooks is missing or not executable.
    #[error("the hooks' program {} cannot be executed", path.display())]
    NoProgram {
        /// The program.
        path: PathBuf,
    },
    /// The program of the hooks is of another version.
    #[error(
        "the hooks' program {} is {found}, and this is terok-clearance {expected}",
        path.display()
    )]
    OtherVersion {
        /// The program.
        path: PathBuf,
        /// What it says.
        found: DisplayText,
        /// The version of this program.
        expected: &'static str,
    },
    /// podman does not read the directory of the hooks.
    #[error("podman's configuration does not name the hooks directory {}", directory.display())]
    NotConfigured {
        /// The directory.
        directory: PathBuf,
        /// The directories that it reads.
        others: Vec<PathBuf>,
    },
    /// podman's configuration cannot be read.
    #[error("podman's configuration cannot be read: {0}")]
    PodmanConfig(PodmanConfigError),
    /// Nothing accepts at the socket that starts supervisors.
    #[error("no supervisor can be started: nothing listens at {}", path.display())]
    NotListening {
        /// The socket.
        path: PathBuf,
        /// Whether the host's service manager runs, which should listen.
        has_service_manager: bool,
    },
}

impl HookFault {
    /// Returns what to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotListening {
                has_service_manager: true,
                ..
            } => format!(
                "run `terok-clearance setup`, or `systemctl --user start {SOCKET_UNIT}` (root: \
                 without --user)"
            ),
            Self::NotListening { .. } => {
                "start containers with `terok-clearance podman run`, which starts the supervisors"
                    .to_owned()
            }
            Self::Replaced { path } => format!("remove {}", path.display()),
            Self::PodmanConfig(error) => format!("correct {}", error.path().display()),
            _ => "run `terok-clearance setup`".to_owned(),
        }
    }

    /// Returns `true` if `podman run --hooks-dir` or a listener of the wrapper makes up for it.
    pub const fn is_mended_by_wrapper(&self) -> bool {
        matches!(
            self,
            Self::NotConfigured { .. }
                | Self::NotListening {
                    has_service_manager: false,
                    ..
                }
        )
    }
}

impl HookCheck {
    /// Returns every fault; none means that the hooks are in force.
    pub fn find_faults(&self) -> Vec<HookFault> {
        let mut faults = Vec::new();
        let mut programs = Vec::new();
        for name in HOOK_FILES {
            let path = self.hooks_directory.join(name);
            match read_hook(&path, name) {
                Ok(program) if programs.contains(&program) => {}
                Ok(program) => programs.push(program),
                Err(fault) => faults.push(fault),
            }
        }
        faults.extend(programs.iter().filter_map(|path| self.check_program(path)));
        match self.podman.read_hooks_directories() {
            Err(error) => faults.push(HookFault::PodmanConfig(error)),
            Ok(read) => faults.extend(self.check_directories(&read)),
        }
        let path = self.runtime_dir.join(START_SOCKET);
        if !is_listening_socket(&path) {
            let has_service_manager = self.has_service_manager();
            faults.push(HookFault::NotListening {
                path,
                has_service_manager,
            });
        }
        faults
    }

    fn check_program(&self, path: &Path) -> Option<HookFault> {
        let owned = path.to_owned();
        if !path.is_file() || access(path, Access::EXEC_OK).is_err() {
            return Some(HookFault::NoProgram { path: owned });
        }
        if is_same_file(path, &self.program) {
            return None;
        }
        let expected = format!("terok-clearance {}", self.version);
        let found = read_version(path);
        let is_same = found.as_ref().is_ok_and(|found| *found == expected);
        (!is_same).then(|| HookFault::OtherVersion {
            path: owned,
            found: match found {
                Ok(text) => DisplayText::new(&text),
                Err(error) => DisplayText::new(&error.to_string()),
            },
            expected: self.version,
        })
    }

    fn check_directories(&self, read: &HooksDirectories) -> Vec<HookFault> {
        if !read.always_include(&self.hooks_directory) {
            return vec![HookFault::NotConfigured {
                directory: self.hooks_directory.clone(),
                others: read.all(),
            }];
        }
        let later = read.after(&self.hooks_directory);
        let files = later
            .iter()
            .flat_map(|directory| HOOK_FILES.map(|name| directory.join(name)));
        files
            .filter(|path| path.exists())
            .map(|path| HookFault::Replaced { path })
            .collect()
    }

    /// Returns `true` if a service manager runs that could listen: systemd, or a user's.
    fn has_service_manager(&self) -> bool {
        let private = self.runtime_dir.join("systemd/private");
        private.exists() || (self.podman.uid == 0 && Path::new("/run/systemd/system").is_dir())
    }
}

fn read_hook(path: &Path, name: &str) -> Result<PathBuf, HookFault> {
    let unusable = |problem| HookFault::File {
        path: path.to_owned(),
        problem,
    };
    match fs::read(path) {
        Ok(json) => check_hook_file(&json, stage_of(name)).map_err(unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HookFault::NoFile {
            path: path.to_owned(),
        }),
        Err(error) => Err(unusable(HookFileProblem::Read(error.to_string()))),
    }
}

/// Returns the stage of a hook file by its name.
fn stage_of(name: &str) -> &str {
    let stem = name.strip_suffix(".json").unwrap_or(name);
    stem.rsplit('-').next().unwrap_or_default()
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn read_version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn is_listening_socket(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_ok_and(|found| found.file_type().is_socket()) && is_listening(path)
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! The configuration and the output of the command.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use terok_clearance::ContainerId;

/// The configuration of the command.
#[derive(Debug, Clone)]
pub struct SimpleClearanceConfig {
    /// The name of a container, or its state directory (with a slash).
    pub target: String,
    /// The container, if its state directory does not name it.
    pub container: Option<ContainerId>,
    /// The root of the state directories, preferred to podman's annotation.
    pub state_root: Option<PathBuf>,
    /// The root of the state directories for containers without an annotation.
    pub default_state_root: Option<PathBuf>,
    /// A reader in place of the command `reader` of [`Self::own_program`].
    pub reader: Option<PathBuf>,
    /// The program that applies answers, in place of the container's firewall or `terok-shield`.
    pub shield: Option<PathBuf>,
    /// The environment of the program that applies answers.
    pub shield_variables: Vec<(OsString, OsString)>,
    /// Ends the reader of the container's hook, and restarts the reader at the end.
    pub take_over: bool,
    /// The output is JSON, one object per line.
    pub json: bool,
    /// The path of this program, for the command `reader`.
    pub own_program: PathBuf,
    /// `PATH`, where podman, `dbus-send` and `terok-shield` are looked for.
    pub search_path: Option<OsString>,
    /// The operator's runtime directory, with the sockets of the hubs.
    pub runtime_dir: PathBuf,
    /// The session has a bus, on which an old hub may own a name.
    pub has_session_bus: bool,
}

impl SimpleClearanceConfig {
    /// Returns the program `name` in the search path.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        netns::find_program(name, self.search_path.as_ref()?)
    }
}

/// The standard output and standard error of the command.
pub trait QuestionOutput {
    /// Writes a text to standard output unchanged.
    fn write(&self, text: &str) -> io::Result<()>;

    /// Prints a line to standard error.
    fn print_note(&self, line: &str);
}

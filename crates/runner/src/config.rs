// SPDX-License-Identifier: Apache-2.0
//! The configuration of a run.

use std::ffi::OsString;
use std::path::PathBuf;

use desktop::PopupDesktopConfig;
use netns::sandbox::SandboxLimits;
use record::RecordConfig;
use supervisor::{HoldLimit, ProxySettings, PublishSpec};
use tui::{Hotkey, TuiOptions};

use crate::RunRules;

/// The configuration of a run.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The program and its arguments; not empty.
    pub command: Vec<OsString>,
    /// The name of the sandbox in questions; `None`: the file name of the program.
    pub name: Option<String>,
    /// The working directory of the command.
    pub working_dir: PathBuf,
    /// The environment of the caller. The command gets all variables but those of services outside
    /// the sandbox.
    pub variables: Vec<(OsString, OsString)>,
    /// Variables of the command that the operator wrote down: they replace those of the caller, and
    /// are set even if they are of services outside the sandbox.
    pub written_variables: Vec<(OsString, OsString)>,
    /// The operator's runtime directory, with the sockets of the hubs.
    pub runtime_dir: PathBuf,
    /// The directory of this program's configuration files.
    pub config_dir: PathBuf,
    /// The directory of this program's persistent state.
    pub state_dir: PathBuf,
    /// Sockets of the operator's side that the command may connect to.
    pub shared_sockets: Vec<PathBuf>,
    /// The rules.
    pub rules: RunRules,
    /// The records of the run: the operator's own, and copies.
    pub records: Vec<RecordConfig>,
    /// The run does not start unless its record can be written.
    pub is_record_required: bool,
    /// The ports of the sandbox that are published on the host.
    pub published: Vec<PublishSpec>,
    /// Connections to names are checked for the server name that they ask for.
    pub check_server_names: bool,
    /// The way of the sandbox to the network.
    pub network: NetworkChoice,
    /// Limits of the command.
    pub limits: SandboxLimits,
    /// Root's command may mount what sandboxes inside the sandbox need; see
    /// [`SandboxSpec::root_may_nest`](netns::sandbox::SandboxSpec::root_may_nest).
    pub root_may_nest: bool,
    /// This program, which the command cannot change.
    pub own_program: Option<PathBuf>,
    /// The time that connections wait for an answer.
    pub hold: HoldLimit,
    /// The proxy of the operator's network.
    pub proxy: Option<ProxySettings>,
    /// The host's file of names and addresses.
    pub hosts_file: PathBuf,
    /// The host's file of name servers and search domains.
    pub resolv_conf: PathBuf,
    /// The full screen over the command; `None` if the terminal cannot show one.
    pub screen: Option<RunScreen>,
    /// The popups for the questions of the sandbox.
    pub popups: PopupChoice,
}

/// The way of a sandbox to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    /// Each allowed connection is dialed by this process.
    Dialed,
    /// None: the sandbox has only its loopback.
    None,
}

/// The full screen over the command.
#[derive(Debug, Clone)]
pub struct RunScreen {
    /// Opens the screen. Pressed twice, it is passed on to the command.
    pub hotkey: Hotkey,
    /// A line at the terminal announces new questions.
    pub announces_questions: bool,
    /// The options of the full screen.
    pub options: TuiOptions,
}

/// The popups for the questions of the sandbox. A running notifier of the operator replaces the
/// popups of this process.
#[derive(Debug, Clone)]
pub enum PopupChoice {
    /// No popups, and the notifier is ignored.
    Off,
    /// Popups if a notification service runs already.
    IfRunning(Box<PopupDesktopConfig>),
    /// Popups are required.
    Required(Box<PopupDesktopConfig>),
}

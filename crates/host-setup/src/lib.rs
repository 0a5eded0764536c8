// SPDX-License-Identifier: Apache-2.0
//! What `terok-clearance setup` and `uninstall` change on a host.
//!
//! [`HostSetup`] installs the parts and [`HostUninstall`] removes them; both work on a list of the
//! installed files, so that a file of another program or one that the user has changed is left
//! alone. Texts are made by pure modules: [`hook_files`], [`UnitFile`] and [`add_hooks_dir`].
//! [`ClassicUnits`] has the functions of the Python stack's installer.
//!
//! Nothing here reads the environment: directories are arguments.

mod apparmor;
mod classic_units;
mod containers_conf_change;
mod exec_start;
mod hook_json;
mod hook_program;
mod hooks_dir_list;
mod host_directories;
mod host_setup;
mod host_uninstall;
mod installed_file;
mod manifest;
mod setup_event;
mod setup_items;
mod systemctl;
mod unit_files;

pub use apparmor::{APPARMOR_PROFILE, apparmor_profile, restricts_user_namespaces};
pub use classic_units::{ClassicUnits, ClassicUnitsError};
pub use containers_conf_change::ContainersConfError;
pub use exec_start::{UnitProgram, UnitProgramError};
pub use hook_json::hook_files;
pub use hook_program::{HookProgram, HookProgramError, ProgramOrigin};
pub use hooks_dir_list::{
    AddedHooksDir, DEFAULT_HOOKS_DIRS, HooksDirError, HooksDirList, add_hooks_dir, read_hooks_dirs,
    remove_hooks_dir,
};
pub use host_directories::{HostDirectories, SetupScope, UserDirectories};
pub use host_setup::{HostContext, HostSetup, HostSetupError, NotifierChoice, SetupOptions};
pub use host_uninstall::HostUninstall;
pub use installed_file::FileChangeError;
pub use manifest::{ItemDecision, ManifestError};
pub use setup_event::{EventSink, PathChange, SetupEvent, SetupPart};
pub use setup_items::SetupAssets;
pub use systemctl::{Systemctl, SystemctlError, UnitManager};
pub use unit_files::{
    CLASSIC_NOTIFIER_UNIT, HUB_UNIT, LEGACY_UNIT, UnitFile, VERDICT_UNIT, unit_version,
};

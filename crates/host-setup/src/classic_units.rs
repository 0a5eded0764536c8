// SPDX-License-Identifier: Apache-2.0
//! The functions of the Python stack's installer of systemd user units, with its names and texts.

use std::path::{Path, PathBuf};

use crate::installed_file::{
    DiskEntry, FileChangeError, WriteMode, make_directory, missing_directories, remove_file,
    write_file,
};
use crate::setup_event::{EventSink, PathChange, SetupEvent, SetupPart};
use crate::unit_files::{CLASSIC_NOTIFIER_VERSION, PAIR_VERSION, is_stamped};
use crate::{
    CLASSIC_NOTIFIER_UNIT, HUB_UNIT, LEGACY_UNIT, Systemctl, UnitFile, UnitProgram, VERDICT_UNIT,
    unit_version,
};

/// The user units of the classic layout: one hub for all containers, its verdict helper, and the
/// popups.
#[derive(Debug, Clone)]
pub struct ClassicUnits {
    /// The directory of the user's units: `systemd/user` of `$XDG_CONFIG_HOME`.
    pub directory: PathBuf,
    /// The user's manager; `None` if there is no systemd, and only files are written.
    pub systemctl: Option<Systemctl>,
}

/// A unit was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicUnitsError {
    /// The unit or its directory cannot be written.
    #[error(transparent)]
    File(#[from] FileChangeError),
    /// Another program or the user wrote the unit.
    #[error("{} was not written by a clearance setup and is left as it is", path.display())]
    Foreign {
        /// The unit.
        path: PathBuf,
    },
}

impl ClassicUnits {
    /// Writes the units of the hub and its verdict helper, and retires the service that both were
    /// before 0.6. Returns the paths of both. Neither is started.
    pub fn install_service(
        &self,
        program: &UnitProgram,
    ) -> Result<(PathBuf, PathBuf), ClassicUnitsError> {
        self.retire(LEGACY_UNIT);
        let [hub, verdict] = UnitFile::of_classic_pair(program);
        // Both or neither.
        self.check(&hub)?;
        self.check(&verdict)?;
        let paths = (self.write(&hub)?, self.write(&verdict)?);
        self.reload();
        Ok(paths)
    }

    /// Stops and removes the units of the hub and its verdict helper, and the service that both
    /// were before 0.6. Steps that fail are logged and the others taken.
    pub fn uninstall_service(&self) {
        for unit in [HUB_UNIT, VERDICT_UNIT, LEGACY_UNIT] {
            self.retire(unit);
        }
        self.reload();
    }

    /// Writes the unit of the popups, and returns its path. It is not started. `program` shows the
    /// popups without another argument.
    pub fn install_notifier_service(
        &self,
        program: &UnitProgram,
    ) -> Result<PathBuf, ClassicUnitsError> {
        let unit = UnitFile::of_classic_notifier(program);
        self.check(&unit)?;
        let path = self.write(&unit)?;
        self.reload();
        Ok(path)
    }

    /// Stops and removes the unit of the popups. Steps that fail are logged and the others taken.
    pub fn uninstall_notifier_service(&self) {
        self.retire(CLASSIC_NOTIFIER_UNIT);
        self.reload();
    }

    /// Returns the version of the installed hub; `None` without a hub or without a version.
    pub fn read_installed_unit_version(&self) -> Option<u32> {
        unit_version(HUB_UNIT, &self.read(HUB_UNIT)?)
    }

    /// Returns the version of the installed popups; `None` without them or without a version.
    pub fn read_installed_notifier_unit_version(&self) -> Option<u32> {
        unit_version(CLASSIC_NOTIFIER_UNIT, &self.read(CLASSIC_NOTIFIER_UNIT)?)
    }

    /// Returns a warning if an installed unit is outdated or missing its other half.
    pub fn check_units_outdated(&self) -> Option<String> {
        const RERUN: &str = "rerun your clearance setup command";
        if self.directory.join(LEGACY_UNIT).is_file() {
            return Some(format!(
                "{LEGACY_UNIT} is from a pre-split release — {RERUN} to migrate to the \
                 hub/verdict pair."
            ));
        }
        let outdated = |unit: &str, expected: u32| {
            let installed = unit_version(unit, &self.read(unit)?);
            let label = match installed {
                Some(version) if version >= expected => return None,
                Some(version) => format!("v{version}"),
                None => "unversioned".to_owned(),
            };
            Some(format!(
                "{unit} is outdated (installed {label}, expected v{expected}) — {RERUN}."
            ))
        };
        let pair = [HUB_UNIT, VERDICT_UNIT];
        if let Some(warning) = pair.iter().find_map(|unit| outdated(unit, PAIR_VERSION)) {
            return Some(warning);
        }
        let missing: Vec<_> = pair
            .into_iter()
            .filter(|unit| self.read(unit).is_none())
            .collect();
        if let [missing] = missing.as_slice() {
            return Some(format!(
                "half-installed: missing {missing} — {RERUN} to restore the hub/verdict pair."
            ));
        }
        outdated(CLASSIC_NOTIFIER_UNIT, CLASSIC_NOTIFIER_VERSION)
    }

    fn read(&self, unit: &str) -> Option<String> {
        let bytes = std::fs::read(self.directory.join(unit)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Refuses to replace a unit of another program. Units of the first releases have no version.
    fn check(&self, unit: &UnitFile) -> Result<(), ClassicUnitsError> {
        let path = self.directory.join(unit.name);
        let is_ours = match DiskEntry::at(&path)? {
            DiskEntry::Missing => true,
            DiskEntry::File { bytes } => {
                let text = String::from_utf8_lossy(&bytes);
                let starts_terok =
                    |line: &str| line.starts_with("ExecStart=") && line.contains("terok");
                is_stamped(unit.name, &text) || text.lines().any(starts_terok)
            }
            DiskEntry::Link { .. } | DiskEntry::Other => false,
        };
        if is_ours {
            Ok(())
        } else {
            Err(ClassicUnitsError::Foreign { path })
        }
    }

    fn write(&self, unit: &UnitFile) -> Result<PathBuf, FileChangeError> {
        let path = self.directory.join(unit.name);
        for directory in missing_directories(&path) {
            make_directory(&directory, None)?;
        }
        write_file(&path, unit.text.as_bytes(), 0o644, WriteMode::Replace)?;
        Ok(path)
    }

    /// Stops a unit, also if its file is missing, because links to it may be left; then removes
    /// the file.
    fn retire(&self, unit: &str) {
        if let Some(systemctl) = &self.systemctl
            && let Err(error) = systemctl.disable_now(unit)
        {
            tracing::debug!(unit, %error, "not stopped");
        }
        if let Err(error) = remove_file(&self.directory.join(unit)) {
            tracing::warn!(unit, %error, "not removed");
        }
    }

    fn reload(&self) {
        if let Some(systemctl) = &self.systemctl
            && let Err(error) = systemctl.daemon_reload()
        {
            tracing::warn!(%error, "systemd did not read its units again");
        }
    }
}

/// Stops and removes the service of releases before 0.6, if it is installed.
pub(crate) fn retire_legacy_unit(
    user_units: &Path,
    systemctl: Option<&Systemctl>,
    is_dry_run: bool,
    events: EventSink<'_>,
) {
    let path = user_units.join(LEGACY_UNIT);
    let part = SetupPart::LegacyUnit;
    if path.symlink_metadata().is_err() {
        return;
    }
    if let Some(systemctl) = systemctl {
        let command = systemctl.describe(&["disable", "--now", LEGACY_UNIT]);
        let stopped = if is_dry_run {
            Ok(())
        } else {
            systemctl.disable_now(LEGACY_UNIT)
        };
        events(match stopped {
            Ok(()) => SetupEvent::Command { part, command },
            Err(error) => SetupEvent::failed(part, &error),
        });
    }
    if !is_dry_run && let Err(error) = remove_file(&path) {
        events(SetupEvent::failed(part, &error));
        return;
    }
    let change = PathChange::Removed;
    events(SetupEvent::Path { part, path, change });
}

#[cfg(test)]
mod tests;

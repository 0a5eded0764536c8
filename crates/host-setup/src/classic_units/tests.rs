// SPDX-License-Identifier: Apache-2.0
//! Tests of the classic units, with a program that writes down how it was called in the place of
//! systemctl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::UnitManager;

use super::*;

struct Place {
    directory: tempfile::TempDir,
    units: ClassicUnits,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("systemctl");
        let calls = directory.path().join("calls");
        let script = format!("#!/bin/sh\necho \"$*\" >>{}\nexit 1\n", calls.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let manager = UnitManager::User {
            runtime_dir: directory.path().to_owned(),
        };
        let units = ClassicUnits {
            directory: directory.path().join("config/systemd/user"),
            systemctl: Some(Systemctl::new(program, manager)),
        };
        Self { directory, units }
    }

    fn calls(&self) -> Vec<String> {
        let path = self.directory.path().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        drop(fs::remove_file(path));
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, unit: &str, text: &str) {
        fs::create_dir_all(&self.units.directory).unwrap();
        fs::write(self.units.directory.join(unit), text).unwrap();
    }

    fn remove(&self, unit: &str) {
        fs::remove_file(self.units.directory.join(unit)).unwrap();
    }

    fn units(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.units.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn program() -> UnitProgram {
    UnitProgram::new(Path::new("/opt/x")).unwrap()
}

#[test]
fn the_pair_is_installed_and_removed_with_the_calls_of_the_contract() {
    let place = Place::new();
    place.write(LEGACY_UNIT, "[Service]\n");
    let (hub, verdict) = place.units.install_service(&program()).unwrap();
    assert_eq!(hub, place.units.directory.join(HUB_UNIT));
    assert_eq!(place.units(), [HUB_UNIT, VERDICT_UNIT]);
    assert!(
        fs::read_to_string(verdict)
            .unwrap()
            .contains("/opt/x serve-verdict\n")
    );
    let expected = [
        "--user disable --now terok-dbus.service",
        "--user daemon-reload",
    ];
    assert_eq!(place.calls(), expected);
    assert_eq!(place.units.read_installed_unit_version(), Some(3));
    // Again, over its own files and those of older releases.
    place.write(
        HUB_UNIT,
        "[Service]\nExecStart=/usr/bin/terok-clearance-hub serve\n",
    );
    place.units.install_service(&program()).unwrap();
    assert_eq!(place.units.check_units_outdated(), None);
    place.calls();
    // `disable` runs also for the files that are missing.
    place.remove(HUB_UNIT);
    place.units.uninstall_service();
    assert!(place.units().is_empty());
    let expected = [
        "--user disable --now terok-clearance-hub.service",
        "--user disable --now terok-clearance-verdict.service",
        "--user disable --now terok-dbus.service",
        "--user daemon-reload",
    ];
    assert_eq!(place.calls(), expected);
}

#[test]
fn the_popups_are_installed_and_removed() {
    let place = Place::new();
    let path = place.units.install_notifier_service(&program()).unwrap();
    assert_eq!(path, place.units.directory.join(CLASSIC_NOTIFIER_UNIT));
    assert_eq!(place.units.read_installed_notifier_unit_version(), Some(5));
    place.units.uninstall_notifier_service();
    assert!(place.units().is_empty());
    let expected = [
        "--user daemon-reload",
        "--user disable --now terok-clearance-notifier.service",
        "--user daemon-reload",
    ];
    assert_eq!(place.calls(), expected);
}

#[test]
fn a_unit_of_another_program_stays() {
    let place = Place::new();
    place.write(VERDICT_UNIT, "[Service]\nExecStart=/usr/bin/mine\n");
    let refused = place.units.install_service(&program()).unwrap_err();
    assert!(matches!(refused, ClassicUnitsError::Foreign { .. }));
    assert_eq!(place.units(), [VERDICT_UNIT]);
}

#[test]
fn outdated_and_half_installed_units_are_reported_in_the_words_of_the_contract() {
    let place = Place::new();
    let check = |expected: Option<&str>| {
        let warning = place.units.check_units_outdated();
        assert_eq!(warning.as_deref(), expected);
    };
    check(None);
    place.write(HUB_UNIT, "# terok-clearance-hub-version: 2\n");
    check(Some(
        "terok-clearance-hub.service is outdated (installed v2, expected v3) — rerun your \
         clearance setup command.",
    ));
    place.write(HUB_UNIT, "# terok-clearance-hub-version: 3\n");
    check(Some(
        "half-installed: missing terok-clearance-verdict.service — rerun your clearance setup \
         command to restore the hub/verdict pair.",
    ));
    place.write(VERDICT_UNIT, "[Service]\n");
    check(Some(
        "terok-clearance-verdict.service is outdated (installed unversioned, expected v3) — \
         rerun your clearance setup command.",
    ));
    place.write(VERDICT_UNIT, "# terok-clearance-verdict-version: 4\n");
    check(None);
    place.write(
        CLASSIC_NOTIFIER_UNIT,
        "# terok-clearance-notifier-version: 4\n",
    );
    check(Some(
        "terok-clearance-notifier.service is outdated (installed v4, expected v5) — rerun your \
         clearance setup command.",
    ));
    place.write(LEGACY_UNIT, "");
    check(Some(
        "terok-dbus.service is from a pre-split release — rerun your clearance setup command to \
         migrate to the hub/verdict pair.",
    ));
}

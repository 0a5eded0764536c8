// SPDX-License-Identifier: Apache-2.0
//! The texts of the systemd units.

use containers::host_layout::{NOTIFIER_UNIT, SOCKET_UNIT, SUPERVISOR_UNIT};

use crate::{SetupScope, UnitProgram};

/// The classic hub.
pub const HUB_UNIT: &str = "terok-clearance-hub.service";
/// The verdict helper of the classic hub.
pub const VERDICT_UNIT: &str = "terok-clearance-verdict.service";
/// The popups of the classic layout.
pub const CLASSIC_NOTIFIER_UNIT: &str = "terok-clearance-notifier.service";
/// The hub of releases before 0.6, when hub and verdict helper were one service.
pub const LEGACY_UNIT: &str = "terok-dbus.service";

/// The version of the supervisor's units.
const SUPERVISOR_VERSION: u32 = 1;
/// The version of the notifier's unit.
const NOTIFIER_VERSION: u32 = 1;
/// The version of the classic hub and its verdict helper, as of the Python stack 0.6.14.
pub(crate) const PAIR_VERSION: u32 = 3;
/// The version of the classic notifier, as of the Python stack 0.6.14.
pub(crate) const CLASSIC_NOTIFIER_VERSION: u32 = 5;

const SOCKET: &str = include_str!("units/clearance-supervisor.socket");
const USER_SUPERVISOR: &str = include_str!("units/clearance-supervisor.user.service");
const MACHINE_SUPERVISOR: &str = include_str!("units/clearance-supervisor.machine.service");
const NOTIFIER: &str = include_str!("units/clearance-notifier.service");
const HUB: &str = include_str!("units/terok-clearance-hub.service");
const VERDICT: &str = include_str!("units/terok-clearance-verdict.service");
const CLASSIC_NOTIFIER: &str = include_str!("units/terok-clearance-notifier.service");

/// A unit's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// The name of the unit.
    pub name: &'static str,
    /// The text of its file.
    pub text: String,
}

impl UnitFile {
    fn render(name: &'static str, template: &str, version: u32, program: &UnitProgram) -> Self {
        // The program last: its path may contain a placeholder.
        let text = template
            .replace("{{UNIT_VERSION}}", &version.to_string())
            .replace("{{BIN}}", &program.to_string());
        Self { name, text }
    }

    /// Returns the start socket and the template of the supervisors.
    pub fn of_supervisors(program: &UnitProgram, scope: SetupScope) -> [Self; 2] {
        let service = match scope {
            SetupScope::User => USER_SUPERVISOR,
            SetupScope::Machine => MACHINE_SUPERVISOR,
        };
        [
            Self::render(SOCKET_UNIT, SOCKET, SUPERVISOR_VERSION, program),
            Self::render(SUPERVISOR_UNIT, service, SUPERVISOR_VERSION, program),
        ]
    }

    /// Returns the popups.
    pub fn of_notifier(program: &UnitProgram) -> Self {
        Self::render(NOTIFIER_UNIT, NOTIFIER, NOTIFIER_VERSION, program)
    }

    /// Returns the classic hub and its verdict helper. `program` takes `serve` and `serve-verdict`.
    pub fn of_classic_pair(program: &UnitProgram) -> [Self; 2] {
        [
            Self::render(HUB_UNIT, HUB, PAIR_VERSION, program),
            Self::render(VERDICT_UNIT, VERDICT, PAIR_VERSION, program),
        ]
    }

    /// Returns the classic popups. `program` shows them without another argument.
    pub fn of_classic_notifier(program: &UnitProgram) -> Self {
        let version = CLASSIC_NOTIFIER_VERSION;
        Self::render(CLASSIC_NOTIFIER_UNIT, CLASSIC_NOTIFIER, version, program)
    }
}

/// Returns the start of the line with a unit's version: `# terok-clearance-hub-version:`.
fn version_marker(unit: &str) -> String {
    let stem = unit.split(['.', '@']).next().unwrap_or(unit);
    format!("# {stem}-version:")
}

/// Returns the version in the text of a unit; `None` without one.
pub fn unit_version(unit: &str, text: &str) -> Option<u32> {
    let marker = version_marker(unit);
    let version = text.lines().find_map(|line| line.strip_prefix(&marker))?;
    version.trim().parse().ok()
}

/// Returns `true` if the text of a unit says that a setup of this project or of the Python stack
/// wrote it.
pub(crate) fn is_stamped(unit: &str, text: &str) -> bool {
    let marker = version_marker(unit);
    text.lines().any(|line| line.starts_with(&marker))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn all(program: &UnitProgram) -> Vec<UnitFile> {
        let mut all = UnitFile::of_supervisors(program, SetupScope::User).to_vec();
        all.extend(UnitFile::of_supervisors(program, SetupScope::Machine));
        all.push(UnitFile::of_notifier(program));
        all.extend(UnitFile::of_classic_pair(program));
        all.push(UnitFile::of_classic_notifier(program));
        all
    }

    #[test]
    fn the_first_line_is_the_version_and_no_placeholder_is_left() {
        let program = UnitProgram::new(Path::new("/opt/my tools/x")).unwrap();
        for unit in all(&program) {
            assert!(!unit.text.contains("{{"), "{}", unit.name);
            let first = unit.text.lines().next().unwrap();
            assert!(first.starts_with(&version_marker(unit.name)), "{first}");
            assert!(unit_version(unit.name, &unit.text).is_some());
            assert!(is_stamped(unit.name, &unit.text));
            assert!(
                unit.name.ends_with(".socket")
                    || unit.text.contains("ExecStart=\"/opt/my tools/x\"")
            );
        }
    }

    #[test]
    fn a_placeholder_in_the_programs_path_stays() {
        let program = UnitProgram::new(Path::new("/x/{{UNIT_VERSION}}")).unwrap();
        let unit = UnitFile::of_notifier(&program);
        assert!(unit.text.contains("ExecStart=/x/{{UNIT_VERSION}} notifier"));
    }

    #[test]
    fn classic_units_have_the_contracts_versions_and_order() {
        let program = UnitProgram::new(Path::new("/x")).unwrap();
        let [hub, verdict] = UnitFile::of_classic_pair(&program);
        let notifier = UnitFile::of_classic_notifier(&program);
        for (unit, stamp, lines) in [
            (
                &hub,
                "# terok-clearance-hub-version: 3",
                &[
                    "ExecStart=/x serve",
                    "Wants=terok-clearance-verdict.service",
                    "After=dbus.socket",
                    "Requires=dbus.socket",
                ][..],
            ),
            (
                &verdict,
                "# terok-clearance-verdict-version: 3",
                &["ExecStart=/x serve-verdict"],
            ),
            (
                &notifier,
                "# terok-clearance-notifier-version: 5",
                &[
                    "ExecStart=/x",
                    "Wants=terok-clearance-hub.service",
                    "After=terok-clearance-hub.service",
                    "After=dbus.socket",
                    "Requires=dbus.socket",
                ],
            ),
        ] {
            let found: Vec<_> = unit.text.lines().collect();
            assert_eq!(found[0], stamp);
            let common = [
                "Restart=on-failure",
                "RestartSec=5",
                "WantedBy=default.target",
            ];
            for line in lines.iter().chain(&common) {
                assert!(found.contains(line), "{} has no {line}", unit.name);
            }
        }
    }

    #[test]
    fn no_unit_of_ours_has_a_name_that_the_python_setup_deletes() {
        let program = UnitProgram::new(Path::new("/x")).unwrap();
        let ours = UnitFile::of_supervisors(&program, SetupScope::User);
        let mut names: Vec<_> = ours.iter().map(|unit| unit.name).collect();
        names.push(UnitFile::of_notifier(&program).name);
        assert!(
            names
                .iter()
                .all(|name| !name.starts_with("terok-clearance-"))
        );
    }

    #[test]
    fn versions_are_read() {
        let check = |text: &str, expected| assert_eq!(unit_version(HUB_UNIT, text), expected);
        check("# terok-clearance-hub-version: 2\n[Unit]\n", Some(2));
        check("# a\n# terok-clearance-hub-version:7", Some(7));
        check("# terok-clearance-hub-version: x\n", None);
        check("# terok-clearance-notifier-version: 2\n", None);
        check("", None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The states of this program's units, as the service manager tells them.

use std::path::Path;
use std::time::Duration;

use containers::host_layout::{NOTIFIER_UNIT, SOCKET_UNIT, SUPERVISOR_UNIT};
use terok_clearance::DisplayText;

use crate::program_output::run_program;

/// The state of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUnitState {
    /// The name.
    pub unit: DisplayText,
    /// The state and the state in detail: `active (listening)`.
    pub state: DisplayText,
}

/// Asks `systemctl` for the units of this program that the service manager has loaded: the start
/// socket, its supervisors and the notifier. Empty without a service manager that answers within
/// `limit`.
///
/// `is_root`: the units of the system, otherwise those of the user.
pub async fn read_unit_states(
    systemctl: &Path,
    is_root: bool,
    runtime_dir: &Path,
    limit: Duration,
) -> Vec<ServiceUnitState> {
    let supervisors = SUPERVISOR_UNIT.replace('@', "@*");
    let mut arguments = vec!["list-units", "--all", "--plain", "--no-legend", "--full"];
    if !is_root {
        arguments.push("--user");
    }
    arguments.extend([SOCKET_UNIT, &supervisors, NOTIFIER_UNIT]);
    match run_program(systemctl, &arguments, runtime_dir, limit).await {
        Ok(output) if output.status.success() => parse_units(&output.stdout),
        _ => Vec::new(),
    }
}

/// Parses lines of a name, whether it is loaded, the state, the state in detail, a description.
fn parse_units(text: &str) -> Vec<ServiceUnitState> {
    let units = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (unit, load) = (words.next()?, words.next()?);
        let (active, detail) = (words.next()?, words.next()?);
        let state = match load {
            "loaded" => format!("{active} ({detail})"),
            _ => format!("{active} ({detail}), {load}"),
        };
        Some(ServiceUnitState {
            unit: DisplayText::new(unit),
            state: DisplayText::new(&state),
        })
    });
    units.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_systemctl_is_parsed() {
        let text = "clearance-supervisor.socket loaded    active   listening Start socket\n\
                    clearance-notifier.service  not-found inactive dead      clearance-notifier\n\
                    \n";
        let shown: Vec<_> = parse_units(text)
            .iter()
            .map(|unit| format!("{} {}", unit.unit, unit.state))
            .collect();
        let expected = [
            "clearance-supervisor.socket active (listening)",
            "clearance-notifier.service inactive (dead), not-found",
        ];
        assert_eq!(shown, expected);
    }
}

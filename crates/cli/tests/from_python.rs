// SPDX-License-Identifier: Apache-2.0
//! `docs/from-python.md`: each Rust path in its tables exists, and each public Python name has a
//! row.

#![expect(unused_imports, reason = "an import proves that its path exists")]

use terok_clearance as clearance;

use clearance::client::UnknownEvent;
use clearance::service::{LogOptions, configure_logging, wait_for_shutdown_signal};
use clearance::socket::default_clearance_socket_path;
use clearance::wire::clearance1::{ClearanceEvent, INTERFACE, VerdictError};
use clearance::{AnswerError, Client, Event, EventStream};
use desktop::identity::{
    ContainerInfo, ContainerInspector, IdentityResolver, NullInspector, PodmanInspector,
};
use desktop::notifier::{
    CallbackNotifier, Closed, ContainerIdentity, DbusNotifier, Notification, Notifier,
    NullNotifier, create_notifier,
};
use desktop::popups::run_popups;
use hub::{Hub, serve, serve_sockets};
use operator::Session;
use supervisor::serve_classic_hub;

const PAGE: &str = include_str!("../../../docs/from-python.md");

/// `__all__` of `terok_clearance` 0.8.1.
const PYTHON_NAMES: &[&str] = &[
    "CLEARANCE_INTERFACE_NAME",
    "CallbackNotifier",
    "Clearance1Interface",
    "ClearanceClient",
    "ClearanceEvent",
    "ClearanceHub",
    "ContainerIdentity",
    "ContainerInfo",
    "ContainerInspector",
    "DbusNotifier",
    "EventSubscriber",
    "IdentityResolver",
    "InvalidAction",
    "Notification",
    "Notifier",
    "NullInspector",
    "NullNotifier",
    "ShieldCliFailed",
    "UnknownRequest",
    "VerdictTupleMismatch",
    "check_units_outdated",
    "configure_logging",
    "create_notifier",
    "default_clearance_socket_path",
    "install_notifier_service",
    "read_installed_unit_version",
    "serve",
    "uninstall_notifier_service",
    "uninstall_service",
    "wait_for_shutdown_signal",
];

/// Returns the cells of the tables: the Python column and the Rust column.
fn rows() -> Vec<(&'static str, &'static str)> {
    let rows = PAGE.lines().filter_map(|line| {
        let (python, rust) = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        (python != "Python").then_some((python, rust))
    });
    rows.collect()
}

/// Returns the texts between backquotes.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns the last part of a path or call without its arguments: `b` of `a::b(c)`.
fn last_name(path: &str) -> &str {
    let path = path.split(['(', '{']).next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}

#[test]
fn each_public_python_name_has_a_row_with_a_counterpart() {
    for name in PYTHON_NAMES {
        let is_named = |code: &str| code.split(['(', '.']).next() == Some(*name);
        let row = rows()
            .into_iter()
            .find(|(python, _)| code(python).any(is_named));
        let (_, rust) = row.unwrap_or_else(|| panic!("no row for {name}"));
        assert!(!rust.trim().is_empty(), "{name}");
    }
}

#[test]
fn each_path_of_a_library_is_imported_above() {
    let crates = ["clearance", "desktop", "hub", "operator", "supervisor"];
    let source = include_str!("from_python.rs");
    let imports = source.split("const PAGE").next().unwrap();
    let words: Vec<_> = imports
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let paths = rows().into_iter().flat_map(|(_, rust)| code(rust));
    let paths = paths.filter(|path| {
        let library = path.split_once("::").map(|(library, _)| library);
        library.is_some_and(|library| crates.contains(&library))
    });
    let mut checked = 0;
    for path in paths {
        let parts = path.split("::").map(last_name);
        let item = parts.take_while(|name| *name != "new").last().unwrap();
        assert!(words.contains(&item), "{path} is not imported by this test");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

// SPDX-License-Identifier: Apache-2.0
//! The Python shield's own tests of its program, from its source package, with our program in its
//! place. `docs/differences.md` says why the others do not apply.

use std::collections::BTreeSet;

use crate::harness::{Place, Stack};

/// The files with tests that call the program and need neither a registry nor the internet.
const FILES: [&str; 7] = [
    "tests/unit/test_cli.py",
    "tests/unit/test_basic.py",
    "tests/integration/cli",
    "tests/integration/down/test_cli.py::TestDownPreviewCLI",
    "tests/integration/observability/test_status.py",
    "tests/integration/safety",
    "tests/integration/dns/test_api_resolve.py",
];

/// The tests that put a stand-in for a part of the Python program into its process, and ask it
/// what was called: another process does not see it.
const MOCKED: &str = include_str!("shield_suite/mocked.txt");

#[tokio::test]
async fn their_tests_of_the_program_pass() {
    let place = Place::new();
    let stack = Stack::V0_8_1;
    let home = stack.prefix().with_file_name("shield-suite");
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/python");
    let program = place.ours_as("terok-shield", &[]);
    let mut pytest = place.command(stack.program("python"));
    pytest
        .args([
            "-m",
            "pytest",
            "-p",
            "shield_suite",
            "-p",
            "no:cacheprovider",
        ])
        .args(["-o", "addopts=", "-q"])
        .args(FILES)
        .current_dir(home.join("terok_shield-0.9.0"))
        .env(
            "PYTHONPATH",
            format!("{}:{scripts}", home.join("pytest").display()),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SHIELD_PROGRAM", program.as_std().get_program());
    // As long as the profile of these tests allows: seconds on an idle machine.
    let ended = pytest.output().await.unwrap();
    let output = String::from_utf8_lossy(&ended.stdout);
    let outcomes = |outcome: &str| -> BTreeSet<String> {
        let names = output.lines().filter_map(|line| line.strip_prefix(outcome));
        names.map(str::to_owned).collect()
    };
    let failed = outcomes("called failed ");
    let mocked: BTreeSet<_> = MOCKED.lines().map(str::to_owned).collect();
    assert_eq!(failed, mocked, "{output}");
    assert_eq!(outcomes("called passed ").len(), 45, "{output}");
}

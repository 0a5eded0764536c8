// SPDX-License-Identifier: Apache-2.0
//! Signals reach a command under `run` as usual.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

/// Runs `script` in a sandbox; returns the exit status and the output.
fn run(script: &str) -> (Option<i32>, String) {
    let runtime = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_terok-clearance"))
        .args([
            "run",
            "--quiet",
            "--network",
            "none",
            "--",
            "sh",
            "-c",
            script,
        ])
        .env("XDG_RUNTIME_DIR", runtime.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(125), "{said}");
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn no_signal_is_blocked_from_the_start() {
    let (status, out) = run("grep SigBlk /proc/self/status");
    assert_eq!(
        (status, out.split_whitespace().last()),
        (Some(0), Some("0000000000000000"))
    );
}

#[test]
fn a_command_that_a_signal_ends_has_its_number_in_the_status() {
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("INT", 130)] {
        assert_eq!(
            run(&format!("kill -{signal} $$; echo survived")),
            (Some(status), String::new())
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Recognises a sandbox of `run` from inside.

use std::fs;

/// The name of the first process of a sandbox: this program, in a process namespace of its own.
const INIT_NAME: &str = "terok-clearance";

/// Returns `true` if this process runs in a sandbox of `run`.
///
/// For messages only: a sandbox can look like none, and a container like one.
pub fn is_inside_sandbox() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own_pid = std::process::id();
    own_pid != 1
        && read("/proc/1/comm").trim_end() == INIT_NAME
        && read("/proc/self/status")
            .lines()
            .any(|line| line.strip_prefix("NoNewPrivs:").map(str::trim) == Some("1"))
}

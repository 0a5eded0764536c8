// SPDX-License-Identifier: Apache-2.0
//! Recognises a sandbox of `run` from inside.

use std::fs;
use std::path::Path;

/// The name of the first process of a sandbox: this program, in a process namespace of its own. A
/// program of another name has the file below.
const INIT_NAME: &str = "terok-clearance";
/// A file that a sandbox has in a `/run` of its own, and only root could make elsewhere.
const SANDBOX_FILE: &str = "/run/terok-hosts";

/// Returns `true` if this process runs in a sandbox of `run`.
///
/// For messages only: a sandbox can look like none, and a container like one.
pub fn is_inside_sandbox() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own_pid = std::process::id();
    let looks_so = read("/proc/1/comm").trim_end() == INIT_NAME || Path::new(SANDBOX_FILE).exists();
    own_pid != 1
        && looks_so
        && read("/proc/self/status")
            .lines()
            .any(|line| line.strip_prefix("NoNewPrivs:").map(str::trim) == Some("1"))
}

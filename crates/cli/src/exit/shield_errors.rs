// SPDX-License-Identifier: Apache-2.0
//! Hints for errors of the verbs of `shield`.

use shield_cli::{FindContainerError, ShieldVerbError};

/// Returns the hints for an error of a verb.
pub(super) const fn shield_hints(error: &ShieldVerbError) -> &'static [&'static str] {
    match error {
        ShieldVerbError::Find(FindContainerError::NoAnnotation { .. }) => {
            &["--state-dir takes the directory that contains `containers`, if its state is there"]
        }
        ShieldVerbError::NotRunning(_) => &["`podman start` starts it; its hooks load the rules"],
        _ => &[],
    }
}

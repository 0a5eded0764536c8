// SPDX-License-Identifier: Apache-2.0
//! Containers on hosts that are set up: real systemd, user manager, session bus, podman, crun and
//! runc, each test on a machine of its own. `./check containers` runs these tests as root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says where, and has a clock"
)]

mod answers;
mod control;
mod failing;
mod guarded;
mod hostile;
mod machine;
mod many;
mod operator;
mod podman;
mod pods;
mod popups;
mod restarted;
mod set_up_and_away;
mod terok_shield;
mod ways_to_start;

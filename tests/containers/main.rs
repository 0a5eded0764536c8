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

mod control;
mod machine;
#[path = "../../crates/cli/tests/run/operator.rs"]
#[expect(dead_code, reason = "the tests of `run` need more of it")]
mod operator;
mod podman;
mod popups;

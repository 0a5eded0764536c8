// SPDX-License-Identifier: Apache-2.0
//! Containers of `terok-shield` beside guarded ones.

use super::guarded::{Host, guarded};
use super::machine::{Account, told};
use super::podman::fetch;

/// A container of terok-shield is not ours: the hook says so.
#[test]
fn a_container_that_terok_shield_guards_is_refused() {
    let host = Host::set_up(Account::Operator);
    let shield = "--annotation terok.shield.state_dir=/home/op/state";
    let words = format!(
        "--rm {} {shield} bb:latest {}",
        guarded("dialed"),
        fetch("open")
    );
    let output = host.begin(&words).ends();
    assert!(!output.status.success(), "{}", told(&output));
    assert!(
        host.hook_errors()
            .contains("guarded by terok-shield already"),
        "{}",
        host.hook_errors()
    );
    // Without our annotation the hook does not run.
    let words = format!("--rm --network none {shield} bb:latest /bin/busybox true");
    assert!(host.begin(&words).ends().status.success());
}

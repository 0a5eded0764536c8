// SPDX-License-Identifier: Apache-2.0
//! The machine alone: what the other tests judge by would see an open container.

use super::machine::{Account, Machine, told};
use super::podman::{Podman, SERVER, fetch};
use super::popups::PopupService;

#[test]
fn the_control_outside_sees_a_container_without_hooks() {
    let machine = Machine::boot();
    let podman = Podman::new(&machine, Account::Operator, "crun");
    assert_eq!(machine.events().len(), 0);
    for runtime in ["crun", "runc"] {
        let page = podman.with(runtime).done(&format!(
            "run --rm --network slirp4netns bb:latest {}",
            fetch(runtime)
        ));
        assert_eq!(page, format!("hello from {SERVER}"));
    }
    let root = Podman::new(&machine, Account::Root, "runc");
    root.done(&format!(
        "run --rm --network host bb:latest {}",
        fetch("root")
    ));
    let pages = ["crun", "root", "runc"].map(|page| format!("{SERVER} /{page}"));
    assert_eq!(machine.events_of("http"), pages);
    assert_eq!(machine.events_of("tcp").len(), 3);
    assert_eq!(machine.events_of("packet").len(), 3);

    // A container without a wire is refused by its own kernel.
    let output = podman.does(&format!(
        "run --rm --network none bb:latest {}",
        fetch("none")
    ));
    assert!(
        told(&output).contains("Network is unreachable"),
        "{}",
        told(&output)
    );
    assert_eq!(machine.events_of("packet").len(), 3);
}

#[test]
fn a_machine_has_a_session_bus_with_a_notification_service() {
    let machine = Machine::boot();
    let mut popups = PopupService::start(&machine);
    let notify = format!("{} notify one two", super::machine::PROGRAM);
    machine.done(Account::Operator, &notify);
    let id = popups.popup("one");
    popups.click(id, "allow");
}

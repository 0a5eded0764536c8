// SPDX-License-Identifier: Apache-2.0
//! What is said of sandboxes and firewalls, and to whom.

use operator::notifier::Urgency;
use serde_json::json;
use terok_clearance::ShieldState;
use terok_clearance::client::Speaks;
use terok_clearance::wire::clearance2::{ContainerState, Event};

use crate::rig::{Rig, asks};

fn shield(container: &str, state: ShieldState) -> Event {
    let container = container.parse().unwrap();
    Event::Shield { container, state }
}

fn container(state: ContainerState, reason: Option<&str>) -> Event {
    Event::Container {
        container: "web".parse().unwrap(),
        state,
        reason: reason.map(Into::into),
    }
}

#[test]
fn a_firewall_that_is_down_is_an_alert_until_it_is_up() {
    let mut rig = Rig::up();
    rig.says(shield("web", ShieldState::Down));
    let (slot, _, down) = rig.popup("Shield down: web");
    assert_eq!(down.hints.urgency, Some(Urgency::Critical));
    rig.says(shield("web", ShieldState::Disengaged));
    assert_eq!(
        rig.popup("Shield disengaged: web").0,
        slot,
        "it takes the other's place"
    );
    assert_eq!(rig.screen.len(), 1);
    // The hub of one sandbox is about that one, whatever name it gives it.
    rig.says(shield("podman-name", ShieldState::Up));
    assert_eq!(rig.titles(), ["Shield up: podman-name"]);
    rig.says(shield("web", ShieldState::Down));
    rig.says(container(ContainerState::Exited, Some("poststop")));
    rig.wait(5000);
    assert!(
        !rig.titles().contains(&"Shield down: web"),
        "{:?}",
        rig.titles()
    );
    assert_eq!(rig.body("Container stopped: web"), "Reason: poststop");
}

#[test]
fn a_sandbox_has_the_name_that_its_questions_gave_it() {
    let mut rig = Rig::with("container_started container_exited", Speaks::Clearance2);
    rig.says(container(ContainerState::Started, None));
    rig.says(Event::Pending(asks(1, "a.example", json!({}))));
    rig.says(container(ContainerState::Exited, None));
    rig.wait(5000);
    let name = "warp/build-42 \u{b7} web";
    let stopped = format!("Container stopped: {name}");
    assert_eq!(rig.titles(), ["Container started: web", &stopped]);
}

#[test]
fn only_what_is_wanted_is_said_and_an_alert_that_is_not_true_goes_whatever_is_wanted() {
    let check = |categories: &str, titles: &[&str]| {
        let mut rig = Rig::with(categories, Speaks::Clearance2);
        for event in [
            container(ContainerState::Started, None),
            shield("web", ShieldState::Down),
            shield("web", ShieldState::Up),
            Event::Pending(asks(1, "a.example", json!({"dossier": {}}))),
            container(ContainerState::Exited, None),
        ] {
            rig.says(event);
            rig.wait(1000);
        }
        assert_eq!(rig.titles(), titles, "{categories:?}");
    };
    check("", &[]);
    check("verdict", &[]);
    check("blocked verdict", &["Blocked: a.example:443"]);
    check("shield_down", &[]);
    check("shield_up", &["Shield up: web"]);
    check("container_started", &["Container started: web"]);
    check("container_exited", &["Container stopped: web"]);
}

// SPDX-License-Identifier: Apache-2.0
//! What is said of sandboxes and firewalls, and to whom.

use operator::inbox::InboxEvent;
use serde_json::json;
use terok_clearance::ShieldState;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event};
use terok_clearance_desktop::notifier::{ContainerIdentity, NotificationUrgency};

use crate::rig::{Rig, asks, web};

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
    assert_eq!(down.hints.urgency, Some(NotificationUrgency::Critical));
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
    let mut rig = Rig::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    rig.says(container(ContainerState::Started, None));
    rig.says(Event::Pending(asks(1, "a.example", json!({}))));
    rig.says(container(ContainerState::Exited, None));
    rig.wait(5000);
    let name = "warp/build-42 \u{b7} web";
    let titles = ["started", "stopped"].map(|what| format!("Container {what}: {name}"));
    assert_eq!(rig.titles(), titles);
}

#[test]
fn a_sandbox_that_starts_is_said_by_the_name_that_is_found_out_meanwhile() {
    let identity = |name: &str| ContainerIdentity {
        container_name: name.to_owned(),
        ..ContainerIdentity::default()
    };
    let web = || "web".parse().unwrap();
    let mut rig = Rig::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    rig.says(container(ContainerState::Started, None));
    assert_eq!(rig.titles(), [""; 0], "it is being looked up");
    rig.wait(300);
    let now = rig.now();
    rig.board
        .set_identity(&web(), identity("build-42-web"), now);
    rig.flush();
    assert_eq!(rig.titles(), ["Container started: build-42-web"]);
    rig.says(container(ContainerState::Exited, None));
    rig.wait(300);
    assert!(rig.titles().contains(&"Container stopped: build-42-web"));

    // Nobody finds it out in time.
    let mut rig = Rig::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    rig.says(container(ContainerState::Started, None));
    rig.wait(1999);
    assert_eq!(rig.titles(), [""; 0]);
    rig.wait(1);
    rig.wait(0);
    assert_eq!(rig.titles(), ["Container started: web"]);

    // It is over before anybody does: in that order.
    let mut rig = Rig::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    rig.says(container(ContainerState::Started, None));
    rig.says(container(ContainerState::Exited, None));
    rig.wait(1000);
    let titles = ["Container started: web", "Container stopped: web"];
    assert_eq!(rig.titles(), titles);
}

#[test]
fn an_alert_has_the_name_that_is_found_out_later() {
    let mut rig = Rig::up();
    rig.says(shield("web", ShieldState::Down));
    let (slot, version, _) = rig.popup("Shield down: web");
    let name = |rig: &mut Rig, name: &str| {
        let identity = ContainerIdentity {
            container_name: name.to_owned(),
            ..ContainerIdentity::default()
        };
        let now = rig.now();
        rig.board
            .set_identity(&"web".parse().unwrap(), identity, now);
        rig.flush();
    };
    name(&mut rig, "");
    assert_eq!(rig.popup("Shield down: web").1, version, "it says the same");
    name(&mut rig, "build-42-web");
    assert_eq!(rig.titles(), ["Shield down: build-42-web"]);
    assert_eq!(rig.popup("Shield down").0, slot, "in place");
    // It is up: there is nothing to say by another name.
    rig.says(shield("web", ShieldState::Up));
    name(&mut rig, "another");
    rig.wait(5000);
    assert_eq!(rig.titles(), ["Shield up: build-42-web"]);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut rig = Rig::with("container_exited", ProtocolVersion::Clearance2);
    for _ in 0..100 {
        let event = InboxEvent::Received(container(ContainerState::Exited, None));
        rig.hear(&web(), event);
    }
    rig.flush();
    rig.wait(600_000);
    let stopped = "Container stopped: web";
    let said = rig
        .titles()
        .iter()
        .filter(|title| **title == stopped)
        .count();
    assert_eq!(said, 64);
    let more = rig.popup("36 more messages about sandboxes");
    assert_eq!(rig.screen.len(), 65, "{more:?}");
}

#[test]
fn only_what_is_wanted_is_said_and_an_alert_that_is_not_true_goes_whatever_is_wanted() {
    let check = |categories: &str, titles: &[&str]| {
        let mut rig = Rig::with(categories, ProtocolVersion::Clearance2);
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

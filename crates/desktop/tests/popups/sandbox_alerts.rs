// SPDX-License-Identifier: Apache-2.0
//! Popups about sandboxes and firewalls.

use operator::inbox::InboxEvent;
use serde_json::json;
use terok_clearance::ShieldState;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event};
use terok_clearance_desktop::notifier::{ContainerIdentity, NotificationUrgency};

use crate::harness::{PopupHarness, web, web_question};

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
    let mut harness = PopupHarness::connected();
    harness.receive(shield("web", ShieldState::Down));
    let (slot, _, down) = harness.popup("Shield down: web");
    assert_eq!(down.hints.urgency, Some(NotificationUrgency::Critical));
    harness.receive(shield("web", ShieldState::Disengaged));
    assert_eq!(
        harness.popup("Shield disengaged: web").0,
        slot,
        "it replaces the other alert"
    );
    assert_eq!(harness.screen.len(), 1);
    // A hub of one sandbox may use another name for it; the alert is the same.
    harness.receive(shield("podman-name", ShieldState::Up));
    assert_eq!(harness.titles(), ["Shield up: podman-name"]);
    harness.receive(shield("web", ShieldState::Down));
    harness.receive(container(ContainerState::Exited, Some("poststop")));
    harness.wait(5000);
    assert!(
        !harness.titles().contains(&"Shield down: web"),
        "{:?}",
        harness.titles()
    );
    assert_eq!(harness.body("Container stopped: web"), "Reason: poststop");
}

#[test]
fn a_sandbox_has_the_name_from_its_questions() {
    let mut harness = PopupHarness::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    harness.receive(container(ContainerState::Started, None));
    harness.receive(Event::Pending(web_question(1, "a.example", json!({}))));
    harness.receive(container(ContainerState::Exited, None));
    harness.wait(5000);
    let name = "warp/build-42 \u{b7} web";
    let titles = ["started", "stopped"].map(|what| format!("Container {what}: {name}"));
    assert_eq!(harness.titles(), titles);
}

#[test]
fn a_started_sandbox_is_shown_with_its_name_once_looked_up() {
    let identity = |name: &str| ContainerIdentity {
        container_name: name.to_owned(),
        ..ContainerIdentity::default()
    };
    let web = || "web".parse().unwrap();
    let mut harness = PopupHarness::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    harness.receive(container(ContainerState::Started, None));
    assert_eq!(harness.titles(), [""; 0], "the name is being looked up");
    harness.wait(300);
    let now = harness.now();
    harness
        .model
        .set_identity(&web(), identity("build-42-web"), now);
    harness.flush();
    assert_eq!(harness.titles(), ["Container started: build-42-web"]);
    harness.receive(container(ContainerState::Exited, None));
    harness.wait(300);
    assert!(
        harness
            .titles()
            .contains(&"Container stopped: build-42-web")
    );

    // The look-up takes too long.
    let mut harness = PopupHarness::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    harness.receive(container(ContainerState::Started, None));
    harness.wait(1999);
    assert_eq!(harness.titles(), [""; 0]);
    harness.wait(1);
    harness.wait(0);
    assert_eq!(harness.titles(), ["Container started: web"]);

    // The sandbox ends before the look-up: the order stays.
    let mut harness = PopupHarness::with(
        "container_started container_exited",
        ProtocolVersion::Clearance2,
    );
    harness.receive(container(ContainerState::Started, None));
    harness.receive(container(ContainerState::Exited, None));
    harness.wait(1000);
    let titles = ["Container started: web", "Container stopped: web"];
    assert_eq!(harness.titles(), titles);
}

#[test]
fn an_alert_is_updated_with_the_name() {
    let mut harness = PopupHarness::connected();
    harness.receive(shield("web", ShieldState::Down));
    let (slot, version, _) = harness.popup("Shield down: web");
    let name = |harness: &mut PopupHarness, name: &str| {
        let identity = ContainerIdentity {
            container_name: name.to_owned(),
            ..ContainerIdentity::default()
        };
        let now = harness.now();
        harness
            .model
            .set_identity(&"web".parse().unwrap(), identity, now);
        harness.flush();
    };
    name(&mut harness, "");
    assert_eq!(
        harness.popup("Shield down: web").1,
        version,
        "the text is unchanged"
    );
    name(&mut harness, "build-42-web");
    assert_eq!(harness.titles(), ["Shield down: build-42-web"]);
    assert_eq!(harness.popup("Shield down").0, slot, "the same popup");
    // The alert is over: a new name changes nothing.
    harness.receive(shield("web", ShieldState::Up));
    name(&mut harness, "another");
    harness.wait(5000);
    assert_eq!(harness.titles(), ["Shield up: build-42-web"]);
}

#[test]
fn messages_beyond_the_limit_are_counted() {
    let mut harness = PopupHarness::with("container_exited", ProtocolVersion::Clearance2);
    for _ in 0..100 {
        let event = InboxEvent::Received(container(ContainerState::Exited, None));
        harness.apply_without_flush(&web(), event);
    }
    harness.flush();
    harness.wait(600_000);
    let stopped = "Container stopped: web";
    let body = harness
        .titles()
        .iter()
        .filter(|title| **title == stopped)
        .count();
    assert_eq!(body, 64);
    let more = harness.popup("36 more messages about sandboxes");
    assert_eq!(harness.screen.len(), 65, "{more:?}");
}

#[test]
fn categories_select_popups_and_an_outdated_alert_always_closes() {
    let check = |categories: &str, titles: &[&str]| {
        let mut harness = PopupHarness::with(categories, ProtocolVersion::Clearance2);
        for event in [
            container(ContainerState::Started, None),
            shield("web", ShieldState::Down),
            shield("web", ShieldState::Up),
            Event::Pending(web_question(1, "a.example", json!({"dossier": {}}))),
            container(ContainerState::Exited, None),
        ] {
            harness.receive(event);
            harness.wait(1000);
        }
        assert_eq!(harness.titles(), titles, "{categories:?}");
    };
    check("", &[]);
    check("verdict", &[]);
    check("blocked verdict", &["Blocked: a.example:443"]);
    check("shield_down", &[]);
    check("shield_up", &["Shield up: web"]);
    check("container_started", &["Container started: web"]);
    check("container_exited", &["Container stopped: web"]);
}

// SPDX-License-Identifier: Apache-2.0
//! The whole path: a refused or waiting connection becomes a popup on the picture, a real click is
//! the answer, and the connection passes or does not.

use serde_json::json;

use crate::picture::Picture;
use crate::scene::{API, Scene, TELEMETRY};
use crate::screen::{Desktop, Service};

/// Answers the popup on the screen by a click. Checks the hub's decision, and whether the workload's
/// next attempt passes.
fn answer(scene: &mut Scene, host: &str, allows: bool) {
    let (button, action) = if allows { (0, "allow") } else { (1, "deny") };
    scene.desktop.read_and_click(button);
    let decided = scene.heard("decided");
    let said = (&decided["dest"], &decided["action"], &decided["ok"]);
    assert_eq!(said, (&json!(host), &json!(action), &json!(true)));
    assert_eq!(scene.reaches(host), allows);
    assert_eq!(scene.listed(), []);
}

/// Clicks Allow and Deny for a real blocked packet.
fn is_answered(kind: Service) {
    let mut scene = Scene::new(kind);
    for (host, allows) in [(API, true), (TELEMETRY, false)] {
        assert!(!scene.reaches(host), "not allowed yet");
        assert_eq!(scene.heard("pending")["dest"], host);
        answer(&mut scene, host, allows);
        // The result replaces the question and then expires.
        scene.desktop.until(Picture::is_empty);
    }
}

#[test]
fn a_click_answers_a_blocked_packet_with_mate() {
    is_answered(Service::Mate);
}

#[test]
fn a_click_answers_a_blocked_packet_with_xfce() {
    is_answered(Service::Xfce);
}

#[test]
fn a_click_answers_a_blocked_packet_with_notification_daemon() {
    is_answered(Service::Gnome2);
}

/// A connection waits while its popup is shown, and a click lets it pass or refuses it: the first
/// attempt is the only one.
#[test]
fn a_click_answers_a_connection_that_waits() {
    let mut scene = Scene::holding(Desktop::new(Service::Mate), "forever");
    for (host, button) in [(API, 0), (TELEMETRY, 1)] {
        scene.begins_to_reach(host);
        scene.desktop.read_and_click(button);
        assert_eq!(scene.has_reached(), button == 0, "{host}");
        assert_eq!(scene.heard("decided")["dest"], host);
        scene.desktop.until(Picture::is_empty);
    }
}

/// Invariant: closing a popup is no answer. The question stays, and is not shown for a while.
fn is_not_answered_by_closing(kind: Service) {
    let mut scene = Scene::new(kind);
    assert!(!scene.reaches(API), "not allowed yet");
    scene.desktop.popup();
    // A popup that is closed at once comes again.
    scene.desktop.read_and_click_at(Picture::cross);
    scene.desktop.until(Picture::is_empty);
    assert_eq!(scene.listed(), [(API.to_owned(), 1)]);
    assert!(!scene.reaches(API), "not allowed yet");
    scene.heard("repeated");
    // When the next question is shown, the first popup would be visible again.
    assert!(!scene.reaches(TELEMETRY), "not allowed yet");
    assert_eq!(scene.desktop.popup().popups(), 1);
    scene.desktop.read_and_click(1);
    assert_eq!(scene.heard("decided")["dest"], TELEMETRY);
    assert_eq!(scene.listed(), [(API.to_owned(), 2)]);
    assert!(!scene.reaches(API), "closing a popup is no answer");
}

#[test]
fn closing_the_popup_of_a_blocked_packet_is_no_answer_with_mate() {
    is_not_answered_by_closing(Service::Mate);
}

#[test]
fn closing_the_popup_of_a_blocked_packet_is_no_answer_with_xfce() {
    is_not_answered_by_closing(Service::Xfce);
}

#[test]
fn closing_the_popup_of_a_blocked_packet_is_no_answer_with_notification_daemon() {
    is_not_answered_by_closing(Service::Gnome2);
}

/// If a service is killed while a packet waits for an answer, the next service shows the popup.
fn comes_back(kind: Service) {
    let mut scene = Scene::new(kind);
    assert!(!scene.reaches(API), "not allowed yet");
    scene.desktop.popup();
    scene.desktop.kill_service();
    assert_eq!(scene.listed(), [(API.to_owned(), 1)]);
    scene.desktop.start_service();
    answer(&mut scene, API, true);
}

#[test]
fn the_popup_of_a_blocked_packet_survives_mates_service() {
    comes_back(Service::Mate);
}

#[test]
fn the_popup_of_a_blocked_packet_survives_xfces_service() {
    comes_back(Service::Xfce);
}

#[test]
fn the_popup_of_a_blocked_packet_survives_notification_daemon() {
    comes_back(Service::Gnome2);
}

/// The bus starts a service for the popup if none runs, and starts another one after a kill. A
/// click answers.
fn is_started(kind: Service) {
    let mut scene = Scene::on(Desktop::sleeping(kind));
    assert!(!scene.reaches(API), "not allowed yet");
    scene.desktop.popup();
    scene.desktop.kill_started();
    answer(&mut scene, API, true);
}

#[test]
fn a_blocked_packet_starts_mates_service() {
    is_started(Service::Mate);
}

#[test]
fn a_blocked_packet_starts_xfces_service() {
    is_started(Service::Xfce);
}

#[test]
fn a_blocked_packet_starts_notification_daemon() {
    is_started(Service::Gnome2);
}

#[test]
fn a_blocked_packet_waits_for_a_service_that_comes_later() {
    let mut scene = Scene::on(Desktop::bare(Service::Xfce));
    assert!(!scene.reaches(API), "not allowed yet");
    assert_eq!(scene.listed(), [(API.to_owned(), 1)]);
    scene.desktop.start_service();
    answer(&mut scene, API, true);
}

/// The same packet again increases the count in its popup; another packet gets another popup.
fn is_counted_in_place(kind: Service) {
    let mut scene = Scene::new(kind);
    assert!(!scene.reaches(API), "not allowed yet");
    let first = scene.desktop.popup();
    assert_eq!(first.popups(), 1);
    assert!(!scene.reaches(API), "not allowed yet");
    let counted = |picture: &Picture| {
        picture.buttons().len() >= 2 && picture.popup_height() > first.popup_height()
    };
    assert_eq!(scene.desktop.until(counted).popups(), 1);
    assert!(!scene.reaches(TELEMETRY), "not allowed yet");
    if matches!(kind, Service::Mate | Service::Xfce) {
        scene.desktop.until(|picture| picture.popups() == 2);
        return;
    }
    // notification-daemon shows one popup at a time: the next appears after the first is answered
    // and the result has expired.
    for (host, button) in [(API, 0), (TELEMETRY, 1)] {
        scene.desktop.read_and_click(button);
        assert_eq!(scene.heard("decided")["dest"], host);
        scene.desktop.until(|picture| picture.buttons().len() < 2);
    }
}

#[test]
fn a_packet_again_is_counted_in_place_with_mate() {
    is_counted_in_place(Service::Mate);
}

#[test]
fn a_packet_again_is_counted_in_place_with_xfce() {
    is_counted_in_place(Service::Xfce);
}

#[test]
fn a_packet_again_is_counted_in_place_with_notification_daemon() {
    is_counted_in_place(Service::Gnome2);
}

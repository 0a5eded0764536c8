// SPDX-License-Identifier: Apache-2.0
//! Clicks, signals and the end of a service.

use std::process::Command;
use std::time::Duration;

use desktop::notifier::{Closed, DbusNotifier, DesktopSession, Notification, Notifier as _};
use desktop::popups::GuardedPopup;
use rustix::process::Signal;

use crate::picture::Picture;
use crate::screen::{Desktop, Service};

/// A click on each button is reported as its action, and the screen is empty afterwards.
fn answers(kind: Service) {
    let desktop = Desktop::new(kind);
    for (button, key) in [(0, "allow"), (1, "deny")] {
        let mut asking = desktop.ask();
        desktop.read_and_click(button);
        assert_eq!(asking.line(), key);
        assert!(asking.end().success());
        desktop.until(Picture::is_empty);
    }
}

#[test]
fn a_click_is_the_answer_with_mate() {
    answers(Service::Mate);
}

#[test]
fn a_click_is_the_answer_with_xfce() {
    answers(Service::Xfce);
}

#[test]
fn a_click_is_the_answer_with_notification_daemon() {
    answers(Service::Gnome2);
}

/// The bus starts a service for `notify` if none runs.
#[test]
fn a_question_starts_a_service() {
    let desktop = Desktop::sleeping(Service::Mate);
    let mut asking = desktop.ask();
    desktop.read_and_click(1);
    assert_eq!(asking.line(), "deny");
    assert!(asking.end().success());
}

/// After a service is killed, the next service shows the popups again, and they can be answered.
fn survives(kind: Service) {
    let mut desktop = Desktop::new(kind);
    let mut asking = desktop.ask();
    desktop.popup();
    desktop.kill_service();
    desktop.start_service();
    desktop.read_and_click(1);
    assert_eq!(asking.line(), "deny");
    assert!(asking.end().success());
}

#[test]
fn a_question_survives_mates_service() {
    survives(Service::Mate);
}

#[test]
fn a_question_survives_xfces_service() {
    survives(Service::Xfce);
}

#[test]
fn a_question_survives_notification_daemon() {
    survives(Service::Gnome2);
}

/// Invariant: closing a prompt is no answer. Ctrl-C and SIGTERM remove the popup.
fn is_taken_away(kind: Service) {
    let desktop = Desktop::new(kind);
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut asking = desktop.ask();
        desktop.popup();
        asking.signal(signal);
        assert_eq!(asking.line(), "", "nothing was chosen");
        assert_eq!(asking.end().code(), Some(status));
        desktop.until(Picture::is_empty);
    }
}

#[test]
fn an_ended_prompt_is_removed_from_mate() {
    is_taken_away(Service::Mate);
}

#[test]
fn an_ended_prompt_is_removed_from_xfce() {
    is_taken_away(Service::Xfce);
}

/// A click that comes too soon is ignored: the question is shown again with an additional line.
fn is_guarded(kind: Service) {
    comes_again(kind, |picture| *picture.buttons().first().unwrap());
}

/// A click beside the buttons closes a popup. One that has just come comes again.
fn is_guarded_against_a_close(kind: Service) {
    comes_again(kind, |picture| picture.body().unwrap());
}

/// Clicks on `place` at once, and then on Deny after the time to read.
fn comes_again(kind: Service, place: impl Fn(&Picture) -> (usize, usize)) {
    let desktop = Desktop::new(kind);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let question = Notification {
        actions: vec!["allow:Allow".parse().unwrap(), "deny:Deny".parse().unwrap()],
        body: "Container: x".to_owned(),
        expiry: desktop::notifier::NotificationExpiry::Never,
        ..Notification::new("Blocked: api.example.com:443")
    };
    let session = DesktopSession::new(&desktop.bus(), "terok");
    let notifier = runtime.block_on(DbusNotifier::connect(session)).unwrap();
    let mut popup = runtime
        .block_on(GuardedPopup::show(&notifier, question))
        .unwrap();
    // Longer than any machine needs for a click.
    popup.set_guard_delay(Duration::from_secs(3600));
    let first = desktop.popup();
    desktop.click_at(place(&first));
    // The notifier runs while the pictures are taken.
    runtime.block_on(async {
        loop {
            tokio::time::timeout(Duration::from_millis(20), popup.closed())
                .await
                .expect_err("a click that came too soon was taken");
            let now = desktop.picture();
            if now.buttons().len() >= 2 && now.popup_height() > first.popup_height() {
                assert!(now != first);
                return;
            }
        }
    });
    // The same question without the guard still waits for an answer.
    popup.set_guard_delay(Duration::ZERO);
    let shown = desktop.popup();
    desktop.click(&shown, 1);
    let Ok(Closed::Chosen(choice)) = runtime.block_on(popup.closed()) else {
        panic!("the second click is a choice")
    };
    assert_eq!(choice.key.as_str(), "deny");
    runtime.block_on(notifier.disconnect());
}

#[test]
fn a_click_too_soon_is_asked_again_with_mate() {
    is_guarded(Service::Mate);
}

#[test]
fn a_click_too_soon_is_asked_again_with_xfce() {
    is_guarded(Service::Xfce);
}

#[test]
fn a_click_too_soon_is_asked_again_with_notification_daemon() {
    is_guarded(Service::Gnome2);
}

#[test]
fn a_close_too_soon_is_asked_again_with_mate() {
    is_guarded_against_a_close(Service::Mate);
}

#[test]
fn a_close_too_soon_is_asked_again_with_xfce() {
    is_guarded_against_a_close(Service::Xfce);
}

#[test]
fn a_close_too_soon_is_asked_again_with_notification_daemon() {
    is_guarded_against_a_close(Service::Gnome2);
}

/// Inside a user namespace our user id differs from the id at the bus, so the outer id is offered.
#[test]
fn the_bus_accepts_us_inside_a_user_namespace() {
    let within = ["--user", "--map-user=12345", "--map-group=12345", "--"];
    is_taken_from(&[&["unshare"], &within[..]].concat());
}

/// Inside two nested user namespaces the outermost id is unknown, so the bus determines the id.
#[test]
fn the_bus_accepts_us_inside_nested_user_namespaces() {
    let within = ["--user", "--map-user=12345", "--map-group=12345", "--"];
    let further = ["--user", "--map-user=23456", "--map-group=23456", "--"];
    is_taken_from(&[&["unshare"], &within[..], &["unshare"], &further[..]].concat());
}

fn is_taken_from(wrapper: &[&str]) {
    let desktop = Desktop::new(Service::Mate);
    let (program, args) = wrapper.split_first().unwrap();
    let mut inside: Command = desktop.on_it(program);
    inside.args(args).arg(env!("CARGO_BIN_EXE_terok-clearance"));
    let mut asking = Desktop::ask_by(&mut inside);
    desktop.read_and_click(0);
    assert_eq!(asking.line(), "allow");
}

// SPDX-License-Identifier: Apache-2.0
//! Popups of the model, and over D-Bus at services with markup, with plain text, and with titles.

use std::sync::Arc;

use operator::inbox::{InboxEvent, OperatorReply};
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{Decision, DisplayText, ShieldState};
use terok_clearance_desktop::notifier::{
    ContainerIdentity, DbusNotifier, Notification, NotificationId, Notifier as _, TextLimits,
};
use test_support::questions::question as test_question;
use test_support::test_bus::TestBus;

use crate::harmless::{Harmless, decoded, tame};
use crate::harness::{PopupHarness, web};
use crate::hub;
use crate::service::{NotifyCall, ScriptedService, session};
use crate::texts;

/// Longer than popups are delayed for each other.
const COALESCE_MS: u64 = 3000;

fn question(place: &str, text: &str) -> Arc<Request> {
    let json = hub::question(hub::number(0, place), text);
    // The client rejects a question without a destination, as the empty text would be.
    let question = serde_json::from_value(json).map(Arc::new);
    question.unwrap_or_else(|_| test_question("web", 1, "a.example", json!({})))
}

/// All popups about sandboxes with one text.
struct CollectedPopups {
    harness: PopupHarness,
    shown: Vec<Notification>,
}

impl CollectedPopups {
    fn receive(&mut self, event: Event) {
        self.harness.receive(event);
        self.collect();
    }

    /// Collects the popups on the screen once all due commands are applied.
    fn collect(&mut self) {
        self.harness.wait(COALESCE_MS);
        let shown = self.harness.screen.values().map(|(_, shown)| shown.clone());
        for shown in shown.collect::<Vec<_>>() {
            if !self.shown.contains(&shown) {
                self.shown.push(shown);
            }
        }
    }

    /// Denies the only question, with this reply.
    fn fail_answer(&mut self, title: &str, reply: OperatorReply) {
        let answers = self.harness.answer(title, "deny");
        self.harness.apply_reply(&answers[0], reply);
        self.collect();
    }
}

fn popups(text: &str) -> Vec<Notification> {
    let mut popups = CollectedPopups {
        harness: PopupHarness::connected(),
        shown: Vec::new(),
    };
    // All of a text. A service gets no more than it shows.
    let now = popups.harness.now();
    let model = &mut popups.harness.model;
    model.set_limits(TextLimits::UNLIMITED, now);
    model.set_can_open_screen(true, now);
    for place in hub::PLACES {
        let asked = question(place, text);
        popups.receive(Event::Pending(Arc::clone(&asked)));
        if ["all", "key"].contains(place) {
            let mut again = (*asked).clone();
            again.count = 7;
            popups.receive(Event::Repeated(Arc::new(again)));
            let reason = DisplayText::from_program_output(text);
            popups.fail_answer("Blocked", OperatorReply::Failed(reason.clone()));
            popups.fail_answer("Deny failed", OperatorReply::ResultUnknown(reason));
        }
        let decision = hub::decision(&serde_json::to_value(&asked).unwrap(), text, true);
        let decision: Decision = serde_json::from_value(decision).unwrap();
        popups.receive(Event::Decided(Arc::new(decision)));
    }
    // Identity and state of a sandbox.
    let container = "web".parse().unwrap();
    let identity = ContainerIdentity {
        container_name: DisplayText::new(text).to_string(),
        task_name: DisplayText::new(text).to_string(),
        ..ContainerIdentity::default()
    };
    let now = popups.harness.now();
    popups.harness.model.set_identity(&container, identity, now);
    popups.receive(Event::Pending(test_question(
        "web",
        2,
        "b.example",
        json!({"dossier": {}}),
    )));
    for state in [ShieldState::Down, ShieldState::Disengaged, ShieldState::Up] {
        let container = container.clone();
        popups.receive(Event::Shield { container, state });
    }
    for state in [ContainerState::Started, ContainerState::Exited] {
        let (container, reason) = (container.clone(), Some(text.into()));
        popups.receive(Event::Container {
            container,
            state,
            reason,
        });
    }
    // Groups of questions: of several sandboxes, and of one.
    for (sandbox, questions) in [("web", 5), ("db", 3), ("mail", 2)] {
        let hub = crate::harness::hub(sandbox);
        popups
            .harness
            .apply_without_flush(&hub, InboxEvent::Up(ProtocolVersion::Clearance2));
        for n in 10..10 + questions {
            let more = json!({"dossier": {"project": text, "task": text, "name": text}});
            let asked = test_question(sandbox, n, &hub::host(1), more);
            let mut asked = (*asked).clone();
            asked.scope.port = Some(u16::try_from(n).unwrap());
            asked.port = u16::try_from(n).unwrap();
            popups
                .harness
                .apply_without_flush(&hub, InboxEvent::Received(Event::Pending(Arc::new(asked))));
        }
        popups.harness.flush();
        popups.collect();
    }
    popups.harness.apply(&web(), InboxEvent::Down(text.into()));
    popups.collect();
    popups.shown
}

/// Returns every text of a notification, one per line.
pub(crate) fn all_texts(notification: &Notification) -> String {
    let ContainerIdentity {
        container_id,
        container_name,
        project,
        task_id,
        task_name,
    } = &notification.identity;
    let actions = notification.actions.iter();
    let actions = actions.map(|action| format!("{}={}", action.key(), action.label()));
    let actions = actions.collect::<Vec<_>>().join(" ");
    format!(
        "{}\n{}\n{actions}\n{container_id}\n{container_name}\n{project}\n{task_id}\n{task_name}\n{:?}",
        notification.summary, notification.body, notification.buttonless_hint,
    )
}

#[test]
fn popups_are_harmless() {
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        let (plain, shown) = (popups(&tame(&text)), popups(&text));
        assert_eq!(plain.len(), shown.len(), "{case}");
        for kind in [
            "Blocked: ",
            "Deny failed: ",
            "Deny unsure: ",
            "Denied: ",
            "Shield down: ",
            "Shield disengaged: ",
            "Shield up: ",
            "Container started: ",
            "Container stopped: ",
            "11 questions from 3 sandboxes",
            "6 questions from ",
        ] {
            assert!(
                shown.iter().any(|it| it.summary.starts_with(kind)),
                "{kind}"
            );
        }
        for (plain, shown) in plain.iter().zip(&shown) {
            assert_eq!(
                harmless.text(&all_texts(plain), &all_texts(shown)),
                Ok(()),
                "{case}"
            );
        }
    }
}

/// Shows a notification in place of the last one, and returns the call of the service.
async fn post(
    service: &mut ScriptedService,
    notifier: &DbusNotifier,
    notification: &Notification,
    place: &mut Option<NotificationId>,
) -> NotifyCall {
    let notification = Notification {
        replaces: *place,
        ..notification.clone()
    };
    let (id, call) = service.show(notifier, notification, 1).await;
    *place = Some(id);
    call
}

/// Sends every popup to a service with these capabilities, and checks the calls.
async fn check_all_texts(capabilities: &[&str]) {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service.connect_notifier(session(&bus), capabilities).await;
    let (mut place, mut count) = (None, 0);
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        for (plain, shown) in popups(&tame(&text)).iter().zip(&popups(&text)) {
            if plain == shown {
                continue;
            }
            let plain = post(&mut service, &notifier, plain, &mut place).await;
            let shown = post(&mut service, &notifier, shown, &mut place).await;
            count += 1;
            let title = harmless.text(&plain.summary, &shown.summary);
            assert_eq!(title, Ok(()), "{case}");
            assert!(!shown.summary.contains('\n'), "{case}: {shown:?}");
            let body_text = |call: &NotifyCall| {
                if capabilities.contains(&"body-markup") {
                    decoded(&call.body)
                } else {
                    Ok(call.body.clone())
                }
            };
            let body = harmless.text(&body_text(&plain).unwrap(), &body_text(&shown).unwrap());
            assert_eq!(body, Ok(()), "{case}");
            assert_eq!(
                (
                    &shown.actions,
                    &shown.app,
                    &shown.icon,
                    shown.timeout,
                    shown.hints()
                ),
                (
                    &plain.actions,
                    &plain.app,
                    &plain.icon,
                    plain.timeout,
                    plain.hints()
                ),
                "{case}"
            );
        }
    }
    assert!(count > 1000, "{count} popups");
    notifier.disconnect().await;
}

#[tokio::test]
async fn popups_are_harmless_as_markup() {
    check_all_texts(&["actions", "body", "body-markup"]).await;
}

#[tokio::test]
async fn popups_are_harmless_as_plain_text() {
    check_all_texts(&["actions", "body"]).await;
}

#[tokio::test]
async fn popups_are_harmless_as_titles() {
    check_all_texts(&[]).await;
}

// SPDX-License-Identifier: Apache-2.0
//! Popups: as the board has them, as they go over D-Bus to services that draw markup, that do not,
//! and that show a title alone, and as a program's own notifier gets them.

use std::sync::Arc;

use operator::inbox::{InboxEvent, OperatorReply};
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{Decision, DisplayText, ShieldState};
use terok_clearance_desktop::notifier::{
    ContainerIdentity, DbusNotifier, Notification, NotificationId, Notifier as _,
};

use crate::bus::Bus;
use crate::desktop::{Fake, Posted};
use crate::harmless::{Harmless, decoded, tame};
use crate::hub;
use crate::rig::{Rig, asks_of, web};
use crate::texts;

/// Longer than a popup waits for another.
const LATER: u64 = 3000;

fn question(place: &str, text: &str) -> Arc<Request> {
    let json = hub::question(hub::number(0, place), text);
    // A client makes nothing of what has no destination, which an empty text is.
    let question = serde_json::from_value(json).map(Arc::new);
    question.unwrap_or_else(|_| asks_of("web", 1, "a.example", json!({})))
}

/// Everything that popups say of sandboxes that have this text.
struct Popups {
    rig: Rig,
    said: Vec<Notification>,
}

impl Popups {
    fn says(&mut self, event: Event) {
        self.rig.says(event);
        self.look();
    }

    /// Notes what is on the screen when all that is due is shown.
    fn look(&mut self) {
        self.rig.wait(LATER);
        let shown = self.rig.screen.values().map(|(_, shown)| shown.clone());
        for shown in shown.collect::<Vec<_>>() {
            if !self.said.contains(&shown) {
                self.said.push(shown);
            }
        }
    }

    /// Denies the only question, which comes to this.
    fn fails(&mut self, title: &str, reply: OperatorReply) {
        let answers = self.rig.answer(title, "deny");
        self.rig.settle(&answers[0], reply);
        self.look();
    }
}

fn popups(text: &str) -> Vec<Notification> {
    let mut popups = Popups {
        rig: Rig::up(),
        said: Vec::new(),
    };
    for place in hub::PLACES {
        let asked = question(place, text);
        popups.says(Event::Pending(Arc::clone(&asked)));
        if ["all", "key"].contains(place) {
            let mut again = (*asked).clone();
            again.count = 7;
            popups.says(Event::Repeated(Arc::new(again)));
            let reason = DisplayText::from_program_output(text);
            popups.fails("Blocked", OperatorReply::Failed(reason.clone()));
            popups.fails("Deny failed", OperatorReply::ResultUnknown(reason));
        }
        let decision = hub::decision(&serde_json::to_value(&asked).unwrap(), text, true);
        let decision: Decision = serde_json::from_value(decision).unwrap();
        popups.says(Event::Decided(Arc::new(decision)));
    }
    // What is known of a sandbox beside its questions.
    let container = "web".parse().unwrap();
    let identity = ContainerIdentity {
        container_name: DisplayText::new(text).to_string(),
        task_name: DisplayText::new(text).to_string(),
        ..ContainerIdentity::default()
    };
    let now = popups.rig.now();
    popups.rig.board.set_identity(&container, identity, now);
    popups.says(Event::Pending(asks_of(
        "web",
        2,
        "b.example",
        json!({"dossier": {}}),
    )));
    for state in [ShieldState::Down, ShieldState::Disengaged, ShieldState::Up] {
        let container = container.clone();
        popups.says(Event::Shield { container, state });
    }
    for state in [ContainerState::Started, ContainerState::Exited] {
        let (container, reason) = (container.clone(), Some(text.into()));
        popups.says(Event::Container {
            container,
            state,
            reason,
        });
    }
    // One for the questions of many, and one for those of one.
    for (sandbox, questions) in [("web", 5), ("db", 3), ("mail", 2)] {
        let hub = crate::rig::hub(sandbox);
        popups
            .rig
            .hear(&hub, InboxEvent::Up(ProtocolVersion::Clearance2));
        for n in 10..10 + questions {
            let more = json!({"dossier": {"project": text, "task": text, "name": text}});
            let asked = asks_of(sandbox, n, &hub::host(1), more);
            let mut asked = (*asked).clone();
            asked.scope.port = Some(u16::try_from(n).unwrap());
            asked.port = u16::try_from(n).unwrap();
            popups
                .rig
                .hear(&hub, InboxEvent::Received(Event::Pending(Arc::new(asked))));
        }
        popups.rig.flush();
        popups.look();
    }
    popups.rig.news(&web(), InboxEvent::Down(text.into()));
    popups.look();
    popups.said
}

/// Returns every text of a notification, one a line; a line for each of its own lines.
pub(crate) fn whole(notification: &Notification) -> String {
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
fn everything_that_popups_say_is_harmless() {
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
                harmless.text(&whole(plain), &whole(shown)),
                Ok(()),
                "{case}"
            );
        }
    }
}

/// Shows a notification in the place of the last one, and returns what the service was told.
async fn posts(
    service: &mut Fake,
    notifier: &DbusNotifier,
    notification: &Notification,
    place: &mut Option<NotificationId>,
) -> Posted {
    let notification = Notification {
        replaces: *place,
        ..notification.clone()
    };
    let (id, posted) = service.is_shown(notifier, notification, 1).await;
    *place = Some(id);
    posted
}

/// Sends every popup to a service that can do `able`, and checks what it is told.
async fn everything_is_harmless_for(able: &[&str]) {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), able).await;
    let (mut place, mut posted) = (None, 0);
    for (case, text) in texts::all() {
        let harmless = Harmless::new(std::slice::from_ref(&text));
        for (plain, shown) in popups(&tame(&text)).iter().zip(&popups(&text)) {
            if plain == shown {
                continue;
            }
            let plain = posts(&mut service, &notifier, plain, &mut place).await;
            let shown = posts(&mut service, &notifier, shown, &mut place).await;
            posted += 1;
            let title = harmless.text(&plain.summary, &shown.summary);
            assert_eq!(title, Ok(()), "{case}");
            assert!(!shown.summary.contains('\n'), "{case}: {shown:?}");
            let says = |posted: &Posted| {
                if able.contains(&"body-markup") {
                    decoded(&posted.body)
                } else {
                    Ok(posted.body.clone())
                }
            };
            let body = harmless.text(&says(&plain).unwrap(), &says(&shown).unwrap());
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
    assert!(posted > 1000, "{posted} popups");
    notifier.disconnect().await;
}

#[tokio::test]
async fn everything_is_harmless_where_markup_is_drawn() {
    everything_is_harmless_for(&["actions", "body", "body-markup"]).await;
}

#[tokio::test]
async fn everything_is_harmless_where_text_is_drawn() {
    everything_is_harmless_for(&["actions", "body"]).await;
}

#[tokio::test]
async fn everything_is_harmless_where_a_title_alone_is_drawn() {
    everything_is_harmless_for(&[]).await;
}

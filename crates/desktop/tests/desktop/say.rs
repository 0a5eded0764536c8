// SPDX-License-Identifier: Apache-2.0
//! The calls that the service receives, and the ends that it reports.

use std::num::NonZeroU32;

use terok_clearance_desktop::notifier::{
    Closed, Notification, NotificationExpiry, NotificationHints, NotificationUrgency,
    Notifier as _, NotifierCapabilities,
};

use crate::bus::Bus;
use crate::fake::{Fake, USUAL, choice, key, outcome, question};

#[tokio::test]
async fn a_notification_arrives_as_it_was_meant() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let notification = Notification {
        body: "<b>Task</b> & more\nProtocol: TCP".to_owned(),
        expiry: NotificationExpiry::Never,
        hints: NotificationHints {
            urgency: Some(NotificationUrgency::Critical),
            resident: true,
            transient: false,
            category: Some("network"),
            desktop_entry: Some("terok"),
        },
        icon: Some("terok-symbolic".to_owned()),
        ..question("Blocked: <i>")
    };
    let (id, posted) = service.is_shown(&notifier, notification, 5).await;
    assert_eq!(id.get(), 5);
    assert_eq!(posted.app, "the-app");
    assert_eq!(posted.replaces, 0);
    assert_eq!(posted.icon, "terok-symbolic");
    assert_eq!(posted.summary, "Blocked: <i>");
    assert_eq!(
        posted.body,
        "&lt;b&gt;Task&lt;/b&gt; &amp; more\nProtocol: TCP"
    );
    assert_eq!(posted.actions, ["allow", "Allow", "deny", "Deny"]);
    assert_eq!(posted.timeout, 0);
    assert_eq!(
        posted.hints(),
        [
            r#"category=Str("network")"#,
            r#"desktop-entry=Str("terok")"#,
            "resident=Bool(true)",
            "urgency=U8(2)",
        ]
    );
    // In its place, and without anything that it does not say.
    let result = Notification {
        replaces: Some(id),
        expiry: NotificationExpiry::After(NonZeroU32::new(7000).unwrap()),
        ..Notification::new("Allowed")
    };
    let (same, posted) = service.is_shown(&notifier, result, 5).await;
    assert_eq!(same, id);
    assert_eq!((posted.replaces, posted.timeout), (5, 7000));
    assert_eq!((posted.body.as_str(), posted.icon.as_str()), ("", ""));
    assert!(posted.hints().is_empty() && posted.actions.is_empty());
    let (closed, ()) = tokio::join!(notifier.close(id), service.closes(5));
    closed.unwrap();
    // What is not there any more is closed already.
    notifier.close(id).await.unwrap();
}

#[tokio::test]
async fn a_service_without_buttons_is_known_and_the_popup_says_where_to_answer() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), &["body"]).await;
    let buttonless = NotifierCapabilities {
        visible: true,
        actions: false,
    };
    assert_eq!(notifier.capabilities(), buttonless);
    let asked = Notification {
        body: "1 < 2 & 3".to_owned(),
        buttonless_hint: Some("Answer in a terminal.".to_owned()),
        ..question("a")
    };
    let (_, posted) = service.is_shown(&notifier, asked, 1).await;
    assert_eq!(posted.body, "1 < 2 & 3\nAnswer in a terminal.");
    // Another one takes its place, which has buttons.
    let mut service = Fake::new(&bus).await;
    service.introduces(USUAL).await;
    assert_eq!(service.shows(1).await.body, "1 &lt; 2 &amp; 3");
    let (id, _) = service.is_shown(&notifier, question("b"), 2).await;
    assert_eq!(notifier.capabilities(), NotifierCapabilities::ALL);
    let chosen = choice(&notifier, id).await;
    service.chosen(2, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_choice_that_comes_before_its_callback_is_kept_once() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let (a, _) = service.is_shown(&notifier, question("a"), 1).await;
    let (b, _) = service.is_shown(&notifier, question("b"), 2).await;
    service.chosen(1, "deny").await;
    service.chosen(1, "allow").await;
    service.closed(1).await;
    service.chosen(2, "allow").await;
    let of_b = choice(&notifier, b).await;
    assert_eq!(key(of_b).await.as_deref(), Some("allow"));
    assert_eq!(
        key(choice(&notifier, a).await).await.as_deref(),
        Some("deny")
    );
    assert_eq!(key(choice(&notifier, a).await).await, None);
}

#[tokio::test]
async fn a_click_on_a_question_that_is_being_replaced_answers_neither() {
    let bus = Bus::new();
    let (mut service, notifier, id, of_a) = Fake::asks(&bus, 1).await;
    let more = Notification {
        body: "Blocked 2 times".to_owned(),
        replaces: Some(id),
        ..question("a")
    };
    // The same question: its callback is dropped, and a new one has its end.
    let (id, _) = service.is_shown(&notifier, more, 1).await;
    assert_eq!(key(of_a).await, None);
    let of_a = choice(&notifier, id).await;
    let other = Notification {
        replaces: Some(id),
        ..question("b")
    };
    // Another one: a click on what is still shown of the former one answers neither.
    let (shown, call) = tokio::join!(notifier.notify(other), async {
        let call = service.call("Notify").await;
        service.chosen(1, "allow").await;
        service.reply(&call, &1_u32).await;
        call
    });
    assert_eq!(crate::fake::posted(&call).replaces, 1);
    assert_eq!(key(of_a).await, None);
    let of_b = choice(&notifier, shown.unwrap()).await;
    service.closed(1).await;
    assert_eq!(key(of_b).await, None);
}

/// Each notification has one end, with the moment at which it came.
#[tokio::test]
async fn every_end_is_reported_as_what_it_is() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let before = tokio::time::Instant::now();
    let mut ends = Vec::new();
    for id in 1..=4 {
        let (shown, _) = service.is_shown(&notifier, question("a"), id).await;
        ends.push(outcome(&notifier, shown).await);
    }
    service.chosen(1, "deny").await;
    service.closed_because(1, 2).await;
    service.closed_because(2, 2).await;
    service.closed_because(3, 1).await;
    service.closed_because(4, 4).await;
    let mut closed = Vec::new();
    for end in ends {
        let outcome = end.await.unwrap();
        let changed = outcome.layout_changed_at.unwrap();
        assert!(before <= changed && changed <= outcome.at, "{outcome:?}");
        closed.push(outcome.closed);
    }
    let Closed::Chosen(choice) = closed.remove(0) else {
        unreachable!("it was clicked on: {closed:?}")
    };
    assert_eq!(choice.key.as_str(), "deny");
    assert_eq!(
        closed,
        [Closed::Dismissed, Closed::Expired, Closed::Dismissed]
    );
}

// SPDX-License-Identifier: Apache-2.0
//! The calls that the service receives, and the closed popups that it reports.

use std::num::NonZeroU32;

use terok_clearance_desktop::notifier::{
    Closed, Notification, NotificationExpiry, NotificationHints, NotificationUrgency,
    Notifier as _, NotifierCapabilities,
};
use test_support::notification_service::USUAL_CAPABILITIES;
use test_support::test_bus::TestBus;

use crate::service::{ScriptedService, choice, key, outcome, question, session};

#[tokio::test]
async fn a_notification_is_sent_with_all_its_fields() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
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
    let (id, notify) = service.show(&notifier, notification, 5).await;
    assert_eq!(id.get(), 5);
    assert_eq!(notify.app, "the-app");
    assert_eq!(notify.replaces, 0);
    assert_eq!(notify.icon, "terok-symbolic");
    assert_eq!(notify.summary, "Blocked: <i>");
    assert_eq!(
        notify.body,
        "&lt;b&gt;Task&lt;/b&gt; &amp; more\nProtocol: TCP"
    );
    assert_eq!(notify.actions, ["allow", "Allow", "deny", "Deny"]);
    assert_eq!(notify.timeout, 0);
    assert_eq!(
        notify.hints(),
        [
            r#"category=Str("network")"#,
            r#"desktop-entry=Str("terok")"#,
            "resident=Bool(true)",
            "urgency=U8(2)",
        ]
    );
    // A replacement without body, actions or hints sends none.
    let result = Notification {
        replaces: Some(id),
        expiry: NotificationExpiry::After(NonZeroU32::new(7000).unwrap()),
        ..Notification::new("Allowed")
    };
    let (same, notify) = service.show(&notifier, result, 5).await;
    assert_eq!(same, id);
    assert_eq!((notify.replaces, notify.timeout), (5, 7000));
    assert_eq!((notify.body.as_str(), notify.icon.as_str()), ("", ""));
    assert!(notify.hints().is_empty() && notify.actions.is_empty());
    let (closed, ()) = tokio::join!(notifier.close(id), service.accept_close(5));
    closed.unwrap();
    // Closing a closed popup is no error.
    notifier.close(id).await.unwrap();
}

#[tokio::test]
async fn a_service_without_buttons_gets_the_hint_where_to_answer() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service.connect_notifier(session(&bus), &["body"]).await;
    let buttonless = NotifierCapabilities {
        visible: true,
        actions: false,
    };
    assert_eq!(notifier.capabilities(), buttonless);
    let first = Notification {
        body: "1 < 2 & 3".to_owned(),
        buttonless_hint: Some("Answer in a terminal.".to_owned()),
        ..question("a")
    };
    let (_, notify) = service.show(&notifier, first, 1).await;
    assert_eq!(notify.body, "1 < 2 & 3\nAnswer in a terminal.");
    // A service with buttons replaces it.
    let mut service = ScriptedService::start(&bus).await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    assert_eq!(service.accept_notify(1).await.body, "1 &lt; 2 &amp; 3");
    let (id, _) = service.show(&notifier, question("b"), 2).await;
    assert_eq!(notifier.capabilities(), NotifierCapabilities::ALL);
    let chosen = choice(&notifier, id).await;
    service.invoke_action(2, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_choice_before_its_callback_is_delivered_once() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let (a, _) = service.show(&notifier, question("a"), 1).await;
    let (b, _) = service.show(&notifier, question("b"), 2).await;
    service.invoke_action(1, "deny").await;
    service.invoke_action(1, "allow").await;
    service.emit_closed(1).await;
    service.invoke_action(2, "allow").await;
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
    let bus = TestBus::start();
    let (mut service, notifier, id, of_a) = ScriptedService::with_question(&bus, 1).await;
    let more = Notification {
        body: "Blocked 2 times".to_owned(),
        replaces: Some(id),
        ..question("a")
    };
    // The same question: the old callback is dropped, a new one receives the end.
    let (id, _) = service.show(&notifier, more, 1).await;
    assert_eq!(key(of_a).await, None);
    let of_a = choice(&notifier, id).await;
    let other = Notification {
        replaces: Some(id),
        ..question("b")
    };
    // Another question: a click on the popup that is being replaced answers neither.
    let (shown, call) = tokio::join!(notifier.notify(other), async {
        let call = service.call("Notify").await;
        service.invoke_action(1, "allow").await;
        service.reply(&call, &1_u32).await;
        call
    });
    assert_eq!(crate::service::parse_notify(&call).replaces, 1);
    assert_eq!(key(of_a).await, None);
    let of_b = choice(&notifier, shown.unwrap()).await;
    service.emit_closed(1).await;
    assert_eq!(key(of_b).await, None);
}

/// Each notification ends once, with the time of its end.
#[tokio::test]
async fn every_reason_for_closing_is_reported() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let before = tokio::time::Instant::now();
    let mut ends = Vec::new();
    for id in 1..=4 {
        let (shown, _) = service.show(&notifier, question("a"), id).await;
        ends.push(outcome(&notifier, shown).await);
    }
    service.invoke_action(1, "deny").await;
    service.emit_closed_for(1, 2).await;
    service.emit_closed_for(2, 2).await;
    service.emit_closed_for(3, 1).await;
    service.emit_closed_for(4, 4).await;
    let mut closed = Vec::new();
    for end in ends {
        let outcome = end.await.unwrap();
        let changed = outcome.layout_changed_at.unwrap();
        assert!(before <= changed && changed <= outcome.at, "{outcome:?}");
        closed.push(outcome.closed);
    }
    let Closed::Chosen(choice) = closed.remove(0) else {
        unreachable!("popup 1 was clicked: {closed:?}")
    };
    assert_eq!(choice.key.as_str(), "deny");
    assert_eq!(
        closed,
        [Closed::Dismissed, Closed::Expired, Closed::Dismissed]
    );
}

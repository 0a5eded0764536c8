// SPDX-License-Identifier: Apache-2.0
//! Services and buses that start, end and hang, and clicks that come too early.

use std::time::Duration;

use terok_clearance_desktop::notifier::{
    Closed, DbusConnectError, DbusNotifier, DesktopError, DesktopSession, Notification,
    Notifier as _,
};
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, GuardedPopup};
use test_support::notification_service::USUAL_CAPABILITIES;
use test_support::test_bus::TestBus;

use crate::service::{ScriptedService, choice, key, outcome, parse_notify, question, session};

#[tokio::test]
async fn a_missing_service_or_bus_is_an_error() {
    let bus = TestBus::start();
    let refused = DbusNotifier::connect(session(&bus)).await.unwrap_err();
    assert!(
        matches!(refused, DbusConnectError::NoService),
        "{refused:?}"
    );
    for address in ["", ";", "unix:path=/nonexistent/bus", "nonsense"] {
        let refused = DbusNotifier::connect(DesktopSession::new(address, "x")).await;
        assert!(refused.is_err(), "{address:?}");
    }
    // The first reachable one of several addresses is used.
    let address = format!("unix:path=/nonexistent/bus;{}", bus.address());
    let mut service = ScriptedService::start(&bus).await;
    service
        .connect_notifier(DesktopSession::new(&address, "x"), USUAL_CAPABILITIES)
        .await;
}

#[tokio::test]
async fn an_early_question_is_shown_by_the_first_service() {
    let bus = TestBus::start();
    let notifier = DbusNotifier::connect_early(session(&bus)).await.unwrap();
    let id = notifier.notify(question("a")).await.unwrap();
    let chosen = choice(&notifier, id).await;
    let mut service = ScriptedService::start(&bus).await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    assert_eq!(service.accept_notify(9).await.summary, "a");
    service.invoke_action(9, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_question_survives_a_service_that_ends_during_the_call() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let showing = notifier.notify(question("a"));
    let ending = async {
        service.call("Notify").await;
        service.connection.close().await.unwrap();
        let mut service = ScriptedService::start(&bus).await;
        service.reply_capabilities(USUAL_CAPABILITIES).await;
        service.accept_notify(1).await;
        service
    };
    let (shown, service) = tokio::join!(showing, ending);
    let chosen = choice(&notifier, shown.unwrap()).await;
    service.invoke_action(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_hanging_call_times_out_and_its_late_popup_is_closed() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let session = DesktopSession {
        call_timeout: Duration::from_millis(300),
        ..session(&bus)
    };
    let notifier = service.connect_notifier(session, USUAL_CAPABILITIES).await;
    let (refused, call) = tokio::join!(notifier.notify(question("a")), service.call("Notify"));
    assert_eq!(refused.unwrap_err(), DesktopError::TimedOut);
    service.reply(&call, &3_u32).await;
    service.accept_close(3).await;
    let (_, notify) = service.show(&notifier, question("b"), 4).await;
    assert_eq!(notify.summary, "b");
}

#[tokio::test]
async fn a_service_that_hangs_from_the_start_times_out() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let session = DesktopSession {
        call_timeout: Duration::from_millis(300),
        ..session(&bus)
    };
    let notifier = DbusNotifier::connect(session).await.unwrap();
    let refused = notifier.notify(question("a")).await.unwrap_err();
    assert_eq!(refused, DesktopError::TimedOut);
    // The service resumes; several `GetCapabilities` calls are waiting by then.
    let showing = notifier.notify(question("b"));
    let resuming = async {
        loop {
            let call = service.any_call().await;
            if call.header().member().unwrap().as_str() == "Notify" {
                service.reply(&call, &1_u32).await;
                return parse_notify(&call);
            }
            service.reply(&call, &USUAL_CAPABILITIES).await;
        }
    };
    let (shown, notify) = tokio::join!(showing, resuming);
    shown.unwrap();
    assert_eq!(notify.summary, "b");
}

/// Accepts the popup that is shown again after an early click. The former popup may be closed.
async fn accept_reshown(service: &mut ScriptedService, id: u32) {
    let again = service.accept_notify(id).await;
    assert_eq!(again.summary, "a");
    assert!(
        again.body.ends_with("Choose again.\nwho"),
        "{:?}",
        again.body
    );
}

#[tokio::test]
async fn a_click_that_comes_too_early_is_rejected_and_the_question_is_shown_again() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let first = Notification {
        body: "who".to_owned(),
        ..question("a")
    };
    let (popup, _) = tokio::join!(
        GuardedPopup::show(&notifier, first),
        service.accept_notify(1)
    );
    let mut popup = popup.unwrap();
    let clicks = async {
        service.invoke_action(1, "allow").await;
        // Many services close a popup that was clicked.
        service.emit_closed(1).await;
        accept_reshown(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        // A new popup may have moved this one.
        pass(CLICK_GUARD_DELAY).await;
        service.show(&notifier, question("b"), 3).await;
        service.invoke_action(2, "allow").await;
        accept_reshown(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        // A popup that closes may have moved it too.
        pass(CLICK_GUARD_DELAY).await;
        service.emit_closed(3).await;
        service.invoke_action(2, "allow").await;
        accept_reshown(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        pass(CLICK_GUARD_DELAY).await;
        service.invoke_action(2, "deny").await;
    };
    let (closed, ()) = tokio::join!(popup.closed(), clicks);
    let Closed::Chosen(choice) = closed.unwrap() else {
        unreachable!("the last click is accepted")
    };
    assert_eq!(choice.key.as_str(), "deny");
}

/// Returns when the notifier has received every signal of the service.
async fn sync(service: &mut ScriptedService, notifier: &DbusNotifier) {
    let (id, _) = service.show(notifier, Notification::new("sync"), 99).await;
    let (closed, ()) = tokio::join!(notifier.close(id), service.accept_close(99));
    closed.unwrap();
}

/// Advances the clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_lost_bus_is_no_answer_and_is_reconnected() {
    let mut bus = TestBus::start();
    let (_service, notifier, id, _) = ScriptedService::with_question(&bus, 1).await;
    let end = outcome(&notifier, id).await;
    bus.kill();
    let end = end.await.unwrap().closed;
    assert_eq!(
        end,
        Closed::ConnectionLost,
        "the popup was not closed by a person"
    );
    let late = outcome(&notifier, id).await.await.unwrap();
    assert_eq!(
        late.closed,
        Closed::ConnectionLost,
        "the popup is not shown"
    );
    let refused = notifier.notify(question("b")).await.unwrap_err();
    assert_eq!(refused, DesktopError::BusLost);
    bus.restart();
    let mut service = ScriptedService::start(&bus).await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    let (later, _) = service.show(&notifier, question("c"), 1).await;
    assert_ne!(later, id, "an id is not reused for another question");
    let chosen = choice(&notifier, later).await;
    service.invoke_action(1, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_reply_without_a_valid_id_is_an_error_and_delays_no_other_popup() {
    let bus = TestBus::start();
    let mut service = ScriptedService::start(&bus).await;
    let notifier = service
        .connect_notifier(session(&bus), USUAL_CAPABILITIES)
        .await;
    let (refused, _) = tokio::join!(notifier.notify(question("a")), service.accept_notify(0));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, DesktopError::Refused(_)), "{refused}");
    let answer = async {
        let call = service.call("Notify").await;
        service.reply(&call, &"seven").await;
    };
    let (refused, ()) = tokio::join!(notifier.notify(question("b")), answer);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, DesktopError::Refused(_)), "{refused}");
    let (id, _) = service.show(&notifier, question("c"), 1).await;
    let chosen = choice(&notifier, id).await;
    sync(&mut service, &notifier).await;
    pass(Duration::from_secs(1)).await;
    service.invoke_action(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn disconnect_ends_every_wait() {
    let bus = TestBus::start();
    let (_service, notifier, id, chosen) = ScriptedService::with_question(&bus, 1).await;
    notifier.disconnect().await;
    assert_eq!(key(chosen).await, None);
    assert_eq!(key(choice(&notifier, id).await).await, None);
    let refused = notifier.notify(question("b")).await.unwrap_err();
    assert_eq!(refused, DesktopError::Disconnected);
    notifier.disconnect().await;
}

#[tokio::test]
async fn a_service_that_takes_its_name_again_shows_the_question_again() {
    let bus = TestBus::start();
    let (mut service, _notifier, _, chosen) = ScriptedService::with_question(&bus, 1).await;
    service.release_name().await;
    service.invoke_action(1, "allow").await;
    service.take_name().await;
    // The name had no owner at the time of the choice, so it does not count for any popup.
    service.accept_close(1).await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    assert_eq!(service.accept_notify(2).await.replaces, 0);
    service.invoke_action(2, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

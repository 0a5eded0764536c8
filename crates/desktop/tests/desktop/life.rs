// SPDX-License-Identifier: Apache-2.0
//! Services and buses that start, end and hang, and popups that are clicked on too early.

use std::time::Duration;

use terok_clearance_desktop::notifier::{
    Closed, DbusConnectError, DbusNotifier, DesktopError, DesktopSession, Notification,
    Notifier as _,
};
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, GuardedPopup};

use crate::bus::Bus;
use crate::fake::{Fake, USUAL, choice, key, outcome, posted, question};

#[tokio::test]
async fn where_nobody_shows_notifications_it_says_so() {
    let bus = Bus::new();
    let refused = DbusNotifier::connect(bus.session()).await.unwrap_err();
    assert!(
        matches!(refused, DbusConnectError::NoService),
        "{refused:?}"
    );
    for address in ["", ";", "unix:path=/nonexistent/bus", "nonsense"] {
        let refused = DbusNotifier::connect(DesktopSession::new(address, "x")).await;
        assert!(refused.is_err(), "{address:?}");
    }
    // Of several addresses the first that is there.
    let address = format!("unix:path=/nonexistent/bus;{}", bus.address());
    let mut service = Fake::new(&bus).await;
    service
        .meets(DesktopSession::new(&address, "x"), USUAL)
        .await;
}

#[tokio::test]
async fn what_is_asked_before_there_is_a_service_is_shown_when_there_is() {
    let bus = Bus::new();
    let notifier = DbusNotifier::connect_early(bus.session()).await.unwrap();
    let id = notifier.notify(question("a")).await.unwrap();
    let chosen = choice(&notifier, id).await;
    let mut service = Fake::new(&bus).await;
    service.introduces(USUAL).await;
    assert_eq!(service.shows(9).await.summary, "a");
    service.chosen(9, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_service_that_dies_while_it_is_asked_loses_nothing() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let showing = notifier.notify(question("a"));
    let dying = async {
        service.call("Notify").await;
        service.connection.close().await.unwrap();
        let mut service = Fake::new(&bus).await;
        service.introduces(USUAL).await;
        service.shows(1).await;
        service
    };
    let (shown, service) = tokio::join!(showing, dying);
    let chosen = choice(&notifier, shown.unwrap()).await;
    service.chosen(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_service_that_hangs_holds_nobody_up_and_what_it_shows_late_is_taken_away() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let session = DesktopSession {
        call_timeout: Duration::from_millis(300),
        ..bus.session()
    };
    let notifier = service.meets(session, USUAL).await;
    let (refused, call) = tokio::join!(notifier.notify(question("a")), service.call("Notify"));
    assert_eq!(refused.unwrap_err(), DesktopError::TimedOut);
    service.reply(&call, &3_u32).await;
    service.closes(3).await;
    let (_, posted) = service.is_shown(&notifier, question("b"), 4).await;
    assert_eq!(posted.summary, "b");
}

#[tokio::test]
async fn a_service_that_hangs_from_the_start_holds_nobody_up() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let session = DesktopSession {
        call_timeout: Duration::from_millis(300),
        ..bus.session()
    };
    let notifier = DbusNotifier::connect(session).await.unwrap();
    let refused = notifier.notify(question("a")).await.unwrap_err();
    assert_eq!(refused, DesktopError::TimedOut);
    // It wakes, and was asked more than once what it can do.
    let showing = notifier.notify(question("b"));
    let waking = async {
        loop {
            let call = service.any_call().await;
            if call.header().member().unwrap().as_str() == "Notify" {
                service.reply(&call, &1_u32).await;
                return posted(&call);
            }
            service.reply(&call, &USUAL).await;
        }
    };
    let (shown, posted) = tokio::join!(showing, waking);
    shown.unwrap();
    assert_eq!(posted.summary, "b");
}

/// Takes the popup that is shown again after a click, under the number that the service gives it;
/// the former one may be closed by then.
async fn shown_again(service: &mut Fake, id: u32) {
    let again = service.shows(id).await;
    assert_eq!(again.summary, "a");
    assert!(
        again.body.ends_with("Choose again.\nwho"),
        "{:?}",
        again.body
    );
}

#[tokio::test]
async fn a_click_that_comes_too_soon_is_not_taken_and_it_is_asked_again() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let asked = Notification {
        body: "who".to_owned(),
        ..question("a")
    };
    let (popup, _) = tokio::join!(GuardedPopup::show(&notifier, asked), service.shows(1));
    let mut popup = popup.unwrap();
    let clicks = async {
        service.chosen(1, "allow").await;
        // As services do that close what was clicked on.
        service.closed(1).await;
        shown_again(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        // Another that appears may have moved it.
        pass(CLICK_GUARD_DELAY).await;
        service.is_shown(&notifier, question("b"), 3).await;
        service.chosen(2, "allow").await;
        shown_again(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        // And so may one that disappears.
        pass(CLICK_GUARD_DELAY).await;
        service.closed(3).await;
        service.chosen(2, "allow").await;
        shown_again(&mut service, 2).await;
        sync(&mut service, &notifier).await;
        pass(CLICK_GUARD_DELAY).await;
        service.chosen(2, "deny").await;
    };
    let (closed, ()) = tokio::join!(popup.closed(), clicks);
    let Closed::Chosen(choice) = closed.unwrap() else {
        unreachable!("the last click counts")
    };
    assert_eq!(choice.key.as_str(), "deny");
}

/// Returns when the notifier has received every signal of the service.
async fn sync(service: &mut Fake, notifier: &DbusNotifier) {
    let (id, _) = service
        .is_shown(notifier, Notification::new("sync"), 99)
        .await;
    let (closed, ()) = tokio::join!(notifier.close(id), service.closes(99));
    closed.unwrap();
}

/// Advances the clock.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_bus_that_is_gone_is_no_answer_and_is_found_again() {
    let mut bus = Bus::new();
    let (_service, notifier, id, _) = Fake::asks(&bus, 1).await;
    let end = outcome(&notifier, id).await;
    bus.kill();
    let end = end.await.unwrap().closed;
    assert_eq!(end, Closed::ConnectionLost, "nobody closed it");
    let late = outcome(&notifier, id).await.await.unwrap();
    assert_eq!(late.closed, Closed::ConnectionLost, "it is not shown");
    let refused = notifier.notify(question("b")).await.unwrap_err();
    assert_eq!(refused, DesktopError::BusLost);
    bus.start();
    let mut service = Fake::new(&bus).await;
    service.introduces(USUAL).await;
    let (later, _) = service.is_shown(&notifier, question("c"), 1).await;
    assert_ne!(later, id, "a number never means another question");
    let chosen = choice(&notifier, later).await;
    service.chosen(1, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn a_service_that_gives_no_number_refuses_and_holds_up_nothing_else() {
    let bus = Bus::new();
    let mut service = Fake::new(&bus).await;
    let notifier = service.meets(bus.session(), USUAL).await;
    let (refused, _) = tokio::join!(notifier.notify(question("a")), service.shows(0));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, DesktopError::Refused(_)), "{refused}");
    let answer = async {
        let call = service.call("Notify").await;
        service.reply(&call, &"seven").await;
    };
    let (refused, ()) = tokio::join!(notifier.notify(question("b")), answer);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, DesktopError::Refused(_)), "{refused}");
    let (id, _) = service.is_shown(&notifier, question("c"), 1).await;
    let chosen = choice(&notifier, id).await;
    sync(&mut service, &notifier).await;
    pass(Duration::from_secs(1)).await;
    service.chosen(1, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn after_the_end_nobody_waits() {
    let bus = Bus::new();
    let (_service, notifier, id, chosen) = Fake::asks(&bus, 1).await;
    notifier.disconnect().await;
    assert_eq!(key(chosen).await, None);
    assert_eq!(key(choice(&notifier, id).await).await, None);
    let refused = notifier.notify(question("b")).await.unwrap_err();
    assert_eq!(refused, DesktopError::Disconnected);
    notifier.disconnect().await;
}

#[tokio::test]
async fn a_name_that_is_given_up_and_taken_again_shows_what_is_asked() {
    let bus = Bus::new();
    let (mut service, _notifier, _, chosen) = Fake::asks(&bus, 1).await;
    service.give_name_up().await;
    service.chosen(1, "allow").await;
    service.take_name().await;
    // Nobody had the name when that was chosen. It is no other popup's, either.
    service.closes(1).await;
    service.introduces(USUAL).await;
    assert_eq!(service.shows(2).await.replaces, 0);
    service.chosen(2, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

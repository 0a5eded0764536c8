// SPDX-License-Identifier: Apache-2.0
//! A service that the bus starts when it is called (D-Bus activation), and one that it cannot start.

use std::path::PathBuf;

use terok_clearance_desktop::notifier::{
    DbusNotifier, DesktopError, NotificationId, Notifier as _, create_notifier,
};
use tokio::task::spawn_blocking;

use crate::bus::Bus;
use crate::fake::{Fake, USUAL, choice, key, question, signal};

/// A bus that can start the service: each time that it does, somebody knocks.
struct Activating {
    bus: Bus,
    knocks: PathBuf,
    _place: tempfile::TempDir,
}

impl Activating {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let knocks = place.path().join("knocks");
        let made = std::process::Command::new("mkfifo").arg(&knocks).status();
        assert!(made.unwrap().success());
        let knock = format!("/bin/sh -c \"echo started > {}\"", knocks.display());
        Self {
            bus: Bus::starting(&knock),
            knocks,
            _place: place,
        }
    }

    /// Waits for the bus to start a service, and is it.
    async fn service(&self) -> Fake {
        let knocks = self.knocks.clone();
        let started = spawn_blocking(move || std::fs::read_to_string(knocks));
        assert_eq!(started.await.unwrap().unwrap(), "started\n");
        Fake::new(&self.bus).await
    }
}

#[tokio::test]
async fn a_service_that_the_bus_can_start_is_started_for_what_there_is_to_show() {
    let desktop = Activating::new();
    let notifier = DbusNotifier::connect(desktop.bus.session()).await.unwrap();
    assert!(notifier.capabilities().actions, "as far as that is known");
    let serving = async {
        let mut service = desktop.service().await;
        service.introduces(USUAL).await;
        assert_eq!(service.shows(4).await.summary, "a");
        service
    };
    let (id, service) = tokio::join!(notifier.notify(question("a")), serving);
    let chosen = choice(&notifier, id.unwrap()).await;
    // Whoever was started is believed, and nobody else.
    let stranger = desktop.bus.somebody().await;
    signal(&stranger, None, "ActionInvoked", &(4_u32, "allow")).await;
    crate::fake::settle(&stranger).await;
    service.chosen(4, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_service_that_ends_is_started_anew_for_what_is_asked() {
    let desktop = Activating::new();
    let notifier = DbusNotifier::connect(desktop.bus.session()).await.unwrap();
    let first = async {
        let mut service = desktop.service().await;
        service.introduces(USUAL).await;
        service.shows(4).await;
        service
    };
    let (id, former) = tokio::join!(notifier.notify(question("a")), first);
    let chosen = choice(&notifier, id.unwrap()).await;
    former.connection.close().await.unwrap();
    // Nobody asks for anything new: what is pending is reason enough.
    let mut service = desktop.service().await;
    service.introduces(USUAL).await;
    let again = service.shows(9).await;
    assert_eq!((again.summary.as_str(), again.replaces), ("a", 0));
    // The number is the former's.
    service.chosen(4, "allow").await;
    service.chosen(9, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_service_that_does_not_start_is_said_and_one_that_comes_by_itself_is_used() {
    let bus = Bus::starting("/bin/false");
    let notifier = DbusNotifier::connect(bus.session()).await.unwrap();
    let refused = notifier.notify(question("a")).await.unwrap_err();
    assert_eq!(refused, DesktopError::NoService);
    let mut service = Fake::new(&bus).await;
    service.introduces(USUAL).await;
    let (id, posted) = service.is_shown(&notifier, question("b"), 1).await;
    assert_eq!(posted.summary, "b");
    let chosen = choice(&notifier, id).await;
    service.chosen(1, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn the_best_notifier_is_the_one_that_can_be_started() {
    let desktop = Activating::new();
    let notifier = create_notifier("the-app", Some(&desktop.bus.address()));
    notifier.connect().await.unwrap();
    assert!(notifier.capabilities().visible);
    let bus = Bus::new();
    let notifier = create_notifier("the-app", Some(&bus.address()));
    let id = notifier.notify(question("a")).await.unwrap();
    assert_eq!(id, NotificationId::NONE);
    assert!(
        !notifier.capabilities().visible,
        "nothing there can be started"
    );
}

// SPDX-License-Identifier: Apache-2.0
//! D-Bus activation: a service that the bus starts for a call, and one that it cannot start.

use std::path::PathBuf;

use terok_clearance_desktop::notifier::{
    DbusNotifier, DesktopError, NotificationId, Notifier as _, create_notifier,
};
use test_support::notification_service::USUAL_CAPABILITIES;
use test_support::test_bus::TestBus;
use tokio::task::spawn_blocking;

use crate::service::{ScriptedService, choice, connect, key, question, session, signal};

/// A bus that can start the service. Each start is written to a FIFO.
struct Activating {
    bus: TestBus,
    starts: PathBuf,
    _directory: tempfile::TempDir,
}

impl Activating {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let starts = directory.path().join("starts");
        let made = std::process::Command::new("mkfifo").arg(&starts).status();
        assert!(made.unwrap().success());
        let exec = format!("/bin/sh -c \"echo started > {}\"", starts.display());
        Self {
            bus: TestBus::activating(&exec),
            starts,
            _directory: directory,
        }
    }

    /// Waits until the bus starts a service, and returns that service.
    async fn service(&self) -> ScriptedService {
        let starts = self.starts.clone();
        let started = spawn_blocking(move || std::fs::read_to_string(starts));
        assert_eq!(started.await.unwrap().unwrap(), "started\n");
        ScriptedService::start(&self.bus).await
    }
}

#[tokio::test]
async fn a_notification_starts_the_service() {
    let desktop = Activating::new();
    let notifier = DbusNotifier::connect(session(&desktop.bus)).await.unwrap();
    assert!(
        notifier.capabilities().actions,
        "assumed before the first start"
    );
    let serving = async {
        let mut service = desktop.service().await;
        service.reply_capabilities(USUAL_CAPABILITIES).await;
        assert_eq!(service.accept_notify(4).await.summary, "a");
        service
    };
    let (id, service) = tokio::join!(notifier.notify(question("a")), serving);
    let chosen = choice(&notifier, id.unwrap()).await;
    // Only signals of the started service count.
    let other = connect(&desktop.bus).await;
    signal(&other, None, "ActionInvoked", &(4_u32, "allow")).await;
    crate::service::sync_with_bus(&other).await;
    service.invoke_action(4, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_pending_question_restarts_a_service_that_ended() {
    let desktop = Activating::new();
    let notifier = DbusNotifier::connect(session(&desktop.bus)).await.unwrap();
    let first = async {
        let mut service = desktop.service().await;
        service.reply_capabilities(USUAL_CAPABILITIES).await;
        service.accept_notify(4).await;
        service
    };
    let (id, former) = tokio::join!(notifier.notify(question("a")), first);
    let chosen = choice(&notifier, id.unwrap()).await;
    former.connection.close().await.unwrap();
    // The pending question is reason enough to start the service, without a new call.
    let mut service = desktop.service().await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    let again = service.accept_notify(9).await;
    assert_eq!((again.summary.as_str(), again.replaces), ("a", 0));
    // Id 4 belongs to the former service.
    service.invoke_action(4, "allow").await;
    service.invoke_action(9, "deny").await;
    assert_eq!(key(chosen).await.as_deref(), Some("deny"));
}

#[tokio::test]
async fn a_service_that_cannot_start_is_an_error_and_a_later_one_is_used() {
    let bus = TestBus::activating("/bin/false");
    let notifier = DbusNotifier::connect(session(&bus)).await.unwrap();
    let refused = notifier.notify(question("a")).await.unwrap_err();
    assert_eq!(refused, DesktopError::NoService);
    let mut service = ScriptedService::start(&bus).await;
    service.reply_capabilities(USUAL_CAPABILITIES).await;
    let (id, notify) = service.show(&notifier, question("b"), 1).await;
    assert_eq!(notify.summary, "b");
    let chosen = choice(&notifier, id).await;
    service.invoke_action(1, "allow").await;
    assert_eq!(key(chosen).await.as_deref(), Some("allow"));
}

#[tokio::test]
async fn create_notifier_uses_a_service_that_can_be_started() {
    let desktop = Activating::new();
    let notifier = create_notifier("the-app", Some(&desktop.bus.address()));
    notifier.connect().await.unwrap();
    assert!(notifier.capabilities().visible);
    let bus = TestBus::start();
    let notifier = create_notifier("the-app", Some(&bus.address()));
    let id = notifier.notify(question("a")).await.unwrap();
    assert_eq!(id, NotificationId::NONE);
    assert!(
        !notifier.capabilities().visible,
        "the bus can start no service"
    );
}

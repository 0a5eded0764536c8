// SPDX-License-Identifier: Apache-2.0
//! Popups with a real hub: from a question over its popup and a choice to the order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub::{Claim, DecisionEnforcer, Hub};
use operator::Session;
use tempfile::TempDir;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{
    Action, ContainerId, Dossier, EnforcementOutcome, SandboxEvent, ShieldState,
};
use terok_clearance_desktop::identity::{ContainerInfo, ContainerInspector, IdentityResolver};
use terok_clearance_desktop::notifier::{CallbackNotifier, Notification, NotificationId};
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, Categories, PopupOptions, run_popups};
use test_support::packets::blocked_packet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The maximum time for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Reports every order to the test, and applies it unless it is to fail.
struct RecordingEnforcer {
    orders: mpsc::Sender<(String, Action)>,
    fails: bool,
}

impl DecisionEnforcer for RecordingEnforcer {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let order = (claim.dest().to_string(), claim.action());
        self.orders.send(order).await.unwrap();
        if self.fails {
            return EnforcementOutcome::Failed("nft: busy".into());
        }
        EnforcementOutcome::Applied
    }
}

/// A call of the notifier.
#[derive(Debug)]
enum NotifierCall {
    Notification(NotificationId, Box<Notification>),
    Closed(NotificationId),
    Hook(&'static str),
}

/// A container engine with one name and the same annotations for every container.
#[derive(Default)]
struct NamedContainers {
    annotations: BTreeMap<String, String>,
}

impl ContainerInspector for NamedContainers {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        ContainerInfo {
            container_id: container.as_str().into(),
            name: "podman-web".into(),
            annotations: self.annotations.clone(),
            ..ContainerInfo::default()
        }
    }
}

struct PopupsHarness {
    hub: Arc<Hub<RecordingEnforcer>>,
    orders: mpsc::Receiver<(String, Action)>,
    notifier: Arc<CallbackNotifier>,
    calls: mpsc::Receiver<NotifierCall>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
    directory: TempDir,
}

fn web() -> ContainerId {
    "web".parse().unwrap()
}

fn blocked(n: u64, name: &str) -> SandboxEvent {
    SandboxEvent::Blocked(blocked_packet("web", n, name))
}

impl PopupsHarness {
    fn start(fails: bool) -> Self {
        Self::start_with(fails, NamedContainers::default())
    }

    fn start_with(fails: bool, containers: NamedContainers) -> Self {
        let directory = TempDir::new().unwrap();
        let runtime = RuntimeDir::new(directory.path());
        let (sender, orders) = mpsc::channel(100);
        let enforcer = RecordingEnforcer {
            orders: sender,
            fails,
        };
        let hub = Hub::new(enforcer, hub::HubOptions::default());
        let listener = socket::bind(&runtime.sandbox_sockets(&web(), SocketLayout::D).hub).unwrap();
        let serving = hub::serve(Arc::clone(&hub), listener, CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });

        let (recorder, calls) = mpsc::channel(100);
        let record = |recorder: &mpsc::Sender<NotifierCall>, call| recorder.try_send(call).unwrap();
        let (closes, starts, downs) = (recorder.clone(), recorder.clone(), recorder.clone());
        let notifier = CallbackNotifier::new(move |id, notification| {
            record(
                &recorder,
                NotifierCall::Notification(id, Box::new(notification.clone())),
            );
        })
        .on_close(move |id| record(&closes, NotifierCall::Closed(id)))
        .on_container_started(move |_| record(&starts, NotifierCall::Hook("started")))
        .on_shield_down(move |_| record(&downs, NotifierCall::Hook("down")));
        let notifier = Arc::new(notifier);

        let (stop, stopped) = oneshot::channel();
        let session = Session::discover(runtime).unwrap();
        let shown_by = Arc::clone(&notifier);
        tasks.spawn(async move {
            let resolver = Arc::new(IdentityResolver::new(containers));
            let options = PopupOptions {
                categories: Categories::ALL,
                ..PopupOptions::default()
            };
            run_popups(session, &*shown_by, resolver, options, async {
                drop(stopped.await);
            })
            .await;
        });
        Self {
            hub,
            orders,
            notifier,
            calls,
            stop: Some(stop),
            tasks,
            directory,
        }
    }

    async fn next(&mut self) -> NotifierCall {
        let shown = tokio::time::timeout(WAIT_TIMEOUT, self.calls.recv()).await;
        shown.expect("a call within the time limit").unwrap()
    }

    /// Waits for a notification with this prefix of its title.
    async fn notification(&mut self, title: &str) -> (NotificationId, Notification) {
        loop {
            if let NotifierCall::Notification(id, shown) = self.next().await
                && shown.summary.starts_with(title)
            {
                return (id, *shown);
            }
        }
    }

    /// Chooses an action after the guard delay.
    async fn choose(&self, id: NotificationId, key: &str) {
        // The notifier reports a popup before the model has marked it as shown.
        tokio::task::yield_now().await;
        advance(CLICK_GUARD_DELAY).await;
        self.notifier.invoke_action(id, key).unwrap();
    }

    async fn end(mut self) -> Vec<NotifierCall> {
        self.stop.take().unwrap().send(()).unwrap();
        let Self {
            mut calls,
            notifier,
            mut tasks,
            ..
        } = self;
        let mut last = Vec::new();
        tokio::time::timeout(WAIT_TIMEOUT, tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        drop(notifier);
        while let Ok(call) = calls.try_recv() {
            last.push(call);
        }
        last
    }
}

/// Advances the clock.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_orchestrators_file_alone_names_the_task() {
    let place = TempDir::new().unwrap();
    let meta = place.path().join("t_dossier.json");
    let text = r#"{"project":"p","task":"t","name":"n"}"#;
    std::fs::write(&meta, text).unwrap();
    let path = meta.to_str().unwrap().to_owned();
    let mut harness = PopupsHarness::start_with(
        false,
        NamedContainers {
            annotations: [("dossier.meta_path".to_owned(), path)].into(),
        },
    );
    harness.hub.report(blocked(1, "a.example"));
    let title = "Blocked: a.example:443";
    let (_, mut popup) = harness.notification(title).await;
    while !popup.body.contains("\nTask: p/t \u{b7} n\n") {
        assert!(popup.body.contains("\nContainer: web\n"), "{popup:?}");
        (_, popup) = harness.notification(title).await;
    }
    harness.end().await;
}

#[tokio::test]
async fn a_popup_lost_with_the_service_is_shown_again() {
    let mut harness = PopupsHarness::start(false);
    harness.hub.report(blocked(1, "a.example"));
    let (mut id, mut popup) = harness.notification("Blocked: a.example:443").await;
    while !popup.body.contains("\nContainer: podman-web\n") {
        (id, popup) = harness.notification("Blocked: a.example:443").await;
    }
    tokio::task::yield_now().await;
    harness.notifier.connection_lost();
    let (again, popup) = harness.notification("Blocked: a.example:443").await;
    assert_ne!(again, id);
    assert!(popup.body.contains("Allow opens"), "{popup:?}");
    harness.choose(again, "deny").await;
    let order = harness.orders.recv().await.unwrap();
    assert_eq!(order, ("a.example".to_owned(), Action::Deny));
    harness.end().await;
}

#[tokio::test]
async fn a_choice_becomes_an_order_and_the_result_replaces_the_popup() {
    let mut harness = PopupsHarness::start(false);
    harness.hub.report(blocked(1, "a.example"));
    let (id, popup) = harness.notification("Blocked: a.example:443").await;
    assert!(
        popup.body.contains("Allow opens a.example port 443/tcp"),
        "{popup:?}"
    );
    // The popup is shown before the container engine has returned the name.
    let mut named = popup;
    while !named.body.contains("\nContainer: podman-web\n") {
        (_, named) = harness.notification("Blocked: a.example:443").await;
    }
    harness.choose(id, "allow").await;
    assert_eq!(
        harness.orders.recv().await.unwrap(),
        ("a.example".to_owned(), Action::Allow)
    );
    let (directory, _) = harness.notification("Allowed: a.example").await;
    assert_eq!(directory, id);
}

/// Invariant 3.
#[tokio::test]
async fn shutdown_closes_the_popups_without_answers() {
    let mut harness = PopupsHarness::start(false);
    harness.hub.report(blocked(1, "a.example"));
    let (id, _) = harness.notification("Blocked: a.example:443").await;
    let mut orders = std::mem::replace(&mut harness.orders, mpsc::channel(1).1);
    let last = harness.end().await;
    assert!(
        matches!(last.last(), Some(NotifierCall::Closed(closed)) if *closed == id),
        "{last:?}"
    );
    assert!(orders.try_recv().is_err(), "no order was sent");
}

#[tokio::test]
async fn an_answer_that_the_firewall_refuses_stays_a_question() {
    let mut harness = PopupsHarness::start(true);
    harness.hub.report(blocked(1, "a.example"));
    let (id, _) = harness.notification("Blocked: a.example:443").await;
    harness.choose(id, "deny").await;
    let (again, failed) = harness.notification("Deny failed: a.example").await;
    assert_eq!(again, id);
    assert!(
        failed
            .body
            .contains("the question is still open: nft: busy"),
        "{failed:?}"
    );
    assert_eq!(failed.actions.len(), 2);
}

#[tokio::test]
async fn sandbox_events_call_the_hooks() {
    let mut harness = PopupsHarness::start(false);
    harness.hub.report(blocked(1, "a.example"));
    harness.notification("Blocked").await;
    harness.hub.report(SandboxEvent::ContainerStarted {
        container: web(),
        dossier: Dossier::default(),
    });
    let state = ShieldState::Down;
    harness.hub.report(SandboxEvent::Shield {
        container: web(),
        state,
        dossier: Dossier::default(),
    });
    let mut hooks = Vec::new();
    let mut closed = false;
    while hooks.len() < 2 || !closed {
        match harness.next().await {
            NotifierCall::Hook(name) => hooks.push(name),
            NotifierCall::Closed(_) => closed = true,
            NotifierCall::Notification(..) => {}
        }
    }
    assert_eq!(hooks, ["started", "down"]);
}

/// 500 questions at once from 50 sandboxes are a few popups, and one for all of them in the end.
#[tokio::test]
async fn many_questions_at_once_become_one_popup_without_a_loss() {
    let mut harness = PopupsHarness::start(false);
    harness.hub.report_all((1..=500).map(|n| {
        let SandboxEvent::Blocked(mut blocked) = blocked(n, &format!("host{n}.example")) else {
            unreachable!("a blocked packet")
        };
        blocked.container = format!("box{}", n % 50).parse().unwrap();
        SandboxEvent::Blocked(blocked)
    }));
    let mut popups = 1;
    while !matches!(harness.next().await, NotifierCall::Notification(_, shown) if shown.summary == "500 questions from 50 sandboxes")
    {
        popups += 1;
    }
    assert!(popups <= 8, "{popups} popups");
    assert!(harness.directory.path().is_dir());
}

// SPDX-License-Identifier: Apache-2.0
//! The whole way with a hub on a socket: a question, its popup, a choice, the order to the firewall.

use std::sync::Arc;
use std::time::Duration;

use hub::{Claim, DecisionEnforcer, Hub};
use operator::Session;
use tempfile::TempDir;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{
    Action, BlockedPacket, ContainerId, Dossier, EnforcementOutcome, Protocol, SandboxEvent,
    ShieldState,
};
use terok_clearance_desktop::identity::{ContainerInfo, ContainerInspector, IdentityResolver};
use terok_clearance_desktop::notifier::{CallbackNotifier, Notification, NotificationId};
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, Categories, PopupOptions, run_popups};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A firewall's keeper that notes every order, and does what it is told.
struct Keeper {
    orders: mpsc::Sender<(String, Action)>,
    fails: bool,
}

impl DecisionEnforcer for Keeper {
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

/// What the notifier was told.
#[derive(Debug)]
enum Shown {
    Notification(NotificationId, Box<Notification>),
    Closed(NotificationId),
    Hook(&'static str),
}

/// Knows every container by one name.
struct Engine;

impl ContainerInspector for Engine {
    async fn inspect(&self, container: &ContainerId) -> ContainerInfo {
        ContainerInfo {
            container_id: container.as_str().into(),
            name: "podman-web".into(),
            ..ContainerInfo::default()
        }
    }
}

struct Live {
    hub: Arc<Hub<Keeper>>,
    orders: mpsc::Receiver<(String, Action)>,
    notifier: Arc<CallbackNotifier>,
    shown: mpsc::Receiver<Shown>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
    place: TempDir,
}

fn web() -> ContainerId {
    "web".parse().unwrap()
}

fn blocked(n: u32, name: &str) -> SandboxEvent {
    SandboxEvent::Blocked(BlockedPacket {
        container: web(),
        request: format!("web:{n}").parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(name.parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
    })
}

impl Live {
    fn start(fails: bool) -> Self {
        let place = TempDir::new().unwrap();
        let runtime = RuntimeDir::new(place.path());
        let (sender, orders) = mpsc::channel(100);
        let keeper = Keeper {
            orders: sender,
            fails,
        };
        let hub = Hub::new(keeper, hub::HubOptions::default());
        let listener = socket::bind(&runtime.sandbox_sockets(&web(), SocketLayout::D).hub).unwrap();
        let serving = hub::serve(Arc::clone(&hub), listener, CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });

        let (tell, shown) = mpsc::channel(100);
        let say = move |tell: &mpsc::Sender<Shown>, shown| tell.try_send(shown).unwrap();
        let (closes, starts, downs) = (tell.clone(), tell.clone(), tell.clone());
        let notifier = CallbackNotifier::new(move |id, notification| {
            say(
                &tell,
                Shown::Notification(id, Box::new(notification.clone())),
            );
        })
        .on_close(move |id| say(&closes, Shown::Closed(id)))
        .on_container_started(move |_| say(&starts, Shown::Hook("started")))
        .on_shield_down(move |_| say(&downs, Shown::Hook("down")));
        let notifier = Arc::new(notifier);

        let (stop, stopped) = oneshot::channel();
        let session = Session::discover(runtime).unwrap();
        let theirs = Arc::clone(&notifier);
        tasks.spawn(async move {
            let resolver = Arc::new(IdentityResolver::new(Engine));
            let options = PopupOptions {
                categories: Categories::ALL,
                ..PopupOptions::default()
            };
            run_popups(session, &*theirs, resolver, options, async {
                drop(stopped.await);
            })
            .await;
        });
        Self {
            hub,
            orders,
            notifier,
            shown,
            stop: Some(stop),
            tasks,
            place,
        }
    }

    async fn next(&mut self) -> Shown {
        let shown = tokio::time::timeout(PATIENCE, self.shown.recv()).await;
        shown.expect("something is shown in good time").unwrap()
    }

    /// Waits for a notification whose title begins so.
    async fn titled(&mut self, title: &str) -> (NotificationId, Notification) {
        loop {
            if let Shown::Notification(id, shown) = self.next().await
                && shown.summary.starts_with(title)
            {
                return (id, *shown);
            }
        }
    }

    /// Chooses as a person does who has read what is there: the guard measures just that.
    async fn choose(&self, id: NotificationId, key: &str) {
        // Whoever was told of it in the middle of its being shown lets that come to its end.
        tokio::task::yield_now().await;
        pass(CLICK_GUARD_DELAY).await;
        self.notifier.invoke_action(id, key).unwrap();
    }

    async fn end(mut self) -> Vec<Shown> {
        self.stop.take().unwrap().send(()).unwrap();
        let Self {
            mut shown,
            notifier,
            mut tasks,
            ..
        } = self;
        let mut last = Vec::new();
        tokio::time::timeout(PATIENCE, tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        drop(notifier);
        while let Ok(said) = shown.try_recv() {
            last.push(said);
        }
        last
    }
}

/// Lets the clock run ahead, and nobody wait for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn what_is_lost_with_the_desktop_is_not_closed_but_shown_again() {
    let mut live = Live::start(false);
    live.hub.report(blocked(1, "a.example"));
    let (mut id, mut popup) = live.titled("Blocked: a.example:443").await;
    while !popup.body.starts_with("Container: podman-web\n") {
        (id, popup) = live.titled("Blocked: a.example:443").await;
    }
    tokio::task::yield_now().await;
    live.notifier.connection_lost();
    let (again, popup) = live.titled("Blocked: a.example:443").await;
    assert_ne!(again, id);
    assert!(popup.body.contains("Allow opens"), "{popup:?}");
    live.choose(again, "deny").await;
    let order = live.orders.recv().await.unwrap();
    assert_eq!(order, ("a.example".to_owned(), Action::Deny));
    live.end().await;
}

#[tokio::test]
async fn a_choice_on_a_popup_becomes_an_order_and_its_result_takes_the_popups_place() {
    let mut live = Live::start(false);
    live.hub.report(blocked(1, "a.example"));
    let (id, popup) = live.titled("Blocked: a.example:443").await;
    assert!(
        popup.body.contains("Allow opens tcp port 443 of a.example"),
        "{popup:?}"
    );
    // Who it is comes from the container's engine, and meanwhile the question stands.
    let mut named = popup;
    while !named.body.starts_with("Container: podman-web\n") {
        (_, named) = live.titled("Blocked: a.example:443").await;
    }
    live.choose(id, "allow").await;
    assert_eq!(
        live.orders.recv().await.unwrap(),
        ("a.example".to_owned(), Action::Allow)
    );
    let (place, _) = live.titled("Allowed: a.example").await;
    assert_eq!(place, id);
}

/// Invariant 3.
#[tokio::test]
async fn the_end_takes_the_popups_away_and_answers_nothing() {
    let mut live = Live::start(false);
    live.hub.report(blocked(1, "a.example"));
    let (id, _) = live.titled("Blocked: a.example:443").await;
    let mut orders = std::mem::replace(&mut live.orders, mpsc::channel(1).1);
    let said = live.end().await;
    assert!(
        matches!(said.last(), Some(Shown::Closed(closed)) if *closed == id),
        "{said:?}"
    );
    assert!(orders.try_recv().is_err(), "nothing was ordered");
}

#[tokio::test]
async fn an_answer_that_the_firewall_does_not_take_is_asked_again() {
    let mut live = Live::start(true);
    live.hub.report(blocked(1, "a.example"));
    let (id, _) = live.titled("Blocked: a.example:443").await;
    live.choose(id, "deny").await;
    let (again, failed) = live.titled("Deny failed: a.example").await;
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
async fn what_becomes_of_sandboxes_calls_the_hooks() {
    let mut live = Live::start(false);
    live.hub.report(blocked(1, "a.example"));
    live.titled("Blocked").await;
    live.hub.report(SandboxEvent::ContainerStarted {
        container: web(),
        dossier: Dossier::default(),
    });
    let state = ShieldState::Down;
    live.hub.report(SandboxEvent::Shield {
        container: web(),
        state,
        dossier: Dossier::default(),
    });
    let mut hooks = Vec::new();
    let mut closed = false;
    while hooks.len() < 2 || !closed {
        match live.next().await {
            Shown::Hook(name) => hooks.push(name),
            Shown::Closed(_) => closed = true,
            Shown::Notification(..) => {}
        }
    }
    assert_eq!(hooks, ["started", "down"]);
}

/// 500 questions in a second from 50 sandboxes: a few popups, one for all in the end, and no
/// question is lost or doubled.
#[tokio::test]
async fn a_storm_is_a_few_popups_and_all_its_questions_are_there() {
    let mut live = Live::start(false);
    live.hub.report_all((1..=500).map(|n| {
        let SandboxEvent::Blocked(mut blocked) = blocked(n, &format!("host{n}.example")) else {
            unreachable!("it is one")
        };
        blocked.container = format!("box{}", n % 50).parse().unwrap();
        SandboxEvent::Blocked(blocked)
    }));
    let mut popups = 1;
    while !matches!(live.next().await, Shown::Notification(_, shown) if shown.summary == "500 questions from 50 sandboxes")
    {
        popups += 1;
    }
    assert!(popups <= 8, "{popups} popups");
    assert!(live.place.path().is_dir());
}

// SPDX-License-Identifier: Apache-2.0
//! Fifty hubs, one per sandbox, with five hundred questions.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::{Action, BlockedPacket, ContainerId, EnforcementOutcome, SandboxEvent};
use test_support::packets::blocked_packet;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const SANDBOXES: usize = 50;
pub(crate) const QUESTIONS: usize = 500;
/// The time for all questions.
const STORM_DURATION: Duration = Duration::from_secs(1);

/// The planned answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Allowed: 200 questions.
    Allow,
    /// Denied: 200 questions.
    Deny,
    /// Not answered: 100 questions.
    Wait,
}

impl Share {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Wait => "wait",
        }
    }
}

/// A question of a sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) share: Share,
    pub(crate) event: BlockedPacket,
}

/// The orders of all hubs.
type Orders = Arc<Mutex<Vec<(String, Action)>>>;

struct RecordingEnforcer(Orders);

impl DecisionEnforcer for RecordingEnforcer {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let order = (claim.dest().to_string(), claim.action());
        self.0.lock().unwrap().push(order);
        EnforcementOutcome::Applied
    }
}

/// The hubs, served by a separate thread.
pub(crate) struct Crowd {
    work: tokio::sync::mpsc::Sender<Vec<Question>>,
    orders: Orders,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Serves the hubs below a runtime directory. They take connections when this returns.
    pub(crate) fn serve(runtime: &Path) -> Self {
        let directory = RuntimeDir::new(runtime);
        let (work, mut to_ask) = tokio::sync::mpsc::channel::<Vec<Question>>(2);
        let (orders, stop) = (Orders::default(), CancellationToken::new());
        let (selected, halt) = (Arc::clone(&orders), stop.clone());
        let (tell, ready) = mpsc::channel();
        let serving = async move {
            let mut tasks = JoinSet::new();
            let mut hubs = Vec::new();
            for sandbox in 0..SANDBOXES {
                let socket = directory
                    .sandbox_sockets(&container(sandbox), SocketLayout::D)
                    .hub;
                let hub = Hub::new(
                    RecordingEnforcer(Arc::clone(&selected)),
                    HubOptions::default(),
                );
                let listener = socket::bind(&socket).unwrap();
                let served = hub::serve(Arc::clone(&hub), listener, halt.clone());
                tasks.spawn(async move { served.await.unwrap() });
                hubs.push(hub);
            }
            tell.send(()).unwrap();
            while let Some(questions) = to_ask.recv().await {
                // The interval catches up after a delay.
                let mut clock =
                    tokio::time::interval(STORM_DURATION / u32::try_from(QUESTIONS).unwrap());
                for (question, hub) in questions.into_iter().zip(hubs.iter().cycle()) {
                    clock.tick().await;
                    hub.report(SandboxEvent::Blocked(question.event));
                }
            }
            tasks.join_all().await;
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(serving);
        });
        ready.recv().unwrap();
        Self {
            work,
            orders,
            stop,
            thread: Some(thread),
        }
    }

    /// Reports all [`questions`], two milliseconds apart, to one hub after the other.
    pub(crate) fn ask(&self) {
        self.work.try_send(questions()).unwrap();
    }

    /// Reports one more question to each hub, [`last`]. An operator that has received them has
    /// received all earlier events.
    pub(crate) fn ask_the_last(&self) {
        self.work.try_send(last()).unwrap();
    }

    /// Asserts that the hubs sent exactly these orders, each once.
    pub(crate) fn were_told(&self, wanted: impl IntoIterator<Item = (String, Action)>) {
        let sorted = |orders: &mut Vec<(String, Action)>| {
            orders.sort_by(|(a, _), (b, _)| a.cmp(b));
        };
        let mut reported = self.orders.lock().unwrap().clone();
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        sorted(&mut reported);
        sorted(&mut wanted);
        assert_eq!(reported, wanted);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The thread ends once the channel is closed and the servers have stopped.
        (self.work, _) = tokio::sync::mpsc::channel(1);
        self.stop.cancel();
        let served = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(served, Some(Ok(()))),
            "the hub thread panicked"
        );
    }
}

fn container(sandbox: usize) -> ContainerId {
    format!("sandbox{sandbox}").parse().unwrap()
}

/// Returns the five hundred questions, each with its own name and address. Every sandbox has ten:
/// four to allow, four to deny, and two without an answer.
pub(crate) fn questions() -> Vec<Question> {
    let one = |n: usize| {
        let share = match n / SANDBOXES % 5 {
            0 | 1 => Share::Allow,
            2 | 3 => Share::Deny,
            _ => Share::Wait,
        };
        question(n, format!("host{n}.{}.example", share.word()), share)
    };
    (0..QUESTIONS).map(one).collect()
}

/// Returns one more question of each hub.
pub(crate) fn last() -> Vec<Question> {
    let one = |n: usize| question(QUESTIONS + n, format!("last{n}.example"), Share::Wait);
    (0..SANDBOXES).map(one).collect()
}

fn question(n: usize, name: String, share: Share) -> Question {
    let container = container(n % SANDBOXES);
    let address = 0xcb00_0000_u32 + u32::try_from(n).unwrap();
    let event = BlockedPacket {
        address: IpAddr::from(address.to_be_bytes()).into(),
        ..blocked_packet(container.as_str(), u64::try_from(n).unwrap(), &name)
    };
    Question { name, share, event }
}

/// Returns the names of the selected questions, sorted.
pub(crate) fn names(questions: &[Question], wanted: impl Fn(&Question) -> bool) -> Vec<String> {
    let wanted = questions.iter().filter(|question| wanted(question));
    let mut names: Vec<_> = wanted.map(|question| question.name.clone()).collect();
    names.sort();
    names
}

/// Returns the orders for the planned answers.
pub(crate) fn orders(questions: &[Question]) -> Vec<(String, Action)> {
    let order = |question: &Question| match question.share {
        Share::Allow => Some((question.name.clone(), Action::Allow)),
        Share::Deny => Some((question.name.clone(), Action::Deny)),
        Share::Wait => None,
    };
    questions.iter().filter_map(order).collect()
}

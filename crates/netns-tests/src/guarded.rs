// SPDX-License-Identifier: Apache-2.0
//! A supervisor of the test's own network namespace, and an operator who answers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test helper"
)]

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use netns::ProcessHandle;
use shield::Policy;
use supervisor::{
    AllowedDest, DossierSource, FilteredPolicy, HoldLimit, NameAccess, StateJournal, Supervisor,
    SupervisorConfig, SupervisorExit, TraceObserver,
};
use tempfile::TempDir;
use terok_clearance::DecisionAction;
use terok_clearance::client::{Client, EventStream, StreamUpdate};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::{Event, Request};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::internet::Internet;

/// Returns the way to look names up at a resolver of the internet.
pub fn resolver_names() -> NameAccess {
    let resolver: IpAddr = "198.51.100.53".parse().unwrap();
    NameAccess::Resolvers(Policy::new([resolver]).unwrap())
}

/// A supervisor of the test's namespace, and the simulated internet.
#[derive(Debug)]
pub struct Guarded {
    /// The internet.
    pub internet: Internet,
    runtime: TempDir,
    stop: CancellationToken,
    task: JoinSet<SupervisorExit>,
    /// The socket for operators.
    pub hub: PathBuf,
    /// The journal of the supervisors.
    state: Option<OwnedFd>,
}

impl Guarded {
    /// Starts both. Connections wait for `hold` while an operator answers.
    pub fn start(hold: HoldLimit) -> Self {
        Self::start_with(hold, &resolver_names)
    }

    /// As [`start`](Self::start), with another way to look names up.
    pub fn start_with(hold: HoldLimit, names: &dyn Fn() -> NameAccess) -> Self {
        let internet = Internet::start();
        let runtime = TempDir::new().unwrap();
        let mut guarded = Self {
            internet,
            hub: runtime.path().to_owned(),
            runtime,
            stop: CancellationToken::new(),
            task: JoinSet::new(),
            state: None,
        };
        guarded.supervise(hold, names(), &[]);
        guarded
    }

    /// Starts another supervisor. `allowed` are the names and addresses allowed from the start.
    pub fn supervise(&mut self, hold: HoldLimit, names: NameAccess, allowed: &[&str]) {
        self.supervise_observed(hold, names, allowed, None);
    }

    /// As [`supervise`](Self::supervise), with rules.
    pub fn supervise_ruled(&mut self, hold: HoldLimit, names: NameAccess, policy: FilteredPolicy) {
        let supervisor = self.start_supervisor(hold, names, &[]);
        self.serve(supervisor.with_policy(policy).unwrap());
    }

    /// As [`supervise`](Self::supervise), with an observer of its events.
    pub fn supervise_observed(
        &mut self,
        hold: HoldLimit,
        names: NameAccess,
        allowed: &[&str],
        observer: Option<TraceObserver>,
    ) {
        let supervisor = self.start_supervisor(hold, names, allowed);
        let supervisor = match observer {
            Some(observer) => supervisor.with_observer(observer),
            None => supervisor,
        };
        self.serve(supervisor);
    }

    fn start_supervisor(&self, hold: HoldLimit, names: NameAccess, allowed: &[&str]) -> Supervisor {
        let allowed = allowed
            .iter()
            .map(|dest| dest.parse::<AllowedDest>().unwrap());
        Supervisor::start(SupervisorConfig {
            container: "box".parse().unwrap(),
            dossier: DossierSource::default(),
            processes: ProcessHandle::current().unwrap().into(),
            names,
            allowed_dests: allowed.collect(),
            hold,
            allow_capabilities: true,
            runtime_dir: RuntimeDir::new(self.runtime.path()),
            journal: self
                .state
                .as_ref()
                .map(|state| StateJournal::from_fd(state.try_clone().unwrap())),
        })
        .unwrap()
    }

    fn serve(&mut self, supervisor: Supervisor) {
        supervisor.hub_path().clone_into(&mut self.hub);
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        self.task
            .spawn(async move { supervisor.serve(stop).await.unwrap() });
    }

    /// Gives the supervisors that start from now on a journal.
    pub fn keep_state(&mut self) {
        let state = StateJournal::create().unwrap();
        self.state = Some(state.as_fd().try_clone_to_owned().unwrap());
    }

    /// Ends the supervisor in the middle of what it does.
    pub async fn kill(&mut self) {
        self.task.abort_all();
        assert!(
            self.task
                .join_next()
                .await
                .unwrap()
                .unwrap_err()
                .is_cancelled()
        );
    }

    /// Stops the supervisor.
    pub async fn end(&mut self) {
        self.stop.cancel();
        let exit = self.task.join_next().await.unwrap().unwrap();
        assert_eq!(exit, SupervisorExit::Stopped);
    }
}

/// An operator who answers.
#[derive(Debug)]
pub struct Operator {
    /// The connection that answers.
    pub client: Client,
    /// What it hears.
    pub events: EventStream,
}

impl Operator {
    /// Connects and waits until connections are held.
    pub async fn connect(guarded: &Guarded) -> Self {
        Self::connect_to_pending(guarded).await.0
    }

    /// As [`connect`](Self::connect), with the questions that are pending.
    pub async fn connect_to_pending(guarded: &Guarded) -> (Self, Vec<Arc<Request>>) {
        let (client, events) = Client::start_answering(&guarded.hub).await.unwrap();
        let mut operator = Self { client, events };
        let mut pending = Vec::new();
        loop {
            match operator.next().await {
                Event::Pending(request) => pending.push(request),
                Event::Synced => break,
                _ => {}
            }
        }
        // The supervisor has seen the operator when the kernel's set has the element.
        let begin = Instant::now();
        while !held_set().contains("tcp") {
            assert!(begin.elapsed() < Duration::from_secs(5));
            tokio::task::yield_now().await;
        }
        (operator, pending)
    }

    /// Returns the next event.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.events.next().await {
                StreamUpdate::Event(event) => return event,
                StreamUpdate::Connected(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the next question.
    pub async fn question(&mut self) -> Arc<Request> {
        loop {
            match self.next().await {
                Event::Pending(request) => return request,
                Event::Decided(_) | Event::Repeated(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the next question, or the next state of one, that `is_wanted`.
    pub async fn until(&mut self, is_wanted: impl Fn(&Request) -> bool) -> Arc<Request> {
        loop {
            if let Event::Pending(request) | Event::Repeated(request) = self.next().await
                && is_wanted(&request)
            {
                return request;
            }
        }
    }

    /// Answers a question.
    pub async fn answer(&self, request: &Request, action: DecisionAction) {
        assert!(self.client.decide(request, action, None).await.unwrap().ok);
    }

    /// Asserts that no question comes within a second.
    pub async fn expect_silence(&mut self) {
        let asked = timeout(Duration::from_secs(1), self.question()).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}

/// Returns nft's listing of the set of protocols whose connections wait.
pub fn held_set() -> String {
    let set = ["list", "set", "inet", "terok_shield", "held"];
    let output = std::process::Command::new("nft")
        .args(set)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A connection in a thread, with the time that it took.
pub fn connect(at: &'static str, port: u16) -> JoinHandle<(io::Result<()>, Duration)> {
    tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let at: IpAddr = at.parse().unwrap();
        (TcpStream::connect((at, port)).map(drop), begin.elapsed())
    })
}

/// Waits for a connection's refusal, and returns the time that it took.
pub async fn expect_refused(connection: JoinHandle<(io::Result<()>, Duration)>) -> Duration {
    let (result, duration) = connection.await.unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    duration
}

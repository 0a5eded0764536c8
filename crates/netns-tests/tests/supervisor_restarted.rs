// SPDX-License-Identifier: Apache-2.0
//! A supervisor that dials, killed while a connection waits, and its successor.
//!
//! The supervisor is a separate process, `dialed-supervisor`. What a service manager would keep for
//! it (the state and the gateway's namespace) this process keeps, and passes on. The sandbox is a
//! network namespace of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use netns_tests::dialed_supervisor::{BUILT, GATEWAY, READY, RUNTIME, SANDBOX, STATE};
use netns_tests::internet::Internet;
use rustix::io::{FdFlags, fcntl_setfd};
use supervisor::StateJournal;
use tempfile::TempDir;
use terok_clearance::client::{Client, EventStream, StreamUpdate};
use terok_clearance::wire::clearance2::{Event, ListedRule, Request};
use terok_clearance::{DecisionAction, Scope};
use test_support::namespaces::NamespaceHolder;
use tokio::time::timeout;

/// What outlives a supervisor.
struct Kept {
    _internet: Internet,
    sandbox: NamespaceHolder,
    runtime: TempDir,
    state: OwnedFd,
    gateway: Option<OwnedFd>,
}

struct RunningSupervisor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Kept {
    fn new() -> Self {
        let state = StateJournal::create().unwrap();
        Self {
            _internet: Internet::start(),
            sandbox: NamespaceHolder::start(&["--net"]),
            runtime: TempDir::new().unwrap(),
            state: state.as_fd().try_clone_to_owned().unwrap(),
            gateway: None,
        }
    }

    /// Starts a supervisor, and returns it with the path of its hub.
    fn start(&mut self) -> (RunningSupervisor, PathBuf) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dialed-supervisor"));
        command
            .env(RUNTIME, self.runtime.path())
            .env(SANDBOX, self.sandbox.pid().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let passed = [(STATE, Some(&self.state)), (GATEWAY, self.gateway.as_ref())];
        for (name, fd) in passed {
            if let Some(fd) = fd {
                fcntl_setfd(fd, FdFlags::empty()).unwrap();
                command.env(name, fd.as_raw_fd().to_string());
            }
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut supervisor = RunningSupervisor { child, lines };
        if self.gateway.is_none() {
            let number = supervisor.wait_for(BUILT);
            let path = format!("/proc/{}/fd/{number}", supervisor.child.id());
            self.gateway = Some(File::open(path).unwrap().into());
            drop(supervisor.child.stdin.take());
        }
        let hub = supervisor.wait_for(READY);
        (supervisor, hub.into())
    }

    /// Connects to a name at port 443, as a program of the sandbox does, and returns the program.
    /// Its first line is the address that it has for the name, its second line what it received.
    fn connect(&self, name: &str) -> Client443 {
        let labels = name.split('.').map(|label| {
            let length = u8::try_from(label.len()).unwrap();
            format!("\\x{length:02x}{label}")
        });
        let query = labels.collect::<String>();
        let code = format!(
            r"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
s.sendto(b'\0\7\1\0\0\1\0\0\0\0\0\0{query}\0\0\1\0\1', ('198.19.0.1', 53))
address = socket.inet_ntoa(s.recv(512)[-4:])
print(address, flush=True)
try:
    c = socket.create_connection((address, 443), timeout=60)
    print(c.recv(6).decode().strip(), flush=True)
    c.recv(1)
    print('ended', flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"
        );
        let mut command = self.sandbox.command("python3");
        let mut child = command
            .args(["-c", &code])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Client443 { child, lines }
    }
}

impl RunningSupervisor {
    fn wait_for(&mut self, prefix: &str) -> String {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some((_, rest)) = line.split_once(prefix) {
                return rest.to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A program of the sandbox with a connection.
struct Client443 {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client443 {
    fn next_line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Client443 {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

struct AnsweringOperator {
    client: Client,
    events: EventStream,
}

impl AnsweringOperator {
    /// Connects, and returns the questions that are pending.
    async fn connect(hub: &Path) -> (Self, Vec<Arc<Request>>) {
        let (client, events) = Client::start_answering(hub).await.unwrap();
        let mut operator = Self { client, events };
        let mut pending = Vec::new();
        loop {
            match operator.next().await {
                Event::Pending(request) => pending.push(request),
                Event::Synced => return (operator, pending),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            let next = timeout(Duration::from_secs(20), self.events.next()).await;
            match next.unwrap() {
                StreamUpdate::Event(event) => return event,
                StreamUpdate::Connected(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the next state of a question for which `is_wanted`.
    async fn until(&mut self, is_wanted: impl Fn(&Request) -> bool) -> Arc<Request> {
        loop {
            if let Event::Pending(request) | Event::Repeated(request) = self.next().await
                && is_wanted(&request)
            {
                return request;
            }
        }
    }

    /// Returns the question about `name` once a connection waits for it. A late report about an
    /// earlier question may come first.
    async fn waiting_for(&mut self, name: &str) -> Arc<Request> {
        let is_waited_for =
            |question: &Request| question.dest.as_str() == name && question.waiting == Some(1);
        self.until(is_waited_for).await
    }

    async fn answer(&self, request: &Request, action: DecisionAction, seconds: Option<u32>) {
        let scope = Scope {
            seconds,
            ..request.scope.clone()
        };
        let decision = self.client.decide(request, action, Some(scope)).await;
        assert!(decision.unwrap().ok);
    }

    /// Returns the rules without what changes by itself.
    async fn rules(&self) -> Vec<ListedRule> {
        let rules = self.client.rules().await.unwrap();
        let fixed = |rule: ListedRule| ListedRule {
            seconds_left: rule.seconds_left.map(|_| 0),
            uses: None,
            last_used: None,
            open: 0,
            ..rule
        };
        rules.into_iter().map(fixed).collect()
    }
}

#[tokio::test]
async fn a_connection_that_waits_passes_after_a_kill_with_the_same_question() {
    let mut kept = Kept::new();
    let (supervisor, hub) = kept.start();
    let (mut operator, pending) = AnsweringOperator::connect(&hub).await;
    assert!(pending.is_empty());

    // Rules of answers: one that lasts, one that is revoked, a deny.
    let mut allowed = kept.connect("kept.example");
    let stand_in = allowed.next_line();
    let question = operator.waiting_for("kept.example").await;
    operator
        .answer(&question, DecisionAction::Allow, Some(3_600))
        .await;
    assert_eq!(allowed.next_line(), "hello");
    let mut revoked = kept.connect("gone.example");
    revoked.next_line();
    let question = operator.waiting_for("gone.example").await;
    operator
        .answer(&question, DecisionAction::Allow, None)
        .await;
    assert_eq!(revoked.next_line(), "hello");
    let revoked_rules = operator.client.revoke(question.id.as_str().into()).await;
    assert_eq!(revoked_rules.unwrap().rules.len(), 1);
    assert_eq!(revoked.next_line(), "ConnectionResetError");
    let rules = operator.rules().await;
    assert_eq!(rules.len(), 1);

    // The connection that waits.
    let mut waiting = kept.connect("app.example");
    let address = waiting.next_line();
    let question = operator.waiting_for("app.example").await;
    assert_eq!(question.dest.as_str(), "app.example");
    supervisor.kill();
    drop(operator);

    let (second, hub) = kept.start();
    let (mut operator, pending) = AnsweringOperator::connect(&hub).await;
    let [again] = pending.as_slice() else {
        panic!("{pending:?}");
    };
    assert_eq!((&again.id, &again.dest), (&question.id, &question.dest));
    assert_eq!(again.first_seen, question.first_seen);
    assert_eq!(again.dossier, question.dossier);
    assert_eq!(operator.rules().await, rules);
    // The same connection asks under the same question.
    let again = if again.waiting == Some(1) {
        Arc::clone(again)
    } else {
        operator.waiting_for("app.example").await
    };
    assert_eq!(again.id, question.id);
    let listed = operator.client.list().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    operator
        .answer(&question, DecisionAction::Allow, None)
        .await;
    assert_eq!(waiting.next_line(), "hello");

    // The rules of both decide, also after another kill, and names keep their addresses.
    second.kill();
    assert_eq!(allowed.next_line(), "ConnectionResetError", "it has ended");
    let (third, hub) = kept.start();
    let (mut operator, pending) = AnsweringOperator::connect(&hub).await;
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!(operator.rules().await.len(), 2);
    for (name, expected) in [("kept.example", stand_in), ("app.example", address)] {
        let mut client = kept.connect(name);
        assert_eq!(client.next_line(), expected);
        assert_eq!(client.next_line(), "hello");
    }
    let mut client = kept.connect("gone.example");
    client.next_line();
    let asked = operator.waiting_for("gone.example").await;
    assert_eq!(asked.dest.as_str(), "gone.example");
    assert_ne!(asked.id, question.id);
    third.kill();
}

#[tokio::test]
async fn without_a_supervisor_nothing_passes() {
    let mut kept = Kept::new();
    let (supervisor, hub) = kept.start();
    let (mut operator, _) = AnsweringOperator::connect(&hub).await;
    let mut allowed = kept.connect("kept.example");
    allowed.next_line();
    let question = operator.waiting_for("kept.example").await;
    operator
        .answer(&question, DecisionAction::Allow, None)
        .await;
    assert_eq!(allowed.next_line(), "hello");
    supervisor.kill();
    let code = r"
import socket
try:
    socket.create_connection(('203.0.113.7', 443), timeout=3)
    print('open')
except TimeoutError:
    print('dropped')
";
    let mut command = kept.sandbox.command("python3");
    let tried = command.args(["-c", code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tried.stdout), "dropped\n");
    let (second, hub) = kept.start();
    let (operator, _) = AnsweringOperator::connect(&hub).await;
    assert_eq!(operator.rules().await.len(), 1);
    second.kill();
}

// SPDX-License-Identifier: Apache-2.0
//! Our hub and verdict helper, with the clients of a recording.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use test_support::directory::private_directory;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::recording::{Line, Step, folder};
use crate::relay::Relay;

/// The maximum time for an expected message.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Our servers and their clients.
pub(crate) struct ReplayHarness {
    hub: Child,
    helper: Option<Child>,
    relay: Option<Relay>,
    clients: BTreeMap<String, Client>,
    barriers: u32,
    shield_runs: usize,
    /// The last field, because the servers have to end before the directory is removed.
    directory: TempDir,
}

struct Client {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    end: u8,
}

/// The messages of a step by connection; [`CLOSED`] stands for a closed connection.
#[derive(Debug, Default)]
pub(crate) struct StepResult(pub(crate) BTreeMap<String, Vec<Value>>);

/// The end of a connection among its messages.
pub(crate) const CLOSED: &str = "closed";

impl ReplayHarness {
    /// Starts a verdict helper with the shield of the recordings, and a hub of an era.
    pub(crate) async fn start(era: &str) -> Self {
        let directory = private_directory();
        for name in ["hub", "helper"] {
            let mut private = std::fs::DirBuilder::new();
            private
                .mode(0o700)
                .create(directory.path().join(name))
                .unwrap();
        }
        let hub = directory.path().join("hub");
        let command = &mut ours(&hub, &["serve", "--era", era]);
        let sockets = RuntimeDir::new(&hub).shared_hub_sockets();
        let hub = serve(command, &[sockets.hub, sockets.ingester]).await;
        let mut harness = Self {
            directory,
            hub,
            helper: None,
            relay: None,
            clients: BTreeMap::new(),
            barriers: 0,
            shield_runs: 0,
        };
        harness.start_helper().await;
        harness
    }

    /// Repeats the actions of the clients in a step, and returns the messages of our servers.
    pub(crate) async fn perform(&mut self, step: &Step) -> StepResult {
        for line in &step.lines {
            match line {
                Line::Open { name, at } => self.open(name, at).await,
                Line::Close(name) => drop(self.clients.remove(name)),
                Line::In { name, bytes } if name != "helper" => self.send(name, bytes).await,
                Line::Stop(name) if name == "hub" => self.stop_hub().await,
                Line::Stop(_) => self.stop_helper().await,
                Line::Start => self.start_helper().await,
                _ => {}
            }
        }
        let mut ours = StepResult::default();
        let subscribers: Vec<&String> = step.lines.iter().flat_map(Line::subscribers).collect();
        for line in &step.lines {
            match line {
                Line::Out { name, .. } if name != "helper" && !subscribers.contains(&name) => {
                    let messages = ours.0.entry(name.clone()).or_default();
                    if messages.last().is_none_or(|last| last != CLOSED) {
                        messages.push(self.client(name).next().await);
                    }
                }
                Line::Closed(name) => {
                    let messages = ours.0.entry(name.clone()).or_default();
                    messages.push(self.client(name).next().await);
                }
                _ => {}
            }
        }
        for line in &step.lines {
            if let Line::Barrier(subscribers) = line {
                self.barrier(subscribers, &mut ours).await;
            }
        }
        let relay = self.relay.as_ref().map(Relay::take).unwrap_or_default();
        for (by_hub, message) in relay {
            let way = if by_hub { "in" } else { "out" };
            ours.add("helper", json!({way: message}));
        }
        for words in self.new_shield_runs() {
            ours.add("shield", words);
        }
        ours
    }

    /// Reports an event, and collects the messages of each subscriber before it.
    async fn barrier(&mut self, subscribers: &[String], ours: &mut StepResult) {
        self.barriers += 1;
        let barrier = format!("barrier-{}", self.barriers);
        let line = json!({"type": "shield_up", "container": barrier}).to_string();
        for (at, name) in subscribers.iter().enumerate() {
            if at == 0 {
                self.send("reader", line.as_bytes()).await;
            }
            loop {
                // The hub may process a subscription after the event: repeat it until it arrives.
                let client = self.clients.get_mut(name).unwrap();
                let next = timeout(Duration::from_millis(500), client.from.fill_buf()).await;
                if next.is_err() {
                    self.send("reader", line.as_bytes()).await;
                    continue;
                }
                let message = client.next().await;
                assert_ne!(message, CLOSED, "{name} received no {barrier}");
                let container = &message["parameters"]["event"]["container"];
                match container.as_str().filter(|c| c.starts_with("barrier-")) {
                    Some(found) if found == barrier => break,
                    // A repeated barrier.
                    Some(_) => {}
                    None => ours.add(name, message),
                }
            }
        }
    }

    async fn open(&mut self, name: &str, at: &str) {
        let hub = RuntimeDir::new(self.directory.path().join("hub")).shared_hub_sockets();
        let helper = RuntimeDir::new(self.directory.path().join("helper")).shared_hub_sockets();
        let (path, end) = match at {
            "hub" => (hub.hub, 0),
            "events" => (hub.ingester, b'\n'),
            "verdict" => (helper.verdict, 0),
            _ => panic!("no socket is called {at:?}"),
        };
        let (from, to) = UnixStream::connect(path).await.unwrap().into_split();
        let from = BufReader::new(from);
        self.clients
            .insert(name.to_owned(), Client { from, to, end });
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let client = self.clients.get_mut(name);
        client.unwrap_or_else(|| panic!("{name:?} is not open"))
    }

    async fn send(&mut self, name: &str, bytes: &[u8]) {
        let client = self.client(name);
        let message = [bytes, &[client.end]].concat();
        // The next read reports a connection that the server has closed.
        drop(client.to.write_all(&message).await);
    }

    fn new_shield_runs(&mut self) -> Vec<Value> {
        let log = self.directory.path().join("helper/shield.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let new: Vec<_> = log.lines().skip(self.shield_runs).collect();
        self.shield_runs += new.len();
        new.iter()
            .map(|line| line.split(' ').collect::<Vec<_>>().into())
            .collect()
    }

    async fn start_helper(&mut self) {
        let helper = self.directory.path().join("helper");
        let shield = folder().join("terok-shield");
        let shield = shield.to_str().unwrap();
        let command = &mut ours(&helper, &["serve-verdict", "--shield", shield]);
        let server = RuntimeDir::new(&helper).shared_hub_sockets().verdict;
        self.helper = Some(serve(command, std::slice::from_ref(&server)).await);
        let here = RuntimeDir::new(self.directory.path().join("hub")).shared_hub_sockets();
        self.relay = Some(Relay::start(&here.verdict, &server));
    }

    async fn stop_helper(&mut self) {
        drop(self.relay.take());
        let mut helper = self.helper.take().unwrap();
        terminate(&mut helper).await;
    }

    async fn stop_hub(&mut self) {
        terminate(&mut self.hub).await;
    }
}

impl Client {
    /// Returns the next message, or [`CLOSED`].
    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = timeout(WAIT_TIMEOUT, self.from.read_until(self.end, &mut message)).await;
        let read = read.expect("a message within the time limit");
        match (read, message.strip_suffix(&[self.end])) {
            (Ok(_), Some(message)) => serde_json::from_slice(message).unwrap(),
            // A server that closes with unread data resets the connection.
            (Ok(_) | Err(_), _) => CLOSED.into(),
        }
    }
}

impl StepResult {
    fn add(&mut self, name: &str, message: Value) {
        self.0.entry(name.to_owned()).or_default().push(message);
    }
}

impl Line {
    fn subscribers(&self) -> &[String] {
        match self {
            Self::Barrier(subscribers) => subscribers,
            _ => &[],
        }
    }
}

fn ours(runtime: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("XDG_RUNTIME_DIR", runtime)
        .env("HOME", runtime)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Starts a server, and returns it once all `sockets` have listeners.
async fn serve(command: &mut Command, sockets: &[PathBuf]) -> Child {
    let mut server = command.spawn().unwrap();
    for socket in sockets {
        while UnixStream::connect(socket).await.is_err() {
            let ended = server.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            tokio::task::yield_now().await;
        }
    }
    server
}

async fn terminate(server: &mut Child) {
    let id = server
        .id()
        .expect("the server is running")
        .try_into()
        .unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    let status = timeout(WAIT_TIMEOUT, server.wait()).await;
    status
        .expect("the server ends within the time limit")
        .unwrap();
}

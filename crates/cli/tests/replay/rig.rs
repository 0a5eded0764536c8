// SPDX-License-Identifier: Apache-2.0
//! Our hub, our helper, and the clients of a recording.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::recording::{Line, Step, folder};
use crate::relay::Relay;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Our servers with their clients.
pub(crate) struct Rig {
    hub: Child,
    helper: Option<Child>,
    between: Option<Relay>,
    clients: BTreeMap<String, Client>,
    barriers: u32,
    shield_runs: usize,
    /// The last field: the others end before it goes.
    place: TempDir,
}

struct Client {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
    end: u8,
}

/// What came of a step, by the connection; [`CLOSED`] where the server closed it.
#[derive(Debug, Default)]
pub(crate) struct Ours(pub(crate) BTreeMap<String, Vec<Value>>);

/// Stands for the end of a connection among its messages.
pub(crate) const CLOSED: &str = "closed";

impl Rig {
    /// Starts a helper that runs the recordings' shield, and a hub of `era`.
    pub(crate) async fn start(era: &str) -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let place = tempfile::Builder::new()
            .permissions(private)
            .tempdir()
            .unwrap();
        for directory in ["hub", "helper"] {
            let directory = place.path().join(directory);
            std::fs::create_dir(&directory).unwrap();
            std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        }
        let hub = place.path().join("hub");
        let command = &mut ours(&hub, &["serve", "--era", era]);
        let sockets = RuntimeDir::new(&hub).shared_hub_sockets();
        let hub = serve(command, &[sockets.hub, sockets.ingester]).await;
        let mut rig = Self {
            place,
            hub,
            helper: None,
            between: None,
            clients: BTreeMap::new(),
            barriers: 0,
            shield_runs: 0,
        };
        rig.start_helper().await;
        rig
    }

    /// Does what the clients did in this step, and returns what our servers do.
    pub(crate) async fn perform(&mut self, step: &Step) -> Ours {
        for line in &step.lines {
            match line {
                Line::Open { name, at } => self.open(name, at).await,
                Line::Close(name) => drop(self.clients.remove(name)),
                Line::In { name, bytes } if name != "helper" => self.say(name, bytes).await,
                Line::Stop(name) if name == "hub" => self.stop_hub().await,
                Line::Stop(_) => self.stop_helper().await,
                Line::Start => self.start_helper().await,
                _ => {}
            }
        }
        let mut ours = Ours::default();
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
        let between = self.between.as_ref().map(Relay::take).unwrap_or_default();
        for (by_hub, message) in between {
            let way = if by_hub { "in" } else { "out" };
            ours.add("helper", json!({way: message}));
        }
        for words in self.new_shield_runs() {
            ours.add("shield", words);
        }
        ours
    }

    /// Returns what each subscriber hears up to a harmless event that is reported now.
    async fn barrier(&mut self, subscribers: &[String], ours: &mut Ours) {
        self.barriers += 1;
        let barrier = format!("barrier-{}", self.barriers);
        let line = json!({"type": "shield_up", "container": barrier}).to_string();
        for (at, name) in subscribers.iter().enumerate() {
            if at == 0 {
                self.say("reader", line.as_bytes()).await;
            }
            loop {
                // A subscription may reach the hub after the event: say it until it is heard.
                let client = self.clients.get_mut(name).unwrap();
                let next = timeout(Duration::from_millis(500), client.from.fill_buf()).await;
                if next.is_err() {
                    self.say("reader", line.as_bytes()).await;
                    continue;
                }
                let message = client.next().await;
                assert_ne!(message, CLOSED, "{name} hears no {barrier}");
                let container = &message["parameters"]["event"]["container"];
                match container.as_str().filter(|c| c.starts_with("barrier-")) {
                    Some(heard) if heard == barrier => break,
                    // One that was said more than once.
                    Some(_) => {}
                    None => ours.add(name, message),
                }
            }
        }
    }

    async fn open(&mut self, name: &str, at: &str) {
        let hub = RuntimeDir::new(self.place.path().join("hub")).shared_hub_sockets();
        let helper = RuntimeDir::new(self.place.path().join("helper")).shared_hub_sockets();
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

    async fn say(&mut self, name: &str, bytes: &[u8]) {
        let client = self.client(name);
        let message = [bytes, &[client.end]].concat();
        // A server that has closed the connection is found out when it is read.
        drop(client.to.write_all(&message).await);
    }

    fn new_shield_runs(&mut self) -> Vec<Value> {
        let log = self.place.path().join("helper/shield.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let new: Vec<_> = log.lines().skip(self.shield_runs).collect();
        self.shield_runs += new.len();
        new.iter()
            .map(|line| line.split(' ').collect::<Vec<_>>().into())
            .collect()
    }

    async fn start_helper(&mut self) {
        let helper = self.place.path().join("helper");
        let shield = folder().join("terok-shield");
        let shield = shield.to_str().unwrap();
        let command = &mut ours(&helper, &["serve-verdict", "--shield", shield]);
        let server = RuntimeDir::new(&helper).shared_hub_sockets().verdict;
        self.helper = Some(serve(command, std::slice::from_ref(&server)).await);
        let here = RuntimeDir::new(self.place.path().join("hub")).shared_hub_sockets();
        self.between = Some(Relay::start(&here.verdict, &server));
    }

    async fn stop_helper(&mut self) {
        drop(self.between.take());
        let mut helper = self.helper.take().unwrap();
        end(&mut helper).await;
    }

    async fn stop_hub(&mut self) {
        end(&mut self.hub).await;
    }
}

impl Client {
    /// Returns the next message, or [`CLOSED`].
    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = timeout(PATIENCE, self.from.read_until(self.end, &mut message)).await;
        let read = read.expect("an answer in time");
        match (read, message.strip_suffix(&[self.end])) {
            (Ok(_), Some(message)) => serde_json::from_slice(message).unwrap(),
            // Whoever closes with something unread resets the connection.
            (Ok(_) | Err(_), _) => CLOSED.into(),
        }
    }
}

impl Ours {
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

/// Starts a server, and returns it once somebody listens at each of `sockets`.
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

async fn end(server: &mut Child) {
    let id = server.id().expect("it runs").try_into().unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    let status = timeout(PATIENCE, server.wait()).await;
    status.expect("it ends").unwrap();
}

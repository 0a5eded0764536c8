// SPDX-License-Identifier: Apache-2.0
//! A hub on its own sockets, and clients of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use terok_clearance::{Action, DisplayText, EnforcementOutcome, socket};
use terok_clearance_hub::{Claim, DecisionEnforcer, Hub, HubOptions, RestoredQuestions};
use test_support::packets::pending_line;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Exceeds the duration of every test, so that a hanging test fails.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// An enforcer with prepared answers that records every order.
#[derive(Debug)]
pub(crate) struct ScriptedEnforcer {
    pub(crate) supports_ports: bool,
    /// The answers to orders, by destination. Orders without an answer are applied.
    pub(crate) answers: Mutex<BTreeMap<String, Answer>>,
    /// Each permit releases one order with [`Answer::Wait`].
    pub(crate) gate: Semaphore,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Fail(&'static str),
    Wait,
    Panic,
}

/// An order that reached the enforcer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) container: String,
    pub(crate) dest: String,
    pub(crate) action: Action,
    pub(crate) port: Option<u16>,
}

impl DecisionEnforcer for ScriptedEnforcer {
    fn supports_ports(&self) -> bool {
        self.supports_ports
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let order = Order {
            container: claim.container().to_string(),
            dest: claim.dest().to_string(),
            action: claim.action(),
            port: claim.scope().port,
        };
        self.orders.send(order).await.unwrap();
        let answer = self
            .answers
            .lock()
            .unwrap()
            .get(claim.dest().as_str())
            .cloned();
        match answer {
            None => EnforcementOutcome::Applied,
            Some(Answer::Fail(reason)) => EnforcementOutcome::Failed(DisplayText::new(reason)),
            Some(Answer::Wait) => match self.gate.acquire().await {
                Ok(permit) => {
                    permit.forget();
                    EnforcementOutcome::Applied
                }
                Err(closed) => EnforcementOutcome::Failed(DisplayText::new(&closed.to_string())),
            },
            Some(Answer::Panic) => panic!("the enforcer panics"),
        }
    }
}

pub(crate) struct HubHarness {
    pub(crate) hub: Arc<Hub<Arc<ScriptedEnforcer>>>,
    pub(crate) enforcer: Arc<ScriptedEnforcer>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<Result<(), String>>,
    directory: TempDir,
}

impl HubHarness {
    pub(crate) fn new() -> Self {
        Self::with(HubOptions::default(), false)
    }

    pub(crate) fn with(options: HubOptions, supports_ports: bool) -> Self {
        Self::with_questions(options, supports_ports, None)
    }

    pub(crate) fn with_questions(
        options: HubOptions,
        supports_ports: bool,
        earlier: Option<RestoredQuestions>,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let (sender, orders) = mpsc::channel(1000);
        let enforcer = Arc::new(ScriptedEnforcer {
            supports_ports,
            answers: Mutex::default(),
            gate: Semaphore::new(0),
            orders: sender,
        });
        let hub = Hub::with_questions(Arc::clone(&enforcer), options, earlier);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let clearance = socket::bind(&directory.path().join("run/hub.sock")).unwrap();
        let ingester = socket::bind(&directory.path().join("run/in.sock")).unwrap();
        let hub_task = terok_clearance_hub::serve(Arc::clone(&hub), clearance, stop.clone());
        tasks.spawn(async { hub_task.await.map_err(|error| error.to_string()) });
        let ingest_task =
            terok_clearance_hub::ingest::ingest(Arc::clone(&hub), ingester, stop.clone());
        tasks.spawn(async { ingest_task.await.map_err(|error| error.to_string()) });
        Self {
            hub,
            enforcer,
            orders,
            stop,
            tasks,
            directory,
        }
    }

    pub(crate) fn hub_path(&self) -> PathBuf {
        self.directory.path().join("run/hub.sock")
    }

    pub(crate) fn ingester_path(&self) -> PathBuf {
        self.directory.path().join("run/in.sock")
    }

    pub(crate) fn answer(&self, dest: &str, answer: Answer) {
        self.enforcer
            .answers
            .lock()
            .unwrap()
            .insert(dest.to_owned(), answer);
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.hub_path()).await
    }

    /// Subscribes to Clearance1, and waits until the hub has the subscriber.
    pub(crate) async fn subscribe_clearance1(&self) -> Client {
        self.subscribe("org.terok.Clearance1.Subscribe").await
    }

    /// Subscribes to Clearance2, and waits until the hub has the subscriber.
    pub(crate) async fn subscribe_clearance2(&self) -> Client {
        self.subscribe("org.terok.Clearance2.Subscribe").await
    }

    async fn subscribe(&self, method: &str) -> Client {
        let mut client = self.client().await;
        let before = self.hub.subscriber_count();
        client.send(&json!({"method": method, "more": true})).await;
        while self.hub.subscriber_count() == before {
            tokio::task::yield_now().await;
        }
        client
    }

    pub(crate) async fn reader(&self) -> UnixStream {
        UnixStream::connect(self.ingester_path()).await.unwrap()
    }

    /// Reports a question of sandbox `c` over a reader's connection.
    pub(crate) async fn block(&self, reader: &mut UnixStream, n: u64, dest: &str) {
        reader
            .write_all(pending("c", n, dest).as_bytes())
            .await
            .unwrap();
    }

    /// Waits until the number of pending questions is `count`.
    pub(crate) async fn wait_for_pending(&self, count: usize) {
        let reached = async {
            while self.hub.pending_count() != count {
                tokio::task::yield_now().await;
            }
        };
        let waited = timeout(WAIT_TIMEOUT, reached).await;
        assert!(
            waited.is_ok(),
            "{} pending, not {count}",
            self.hub.pending_count()
        );
    }

    /// Returns the next order that reached the enforcer.
    pub(crate) async fn next_order(&mut self) -> Order {
        timeout(WAIT_TIMEOUT, self.orders.recv())
            .await
            .expect("an order")
            .unwrap()
    }
}

/// Returns a reader's line for a TCP packet to port 443 of `dest`.
pub(crate) fn pending(container: &str, n: u64, dest: &str) -> String {
    let dossier = json!({"task": "t"});
    pending_line(container, &n.to_string(), dest, "", &dossier)
}

/// A connection to the clearance socket that exchanges raw frames.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) async fn connect(path: PathBuf) -> Self {
        let stream = UnixStream::connect(path).await.unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        let mut frame = message.to_string().into_bytes();
        frame.push(0);
        self.stream.get_mut().write_all(&frame).await.unwrap();
    }

    /// Returns the next frame, `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Value> {
        let mut frame = Vec::new();
        let read = self.stream.read_until(0, &mut frame);
        timeout(WAIT_TIMEOUT, read)
            .await
            .expect("a frame in time")
            .ok()?;
        let json = frame.strip_suffix(b"\0")?;
        Some(serde_json::from_slice(json).unwrap())
    }

    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(&json!({"method": method, "parameters": parameters}))
            .await;
        self.frame().await.expect("a reply")
    }

    pub(crate) async fn verdict(&mut self, id: &str, dest: &str, action: &str) -> Value {
        let parameters =
            json!({"container": "c", "request_id": id, "dest": dest, "action": action});
        self.call("org.terok.Clearance1.Verdict", parameters).await
    }

    pub(crate) async fn decide(&mut self, id: &str, dest: &str, action: &str) -> Value {
        let parameters = json!({"container": "c", "request": id, "dest": dest, "action": action});
        self.call("org.terok.Clearance2.Decide", parameters).await
    }

    /// Returns the next event of a stream.
    pub(crate) async fn event(&mut self) -> Value {
        let mut frame = self.frame().await.expect("an event");
        assert_eq!(frame["continues"], json!(true), "{frame}");
        frame["parameters"]["event"].take()
    }

    /// Returns the events of a Clearance2 stream up to the first of this kind, inclusive.
    pub(crate) async fn events_until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let found = event["kind"] == kind;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        self.stream.get_mut()
    }
}

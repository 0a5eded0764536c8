// SPDX-License-Identifier: Apache-2.0
//! Tests of `supervisor` with real packets: the sandbox is the test's own network namespace, the
//! internet a neighbouring one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use names::StaticHosts;
use netns::ProcessHandle;
use netns_tests::internet::{Internet, tcp};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketType};
use shield::Policy;
use supervisor::{
    HoldLimit, NameAccess, NameServerConfig, SandboxLookup, Supervisor, SupervisorConfig,
    SupervisorExit, TraceEvent,
};
use tempfile::TempDir;
use terok_clearance::client::{Client, EventStream, StreamUpdate};
use terok_clearance::socket::RuntimeDir;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{DecisionAction, Dossier, Scope, Target};
use test_support::namespaces::{NamespaceHolder, ip, require_private_namespaces};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const RESOLVER: &str = "198.51.100.53";

fn config(process: ProcessHandle, runtime: &TempDir, allowed: &[&str]) -> SupervisorConfig {
    let resolver: IpAddr = RESOLVER.parse().unwrap();
    SupervisorConfig {
        container: "box".parse().unwrap(),
        dossier: Dossier::new([("project".into(), "web".into())].into()).into(),
        processes: process.into(),
        names: NameAccess::Resolvers(Policy::new([resolver]).unwrap()),
        allowed_dests: allowed
            .iter()
            .map(|dest| dest.parse::<Target>().unwrap().into())
            .collect(),
        hold: HoldLimit::Refuse,
        allow_capabilities: true,
        runtime_dir: RuntimeDir::new(runtime.path()),
        journal: None,
    }
}

/// A supervisor running in this process.
struct Running {
    hub: PathBuf,
    stop: CancellationToken,
    task: JoinSet<SupervisorExit>,
    steps: mpsc::Receiver<String>,
}

impl Running {
    fn start(config: SupervisorConfig) -> Self {
        let (sender, steps) = mpsc::channel(10_000);
        let supervisor = Supervisor::start(config).unwrap();
        let supervisor = supervisor.with_observer(Box::new(move |step| {
            if let TraceEvent::RuleAdded(_) | TraceEvent::RuleEnded { .. } | TraceEvent::Notice(_) =
                step
            {
                return;
            }
            sender.try_send(describe(step)).unwrap();
        }));
        let stop = CancellationToken::new();
        let (hub, stopped) = (supervisor.hub_path().to_owned(), stop.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { supervisor.serve(stopped).await.unwrap() });
        Self {
            hub,
            stop,
            task,
            steps,
        }
    }

    async fn step(&mut self) -> String {
        self.steps.recv().await.unwrap()
    }

    async fn ended(mut self) -> SupervisorExit {
        self.task.join_next().await.unwrap().unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        assert_eq!(self.ended().await, SupervisorExit::Stopped);
    }
}

fn describe(step: TraceEvent<'_>) -> String {
    match step {
        TraceEvent::DnsAnswered {
            name,
            addresses,
            added,
        } => {
            format!("answered {name} {addresses:?} added {added}")
        }
        TraceEvent::Asked(blocked) => format!("asked {} {}", blocked.dest(), blocked.port),
        TraceEvent::AlreadyDecided(blocked, action) => {
            format!("decided {} {} {action}", blocked.dest(), blocked.port)
        }
        TraceEvent::Enforced { dest, action, .. } => format!("enforced {dest} {action}"),
        TraceEvent::Refused { dest, reason, .. } => format!("refused {dest} {reason}"),
        other => format!("{other:?}"),
    }
}

/// An operator connected to the hub.
struct Operator {
    client: Client,
    events: EventStream,
}

impl Operator {
    async fn at(hub: &PathBuf) -> Self {
        let (client, events) = Client::start(hub).await.unwrap();
        let mut operator = Self { client, events };
        while !matches!(operator.next().await, Event::Synced) {}
        operator
    }

    async fn next(&mut self) -> Event {
        loop {
            match self.events.next().await {
                StreamUpdate::Event(event) => return event,
                StreamUpdate::Connected(_) => {}
                StreamUpdate::Disconnected { reason, .. } => panic!("{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn question(&mut self) -> std::sync::Arc<Request> {
        match self.next().await {
            Event::Pending(request) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Answers and waits for the event of the decision.
    async fn answer(&mut self, request: &Request, action: DecisionAction, scope: Option<Scope>) {
        let decision = self.client.decide(request, action, scope).await.unwrap();
        assert!(decision.ok);
        let Event::Decided(announced) = self.next().await else {
            panic!()
        };
        assert_eq!(*announced, decision);
    }
}

/// Makes the resolver send an answer into the sandbox, by echoing the message.
fn resolve(name: &str, address: [u8; 4]) {
    let mut message = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    message.extend(address);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(&message, (RESOLVER, 53)).unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], message);
}

#[track_caller]
fn refused(address: &str, port: u16) {
    let error = tcp(address, port).unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionRefused,
        "{address} {port}"
    );
}

#[tokio::test]
async fn a_dropped_packet_becomes_a_question_and_the_answer_an_open_port() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    tcp("203.0.113.7", 443).unwrap();
    let mut running = Running::start(config(ProcessHandle::current().unwrap(), &runtime, &[]));
    let mut operator = Operator::at(&running.hub).await;

    resolve("api.example.com", [203, 0, 113, 7]);
    refused("203.0.113.7", 443);
    let request = operator.question().await;
    assert_eq!(request.dest.as_str(), "api.example.com");
    assert_eq!(request.address.as_str(), "203.0.113.7");
    assert_eq!((request.port, request.scope.port), (443, Some(443)));
    assert_eq!(request.dossier.len(), 1);
    operator.answer(&request, DecisionAction::Allow, None).await;
    tcp("203.0.113.7", 443).unwrap();

    // Neither a wider scope nor another address.
    refused("203.0.113.7", 80);
    let request = operator.question().await;
    assert_eq!(
        (request.dest.as_str(), request.port),
        ("api.example.com", 80)
    );
    operator.answer(&request, DecisionAction::Deny, None).await;
    refused("203.0.113.7", 80);
    tcp("203.0.113.7", 443).unwrap();
    refused("203.0.113.8", 443);
    let request = operator.question().await;
    assert_eq!(
        request.dest.as_str(),
        "203.0.113.8",
        "the denied destination does not ask again"
    );

    operator
        .answer(&request, DecisionAction::Dismiss, None)
        .await;
    refused("203.0.113.8", 443);

    refused("2001:db8:1::7", 443);
    let request = operator.question().await;
    assert_eq!(request.dest.as_str(), "2001:db8:1::7");
    operator.answer(&request, DecisionAction::Allow, None).await;
    tcp("2001:db8:1::7", 443).unwrap();
    refused("2001:db8:1::7", 80);

    for expected in [
        "answered api.example.com [203.0.113.7] added 0",
        "asked api.example.com 443",
        "enforced api.example.com allow",
        "asked api.example.com 80",
        "enforced api.example.com deny",
        "asked 203.0.113.8 443",
        "asked 2001:db8:1::7 443",
        "enforced 2001:db8:1::7 allow",
    ] {
        assert_eq!(running.step().await, expected);
    }
    running.stop().await;
}

#[tokio::test]
async fn an_allowed_name_opens_later_addresses() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let own = ProcessHandle::current().unwrap();
    let mut running = Running::start(config(own, &runtime, &["api.example.com"]));
    let mut operator = Operator::at(&running.hub).await;

    resolve("api.example.com", [203, 0, 113, 7]);
    assert_eq!(
        running.step().await,
        "answered api.example.com [203.0.113.7] added 1"
    );
    tcp("203.0.113.7", 443).unwrap();

    // The program is as fast as the reader: the first packet is refused without a question.
    resolve("api.example.com", [203, 0, 113, 8]);
    refused("203.0.113.8", 443);
    assert_eq!(
        running.step().await,
        "answered api.example.com [203.0.113.8] added 1"
    );
    assert_eq!(running.step().await, "decided api.example.com 443 allow");
    tcp("203.0.113.8", 443).unwrap();

    // Forbidden addresses stay closed for every name.
    resolve("api.example.com", [169, 254, 169, 254]);
    resolve("api.example.com", [10, 0, 0, 1]);
    assert_eq!(
        running.step().await,
        "answered api.example.com [169.254.169.254] added 0"
    );
    assert_eq!(
        running.step().await,
        "answered api.example.com [10.0.0.1] added 0"
    );
    refused("169.254.169.254", 80);
    refused("10.0.0.1", 80);

    resolve("other.example.com", [203, 0, 113, 9]);
    refused("203.0.113.9", 443);
    assert_eq!(operator.question().await.dest.as_str(), "other.example.com");
    running.stop().await;
}

#[tokio::test]
async fn an_element_missing_in_the_kernel_is_asked_about_again() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let own = ProcessHandle::current().unwrap();
    let mut running = Running::start(config(own, &runtime, &["203.0.113.7"]));
    let mut operator = Operator::at(&running.hub).await;
    tcp("203.0.113.7", 443).unwrap();

    // Another program removes the element behind the supervisor's back.
    let rules = nft(&["-j", "list", "ruleset"]);
    for set in rules["nftables"].as_array().unwrap() {
        let set = &set["set"];
        if set["elem"].to_string().contains("203.0.113.7") {
            let name = set["name"].as_str().unwrap();
            nft(&["flush", "set", "inet", "terok_shield", name]);
        }
    }
    refused("203.0.113.7", 443);
    let request = operator.question().await;
    assert_eq!(running.step().await, "asked 203.0.113.7 443");
    operator.answer(&request, DecisionAction::Allow, None).await;
    tcp("203.0.113.7", 443).unwrap();
    running.stop().await;
}

#[tokio::test]
async fn an_answer_refused_by_the_shield_keeps_the_question_pending() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let mut running = Running::start(config(ProcessHandle::current().unwrap(), &runtime, &[]));
    let mut operator = Operator::at(&running.hub).await;
    refused("203.0.113.7", 443);
    let request = operator.question().await;
    let delete = ["delete", "table", "inet", "terok_shield"];
    assert!(Command::new("nft").args(delete).status().unwrap().success());
    let error = operator
        .client
        .decide(&request, DecisionAction::Allow, None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("firewall could not be changed"),
        "{error}"
    );
    assert_eq!(operator.client.list().await.unwrap().len(), 1);
    assert_eq!(operator.client.rules().await.unwrap(), []);
    assert_eq!(running.step().await, "asked 203.0.113.7 443");
    assert!(running.step().await.starts_with("refused 203.0.113.7"));
    running.stop().await;
}

#[tokio::test]
async fn a_restarted_supervisor_restores_orders_and_continues_asking() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let own = || config(ProcessHandle::current().unwrap(), &runtime, &[]);
    let running = Running::start(own());
    let mut operator = Operator::at(&running.hub).await;
    resolve("api.example.com", [203, 0, 113, 7]);
    refused("203.0.113.7", 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow, None).await;
    running.stop().await;

    // Without a supervisor nothing new passes; allowed destinations still do.
    tcp("203.0.113.7", 443).unwrap();
    refused("203.0.113.8", 443);
    refused("203.0.113.11", 443);

    let mut running = Running::start(own());
    tcp("203.0.113.7", 443).unwrap();
    let mut operator = Operator::at(&running.hub).await;
    // The order on the name was restored from its element.
    resolve("api.example.com", [203, 0, 113, 9]);
    assert_eq!(
        running.step().await,
        "answered api.example.com [203.0.113.9] added 1"
    );
    tcp("203.0.113.9", 443).unwrap();
    refused("203.0.113.10", 443);
    let next = operator.question().await;
    assert_eq!(next.address.as_str(), "203.0.113.10");
    assert_ne!(next.id, request.id);
    // A question without a listener is asked again on the next attempt.
    refused("203.0.113.11", 443);
    assert_eq!(operator.question().await.address.as_str(), "203.0.113.11");
    running.stop().await;
}

#[tokio::test]
async fn the_end_of_the_sandbox_is_reported_and_its_namespace_released() {
    require_private_namespaces();
    let mut sandbox = NamespaceHolder::start(&["--net"]);
    let runtime = TempDir::new().unwrap();
    let process = ProcessHandle::open(sandbox.pid()).unwrap();
    let names = NameAccess::Server(NameServerConfig {
        resolvers: vec![RESOLVER.parse().unwrap()],
        lookup: SandboxLookup::new(StaticHosts::default()),
        stand_in_key: [7; 16].into(),
    });
    let running = Running::start(SupervisorConfig {
        names,
        ..config(process, &runtime, &["allowed.example"])
    });
    let hub = running.hub.clone();
    let mut operator = Operator::at(&hub).await;
    // A lookup leaves unused sockets in the namespace. The sandbox has no way to its resolver.
    let code = r"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'\0\7\1\0\0\1\0\0\0\0\0\0\7allowed\7example\0\0\1\0\1', ('127.0.0.1', 53))
assert s.recv(512)[3] & 15 == 2  # SERVFAIL
";
    let mut client = sandbox.command("sh");
    let script = format!("ip link set lo up && exec python3 -c \"{code}\"");
    let client = client.args(["-c", &script]).spawn().unwrap();
    let answered = tokio::task::spawn_blocking(move || client.wait_with_output().unwrap());
    assert!(answered.await.unwrap().status.success());

    // The near end of a veth pair disappears with the namespace of the far end.
    let pid = sandbox.pid();
    ip(&format!(
        "link add here0 type veth peer name there0 netns {pid}"
    ));
    let links = link_changes();

    sandbox.end();
    assert_eq!(running.ended().await, SupervisorExit::SandboxEnded);
    let Event::Container { state, reason, .. } = operator.next().await else {
        panic!()
    };
    assert_eq!(
        (state, reason.unwrap().as_str()),
        (ContainerState::Exited, "eof")
    );
    assert!(!hub.exists() && !hub.parent().unwrap().exists());
    // RTM_DELLINK: the near end.
    while message(&links) != 17 {}
}

#[tokio::test]
async fn lost_packets_are_reported_to_operators() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let running = Running::start(config(ProcessHandle::current().unwrap(), &runtime, &[]));
    let mut operator = Operator::at(&running.hub).await;
    // Exceeds the capacity of the reader's socket before the reader runs.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for port in 1..=8_000 {
        socket.send_to(b"x", ("203.0.113.7", port)).unwrap_err();
    }
    let (mut sent, mut questions, mut missing) = (8_000, 0, 0);
    while questions + missing < sent {
        match operator.next().await {
            Event::Pending(_) => questions += 1,
            Event::Lost { lost, reason } => {
                assert_eq!(reason.as_str(), "kernel");
                missing += lost;
            }
            Event::Repeated(_) => continue, // the process was found
            other => panic!("{other:?}"),
        }
        // Losses show only with a later message that gets through after the queue was read, so one
        // more is sent now and then.
        if questions % 64 == 0 {
            let port = u16::try_from(sent).unwrap();
            socket.send_to(b"x", ("203.0.113.8", port)).unwrap_err();
            sent += 1;
        }
    }
    assert!(
        missing > 0 && questions + missing == sent,
        "{questions} + {missing} of {sent}"
    );
    let listed = operator.client.list().await.unwrap().len();
    assert_eq!(u64::try_from(listed).unwrap(), questions);
    running.stop().await;
}

#[tokio::test]
async fn one_sandbox_has_one_supervisor() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    let first = Running::start(config(ProcessHandle::current().unwrap(), &runtime, &[]));
    let second = Supervisor::start(config(ProcessHandle::current().unwrap(), &runtime, &[]));
    let error = second.unwrap_err();
    assert!(
        matches!(error, supervisor::SupervisorStartError::Reader(_)),
        "{error:?}"
    );
    // The first one continues to work.
    let mut operator = Operator::at(&first.hub).await;
    refused("203.0.113.7", 443);
    let request = operator.question().await;
    operator.answer(&request, DecisionAction::Allow, None).await;
    tcp("203.0.113.7", 443).unwrap();
    first.stop().await;
}

#[tokio::test]
async fn forbidden_destinations_prevent_the_start() {
    let _internet = Internet::start();
    let runtime = TempDir::new().unwrap();
    for dest in ["169.254.169.254", "10.0.0.1"] {
        let config = config(ProcessHandle::current().unwrap(), &runtime, &[dest]);
        let error = Supervisor::start(config).unwrap_err();
        assert!(
            matches!(error, supervisor::SupervisorStartError::Allow { .. }),
            "{error:?}"
        );
        refused("203.0.113.7", 443);
    }
}

/// Opens a socket that receives every change of a link from now on.
fn link_changes() -> OwnedFd {
    // NETLINK_ROUTE is protocol 0.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    // RTMGRP_LINK
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1)).unwrap();
    socket
}

/// Waits for a message and returns its type.
fn message(socket: &OwnedFd) -> u16 {
    let mut bytes = [0; 8192];
    rustix::net::recv(socket, &mut bytes, RecvFlags::empty()).unwrap();
    u16::from_ne_bytes([bytes[4], bytes[5]])
}

fn nft(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

// SPDX-License-Identifier: Apache-2.0
//! The varlink tools of others introspect, call and subscribe: systemd's `varlinkctl`, Python's
//! `varlink` and `zlink`. What they print is golden, of our servers and of theirs.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;
use zlink::varlink_service::Proxy as _;

use crate::harness::{Ended, Place, Running, Stack, pending, varlinkctl};

/// The addresses of a place's servers, as they stand in the invocations below.
const HUB: &str = "HUB";
const HELPER: &str = "HELPER";

const REFUSED: &str =
    r#"{"container":"0123456789ab","request_id":"no:1","dest":"api.example.com","action":"allow"}"#;
const MISMATCHED: &str = r#"{"container":"0123456789ab","request_id":"0123456789ab:1","dest":"203.0.113.9","action":"allow"}"#;
const ALLOWED: &str = r#"{"container":"0123456789ab","request_id":"0123456789ab:1","dest":"api.example.com","action":"allow"}"#;
const ORDER: &str = r#"{"container":"0123456789ab","dest":"api.example.com","action":"allow"}"#;

/// A hub and a verdict helper, ours or theirs, whose firewall obeys.
struct Servers {
    place: Place,
    hub: Running,
    helper: Running,
}

impl Servers {
    async fn ours() -> Self {
        let place = Place::new();
        let helper = place.runtime().shared_hub_sockets().verdict;
        let helper = place
            .serve(
                &mut place.ours(&["serve-verdict", "--shield", "/bin/true"]),
                &[helper],
            )
            .await;
        let hub = place.our_hub(&[]).await;
        Self { place, hub, helper }
    }

    /// Theirs runs `terok-shield` and nothing else; the invocations for both sides do not reach it.
    async fn theirs(stack: Stack) -> Self {
        let place = Place::new();
        let helper = place.runtime().shared_hub_sockets().verdict;
        let mut command = place.theirs(stack, "terok-clearance-hub", &["serve-verdict"]);
        let helper = place.serve(&mut command, &[helper]).await;
        let hub = place.their_hub(stack).await;
        Self { place, hub, helper }
    }

    /// Runs `program` with each of the `invocations`, and returns what a person would see.
    async fn transcript(&mut self, program: &Tool, invocations: &[&[&str]]) -> String {
        let mut seen = String::new();
        for invocation in invocations {
            let mut command = program.command(&self.place);
            for argument in *invocation {
                command.arg(self.place_of(argument, program));
            }
            let ended = Running::start(&mut command).end().await;
            let code = ended.status.code().unwrap();
            let (said, name) = (invocation.join(" "), program.name);
            let Ended { output, errors, .. } = ended;
            seen = format!("{seen}$ {name} {said}\n{output}{errors}(exit {code})\n\n");
        }
        self.hub.alive();
        self.helper.alive();
        let runtime = self.place.path().to_str().unwrap();
        seen.replace(runtime, "RUNTIME")
            .replace(env!("CARGO_PKG_VERSION"), "OUR-VERSION")
    }

    /// Puts a socket's address where an argument says `HUB` or `HELPER`.
    fn place_of(&self, argument: &str, program: &Tool) -> String {
        let classic = self.place.runtime().shared_hub_sockets();
        for (name, socket) in [(HUB, classic.hub), (HELPER, classic.verdict)] {
            if let Some(rest) = argument.strip_prefix(name) {
                return format!("{}{}{rest}", program.scheme, socket.display());
            }
        }
        argument.to_owned()
    }
}

/// A program of others.
struct Tool {
    name: &'static str,
    /// What it wants before a socket's path.
    scheme: &'static str,
    path: PathBuf,
    before: &'static [&'static str],
}

impl Tool {
    fn varlinkctl() -> Self {
        Self {
            name: "varlinkctl",
            scheme: "",
            path: varlinkctl(),
            before: &["--no-pager"],
        }
    }

    fn pypi() -> Self {
        Self {
            name: "varlink",
            scheme: "unix:",
            path: Stack::V0_8_1.program("python"),
            before: &["-m", "varlink.cli"],
        }
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = place.command(&self.path);
        command.args(self.before);
        command
    }
}

/// What `varlinkctl` is asked of either side.
const VARLINKCTL: &[&[&str]] = &[
    &["info", HUB],
    &["list-interfaces", HUB],
    &["introspect", HUB, "org.terok.Clearance1"],
    &["call", HUB, "org.terok.Clearance1.Verdict", REFUSED],
    &["call", HUB, "org.terok.Clearance1.Verdict", MISMATCHED],
    &["call", HUB, "org.terok.Clearance1.Subscribe", "{}"],
    &["info", HELPER],
    &["list-interfaces", HELPER],
    &["introspect", HELPER, "org.terok.ClearanceVerdict1"],
];

#[tokio::test]
async fn varlinkctl_introspects_and_calls_ours() {
    let mut servers = Servers::ours().await;
    let tool = Tool::varlinkctl();
    let question = pending("0123456789ab:1", "api.example.com");
    servers.place.report(&[question]).await;
    // Heard by a subscriber, it is known to whoever calls from now on.
    subscribed(&servers, "org.terok.Clearance1.Subscribe").await;
    let seen = servers.transcript(&tool, VARLINKCTL).await;
    insta::assert_snapshot!("varlinkctl-ours", seen);
    let seen = servers
        .transcript(
            &tool,
            &[
                &["list-methods", HUB],
                &["introspect", HUB, "org.terok.Clearance2"],
                &["call", HUB, "org.terok.Clearance1.Verdict", "{}"],
                &["call", HUB, "org.terok.Clearance1.Verdict", ALLOWED],
                &["call", HUB, "org.terok.Clearance1.Verdict", ALLOWED],
                &["call", HUB, "org.terok.Clearance2.List", "{}"],
                &["call", HUB, "org.terok.Clearance3.List", "{}"],
                &["call", HELPER, "org.terok.ClearanceVerdict1.Apply", ORDER],
                &["call", HELPER, "org.terok.ClearanceVerdict1.Apply", "{}"],
            ],
        )
        .await;
    insta::assert_snapshot!("varlinkctl-ours-alone", seen);
}

#[tokio::test]
async fn varlinkctl_introspects_and_calls_theirs() {
    let mut servers = Servers::theirs(Stack::V0_8_1).await;
    let question = pending("0123456789ab:1", "api.example.com");
    let mut reader = UnixStream::connect(servers.place.runtime().shared_hub_sockets().ingester)
        .await
        .unwrap();
    reader
        .write_all(format!("{question}\n").as_bytes())
        .await
        .unwrap();
    reader.shutdown().await.unwrap();
    // It hangs up when it has taken in all of it.
    assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    let seen = servers.transcript(&Tool::varlinkctl(), VARLINKCTL).await;
    // Their descriptions' comments are prose for their developers, and no contract.
    let lines = seen.lines().filter(|line| !line.starts_with('#'));
    let seen: Vec<_> = lines.collect();
    insta::assert_snapshot!("varlinkctl-theirs", seen.join("\n"));
}

#[tokio::test]
async fn varlinkctl_subscribes() {
    let servers = Servers::ours().await;
    let mut first = subscriber(&servers, "org.terok.Clearance1.Subscribe");
    let mut second = subscriber(&servers, "org.terok.Clearance2.Subscribe");
    // Whether they are subscribed already or not, the question reaches them.
    let question = pending("0123456789ab:1", "api.example.com");
    servers.place.report(&[question]).await;
    let blocked = heard(&mut first).await;
    assert_eq!(
        blocked["event"],
        json!({
            "type": "connection_blocked", "container": "0123456789ab",
            "request_id": "0123456789ab:1", "dest": "203.0.113.7", "port": 443, "proto": 6,
            "domain": "api.example.com", "action": "", "ok": false, "reason": "",
            "dossier": blocked["event"]["dossier"],
        })
    );
    let mut event = heard(&mut second).await;
    while event["event"]["kind"] != "pending" {
        event = heard(&mut second).await;
    }
    assert_eq!(event["event"]["request"]["dest"], "api.example.com");
}

#[tokio::test]
async fn pypis_varlink_introspects_calls_and_subscribes() {
    let mut servers = Servers::ours().await;
    let question = pending("0123456789ab:1", "api.example.com");
    servers.place.report(&[question]).await;
    let tool = Tool::pypi();
    let mut command = tool.command(&servers.place);
    let subscribe = servers.place_of("HUB/org.terok.Clearance1.Subscribe", &tool);
    let mut listener = Running::start(command.args(["call", "-m", &subscribe]));
    listener.until(r#""request_id": "0123456789ab:1""#).await;
    let verdict = "HUB/org.terok.Clearance1.Verdict";
    let seen = servers
        .transcript(
            &tool,
            &[
                &["info", HUB],
                &["help", "HUB/org.terok.Clearance1"],
                &["call", verdict, REFUSED],
                &["call", verdict, MISMATCHED],
                &["call", verdict, ALLOWED],
                &["info", HELPER],
                &["help", "HELPER/org.terok.ClearanceVerdict1"],
                &["call", "HELPER/org.terok.ClearanceVerdict1.Apply", ORDER],
            ],
        )
        .await;
    insta::assert_snapshot!("pypi-varlink", seen);
    listener.until(r#""type": "verdict_applied""#).await;
}

/// A call of `org.terok.ClearanceVerdict1`, as `zlink` makes a client of it.
#[zlink::proxy("org.terok.ClearanceVerdict1")]
trait Verdict1 {
    async fn apply(
        &mut self,
        container: &str,
        dest: &str,
        action: &str,
    ) -> zlink::Result<Result<Applied, NoError>>;
}

#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Applied {
    ok: bool,
    stderr: String,
}

#[derive(Debug, zlink::ReplyError)]
#[zlink(interface = "org.terok.ClearanceVerdict1")]
enum NoError {}

#[tokio::test]
async fn zlink_introspects_both_interfaces_and_calls_the_helper() {
    let servers = Servers::ours().await;
    let classic = servers.place.runtime().shared_hub_sockets();
    for (socket, interface) in [
        (&classic.hub, "org.terok.Clearance1"),
        (&classic.verdict, "org.terok.ClearanceVerdict1"),
    ] {
        let mut connection = zlink::tokio::unix::connect(socket).await.unwrap();
        let info = connection.get_info().await.unwrap().unwrap();
        let listed = info.interfaces.iter().any(|name| *name == interface);
        assert!(listed, "{info:?}");
        let description = connection
            .get_interface_description(interface.try_into().unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(description.parse().unwrap().name(), interface);
    }
    let mut helper = zlink::tokio::unix::connect(&classic.verdict).await.unwrap();
    let applied = helper.apply("0123456789ab", "api.example.com", "allow");
    let applied = applied.await.unwrap().unwrap();
    assert_eq!(
        applied,
        Applied {
            ok: true,
            stderr: String::new()
        }
    );
}

/// Starts `varlinkctl` as a subscriber that stays.
fn subscriber(servers: &Servers, method: &str) -> Running {
    let tool = Tool::varlinkctl();
    let mut command = tool.command(&servers.place);
    command.args(["--more", "--json=short", "--timeout=infinity", "call"]);
    command.args([&servers.place_of(HUB, &tool), method, "{}"]);
    Running::start(&mut command)
}

/// Returns the next thing that `varlinkctl` hears. It begins each by a record separator (RFC 7464).
async fn heard(subscriber: &mut Running) -> Value {
    let line = subscriber.line().await;
    serde_json::from_str(line.trim_start_matches('\u{1e}')).unwrap()
}

/// Returns the first thing that a new subscriber hears.
async fn subscribed(servers: &Servers, method: &str) -> Value {
    heard(&mut subscriber(servers, method)).await
}

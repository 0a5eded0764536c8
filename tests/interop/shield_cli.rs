// SPDX-License-Identifier: Apache-2.0
//! The whole way with the real `terok-shield`: its hooks in real rootless podman containers raise
//! its firewall and start its reader; whoever answers, its program opens and closes the way.
//!
//! README.md beside this file says which of the parts stand in for which here.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::socket::{HubSocketPaths, RuntimeDir, SocketLayout};

use crate::harness::{Container, Rootless, Running, Side, Stack};

const ALLOWED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// The newest, where one will do.
const STACK: Stack = Stack::V0_8_1;
const THEIRS: Side = Side::Theirs(STACK);
const DENIED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

/// A container, and a hub and a verdict helper for it.
struct World {
    machine: Rootless,
    stack: Stack,
    reader: Side,
    container: Container,
    sockets: HubSocketPaths,
    _parts: [Running; 2],
}

impl World {
    async fn new(stack: Stack, reader: Side, hub: Side, verdict: Side) -> Self {
        let machine = Rootless::new(stack).await;
        if reader == Side::Ours {
            machine.use_our_reader().await;
        }
        internet(&machine).await;
        let container = machine.create("box").await;
        let sockets = machine.sockets(&container);
        let helper = helper(&machine, &sockets, verdict).await;
        let hub = serve_hub(&machine, &sockets, hub).await;
        Self {
            machine,
            stack,
            reader,
            container,
            sockets,
            _parts: [helper, hub],
        }
    }

    /// Starts the container, and returns once its reader has reported to `asker`.
    async fn start(&self, asker: &mut impl Asker) {
        let mut reporter = self.machine.reporter(&self.sockets.ingester);
        asker.listens(&mut reporter).await;
        self.machine.start(&self.container).await;
        // By then it listens to the firewall.
        let started = asker.container().await;
        assert_eq!(started, (self.container.id.short().to_owned(), None));
        let reader = self.machine.reader_pid(&self.container).unwrap();
        let program = self.machine.reader(&reader).await.unwrap();
        let ours = program == env!("CARGO_BIN_EXE_terok-clearance");
        assert_eq!(ours, self.reader == Side::Ours, "the reader is {program}");
    }

    /// Ends the container, and with it its reader; ours says so to `asker`.
    async fn end(&self, asker: &mut impl Asker) {
        let reader = self.machine.reader_pid(&self.container).unwrap();
        self.machine.stop(&self.container).await;
        assert_eq!(self.machine.reader_pid(&self.container), None);
        assert_eq!(self.machine.reader(&reader).await, None);
        if self.reader == Side::Ours {
            let (container, reason) = asker.container().await;
            assert_eq!(container, self.container.id.short());
            // It may see the end before the hook tells it to end.
            let reason = reason.unwrap();
            assert!(["eof", "poststop"].contains(&reason.as_str()), "{reason}");
        }
    }

    async fn connect(&self, to: Ipv4Addr) -> Option<String> {
        self.machine.connect(&self.container, to).await
    }

    /// Returns the addresses that are allowed, and those that are denied.
    async fn sets(&self) -> (Vec<String>, Vec<String>) {
        let (allowed, denied) = match self.stack {
            Stack::V0_7_0 => ("allow_v4", "deny_v4"),
            Stack::V0_8_0 | Stack::V0_8_1 | Stack::V0_8_1WithNewerVarlink => {
                ("t40_project_allow_v4", "t20_security_deny_v4")
            }
        };
        (
            self.machine.set(&self.container, allowed).await,
            self.machine.set(&self.container, denied).await,
        )
    }

    /// From a blocked connection to an open way, and from another to a barred one.
    async fn the_whole_way(&self, asker: &mut impl Asker) {
        let (allowed, denied) = (ALLOWED.to_string(), DENIED.to_string());
        self.start(asker).await;
        assert_eq!(self.sets().await, (vec![], vec![]));
        assert_eq!(self.connect(ALLOWED).await, None);
        asker.answer("allow", ALLOWED).await;
        assert_eq!(self.sets().await, (vec![allowed.clone()], vec![]));
        assert_eq!(self.connect(ALLOWED).await.as_deref(), Some("hello\n"));
        assert_eq!(self.connect(DENIED).await, None);
        asker.answer("deny", DENIED).await;
        assert_eq!(self.sets().await, (vec![allowed], vec![denied]));
        assert_eq!(self.connect(DENIED).await, None);
        self.end(asker).await;
    }
}

/// Somebody who hears a hub's questions and answers them.
trait Asker {
    /// Waits until what the hub is told from now on is heard.
    async fn listens(&mut self, reporter: &mut Running);
    /// Waits for news of a container's reader, and returns the container, and why it ended if it did.
    async fn container(&mut self) -> (String, Option<String>);
    /// Waits for the question about an address, answers it, and waits until the answer is in force.
    async fn answer(&mut self, action: &str, about: Ipv4Addr);
}

/// Our prompt.
struct Prompt(Running);

impl Prompt {
    fn new(world: &World) -> Self {
        let prompt = world.machine.ours(&["--json", "clearance"]);
        Self(Running::start(&mut { prompt }))
    }

    async fn next(&mut self, event: &str) -> Value {
        loop {
            let said = self.0.json().await;
            if said["event"] == event {
                return said;
            }
        }
    }
}

impl Asker for Prompt {
    async fn listens(&mut self, _reporter: &mut Running) {
        assert_eq!(self.next("ready").await["hubs"], 1);
    }

    async fn container(&mut self) -> (String, Option<String>) {
        let news = self.next("container").await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let ended = (news["state"] == "exited").then(|| text(&news["reason"]));
        (text(&news["container"]), ended)
    }

    async fn answer(&mut self, action: &str, about: Ipv4Addr) {
        let asked = self.next("pending").await;
        assert_eq!(asked["dest"], about.to_string(), "{asked}");
        let answer = json!({"action": action, "row": asked["row"], "request": asked["request"]});
        self.0.say(&answer.to_string()).await;
        let decided = self.next("decided").await;
        assert_eq!(decided["row"], asked["row"], "{decided}");
        assert_eq!(decided["action"], action, "{decided}");
    }
}

/// The Python stack's client.
struct Client(Running);

impl Client {
    async fn new(world: &World) -> Self {
        Self::of(&world.machine, &world.sockets).await
    }

    async fn of(machine: &Rootless, sockets: &HubSocketPaths) -> Self {
        let socket = sockets.hub.to_str().unwrap();
        let mut client = Running::start(&mut machine.script("client.py", &[socket, "errors"]));
        assert_eq!(client.json().await, json!({"started": true}));
        Self(client)
    }

    async fn next(&mut self, kind: &str) -> Value {
        loop {
            let said = self.0.json().await;
            if said["event"]["type"] == kind {
                return said["event"].clone();
            }
        }
    }

    /// Gives a verdict, and returns what the client then says: events, the error, the answer.
    async fn verdict(&mut self, event: &Value, action: &str) -> Vec<Value> {
        let dest = match event["domain"].as_str().unwrap() {
            "" => &event["dest"],
            _ => &event["domain"],
        };
        let order = json!([event["container"], event["request_id"], dest, action]);
        self.0.say(&order.to_string()).await;
        let mut said = Vec::new();
        let (mut answered, mut told) = (false, false);
        // On two connections, in either order.
        while !answered || !told {
            let new = self.0.json().await;
            answered |= new.get("verdict").is_some();
            match new["event"]["type"].as_str() {
                Some("verdict_applied") => told = true,
                Some(_) => continue,
                None => {}
            }
            said.push(new);
        }
        said.sort_by_key(|said| said.get("event").is_none());
        said
    }
}

impl Asker for Client {
    async fn listens(&mut self, reporter: &mut Running) {
        // It says that it started before its subscription is with the hub, and theirs repeats
        // nothing: tell it something harmless until it is heard.
        let harmless = json!({"type": "shield_up", "container": "nobody"});
        let mut heard = std::pin::pin!(self.next("shield_up"));
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                biased;
                _ = &mut heard => return,
                _ = again.tick() => reporter.say(&harmless.to_string()).await,
            }
        }
    }

    async fn container(&mut self) -> (String, Option<String>) {
        loop {
            let news = self.0.json().await["event"].take();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let ended = match news["type"].as_str() {
                Some("container_started") => None,
                Some("container_exited") => Some(text(&news["reason"])),
                _ => continue,
            };
            return (text(&news["container"]), ended);
        }
    }

    async fn answer(&mut self, action: &str, about: Ipv4Addr) {
        let asked = self.next("connection_blocked").await;
        assert_eq!(asked["dest"], about.to_string(), "{asked}");
        let said = self.verdict(&asked, action).await;
        assert_eq!(said[0]["event"]["ok"], true, "{said:?}");
        assert_eq!(said[1..], [json!({"verdict": true})]);
    }
}

/// Puts the addresses on the loopback, each with somebody who says hello.
async fn internet(machine: &Rootless) {
    let ip = |words: &str| {
        let mut ip = machine.place().command("ip");
        ip.args(words.split(' '));
        machine.done(ip)
    };
    ip("link set lo up").await;
    for address in [ALLOWED, DENIED] {
        ip(&format!("address add {address}/32 dev lo")).await;
        let listener = TcpListener::bind((address, 443)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever went away needs no greeting.
                drop(stream.and_then(|mut stream| stream.write_all(b"hello\n")));
            }
        });
    }
}

async fn serve_hub(machine: &Rootless, sockets: &HubSocketPaths, by: Side) -> Running {
    let HubSocketPaths {
        hub,
        ingester,
        verdict,
    } = sockets;
    let paths = [hub, ingester, verdict].map(|path| path.to_str().unwrap());
    let command = match by {
        Side::Ours => machine.ours(&[
            "serve",
            "--clearance-socket",
            paths[0],
            "--reader-socket",
            paths[1],
            "--verdict-socket",
            paths[2],
        ]),
        Side::Theirs(_) => machine.script("hub.py", &paths),
    };
    machine.serve(command, &[hub, ingester]).await
}

async fn helper(machine: &Rootless, sockets: &HubSocketPaths, by: Side) -> Running {
    let socket = sockets.verdict.to_str().unwrap();
    let command = match by {
        Side::Ours => {
            let shield = machine.stack().program("terok-shield");
            let shield = shield.to_str().unwrap();
            let mut ours = machine.ours(&["serve-verdict", "--shield", shield]);
            ours.args(["--verdict-socket", socket]);
            ours
        }
        Side::Theirs(_) => machine.script("verdict_server.py", &[socket]),
    };
    machine.serve(command, &[&sockets.verdict]).await
}

async fn ours_all_the_way(stack: Stack) {
    let world = World::new(stack, Side::Theirs(stack), Side::Ours, Side::Ours).await;
    let mut prompt = Prompt::new(&world);
    world.the_whole_way(&mut prompt).await;
}

/// What a shield opened stays open for the next container of the same name; the question says so.
async fn an_answer_outlives_the_container(stack: Stack) {
    let world = World::new(stack, Side::Theirs(stack), Side::Ours, Side::Ours).await;
    let mut prompt = Prompt::new(&world);
    world.start(&mut prompt).await;
    assert_eq!(world.connect(ALLOWED).await, None);
    let asked = prompt.next("pending").await;
    assert_eq!(asked["scope"]["keep"], "until_removed", "{asked}");
    let list = world.machine.ours(&["list"]);
    let list = world.machine.done(list).await;
    let words: Vec<_> = list.split_whitespace().collect();
    let words = words.join(" ");
    let reach =
        format!("EVERY port and protocol of {ALLOWED}, until it is removed from the firewall");
    assert!(words.contains(&reach), "{list}");
    assert!(!words.contains("while the sandbox lives"), "{list}");
    prompt.0.say(&format!("a {}", asked["row"])).await;
    let decided = prompt.next("decided").await;
    assert_eq!(decided["scope"]["keep"], "until_removed", "{decided}");
    assert_eq!(world.connect(ALLOWED).await.as_deref(), Some("hello\n"));
    let machine = &world.machine;
    machine.stop(&world.container).await;
    machine.remove(&world.container).await;
    let next = machine.create(&world.container.name).await;
    machine.start(&next).await;
    let connected = machine.connect(&next, ALLOWED).await;
    assert_eq!(connected.as_deref(), Some("hello\n"));
    assert_eq!(machine.connect(&next, DENIED).await, None);
}

#[tokio::test]
async fn an_answer_outlives_the_container_with_shield_0_9_0() {
    an_answer_outlives_the_container(Stack::V0_8_1).await;
}

#[tokio::test]
async fn an_answer_outlives_the_container_with_shield_0_8_0() {
    an_answer_outlives_the_container(Stack::V0_8_0).await;
}

#[tokio::test]
async fn an_answer_outlives_the_container_with_shield_0_7_0() {
    an_answer_outlives_the_container(Stack::V0_7_0).await;
}

#[tokio::test]
async fn our_prompt_hub_and_helper_with_shield_0_9_0() {
    ours_all_the_way(Stack::V0_8_1).await;
}

#[tokio::test]
async fn our_prompt_hub_and_helper_with_shield_0_8_0() {
    ours_all_the_way(Stack::V0_8_0).await;
}

#[tokio::test]
async fn our_prompt_hub_and_helper_with_shield_0_7_0() {
    ours_all_the_way(Stack::V0_7_0).await;
}

#[tokio::test]
async fn our_hub_with_the_python_helper() {
    let world = World::new(STACK, THEIRS, Side::Ours, THEIRS).await;
    let mut client = Client::new(&world).await;
    world.the_whole_way(&mut client).await;
}

#[tokio::test]
async fn the_python_hub_with_our_helper() {
    let world = World::new(STACK, THEIRS, THEIRS, Side::Ours).await;
    let mut client = Client::new(&world).await;
    world.the_whole_way(&mut client).await;
}

#[tokio::test]
async fn the_hook_starts_our_reader_below_our_hub() {
    let world = World::new(STACK, Side::Ours, Side::Ours, Side::Ours).await;
    world.the_whole_way(&mut Prompt::new(&world)).await;
}

#[tokio::test]
async fn the_hook_starts_our_reader_below_the_python_stack() {
    let world = World::new(STACK, Side::Ours, THEIRS, THEIRS).await;
    let mut client = Client::new(&world).await;
    world.the_whole_way(&mut client).await;
}

#[tokio::test]
async fn the_python_stack_all_the_way_for_comparison() {
    let world = World::new(STACK, THEIRS, THEIRS, THEIRS).await;
    let mut client = Client::new(&world).await;
    world.the_whole_way(&mut client).await;
}

/// The container, the address, the name and the action.
type Order<'a> = (&'a str, &'a str, &'a str, &'a str);

/// A hub and a helper of the same kind, and the Python client of both.
struct Pair {
    reader: Running,
    client: Client,
    _parts: [Running; 2],
}

impl Pair {
    async fn new(machine: &Rootless, sockets: &HubSocketPaths, by: Side) -> Self {
        let helper = helper(machine, sockets, by).await;
        let hub = serve_hub(machine, sockets, by).await;
        let mut client = Client::of(machine, sockets).await;
        let mut reader = machine.reporter(&sockets.ingester);
        client.listens(&mut reader).await;
        Self {
            reader,
            client,
            _parts: [helper, hub],
        }
    }

    /// Asks about what a reader would report, and returns what becomes of the answer: what the
    /// client hears, the error without the times of the program's log, what the client returns.
    async fn order(&mut self, (container, dest, domain, action): Order<'_>) -> Vec<Value> {
        let id = format!("{container}:{action}");
        let event = json!({"type": "pending", "container": container, "id": id, "dest": dest,
            "port": 443, "proto": 6, "domain": domain, "dossier": {}, "ts": ""});
        self.reader.say(&event.to_string()).await;
        let asked = self.client.next("connection_blocked").await;
        assert_eq!(asked["request_id"], id.as_str());
        let mut said = self.client.verdict(&asked, action).await;
        for said in &mut said {
            if let Some(Value::String(stderr)) = said.pointer_mut("/parameters/stderr") {
                *stderr = without_times(stderr);
            }
        }
        said
    }
}

/// Takes the times of a log out of a text, and the line breaks, which our hub shows as blanks.
fn without_times(text: &str) -> String {
    let time = |word: &str| {
        let marks = word.bytes().filter(|b| b"-:,".contains(b)).count();
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        marks >= 2 && marks + digits == word.len()
    };
    let words = text.split_whitespace();
    // The dash of one of its lines is not ASCII: ours show a blank there.
    let words = words.filter(|word| word.is_ascii() && !time(word));
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_the_real_program_says_is_told_alike() {
    let machine = Rootless::new(STACK).await;
    let container = machine.create("box").await;
    machine.start(&container).await;
    let id = container.id.short();
    let elsewhere = RuntimeDir::new("/run/user/1000")
        .sandbox_sockets(&"0123456789ab".parse().unwrap(), SocketLayout::D);
    let mut us = Pair::new(&machine, &machine.sockets(&container), Side::Ours).await;
    let mut them = Pair::new(&machine, &elsewhere, THEIRS).await;
    // No name server answers there.
    let nameless = (id, "198.51.100.9", "nothing.invalid", "allow");
    let mut told = Vec::new();
    for _again in 0..2 {
        // The question is still there after a failure, and can be answered again.
        told = us.order(nameless).await;
        assert_eq!(told, them.order(nameless).await);
    }
    let error = |told: &[Value], action: &str| {
        assert_eq!(told[0]["event"]["ok"], false, "{told:?}");
        assert_eq!(told[1]["error"], "org.terok.Clearance1.ShieldCliFailed");
        assert_eq!(told[1]["parameters"]["action"], action);
        assert_eq!(told[2], json!({"verdict": false}));
        told[1]["parameters"]["stderr"].as_str().unwrap().to_owned()
    };
    let reason = error(&told, "allow");
    // The end of what it said is what a person needs.
    assert!(
        reason.ends_with(&format!("Error: No IPs allowed for {id}")),
        "{reason}"
    );
    let hub = machine.sockets(&container).hub;
    let args = ["--json", "clearance", "--socket", hub.to_str().unwrap()];
    let mut prompt = Prompt(Running::start(&mut machine.ours(&args)));
    let asked = prompt.next("pending").await;
    prompt.0.say(&format!("a {}", asked["row"])).await;
    let failed = prompt.next("failed").await["reason"].clone();
    assert!(
        failed
            .as_str()
            .unwrap()
            .ends_with(&format!("Error: No IPs allowed for {id}")),
        "{failed}"
    );

    machine.stop(&container).await;
    for (container, action, reason) in [
        (id, "allow", "nsenter: neither filename nor target pid"),
        (
            "nobody",
            "allow",
            "container 'nobody' has no 'terok.shield.state_dir'",
        ),
        (
            "nobody",
            "deny",
            "container 'nobody' has no 'terok.shield.state_dir'",
        ),
    ] {
        let order = (container, "203.0.113.7", "", action);
        let told = us.order(order).await;
        assert_eq!(told, them.order(order).await);
        let told = error(&told, action);
        assert!(told.contains(reason), "{told}");
    }
    // It takes that for done, as it does what it can and keeps the rest for the next start.
    let order = (id, "203.0.113.7", "", "deny");
    let told = us.order(order).await;
    assert_eq!(told, them.order(order).await);
    assert_eq!(told[0]["event"]["ok"], true, "{told:?}");
    assert_eq!(told[1..], [json!({"verdict": true})]);
}

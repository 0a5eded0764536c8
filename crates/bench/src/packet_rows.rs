// SPDX-License-Identifier: Apache-2.0
//! The supervisor on real packets, beside what the kernel alone takes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use netns::ProcessHandle;
use reader::nflog::{NflogOptions, NflogSocket};
use rustix::net::RecvFlags;
use rustix::net::sockopt::Timeout;
use serde_json::Value;
use shield::NftShield;
use supervisor::{Supervisor, SupervisorConfig};
use tempfile::TempDir;
use terok_clearance::socket::{HubSocketPaths, RuntimeDir, SocketLayout};
use terok_clearance::{ContainerId, Dossier};
use tokio_util::sync::CancellationToken;

use crate::gauge::{Stopwatch, Times};
use crate::program::{Kind, Program};
use crate::report::{Goal, Report, Row};
use crate::sandbox::{Sender, connect, netfilter, policy};
use crate::shield_rows::bare_elements;

const CONTAINER: &str = "bench";
const TURNS: usize = 10;

/// Measures every row about packets; `part` is what to divide the rounds by. To be run in a
/// network namespace of its own.
pub(crate) fn measure(report: &mut Report, part: usize) -> anyhow::Result<()> {
    connect()?;
    packets(report, 10_000 / part)?;
    answers(report, 3_000 / part)?;
    idle(report, part)
}

/// From a dropped packet to whoever waits for it.
fn packets(report: &Report, rounds: usize) -> anyhow::Result<()> {
    let name = "dropped packet to event";
    if !report.wants(name) {
        return Ok(());
    }
    let mut sender = Sender::new()?;
    let (mut floor, mut one, mut two) = (Times::default(), Times::default(), Times::default());
    // By turns, so that what else the machine does falls on all of them.
    for _ in 0..TURNS {
        floor.append(bare_reader(&mut sender, rounds / TURNS)?);
        for (interface, times) in [("Clearance1", &mut one), ("Clearance2", &mut two)] {
            let supervisor = Running::start(std::process::id())?;
            let events = supervisor.subscribe(interface)?;
            times.append(latency(&mut sender, &events, rounds / TURNS)?);
        }
    }
    for (interface, mut ours) in [("Clearance1", one), ("Clearance2", two)] {
        for (percent, goal) in [(50, Goal::TimesFloor(2.0)), (99, Goal::None)] {
            report.add(&Row {
                floor: Some(floor.percentile(percent)),
                ..Row::new(
                    format!("{name}, {interface}, p{percent}"),
                    "µs",
                    ours.percentile(percent),
                    goal,
                )
            });
        }
    }
    Ok(())
}

/// Sends one packet after the other, each when the one before has arrived.
fn latency(
    sender: &mut Sender,
    arrivals: &Receiver<(u16, Stopwatch)>,
    rounds: usize,
) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for round in 0..rounds + rounds / 10 {
        let (_, port) = sender.next();
        let sent = Stopwatch::start();
        sender.send()?;
        let arrived = loop {
            let (its, arrived) = arrivals
                .recv_timeout(Duration::from_secs(5))
                .context("waiting for a packet's event")?;
            if its == port {
                break arrived;
            }
        };
        if round >= rounds / 10 {
            times.push(arrived.since(sent));
        }
    }
    Ok(times)
}

/// Reads the packet log under the same rules, and does nothing else.
fn bare_reader(sender: &mut Sender, rounds: usize) -> anyhow::Result<Times> {
    let _shield = NftShield::engage(netfilter()?, &policy()?)?;
    let runtime = runtime()?;
    let socket = {
        let _within = runtime.enter();
        NflogSocket::bind(netfilter()?, NflogOptions::QUESTIONS)?
    };
    // So that the thread below sees that nobody waits any more.
    let limit = Some(Duration::from_millis(100));
    rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, limit)
        .context("setting a time limit")?;
    let (tell, arrivals) = channel();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; 8192];
            while !done.load(Ordering::Relaxed) {
                let Ok((length, _)) = rustix::net::recv(&socket, &mut bytes, RecvFlags::empty())
                else {
                    continue;
                };
                let arrived = Stopwatch::start();
                let message = bytes.get(..length).unwrap_or_default();
                let log = reader::packet::NflogMessage::parse(message).ok();
                let port = log.and_then(|log| log.packet).map(|packet| packet.port);
                tell.send((port.unwrap_or_default(), arrived)).ok();
            }
        });
        let times = latency(sender, &arrivals, rounds);
        done.store(true, Ordering::Relaxed);
        times
    })
}

/// From an answer to the element that stands in the kernel.
fn answers(report: &Report, rounds: usize) -> anyhow::Result<()> {
    let name = "answer over the socket to set element";
    if !report.wants(name) {
        return Ok(());
    }
    let supervisor = Running::start(std::process::id())?;
    let mut over_socket = Times::default();
    let mut questions = supervisor.questions()?;
    let mut operator = UnixStream::connect(&supervisor.sockets.hub).context("connecting")?;
    let mut sender = Sender::new()?;
    for _ in 0..rounds {
        sender.send()?;
        let request = questions.next()?;
        let call = serde_json::json!({
            "method": "org.terok.Clearance2.Decide",
            "parameters": {
                "request": request["id"],
                "container": request["container"],
                "dest": request["dest"],
                "action": "allow",
            },
        });
        let call = format!("{call}\0");
        let mut reply = [0; 4096];
        let sent = Stopwatch::start();
        operator.write_all(call.as_bytes()).context("answering")?;
        let length = operator
            .read(&mut reply)
            .context("waiting for the hub's word")?;
        over_socket.push(sent.elapsed());
        let reply = reply.get(..length).unwrap_or_default();
        if !String::from_utf8_lossy(reply).contains(r#""ok":true"#) {
            bail!("the hub refused: {}", String::from_utf8_lossy(reply));
        }
    }
    drop(supervisor);

    let mut floor = bare_elements(&policy()?, u32::try_from(rounds)?)?;
    let mut echo = echo(rounds)?;
    for percent in [50, 99] {
        let goal = if percent == 50 {
            Goal::TimesFloor(3.0)
        } else {
            Goal::None
        };
        let floor = floor.percentile(percent);
        report.add(&Row {
            floor: Some(floor + echo.percentile(percent)),
            ..Row::new(
                format!("{name}, p{percent}"),
                "µs",
                over_socket.percentile(percent),
                goal,
            )
        });
    }
    Ok(())
}

/// Measures a call and a reply of the same sizes over a unix socket, with nobody who thinks.
fn echo(rounds: usize) -> anyhow::Result<Times> {
    let (mut here, mut there) = UnixStream::pair().context("making a pair of sockets")?;
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while there.read_exact(&mut bytes[..220]).is_ok() {
            if there.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut times = Times::default();
    let mut bytes = [0; 512];
    for _ in 0..rounds {
        let start = Stopwatch::start();
        here.write_all(&bytes[..220]).context("calling")?;
        here.read_exact(&mut bytes)
            .context("waiting for the reply")?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// What a supervisor takes that has nothing to do, and how long it takes to be ready for it.
fn idle(report: &Report, part: usize) -> anyhow::Result<()> {
    const SANDBOXES: usize = 20;
    #[expect(
        clippy::disallowed_methods,
        reason = "a program's own environment, at its edge"
    )]
    let python = std::env::var_os("CLEARANCE_PYTHON").map(|path| Kind::Python(PathBuf::from(path)));
    let memory = "memory of an idle supervisor, PSS, each of 20";
    if report.wants(memory) {
        let mut sandboxes = Vec::new();
        for _ in 0..SANDBOXES {
            let sandbox = Held::start()?;
            let supervisor = Running::start(sandbox.0.id())?;
            sandboxes.push((supervisor, sandbox));
        }
        let mut ours = 0.0;
        for (supervisor, _) in &sandboxes {
            ours += pss(supervisor.child.id())?;
        }
        drop(sandboxes);
        let python = match &python {
            Some(python) => Some(python_memory(python, SANDBOXES)?),
            None => None,
        };
        let each = |total: f64| total / 20.0;
        report.add(&Row {
            python: python.map(each),
            ..Row::new(memory, "MiB", each(ours), Goal::TimesPython(0.1))
        });
    }

    let start = "supervisor start to both sockets";
    if report.wants(start) {
        let mut ours = Times::default();
        for _ in 0..(50 / part).max(5) {
            let sandbox = Held::start()?;
            ours.push(Running::start(sandbox.0.id())?.start);
        }
        let python = match &python {
            Some(python) => {
                let mut times = Times::default();
                for _ in 0..5 {
                    times.push(Program::start(python)?.start);
                }
                Some(times.percentile(50))
            }
            None => None,
        };
        report.add(&Row {
            python,
            ..Row::new(start, "µs", ours.percentile(50), Goal::TimesPython(0.05))
        });
    }
    Ok(())
}

/// Returns what so many pairs of the Python stack's hub and verdict helper take, in MiB.
fn python_memory(python: &Kind, pairs: usize) -> anyhow::Result<f64> {
    let Kind::Python(interpreter) = python else {
        return Ok(0.0);
    };
    let mut running = Vec::new();
    for _ in 0..pairs {
        let hub = Program::start(python)?;
        let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(directory.path(), private).context("making it private")?;
        let helper = Command::new(interpreter)
            .args(["-m", "terok_clearance.cli.main", "serve-verdict"])
            .env("XDG_RUNTIME_DIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the verdict helper")?;
        let helper = Killed(helper);
        let socket = RuntimeDir::new(directory.path())
            .shared_hub_sockets()
            .verdict;
        wait_for(&socket)?;
        running.push((hub, helper, directory));
    }
    let mut total = 0.0;
    for (hub, helper, _) in &running {
        total += hub.pss()? + pss(helper.0.id())?;
    }
    Ok(total)
}

/// A supervisor in a process of its own.
#[derive(Debug)]
struct Running {
    child: Child,
    sockets: HubSocketPaths,
    /// How long it took from its start until both sockets took connections.
    start: Duration,
    _directory: TempDir,
}

impl Running {
    fn start(pid: u32) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
        let container: ContainerId = CONTAINER.parse()?;
        let sockets =
            RuntimeDir::new(directory.path()).sandbox_sockets(&container, SocketLayout::D);
        let ourselves = std::env::current_exe().context("finding ourselves")?;
        let clock = Stopwatch::start();
        let child = Command::new(ourselves)
            .arg("serve-supervisor")
            .arg(directory.path())
            .arg(pid.to_string())
            .spawn()
            .context("starting a supervisor")?;
        for path in [&sockets.hub, &sockets.ingester] {
            wait_for(path)?;
        }
        Ok(Self {
            child,
            sockets,
            start: clock.elapsed(),
            _directory: directory,
        })
    }

    fn subscribed(&self, interface: &str) -> anyhow::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(&self.sockets.hub).context("subscribing")?;
        let call = format!("{{\"method\":\"org.terok.{interface}.Subscribe\",\"more\":true}}\0");
        stream.write_all(call.as_bytes()).context("subscribing")?;
        Ok(BufReader::with_capacity(64 << 10, stream))
    }

    /// Has a thread wait for events, and tell the port of each and when it came.
    fn subscribe(&self, interface: &str) -> anyhow::Result<Receiver<(u16, Stopwatch)>> {
        let mut events = self.subscribed(interface)?;
        let (tell, arrivals) = channel();
        thread::spawn(move || {
            let mut frame = Vec::new();
            while events
                .read_until(0, &mut frame)
                .is_ok_and(|length| length > 0)
            {
                let arrived = Stopwatch::start();
                let text = String::from_utf8_lossy(&frame);
                let port = text.split_once("\"port\":").and_then(|(_, rest)| {
                    rest.split(|c: char| !c.is_ascii_digit())
                        .next()?
                        .parse()
                        .ok()
                });
                if tell.send((port.unwrap_or_default(), arrived)).is_err() {
                    return;
                }
                frame.clear();
            }
        });
        Ok(arrivals)
    }

    fn questions(&self) -> anyhow::Result<Questions> {
        let events = self.subscribed("Clearance2")?;
        Ok(Questions(events))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The questions of a hub, as they come.
#[derive(Debug)]
struct Questions(BufReader<UnixStream>);

impl Questions {
    fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            let mut frame = Vec::new();
            self.0
                .read_until(0, &mut frame)
                .context("waiting for a question")?;
            if frame.pop() != Some(0) {
                bail!("the hub closed a subscriber");
            }
            let reply: Value = serde_json::from_slice(&frame).context("reading an event")?;
            let event = &reply["parameters"]["event"];
            if event["kind"] == "pending" {
                return Ok(event["request"].clone());
            }
        }
    }
}

/// A process that holds a network namespace of its own.
#[derive(Debug)]
struct Held(Child);

impl Held {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("making a network namespace")?;
        let mut line = String::new();
        let out = child.stdout.as_mut().context("it was piped")?;
        BufReader::new(out)
            .read_line(&mut line)
            .context("waiting for a namespace")?;
        Ok(Self(child))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// A process that ends with its owner.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Guards the network namespace of a process until killed.
pub(crate) fn serve_supervisor(directory: &Path, pid: u32) -> anyhow::Result<()> {
    let config = SupervisorConfig {
        container: CONTAINER.parse()?,
        dossier: Dossier::default(),
        process: ProcessHandle::open(pid).context("finding the sandbox")?,
        policy: policy()?,
        allowed_dests: Vec::new(),
        runtime_dir: RuntimeDir::new(directory),
    };
    runtime()?.block_on(async {
        let supervisor = Supervisor::start(config).context("starting")?;
        supervisor
            .serve(CancellationToken::new())
            .await
            .context("guarding")?;
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

fn wait_for(path: &Path) -> anyhow::Result<()> {
    let clock = Stopwatch::start();
    while UnixStream::connect(path).is_err() {
        if clock.elapsed() > Duration::from_secs(30) {
            bail!("nobody made a socket at {}", path.display());
        }
        thread::sleep(Duration::from_micros(20));
    }
    Ok(())
}

/// Returns a process's proportional set size in MiB.
fn pss(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: Option<f64> = kib.and_then(|kib| kib.parse().ok());
    Ok(kib.with_context(|| format!("{path} has no Pss"))? / 1024.0)
}

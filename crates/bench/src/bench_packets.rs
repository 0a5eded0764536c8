// SPDX-License-Identifier: Apache-2.0
//! The supervisor with real packets, compared with the time that the kernel needs.

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
use supervisor::{DossierSource, HoldLimit, NameAccess, Supervisor, SupervisorConfig};
use tempfile::TempDir;
use terok_clearance::ContainerId;
use terok_clearance::socket::{HubSocketPaths, RuntimeDir, SocketLayout};
use test_support::child::ChildGuard;
use test_support::directory::private_directory;
use test_support::namespaces::NamespaceHolder;
use tokio_util::sync::CancellationToken;

use crate::bench_netns::{PacketSender, bench_policy, open_netfilter_socket, set_up_route};
use crate::bench_shield::measure_bare_elements;
use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::measured_program::{MeasuredProgram, ProgramKind};
use crate::proc_stats::pss_mib;
use crate::report::{BenchGoal, BenchReport, BenchRow};

const CONTAINER_NAME: &str = "bench";
const INTERLEAVED_RUNS: usize = 10;

/// Measures every row about packets. `part` divides the number of rounds. Must run in a private
/// network namespace.
pub(crate) fn measure(report: &mut BenchReport, part: usize) -> anyhow::Result<()> {
    set_up_route()?;
    bench_packet_latency(report, 10_000 / part)?;
    bench_answer_latency(report, 3_000 / part)?;
    bench_idle_supervisor(report, part)
}

/// Measures the time from a dropped packet to the event at a subscriber.
fn bench_packet_latency(report: &BenchReport, rounds: usize) -> anyhow::Result<()> {
    let name = "dropped packet to event";
    if !report.includes(name) {
        return Ok(());
    }
    let mut sender = PacketSender::new()?;
    let (mut floor, mut one, mut two) = (
        LatencySamples::default(),
        LatencySamples::default(),
        LatencySamples::default(),
    );
    // Runs alternate, so that other load on the machine affects all measurements.
    for _ in 0..INTERLEAVED_RUNS {
        floor.append(measure_bare_reader(&mut sender, rounds / INTERLEAVED_RUNS)?);
        for (interface, times) in [("Clearance1", &mut one), ("Clearance2", &mut two)] {
            let supervisor = SupervisorProcess::start(std::process::id())?;
            let events = supervisor.receive_arrivals(interface)?;
            times.append(measure_packet_latency(
                &mut sender,
                &events,
                rounds / INTERLEAVED_RUNS,
            )?);
        }
    }
    for (interface, mut ours) in [("Clearance1", one), ("Clearance2", two)] {
        for (percent, goal) in [(50, BenchGoal::TimesFloor(2.0)), (99, BenchGoal::None)] {
            report.print_row(&BenchRow {
                floor: Some(floor.percentile_us(percent)),
                ..BenchRow::new(
                    format!("{name}, {interface}, p{percent}"),
                    "µs",
                    ours.percentile_us(percent),
                    goal,
                )
            });
        }
    }
    Ok(())
}

/// Sends packets one after the other, each after the event of the previous packet.
fn measure_packet_latency(
    sender: &mut PacketSender,
    arrivals: &Receiver<(u16, SpanTimer)>,
    rounds: usize,
) -> anyhow::Result<LatencySamples> {
    let mut times = LatencySamples::default();
    for round in 0..rounds + rounds / 10 {
        let (_, port) = sender.next_dest();
        let sent = SpanTimer::start();
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

/// Reads the packet log under the same firewall rules, without further processing.
fn measure_bare_reader(sender: &mut PacketSender, rounds: usize) -> anyhow::Result<LatencySamples> {
    let _shield = NftShield::engage(open_netfilter_socket()?, &bench_policy()?)?;
    let runtime = build_runtime()?;
    let socket = {
        let _within = runtime.enter();
        NflogSocket::bind(open_netfilter_socket()?, NflogOptions::QUESTIONS)?
    };
    // Reads time out, so that the thread below notices the end of the measurement.
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
                let arrived = SpanTimer::start();
                let message = bytes.get(..length).unwrap_or_default();
                let log = reader::packet::NflogMessage::parse(message).ok();
                let port = log
                    .and_then(|log| log.packet)
                    .map(|packet| packet.destination_port);
                tell.send((port.unwrap_or_default(), arrived)).ok();
            }
        });
        let times = measure_packet_latency(sender, &arrivals, rounds);
        done.store(true, Ordering::Relaxed);
        times
    })
}

/// Measures the time from an answer to the element in the kernel's set.
fn bench_answer_latency(report: &BenchReport, rounds: usize) -> anyhow::Result<()> {
    let name = "answer over the socket to set element";
    if !report.includes(name) {
        return Ok(());
    }
    let supervisor = SupervisorProcess::start(std::process::id())?;
    let mut over_socket = LatencySamples::default();
    let mut questions = supervisor.subscribe_questions()?;
    let mut operator = UnixStream::connect(&supervisor.sockets.hub).context("connecting")?;
    let mut sender = PacketSender::new()?;
    for _ in 0..rounds {
        sender.send()?;
        let request = questions.next_question()?;
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
        let sent = SpanTimer::start();
        operator.write_all(call.as_bytes()).context("answering")?;
        let length = operator
            .read(&mut reply)
            .context("waiting for the hub's reply")?;
        over_socket.push(sent.elapsed());
        let reply = reply.get(..length).unwrap_or_default();
        if !String::from_utf8_lossy(reply).contains(r#""ok":true"#) {
            bail!("the hub refused: {}", String::from_utf8_lossy(reply));
        }
    }
    drop(supervisor);

    let mut floor = measure_bare_elements(&bench_policy()?, u32::try_from(rounds)?)?;
    let mut echo = measure_socket_echo(rounds)?;
    for percent in [50, 99] {
        let goal = if percent == 50 {
            BenchGoal::TimesFloor(3.0)
        } else {
            BenchGoal::None
        };
        let floor = floor.percentile_us(percent);
        report.print_row(&BenchRow {
            floor: Some(floor + echo.percentile_us(percent)),
            ..BenchRow::new(
                format!("{name}, p{percent}"),
                "µs",
                over_socket.percentile_us(percent),
                goal,
            )
        });
    }
    Ok(())
}

/// Measures a call and a reply of the same sizes over a unix socket, without any processing.
fn measure_socket_echo(rounds: usize) -> anyhow::Result<LatencySamples> {
    let (mut here, mut there) = UnixStream::pair().context("creating a pair of sockets")?;
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while there.read_exact(&mut bytes[..220]).is_ok() {
            if there.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut times = LatencySamples::default();
    let mut bytes = [0; 512];
    for _ in 0..rounds {
        let start = SpanTimer::start();
        here.write_all(&bytes[..220]).context("calling")?;
        here.read_exact(&mut bytes)
            .context("waiting for the reply")?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Measures the memory of idle supervisors and the time that a supervisor needs to start.
fn bench_idle_supervisor(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    const SANDBOX_COUNT: usize = 20;
    #[expect(
        clippy::disallowed_methods,
        reason = "the entry point of a program may read the environment"
    )]
    let python =
        std::env::var_os("CLEARANCE_PYTHON").map(|path| ProgramKind::Python(PathBuf::from(path)));
    let memory = "memory of an idle supervisor, PSS, each of 20";
    if report.includes(memory) {
        let mut sandboxes = Vec::new();
        for _ in 0..SANDBOX_COUNT {
            let sandbox = NamespaceHolder::start(&["--net"]);
            let supervisor = SupervisorProcess::start(sandbox.pid())?;
            sandboxes.push((supervisor, sandbox));
        }
        let mut ours = 0.0;
        for (supervisor, _) in &sandboxes {
            ours += pss_mib(supervisor.child.id())?;
        }
        drop(sandboxes);
        let python = match &python {
            Some(python) => Some(measure_python_memory_mib(python, SANDBOX_COUNT)?),
            None => None,
        };
        let each = |total: f64| total / 20.0;
        report.print_row(&BenchRow {
            python: python.map(each),
            ..BenchRow::new(memory, "MiB", each(ours), BenchGoal::TimesPython(0.1))
        });
    }

    let start = "supervisor start to both sockets";
    if report.includes(start) {
        let mut ours = LatencySamples::default();
        for _ in 0..(50 / part).max(5) {
            let sandbox = NamespaceHolder::start(&["--net"]);
            ours.push(SupervisorProcess::start(sandbox.pid())?.start_time);
        }
        let python = match &python {
            Some(python) => {
                let mut times = LatencySamples::default();
                for _ in 0..5 {
                    times.push(MeasuredProgram::start(python)?.start_time);
                }
                Some(times.percentile_us(50))
            }
            None => None,
        };
        report.print_row(&BenchRow {
            python,
            ..BenchRow::new(
                start,
                "µs",
                ours.percentile_us(50),
                BenchGoal::TimesPython(0.05),
            )
        });
    }
    Ok(())
}

/// Returns the memory in MiB of this number of pairs of the Python stack's hub and verdict helper.
pub(crate) fn measure_python_memory_mib(python: &ProgramKind, pairs: usize) -> anyhow::Result<f64> {
    let ProgramKind::Python(interpreter) = python else {
        return Ok(0.0);
    };
    let mut running = Vec::new();
    for _ in 0..pairs {
        let hub = MeasuredProgram::start(python)?;
        let directory = private_directory();
        let helper = ChildGuard::spawn(
            Command::new(interpreter)
                .args(["-m", "terok_clearance.cli.main", "serve-verdict"])
                .env("XDG_RUNTIME_DIR", directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let socket = RuntimeDir::new(directory.path())
            .shared_hub_sockets()
            .verdict;
        wait_for_socket(&socket)?;
        running.push((hub, helper, directory));
    }
    let mut total = 0.0;
    for (hub, helper, _) in &running {
        total += hub.pss_mib()? + pss_mib(helper.id())?;
    }
    Ok(total)
}

/// A supervisor in a separate process.
#[derive(Debug)]
struct SupervisorProcess {
    child: Child,
    sockets: HubSocketPaths,
    /// The time from the start until both sockets accepted connections.
    start_time: Duration,
    _directory: TempDir,
}

impl SupervisorProcess {
    fn start(pid: u32) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
        let container: ContainerId = CONTAINER_NAME.parse()?;
        let sockets =
            RuntimeDir::new(directory.path()).sandbox_sockets(&container, SocketLayout::D);
        let ourselves = std::env::current_exe().context("finding the path of this program")?;
        let clock = SpanTimer::start();
        let child = Command::new(ourselves)
            .arg("serve-supervisor")
            .arg(directory.path())
            .arg(pid.to_string())
            .spawn()
            .context("starting a supervisor")?;
        for path in [&sockets.hub, &sockets.ingester] {
            wait_for_socket(path)?;
        }
        Ok(Self {
            child,
            sockets,
            start_time: clock.elapsed(),
            _directory: directory,
        })
    }

    fn open_subscription(&self, interface: &str) -> anyhow::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(&self.sockets.hub).context("subscribing")?;
        let call = format!("{{\"method\":\"org.terok.{interface}.Subscribe\",\"more\":true}}\0");
        stream.write_all(call.as_bytes()).context("subscribing")?;
        Ok(BufReader::with_capacity(64 << 10, stream))
    }

    /// Starts a thread that receives events and reports port and arrival time of each event.
    fn receive_arrivals(&self, interface: &str) -> anyhow::Result<Receiver<(u16, SpanTimer)>> {
        let mut events = self.open_subscription(interface)?;
        let (tell, arrivals) = channel();
        thread::spawn(move || {
            let mut frame = Vec::new();
            while events
                .read_until(0, &mut frame)
                .is_ok_and(|length| length > 0)
            {
                let arrived = SpanTimer::start();
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

    fn subscribe_questions(&self) -> anyhow::Result<BenchQuestionStream> {
        let events = self.open_subscription("Clearance2")?;
        Ok(BenchQuestionStream(events))
    }
}

impl Drop for SupervisorProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The stream of a hub's questions.
#[derive(Debug)]
struct BenchQuestionStream(BufReader<UnixStream>);

impl BenchQuestionStream {
    fn next_question(&mut self) -> anyhow::Result<Value> {
        loop {
            let mut frame = Vec::new();
            self.0
                .read_until(0, &mut frame)
                .context("waiting for a question")?;
            if frame.pop() != Some(0) {
                bail!("the hub closed a subscriber's connection");
            }
            let reply: Value = serde_json::from_slice(&frame).context("reading an event")?;
            let event = &reply["parameters"]["event"];
            if event["kind"] == "pending" {
                return Ok(event["request"].clone());
            }
        }
    }
}

/// Runs a supervisor for the network namespace of process `pid` until killed.
pub(crate) fn serve_supervisor(directory: &Path, pid: u32) -> anyhow::Result<()> {
    let config = SupervisorConfig {
        container: CONTAINER_NAME.parse()?,
        dossier: DossierSource::default(),
        processes: ProcessHandle::open(pid)
            .context("finding the sandbox")?
            .into(),
        names: NameAccess::Resolvers(bench_policy()?),
        allowed_dests: Vec::new(),
        hold: HoldLimit::Refuse,
        allow_capabilities: true,
        runtime_dir: RuntimeDir::new(directory),
        journal: None,
    };
    build_runtime()?.block_on(async {
        let supervisor = Supervisor::start(config).context("starting")?;
        supervisor
            .serve(CancellationToken::new())
            .await
            .context("guarding")?;
        Ok(())
    })
}

fn build_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

fn wait_for_socket(path: &Path) -> anyhow::Result<()> {
    let clock = SpanTimer::start();
    while UnixStream::connect(path).is_err() {
        if clock.elapsed() > Duration::from_secs(30) {
            bail!("no socket appeared at {}", path.display());
        }
        thread::sleep(Duration::from_micros(20));
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! The dialed way: the real `terok-clearance run`, with a probe as its command.
//!
//! All rows are measured in a private network namespace whose only route leads nowhere. The servers
//! are threads of this program on loopback, which the sandbox reaches as `host.internal`. The floor
//! is the same deed by a probe without a sandbox.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use terok_clearance::{Client, DecisionAction, Event, EventStream, Request, StreamUpdate};

use crate::bench_flood::{FLOOD, measure_floods};
use crate::bench_netns::{run_in_namespaces, set_up_route};
use crate::dialed_peers::{CommandCost, CommandSandbox, RootlessNetwork, start_dnsmasq};
use crate::latency_samples::{LatencySamples, SpanTimer, median};
use crate::loopback_servers::{ServerKind, serve_tcp, serve_udp_echo};
use crate::many_hubs::raise_fd_limit;
use crate::measured_run::{MeasuredRun, ProbeProcess, to_figure};
use crate::probe::{BULK_CHUNK, monotonic_ns};
use crate::report::{BenchGoal, BenchReport, BenchRow};

const CONNECT: &str = "dialed: new allowed connection";
const ANSWER: &str = "dialed: answer to connect() returns";
const PACKET: &str = "dialed: first packet to question";
const UPLOAD: &str = "dialed: bulk upload";
const DOWNLOAD: &str = "dialed: bulk download";
const ECHO: &str = "dialed: UDP echo";
const LOOKUP: &str = "dialed: lookup of an unasked name";
const RUN_TRUE: &str = "dialed: run -- true";
const MEMORY: &str = "dialed: supervisor";
const OWN_UNIX: &str = "dialed: connect to a unix socket inside";
const OWN_LOOPBACK: &str = "dialed: connect to a server inside";
const ROWS: [&str; 12] = [
    OWN_UNIX,
    OWN_LOOPBACK,
    CONNECT,
    ANSWER,
    PACKET,
    UPLOAD,
    DOWNLOAD,
    ECHO,
    LOOKUP,
    RUN_TRUE,
    MEMORY,
    FLOOD,
];

/// Rounds in which the sandbox and the floor alternate.
const ROUNDS: usize = 10;
const BULK_BYTES: u64 = 1 << 30;
const IDLE_CONNECTIONS: u32 = 1000;
const FLOOD_PACKETS: usize = 200_000;
/// Time for packets of a question before its answer, so that only the answer is measured.
const ANSWER_PAUSE: Duration = Duration::from_millis(5);
/// The time after which a missing event fails the benchmark.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures every row about the dialed way, in a namespace without a way out.
pub(crate) fn measure(report: &BenchReport) -> anyhow::Result<()> {
    if !ROWS.iter().any(|row| report.includes(row)) {
        return Ok(());
    }
    let mut again = vec!["dialed-rows".to_owned()];
    again.extend(std::env::args().skip(1));
    let status = run_in_namespaces(&again)?;
    ensure!(
        status.success(),
        "measuring the rows about the dialed way failed: {status}"
    );
    Ok(())
}

/// Measures every row in the current namespace. `part` divides the number of rounds.
pub(crate) fn measure_in_namespace(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    set_up_route()?;
    raise_fd_limit();
    measure_own_sockets(report, part)?;
    measure_traffic(report, part)?;
    measure_questions(report, part)?;
    measure_bulk(report, part)?;
    measure_lookups(report, part)?;
    measure_commands(report, part)?;
    measure_memory(report, part)?;
    measure_floods(report, part)
}

fn print_percentiles(
    report: &BenchReport,
    name: &str,
    ours: &mut LatencySamples,
    floor: &mut LatencySamples,
    goal: BenchGoal,
) {
    for percent in [50, 99] {
        let figure = ours.percentile_us(percent);
        report.print_row(&BenchRow {
            floor: Some(floor.percentile_us(percent)),
            // A tail next to other processes says little: only the median has a goal.
            ..BenchRow::new(
                format!("{name}, p{percent}"),
                "µs",
                figure,
                if percent == 50 { goal } else { BenchGoal::None },
            )
        });
    }
}

/// Measures connections within the sandbox, which its first process makes for the command.
fn measure_own_sockets(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    let rows = [
        (OWN_UNIX, "connect-own-unix"),
        (OWN_LOOPBACK, "connect-own-loopback"),
    ];
    if !rows.iter().any(|(name, _)| report.includes(name)) {
        return Ok(());
    }
    let mut sandbox = MeasuredRun::start(&[])?;
    let mut straight = ProbeProcess::start_straight()?;
    for (name, verb) in rows {
        if !report.includes(name) {
            continue;
        }
        let command = format!("{verb} {}", 5000 / part / ROUNDS);
        // The first round is not counted.
        sandbox.probe.measure(&command)?;
        straight.measure(&command)?;
        let (mut ours, mut floor) = (LatencySamples::default(), LatencySamples::default());
        for _ in 0..ROUNDS {
            sandbox.probe.sample(&command, &mut ours)?;
            straight.sample(&command, &mut floor)?;
        }
        print_percentiles(report, name, &mut ours, &mut floor, BenchGoal::None);
    }
    Ok(())
}

/// Measures new connections and datagrams to allowed destinations.
fn measure_traffic(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !(report.includes(CONNECT) || report.includes(ECHO)) {
        return Ok(());
    }
    let (tcp, udp) = (serve_tcp(ServerKind::Close)?, serve_udp_echo()?);
    let mut sandbox = MeasuredRun::start(&[tcp, udp])?;
    let mut straight = ProbeProcess::start_straight()?;
    let goal = BenchGoal::MoreThanFloor(300.0);
    for (name, verb, port, count, goal) in [
        (CONNECT, "connect", tcp, 1000, goal),
        (ECHO, "udp-echo", udp, 5000, BenchGoal::None),
    ] {
        if !report.includes(name) {
            continue;
        }
        let count = count / part / ROUNDS;
        let inside = format!("{verb} host.internal {port} {count}");
        let outside = format!("{verb} 127.0.0.1 {port} {count}");
        // The first round is not counted.
        sandbox.probe.measure(&inside)?;
        straight.measure(&outside)?;
        let (mut ours, mut floor) = (LatencySamples::default(), LatencySamples::default());
        for _ in 0..ROUNDS {
            sandbox.probe.sample(&inside, &mut ours)?;
            straight.sample(&outside, &mut floor)?;
        }
        print_percentiles(report, name, &mut ours, &mut floor, goal);
    }
    Ok(())
}

/// Measures the way of a question to an operator, and of the answer back.
fn measure_questions(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !(report.includes(ANSWER) || report.includes(PACKET)) {
        return Ok(());
    }
    let ports = (0..(200 / part).max(20))
        .map(|_| serve_tcp(ServerKind::Close))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut sandbox = MeasuredRun::start(&[])?;
    let mut straight = ProbeProcess::start_straight()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let hub = sandbox.hub_path()?;
    let (client, mut events) = runtime.block_on(Client::start_answering(hub))?;
    let mut answer = LatencySamples::default();
    let mut packet = LatencySamples::default();
    let mut floor = LatencySamples::default();
    for port in ports {
        let command = format!("timed-connect host.internal {port}");
        sandbox.probe.begin(&command)?;
        let question = runtime.block_on(next_question(&mut events, port))?;
        let asked = monotonic_ns();
        thread::sleep(ANSWER_PAUSE);
        let answered = monotonic_ns();
        let decided = runtime.block_on(client.decide(&question, DecisionAction::Allow, None))?;
        ensure!(decided.ok, "an answer was refused: {decided:?}");
        let [start, end] = *sandbox.probe.finish(&command)?.as_slice() else {
            bail!("a probe's reply to {command:?} is no connection");
        };
        packet.push(Duration::from_nanos(asked.saturating_sub(start)));
        answer.push(Duration::from_nanos(end.saturating_sub(answered)));
        straight.sample(&format!("connect 127.0.0.1 {port} 1"), &mut floor)?;
    }
    if report.includes(ANSWER) {
        let goal = BenchGoal::MoreThanFloor(1000.0);
        print_percentiles(report, ANSWER, &mut answer, &mut floor, goal);
    }
    if report.includes(PACKET) {
        print_percentiles(report, PACKET, &mut packet, &mut floor, BenchGoal::None);
    }
    Ok(())
}

/// Waits for the question about a port.
async fn next_question(
    events: &mut EventStream,
    port: u16,
) -> anyhow::Result<std::sync::Arc<Request>> {
    let next = async {
        loop {
            match events.next().await {
                StreamUpdate::Event(Event::Pending(request)) if request.port == port => {
                    return Ok(request);
                }
                StreamUpdate::Disconnected { reason, .. } => {
                    bail!("the run closed the connection of its operator: {reason}")
                }
                _ => {}
            }
        }
    };
    let limited = tokio::time::timeout(EVENT_TIMEOUT, next).await;
    limited.with_context(|| format!("no question about port {port}"))?
}

/// Measures bulk transfers, also through other ways out of a namespace.
fn measure_bulk(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    let bytes = BULK_BYTES / u64::try_from(part)?;
    let bytes = bytes - bytes % u64::try_from(BULK_CHUNK)?;
    let rounds = if part == 1 { 5 } else { 3 };
    for (name, kind) in [
        (UPLOAD, ServerKind::Receive),
        (DOWNLOAD, ServerKind::Send(bytes)),
    ] {
        if !report.includes(name) {
            continue;
        }
        let server = serve_tcp(kind)?;
        let command = |host: &str| match kind {
            ServerKind::Receive => format!("upload {host} {server} {bytes}"),
            _ => format!("download {host} {server}"),
        };
        let mut sandbox = MeasuredRun::start(&[server])?;
        let mut straight = ProbeProcess::start_straight()?;
        let mut peers = RootlessNetwork::ALL
            .map(|peer| {
                peer.start_probe()
                    .map(|started| (peer, started, Vec::new()))
            })
            .into_iter()
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(sandbox.probe.measure_speed(&command("host.internal"))?);
            floor.push(straight.measure_speed(&command("127.0.0.1"))?);
            for (peer, started, speeds) in &mut peers {
                if let Some((probe, _)) = started {
                    speeds.push(probe.measure_speed(&command(peer.outside_loopback()))?);
                }
            }
        }
        let ours = median(&ours);
        report.print_row(&BenchRow {
            floor: Some(median(&floor)),
            ..BenchRow::new(name, "MB/s", ours, BenchGoal::AtLeastTimesFloor(0.8))
        });
        for (peer, started, speeds) in &peers {
            let figure = started.as_ref().map(|_| median(speeds));
            let goal = match peer {
                RootlessNetwork::Pasta => BenchGoal::AtLeastTimesFloor(3.0),
                RootlessNetwork::Slirp4netns => BenchGoal::None,
            };
            print_peer_row(report, name, "MB/s", ours, (peer.program(), figure), goal);
        }
    }
    Ok(())
}

/// Prints a row with a peer's figure in place of the floor.
fn print_peer_row(
    report: &BenchReport,
    name: &str,
    unit: &'static str,
    ours: f64,
    (peer, figure): (&str, Option<f64>),
    goal: BenchGoal,
) {
    let name = match figure {
        Some(_) => format!("{name}, floor: {peer}"),
        None => format!("{name}, {peer}: not installed"),
    };
    report.print_row(&BenchRow {
        floor: figure,
        ..BenchRow::new(name, unit, ours, goal)
    });
}

/// Measures lookups of a name that no rule allows, one after the other.
fn measure_lookups(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !report.includes(LOOKUP) {
        return Ok(());
    }
    let mut sandbox = MeasuredRun::start(&[])?;
    let mut straight = ProbeProcess::start_straight()?;
    let dnsmasq = start_dnsmasq()?;
    let count = 2000 / part / ROUNDS;
    let inside = format!("lookup own 53 {count}");
    sandbox.probe.measure(&inside)?;
    let (mut ours, mut peer) = (LatencySamples::default(), LatencySamples::default());
    for _ in 0..ROUNDS {
        sandbox.probe.sample(&inside, &mut ours)?;
        if let Some((_, port)) = &dnsmasq {
            straight.sample(&format!("lookup 127.0.0.1 {port} {count}"), &mut peer)?;
        }
    }
    for percent in [50, 99] {
        let name = format!("{LOOKUP}, p{percent}");
        let figure = dnsmasq.as_ref().map(|_| peer.percentile_us(percent));
        let goal = if percent == 50 {
            BenchGoal::TimesFloor(1.0)
        } else {
            BenchGoal::None
        };
        let ours = ours.percentile_us(percent);
        print_peer_row(report, &name, "µs", ours, ("dnsmasq", figure), goal);
    }
    Ok(())
}

/// Measures a whole sandbox whose command ends at once.
fn measure_commands(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !report.includes(RUN_TRUE) {
        return Ok(());
    }
    let sandboxes = [
        (CommandSandbox::Ours, BenchGoal::None),
        (CommandSandbox::Bwrap, BenchGoal::TimesFloor(3.0)),
        (CommandSandbox::Srt, BenchGoal::TimesFloor(0.05)),
    ];
    let mut costs = sandboxes.map(|_| (CommandCost::default(), false));
    for _ in 0..(15 / part).max(3) {
        for ((sandbox, _), (cost, installed)) in sandboxes.iter().zip(&mut costs) {
            *installed = sandbox.run_true(cost)?;
        }
    }
    let [(ours, _), ..] = &costs;
    for ((sandbox, goal), (cost, installed)) in sandboxes.iter().zip(&costs) {
        if *sandbox == CommandSandbox::Ours {
            continue;
        }
        let peer = sandbox.program();
        for (what, ours, figure, goal) in [
            ("wall time", ours.wall_ms(), cost.wall_ms(), *goal),
            (
                "processor time",
                ours.cpu_ms(),
                cost.cpu_ms(),
                BenchGoal::None,
            ),
        ] {
            let name = format!("{RUN_TRUE}, {what}");
            let figure = installed.then_some(figure);
            print_peer_row(report, &name, "ms", ours, (peer, figure), goal);
        }
    }
    Ok(())
}

/// Measures the memory of the supervisor: idle, with many connections, and after a flood.
fn measure_memory(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !report.includes(MEMORY) {
        return Ok(());
    }
    let server = serve_tcp(ServerKind::Keep)?;
    let mut sandbox = MeasuredRun::start(&[server])?;
    let mut pss = Vec::new();
    for connections in [1, IDLE_CONNECTIONS - 1] {
        let command = format!("hold host.internal {server} {connections}");
        sandbox.probe.measure(&command)?;
        wait_until_idle(&sandbox)?;
        pss.push(sandbox.probe.program.pss_mib()?);
    }
    if let [one, many] = *pss.as_slice() {
        let each = (many - one) * 1024.0 * 1024.0 / f64::from(IDLE_CONNECTIONS - 1);
        for (what, unit, figure) in [
            ("PSS, 1 idle connection", "MiB", one),
            ("PSS, 1,000 idle connections", "MiB", many),
            ("PSS per further idle connection", "bytes", each),
        ] {
            let name = format!("{MEMORY}, {what}");
            report.print_row(&BenchRow::new(name, unit, figure, BenchGoal::None));
        }
    }
    drop(sandbox);
    let mut sandbox = MeasuredRun::start(&[])?;
    let before = sandbox.probe.program.peak_resident_mib()?;
    let packets = FLOOD_PACKETS / part;
    let clock = SpanTimer::start();
    let sent = sandbox.probe.measure(&format!("flood {packets}"))?;
    wait_until_idle(&sandbox)?;
    let took = clock.elapsed();
    let peak = sandbox.probe.program.peak_resident_mib()?;
    let sent = sent.first().copied().unwrap_or_default();
    for (what, unit, figure) in [
        ("peak RSS before a flood", "MiB", before),
        ("peak RSS after a flood of first packets", "MiB", peak),
        ("first packets sent in that flood", "", to_figure(sent)),
        ("the flood until idle", "ms", took.as_secs_f64() * 1e3),
    ] {
        let name = format!("{MEMORY}, {what}");
        report.print_row(&BenchRow::new(name, unit, figure, BenchGoal::None));
    }
    Ok(())
}

/// Waits until the supervisor used no processor time for a while, at most some seconds.
pub(crate) fn wait_until_idle(sandbox: &MeasuredRun) -> anyhow::Result<()> {
    let clock = SpanTimer::start();
    let mut before = sandbox.probe.program.cpu_time_ms()?;
    while clock.elapsed() < EVENT_TIMEOUT {
        thread::sleep(Duration::from_millis(200));
        let now = sandbox.probe.program.cpu_time_ms()?;
        if now - before < 1.0 {
            break;
        }
        before = now;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! Containers: what a hook adds to the start of a container, and what supervisors cost that guard
//! idle containers.
//!
//! The program, its listener and its supervisors are the real ones. A container is a process in a
//! network namespace of its own. All rows are measured in private namespaces, in which the user is
//! root, as in those of a container engine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::bench_packets::measure_python_memory_mib;
use crate::container_host::{ContainerHost, exchange_line};
use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::many_hubs::raise_fd_limit;
use crate::measured_program::{MeasuredProgram, ProgramKind};
use crate::measured_run::{private_directory, to_figure};
use crate::proc_stats::{cpu_time_ms, descriptor_count, pss_mib};
use crate::report::{BenchGoal, BenchReport, BenchRow};

const HOOK: &str = "containers: hook createRuntime, wall time";
const START: &str = "containers: supervisor, connection to reply";
const IDLE: &str = "containers: idle supervisor";

const ROUNDS: usize = 50;
/// Starts of the Python hub, which takes longer.
const PYTHON_ROUNDS: usize = 5;
const IDLE_CONTAINERS: usize = 1000;
/// The containers of a short run, and the pairs of Python processes. The memory of shared pages is
/// divided by the number of processes, so our supervisors are compared at the same number.
const FEW_CONTAINERS: usize = 20;
/// Time after the last start until what it left to do is done.
const SETTLE_TIME: Duration = Duration::from_secs(12);
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Maximum milliseconds that a hook adds.
const HOOK_GOAL: f64 = 30.0;

/// Measures every row about containers, in private namespaces.
pub(crate) fn measure(report: &BenchReport) -> anyhow::Result<()> {
    if ![HOOK, START, IDLE].iter().any(|row| report.includes(row)) {
        return Ok(());
    }
    let ourselves = std::env::current_exe().context("finding the path of this program")?;
    // The root of the inner user namespace is not the machine's root, even if this program is
    // started by that: a hook finds the start socket in `XDG_RUNTIME_DIR`.
    let status = Command::new("unshare")
        .args(["--user", "--map-user=1000", "--map-group=1000", "--"])
        .args(["unshare", "--user", "--map-root-user", "--net", "--"])
        .arg(ourselves)
        .arg("container-rows")
        .args(std::env::args().skip(1))
        .status()
        .context("creating namespaces with unshare")?;
    ensure!(
        status.success(),
        "measuring the rows about containers failed: {status}"
    );
    Ok(())
}

/// Measures every row in the current namespaces. `part` divides the number of rounds.
pub(crate) fn measure_in_namespaces(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    raise_fd_limit();
    #[expect(
        clippy::disallowed_methods,
        reason = "the entry point of a program may read the environment"
    )]
    let python =
        std::env::var_os("CLEARANCE_PYTHON").map(|path| ProgramKind::Python(PathBuf::from(path)));
    measure_hook(report, (ROUNDS / part).max(5))?;
    measure_start(report, python.as_ref(), (ROUNDS / part).max(5))?;
    let count = if part == 1 {
        IDLE_CONTAINERS
    } else {
        FEW_CONTAINERS
    };
    measure_idle(report, python.as_ref(), count)
}

fn print_times(
    report: &BenchReport,
    name: &str,
    times: &mut LatencySamples,
    floor: Option<&mut LatencySamples>,
    goal: BenchGoal,
) {
    let mut floor = floor;
    for (percent, goal) in [(50, goal), (90, BenchGoal::None)] {
        let floor = floor.as_mut();
        report.print_row(&BenchRow {
            floor: floor.map(|floor| floor.percentile_us(percent) / 1e3),
            ..BenchRow::new(
                format!("{name}, p{percent}"),
                "ms",
                times.percentile_us(percent) / 1e3,
                goal,
            )
        });
    }
}

/// Measures the hook, alternating with a client of a server that starts a program.
fn measure_hook(report: &BenchReport, rounds: usize) -> anyhow::Result<()> {
    if !report.includes(HOOK) {
        return Ok(());
    }
    let directory = private_directory()?;
    let path = directory.path().join("floor.sock");
    let server = UnixListener::bind(&path).context("listening for the floor")?;
    // Ends with this program.
    thread::spawn(move || serve_floor(&server));
    let mut host = ContainerHost::start()?;
    let (mut ours, mut floor) = (LatencySamples::default(), LatencySamples::default());
    for _ in 0..rounds {
        host.add_container()?;
        ours.push(host.time_hook()?);
        floor.push(time_floor(&path)?);
        host.end_containers()?;
    }
    let goal = BenchGoal::AtMost(HOOK_GOAL);
    print_times(report, HOOK, &mut ours, Some(&mut floor), goal);
    Ok(())
}

/// Starts a program for each connection, and replies when it has ended.
fn serve_floor(server: &UnixListener) {
    for stream in server.incoming().map_while(Result::ok) {
        let mut line = String::new();
        let read = BufReader::new(&stream).read_line(&mut line);
        let ran = Command::new("true").status();
        if read.is_err() || ran.is_err() || (&stream).write_all(b"ready\n").is_err() {
            return;
        }
    }
}

fn time_floor(path: &Path) -> anyhow::Result<Duration> {
    let ourselves = std::env::current_exe().context("finding the path of this program")?;
    let mut command = Command::new(ourselves);
    command.arg("start-client").arg(path);
    let clock = SpanTimer::start();
    let status = command.status().context("starting a client")?;
    let took = clock.elapsed();
    ensure!(status.success(), "the client failed: {status}");
    Ok(took)
}

/// The floor of a hook: sends a line to the server, and waits for the reply.
pub(crate) fn run_start_client(path: &Path) -> anyhow::Result<()> {
    ensure!(exchange_line(path, "start")? == "ready\n", "another reply");
    Ok(())
}

/// Measures the start of a supervisor next to that of the Python hub.
fn measure_start(
    report: &BenchReport,
    python: Option<&ProgramKind>,
    rounds: usize,
) -> anyhow::Result<()> {
    if !report.includes(START) {
        return Ok(());
    }
    let mut host = ContainerHost::start()?;
    let (mut ours, mut theirs) = (LatencySamples::default(), LatencySamples::default());
    for round in 0..rounds {
        host.add_container()?;
        ours.push(host.time_supervisor()?);
        host.end_containers()?;
        if let Some(python) = python.filter(|_| round < PYTHON_ROUNDS) {
            theirs.push(MeasuredProgram::start(python)?.start_time);
        }
    }
    report.print_row(&BenchRow {
        python: python.map(|_| theirs.percentile_us(50) / 1e3),
        ..BenchRow::new(
            beside_python(&format!("{START}, p50"), python),
            "ms",
            ours.percentile_us(50) / 1e3,
            BenchGoal::None,
        )
    });
    Ok(())
}

/// Adds to the name of a row that the Python stack was not measured.
fn beside_python(name: &str, python: Option<&ProgramKind>) -> String {
    match python {
        Some(_) => name.to_owned(),
        None => format!("{name} (CLEARANCE_PYTHON is not set)"),
    }
}

/// Measures supervisors of containers that do nothing.
fn measure_idle(
    report: &BenchReport,
    python: Option<&ProgramKind>,
    count: usize,
) -> anyhow::Result<()> {
    if !report.includes(IDLE) {
        return Ok(());
    }
    let few = count.min(FEW_CONTAINERS);
    let python_mib = match python {
        Some(python) => Some(measure_python_memory_mib(python, few)? / figure(few)),
        None => None,
    };
    let mut host = ContainerHost::start()?;
    start_supervisors(&mut host, few)?;
    print_memory(report, &host, few, python_mib)?;
    if count > few {
        start_supervisors(&mut host, count - few - few)?;
        let mut last = start_supervisors(&mut host, few)?;
        report.print_row(&BenchRow::new(
            format!("{START}, the last {few} of {count}, p50"),
            "ms",
            last.percentile_us(50) / 1e3,
            BenchGoal::None,
        ));
        print_memory(report, &host, count, python_mib)?;
    }
    let supervisors = host.supervisors()?;
    let mut descriptors = 0;
    for pid in &supervisors {
        descriptors += descriptor_count(*pid)?;
    }
    report.print_row(&BenchRow::new(
        format!("{IDLE}, each of {count}"),
        "descriptors",
        figure(descriptors) / figure(count),
        BenchGoal::None,
    ));
    thread::sleep(SETTLE_TIME);
    let before = sum_cpu_time_ms(&supervisors)?;
    thread::sleep(IDLE_TIME);
    let after = sum_cpu_time_ms(&supervisors)?;
    report.print_row(&BenchRow::new(
        format!("{IDLE}s, {count} of them, processor in 5 s"),
        "ms",
        after - before,
        BenchGoal::AtMost(0.0),
    ));
    host.end_containers()
}

/// Starts containers and their supervisors, one after the other.
fn start_supervisors(host: &mut ContainerHost, count: usize) -> anyhow::Result<LatencySamples> {
    let mut times = LatencySamples::default();
    for _ in 0..count {
        host.add_container()?;
        times.push(host.time_supervisor()?);
    }
    Ok(times)
}

fn print_memory(
    report: &BenchReport,
    host: &ContainerHost,
    count: usize,
    python_mib: Option<f64>,
) -> anyhow::Result<()> {
    let mut ours = 0.0;
    for pid in host.supervisors()? {
        ours += pss_mib(pid)?;
    }
    let mut name = format!("{IDLE}, PSS, each of {count}");
    if python_mib.is_none() {
        name.push_str(" (CLEARANCE_PYTHON is not set)");
    }
    report.print_row(&BenchRow {
        python: python_mib,
        ..BenchRow::new(
            name,
            "MiB",
            ours / figure(count),
            BenchGoal::TimesPython(0.1),
        )
    });
    Ok(())
}

fn sum_cpu_time_ms(processes: &[u32]) -> anyhow::Result<f64> {
    processes.iter().map(|pid| cpu_time_ms(*pid)).sum()
}

fn figure(count: usize) -> f64 {
    to_figure(u64::try_from(count).unwrap_or(u64::MAX))
}

// SPDX-License-Identifier: Apache-2.0
//! A sandbox that begins a million connections, next to one that begins an allowed connection now
//! and then.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::bench_dialed::wait_until_idle;
use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::loopback_servers::{ServerKind, serve_tcp};
use crate::measured_run::{MeasuredRun, to_figure};
use crate::measured_ui::{clearance_program, isolate_environment};
use crate::proc_stats::MeasuredChild;
use crate::report::{BenchGoal, BenchReport, BenchRow};

pub(crate) const FLOOD: &str = "dialed: a million first packets";

const FLOOD_CONNECTIONS: usize = 1_000_000;
/// The pause of the other sandbox between two connections.
const CONNECTION_PAUSE: Duration = Duration::from_millis(5);

/// Measures a flood that nobody answers, and one while an operator is connected.
pub(crate) fn measure_floods(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    if !report.includes(FLOOD) {
        return Ok(());
    }
    for has_operator in [false, true] {
        measure_flood(report, FLOOD_CONNECTIONS / part, has_operator)?;
    }
    Ok(())
}

fn measure_flood(report: &BenchReport, count: usize, has_operator: bool) -> anyhow::Result<()> {
    let server = serve_tcp(ServerKind::Close)?;
    let mut flooded = MeasuredRun::start(&[server])?;
    let mut other = MeasuredRun::start(&[server])?;
    let connect = format!("connect host.internal {server} 1");
    flooded.hub_path()?;
    let directory = flooded.directory.path().to_owned();
    let lines = directory.join("operator.jsonl");
    let operator = has_operator
        .then(|| start_operator(&directory, &lines))
        .transpose()?;
    if operator.is_none() {
        wait_until_nothing_is_held(&mut flooded)?;
    }
    let mut before = LatencySamples::default();
    for _ in 0..100 {
        other.probe.sample(&connect, &mut before)?;
        thread::sleep(CONNECTION_PAUSE);
    }
    let mut during = LatencySamples::default();
    let flood = format!("connection-flood {count}");
    let clock = SpanTimer::start();
    flooded.probe.begin(&flood)?;
    while flooded.probe.is_busy(CONNECTION_PAUSE) {
        other.probe.sample(&connect, &mut during)?;
    }
    let took = clock.elapsed();
    let begun = flooded.probe.finish(&flood)?;
    let begun = begun.first().copied().unwrap_or_default();
    let listing = SpanTimer::start();
    let rows = list_questions(&directory)?;
    let listed = listing.elapsed();
    wait_until_idle(&flooded)?;
    let idle = clock.elapsed();
    let peak = flooded.probe.program.peak_resident_mib()?;
    // Both still reach what is allowed.
    flooded.probe.measure(&connect)?;
    other.probe.measure(&connect)?;
    let who = if has_operator { "operator" } else { "nobody" };
    let seconds = |time: Duration| time.as_secs_f64();
    let mut figures = vec![
        ("first packets sent", "", to_figure(begun)),
        ("time to send them", "s", seconds(took)),
        ("until idle", "s", seconds(idle)),
        ("supervisor, peak RSS", "MiB", peak),
        ("`list` after it", "ms", seconds(listed) * 1e3),
        ("questions in that list", "", rows),
        (
            "connection elsewhere before, p50",
            "µs",
            before.percentile_us(50),
        ),
        (
            "connection elsewhere before, worst",
            "µs",
            before.percentile_us(100),
        ),
        (
            "connection elsewhere meanwhile, p50",
            "µs",
            during.percentile_us(50),
        ),
        (
            "connection elsewhere meanwhile, worst",
            "µs",
            during.percentile_us(100),
        ),
    ];
    if let Some(operator) = operator {
        figures.push(("operator, peak RSS", "MiB", operator.peak_resident_mib()?));
        drop(operator);
        let asked = count_questions(&lines)?;
        figures.push(("questions at the operator", "", asked));
    }
    for (what, unit, figure) in figures {
        let name = format!("{FLOOD}, {who}: {what}");
        report.print_row(&BenchRow::new(name, unit, figure, BenchGoal::None));
    }
    Ok(())
}

/// Returns `terok-clearance` with the sockets of this directory.
fn program(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(clearance_program()?);
    isolate_environment(&mut command, directory);
    Ok(command)
}

/// Starts an operator who answers nothing, and waits until it knows all questions.
fn start_operator(directory: &Path, lines: &Path) -> anyhow::Result<MeasuredChild> {
    let mut command = program(directory)?;
    command.args(["--json", "clearance"]).stdin(Stdio::piped());
    command.stdout(File::create(lines).context("creating a file for an operator")?);
    let operator = MeasuredChild::start(&mut command)?;
    let clock = SpanTimer::start();
    while !std::fs::read_to_string(lines)?.contains("\"ready\"") {
        ensure!(clock.elapsed() < Duration::from_secs(10), "no operator");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(operator)
}

/// Waits for the end of the time after the start in which an operator may come.
fn wait_until_nothing_is_held(run: &mut MeasuredRun) -> anyhow::Result<()> {
    run.probe.measure("refused 203.0.113.1 9")?;
    Ok(())
}

/// Returns the number of questions in `terok-clearance --json list`.
fn list_questions(directory: &Path) -> anyhow::Result<f64> {
    let listed = program(directory)?
        .args(["--json", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .context("listing the questions")?;
    ensure!(listed.status.success(), "`list` failed: {}", listed.status);
    count(&listed.stdout, b"\"event\":\"listed\"")
}

fn count_questions(lines: &Path) -> anyhow::Result<f64> {
    let mut text = Vec::new();
    File::open(lines)?.read_to_end(&mut text)?;
    count(&text, b"\"event\":\"pending\"")
}

fn count(text: &[u8], word: &[u8]) -> anyhow::Result<f64> {
    let found = memchr::memmem::find_iter(text, word).count();
    Ok(to_figure(u64::try_from(found)?))
}

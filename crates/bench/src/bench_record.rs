// SPDX-License-Identifier: Apache-2.0
//! The record: `log` over a million lines next to a search for bytes in the same files, and an
//! appended entry next to a bare write of the same bytes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use record::{
    AuditConnection, AuditConnectionEnd, AuditEntry, AuditEvent, AuditSandbox, CloseOutcome,
    ConnectionEndReason, FILE_NAME, RecordAppender, RecordConfig, RecordWriter,
};
use terok_clearance::{DisplayText, Protocol, Timestamp};

use crate::latency_samples::{LatencySamples, SpanTimer, median};
use crate::measured_ui::clearance_program;
use crate::report::{BenchGoal, BenchReport, BenchRow};

const LINES: usize = 1_000_000;
/// Entries per write, as after a short burst.
const BATCH: usize = 64;
const ROUNDS: usize = 5;

/// Measures every row about the record. `part` divides the number of lines and rounds.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    measure_append(report, part)?;
    let rows: [(&str, &[&str], BenchGoal); 5] = [
        (
            "record: log of one destination",
            &["log", "--dest", "host7.example.com"],
            BenchGoal::AtMost(1000.0),
        ),
        (
            "record: log of the last hour",
            &["log", "--since", "1h"],
            BenchGoal::AtMost(1000.0),
        ),
        (
            "record: log, all lines as JSON",
            &["log", "--json"],
            BenchGoal::None,
        ),
        ("record: log, all lines as text", &["log"], BenchGoal::None),
        (
            "record: log --verify",
            &["log", "--verify"],
            BenchGoal::None,
        ),
    ];
    let lines = LINES / part;
    let named = |name: &str| format!("{name}, {lines} lines");
    if !rows.iter().any(|(name, ..)| report.includes(&named(name))) {
        return Ok(());
    }
    let directory = tempfile::tempdir().context("making a directory")?;
    let path = directory.path().join(FILE_NAME);
    write_lines(&path, lines)?;
    for (name, args, goal) in rows {
        let name = named(name);
        if !report.includes(&name) {
            continue;
        }
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(time_log(args, &path)?);
            floor.push(time_search(directory.path())?);
        }
        report.print_row(&BenchRow {
            floor: Some(median(&floor)),
            ..BenchRow::new(name, "ms", median(&ours), goal)
        });
    }
    Ok(())
}

/// Returns the entries of a connection: its start and its end.
fn connection_entries(number: u64) -> anyhow::Result<[AuditEntry; 2]> {
    let dest: terok_clearance::Dest = format!("host{}.example.com", number % 1000).parse()?;
    let time = Timestamp::from_micros(1_795_255_384_000_000_u64.saturating_add(number * 1000));
    let sandbox = AuditSandbox {
        name: Some(DisplayText::name("web")),
        project: Some(DisplayText::name("/home/user/src/project")),
        run: Some("4f2a9c".into()),
        ..AuditSandbox::new("run-web-4711".parse()?)
    };
    let start = AuditEvent::Connected(AuditConnection {
        connection: number,
        dest: dest.clone(),
        port: 443,
        protocol: Protocol::TCP,
        address: Some("203.0.113.7".parse()?),
        rule: Some("17".into()),
        origin: Some("decision".into()),
    });
    let end = AuditEvent::Closed(AuditConnectionEnd {
        connection: number,
        dest,
        port: 443,
        protocol: Protocol::TCP,
        bytes_out: 1_234,
        bytes_in: 56_789,
        millis: 789,
        why: ConnectionEndReason::Finished,
    });
    Ok([start, end].map(|event| AuditEntry::new(time, Some(sandbox.clone()), event)))
}

fn write_lines(path: &Path, lines: usize) -> anyhow::Result<()> {
    let config = RecordConfig {
        rotate_bytes: 64 << 20,
        ..RecordConfig::new(path)
    };
    let mut appender = RecordAppender::new(config);
    let mut entries = Vec::new();
    for number in 0..u64::try_from(lines)? / 2 {
        entries.extend(connection_entries(number)?);
        if entries.len() >= 1000 {
            appender.append(&entries).1.context("writing a record")?;
            entries.clear();
        }
    }
    appender.append(&entries).1.context("writing a record")
}

/// Returns the milliseconds of the command, whose output is discarded.
fn time_log(args: &[&str], path: &Path) -> anyhow::Result<f64> {
    let clock = SpanTimer::start();
    let status = Command::new(clearance_program()?)
        .args(args)
        .arg("--file")
        .arg(path)
        .stdout(Stdio::null())
        .status()
        .context("starting `terok-clearance log`")?;
    ensure!(status.success(), "`terok-clearance log` failed: {status}");
    Ok(clock.elapsed().as_secs_f64() * 1e3)
}

/// Returns the milliseconds of a search for bytes that are in no line, as by `grep -F`.
fn time_search(directory: &Path) -> anyhow::Result<f64> {
    let clock = SpanTimer::start();
    let finder = memchr::memmem::Finder::new(b"no-such-host.example.org");
    let mut buffer = vec![0; 256 << 10];
    let mut found = 0;
    for entry in std::fs::read_dir(directory).context("listing the record")? {
        let mut file = File::open(entry?.path()).context("opening the record")?;
        loop {
            let read = file.read(&mut buffer).context("reading the record")?;
            if read == 0 {
                break;
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            found += usize::from(finder.find(bytes).is_some());
        }
    }
    ensure!(found == 0, "the text is in no line");
    Ok(clock.elapsed().as_secs_f64() * 1e3)
}

/// Measures an entry in a batch, an entry alone, and the time that a caller spends.
fn measure_append(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    for (name, batch) in [
        ("record: an entry appended in a batch of 64, p50", BATCH),
        ("record: an entry appended alone, p50", 1),
    ] {
        if !report.includes(name) {
            continue;
        }
        let (mut ours, mut floor) = measure_batches(batch, 4000 / part)?;
        let each = |samples: &mut LatencySamples| {
            samples.percentile_us(50) / f64::from(u32::try_from(batch).unwrap_or(1))
        };
        report.print_row(&BenchRow {
            floor: Some(each(&mut floor)),
            ..BenchRow::new(name, "µs", each(&mut ours), BenchGoal::None)
        });
    }
    let name = "record: the caller's time for an entry, p50";
    if report.includes(name) {
        let mut samples = measure_caller(100_000 / part)?;
        let figure = samples.percentile_us(50);
        report.print_row(&BenchRow::new(name, "µs", figure, BenchGoal::AtMost(5.0)));
    }
    Ok(())
}

fn measure_batches(
    batch: usize,
    rounds: usize,
) -> anyhow::Result<(LatencySamples, LatencySamples)> {
    let directory = tempfile::tempdir().context("making a directory")?;
    let path = directory.path().join(FILE_NAME);
    let mut appender = RecordAppender::new(RecordConfig::new(&path));
    let plain = directory.path().join("plain");
    let plain = OpenOptions::new().create(true).append(true).open(plain);
    let mut plain = plain.context("making a file")?;
    let (mut ours, mut floor) = (LatencySamples::default(), LatencySamples::default());
    let mut number = 0;
    for _ in 0..rounds {
        let mut entries = Vec::new();
        while entries.len() < batch {
            entries.extend(connection_entries(number)?);
            number += 1;
        }
        entries.truncate(batch);
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| record::encode_line(entry, number, record::ChainHash::START))
            .collect();
        let clock = SpanTimer::start();
        appender.append(&entries).1.context("appending")?;
        ours.push(clock.elapsed());
        let clock = SpanTimer::start();
        plain.write_all(&bytes).context("writing")?;
        floor.push(clock.elapsed());
    }
    Ok((ours, floor))
}

fn measure_caller(entries: usize) -> anyhow::Result<LatencySamples> {
    let directory = tempfile::tempdir().context("making a directory")?;
    let config = RecordConfig::new(directory.path().join(FILE_NAME));
    let writer = RecordWriter::open(config, |_| {}).context("starting the thread")?;
    let mut samples = LatencySamples::default();
    for number in 0..u64::try_from(entries)? {
        let [entry, _] = connection_entries(number)?;
        let clock = SpanTimer::start();
        writer.record(entry);
        samples.push(clock.elapsed());
    }
    let outcome = writer.close(Duration::from_secs(20));
    ensure!(
        outcome == CloseOutcome::Complete,
        "the record is not complete"
    );
    Ok(samples)
}

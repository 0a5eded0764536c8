// SPDX-License-Identifier: Apache-2.0
//! A policy of 10,000 rules in a file: reading, decisions, and the check of open connections.

use std::hint::black_box;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use policy::{BootInstant, RuleOrigin, RuleSpec, RuleTable, RuleTerm};
use store::RuleStore;
use terok_clearance::{DestZone, DisplayText, PacketDest, PacketHost, Protocol, Timestamp};

use crate::latency_samples::{SpanTimer, median};
use crate::measured_ui::clearance_program;
use crate::report::{BenchGoal, BenchReport, BenchRow};

const RULES: usize = 10_000;
const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 9;
const RUNS: usize = 9;

/// Measures every row about rules. `part` divides the number of rounds.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    let names = [
        "rules: decision, 10000 rules of a file",
        "rules: read 10000 rules of a file into a table",
        "rules: check of 10000 connections, 10000 rules",
        "rules: run -- true with 10000 kept rules",
    ];
    if !names.iter().any(|name| report.includes(name)) {
        return Ok(());
    }
    let directory = tempfile::tempdir().context("making a directory")?;
    let [decision, read, check, start] = names;
    write_rules(directory.path())?;
    let rounds = (ROUNDS / part).max(1);
    let (mut read_times, mut byte_times) = (Vec::new(), Vec::new());
    let (mut decisions, mut lookups, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let timer = SpanTimer::start();
        let table = read_table(directory.path())?;
        read_times.push(micros(timer.elapsed()) / 1000.0);
        let timer = SpanTimer::start();
        let path = RuleStore::open(directory.path())?.always_path();
        black_box(std::fs::read(path).context("reading the rules")?);
        byte_times.push(micros(timer.elapsed()) / 1000.0);
        let dests = dests()?;
        let timer = SpanTimer::start();
        for dest in &dests {
            black_box(table.decide(black_box(dest), DestZone::Public, NOW));
        }
        let all = micros(timer.elapsed());
        decisions.push(all / count(dests.len()));
        checks.push(all / 1000.0);
        lookups.push(time_map(&dests));
    }
    let row = |name: &str, unit, ours: &[f64], floor: Option<&[f64]>, goal| {
        if report.includes(name) {
            report.print_row(&BenchRow {
                floor: floor.map(median),
                ..BenchRow::new(name.to_owned(), unit, median(ours), goal)
            });
        }
    };
    let goal = BenchGoal::AtMost(2.0);
    row(decision, "µs", &decisions, Some(&lookups), goal);
    row(read, "ms", &read_times, Some(&byte_times), BenchGoal::None);
    row(check, "ms", &checks, None, BenchGoal::None);
    if report.includes(start) {
        let empty = tempfile::tempdir().context("making a directory")?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..(RUNS / part).max(1) {
            with.push(time_run(directory.path())?);
            without.push(time_run(empty.path())?);
        }
        row(start, "ms", &with, Some(&without), BenchGoal::None);
    }
    Ok(())
}

const NOW: BootInstant = BootInstant::from_boot(Duration::from_secs(1));

/// Writes a third each of names, domains and networks, as kept answers.
fn write_rules(config: &Path) -> anyhow::Result<()> {
    let private = |path: &Path| {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    };
    let text: String = (0..RULES).map(|number| pattern(number) + "\n").collect();
    let home = config.join("terok-clearance");
    for directory in [config.to_owned(), home.clone(), home.join("rules")] {
        private(&directory).context("making a directory")?;
    }
    for directory in [config.join("rules"), home.join("rules")] {
        private(&directory).context("making a directory")?;
        let path = directory.join("always.rules");
        std::fs::write(&path, &text).context("writing the rules")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .context("protecting the rules")?;
    }
    Ok(())
}

fn pattern(number: usize) -> String {
    match number % 3 {
        0 => format!("host{number}.example.com:443/tcp"),
        1 => format!("*.domain{number}.example.com:443/tcp"),
        _ => format!("203.{}.{}.0/24:443/tcp", number / 256 % 256, number % 256),
    }
}

/// Returns destinations of which a half is covered.
fn dests() -> anyhow::Result<Vec<PacketDest>> {
    let dest = |number: usize| {
        let host = match number % 4 {
            0 => format!("host{}.example.com", number / 4 * 3),
            1 => format!("a.domain{}.example.com", number / 4 * 3 + 1),
            2 => format!("unknown{number}.example.org"),
            _ => format!("a.b.c.unknown{number}.example.net"),
        };
        Ok(PacketDest {
            host: PacketHost::Name(host.parse().context("making a name")?),
            port: 443,
            protocol: Protocol::TCP,
        })
    };
    (0..CONNECTIONS).map(dest).collect()
}

fn read_table(config: &Path) -> anyhow::Result<RuleTable> {
    let file = RuleStore::open(config)?.load_always()?;
    let mut table = RuleTable::new();
    for rule in file.rules() {
        table.add(RuleSpec {
            pattern: rule.pattern,
            action: rule.action,
            term: RuleTerm::Kept,
            origin: RuleOrigin::Always,
            by: DisplayText::default(),
            since: Timestamp::UNIX_EPOCH,
        })?;
    }
    Ok(table)
}

/// Returns the microseconds of one look-up in a map of as many names: the floor of a decision.
fn time_map(dests: &[PacketDest]) -> f64 {
    let map: std::collections::HashMap<&PacketDest, usize> = dests
        .iter()
        .enumerate()
        .map(|(at, dest)| (dest, at))
        .collect();
    let timer = SpanTimer::start();
    for dest in dests {
        black_box(map.get(black_box(dest)));
    }
    micros(timer.elapsed()) / count(dests.len())
}

/// Returns the milliseconds of a run whose command ends at once.
fn time_run(config: &Path) -> anyhow::Result<f64> {
    let state = tempfile::tempdir().context("making a directory")?;
    let timer = SpanTimer::start();
    let status = Command::new(clearance_program()?)
        .args([
            "run",
            "--quiet",
            "--ui",
            "none",
            "--no-record",
            "--",
            "true",
        ])
        .env("XDG_CONFIG_HOME", config)
        .env("XDG_STATE_HOME", state.path())
        .stdin(Stdio::null())
        .status()
        .context("starting a run")?;
    ensure!(status.success(), "a run failed: {status}");
    Ok(micros(timer.elapsed()) / 1000.0)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a small number"
)]
const fn count(number: usize) -> f64 {
    number as f64
}

// SPDX-License-Identifier: Apache-2.0
//! The hub beside a relay that does nothing, and beside the Python stack's hub.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::gauge::{Stopwatch, Times};
use crate::program::{Kind, Program, Subscriber};
use crate::report::{Goal, Report, Row};

const ONE: &str = "org.terok.Clearance1.Subscribe";
const TWO: &str = "org.terok.Clearance2.Subscribe";

/// Measures every row about the hub; `part` is what to divide the rounds by.
pub(crate) fn measure(report: &mut Report, part: usize) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a program's own environment, at its edge"
    )]
    let python = std::env::var_os("CLEARANCE_PYTHON").map(|path| Kind::Python(PathBuf::from(path)));
    let python = python.as_ref();
    latencies(report, python, part)?;
    throughput(report, python, part)?;
    start(report, python, part)?;
    memory(report, python)?;
    bursts(report, python)
}

fn latencies(report: &Report, python: Option<&Kind>, part: usize) -> anyhow::Result<()> {
    for (subscribers, rounds, times) in [(1, 20_000, 2.0), (10, 8_000, 2.0), (100, 3_000, 1.5)] {
        let name = format!("event in to event out, {subscribers} subscriber(s)");
        if !report.wants(&name) {
            continue;
        }
        let rounds = rounds / part;
        let mut ours = latency(&Kind::Hub, ONE, subscribers, rounds)?;
        let mut floor = latency(&Kind::Relay, ONE, subscribers, rounds)?;
        let mut theirs = match python {
            Some(python) => Some(latency(python, ONE, subscribers, rounds / 20)?),
            None => None,
        };
        for (percent, goal) in [(50, Goal::TimesFloor(times)), (99, Goal::None)] {
            report.add(&Row {
                floor: Some(floor.percentile(percent)),
                python: theirs.as_mut().map(|times| times.percentile(percent)),
                ..Row::new(
                    format!("{name}, p{percent}"),
                    "µs",
                    ours.percentile(percent),
                    goal,
                )
            });
        }
        if subscribers != 10 {
            let mut newer = latency(&Kind::Hub, TWO, subscribers, rounds)?;
            report.add(&Row {
                floor: Some(floor.percentile(50)),
                ..Row::new(
                    format!("{name}, p50, Clearance2"),
                    "µs",
                    newer.percentile(50),
                    Goal::None,
                )
            });
        }
    }
    Ok(())
}

/// Sends one event after the other, each when the last subscriber has the one before.
fn latency(kind: &Kind, method: &str, subscribers: usize, rounds: usize) -> anyhow::Result<Times> {
    let program = Program::start(kind)?;
    let mut subscribers = subscribed(&program, method, subscribers)?;
    let mut reader = program.reader()?;
    let mut lines = Lines::new(Flow::Distinct);
    let warm_up = rounds / 10;
    let mut times = Times::default();
    for round in 0..warm_up + rounds {
        let line = lines.next(1);
        let clock = Stopwatch::start();
        reader.write_all(line).context("sending an event")?;
        for subscriber in &mut subscribers {
            while subscriber.read()? == 0 {}
        }
        if round >= warm_up {
            times.push(clock.elapsed());
        }
    }
    Ok(times)
}

/// Subscribes so many, and returns when each of them gets events.
fn subscribed(program: &Program, method: &str, many: usize) -> anyhow::Result<Vec<Subscriber>> {
    let mut subscribers = Vec::new();
    for _ in 0..many {
        subscribers.push(program.subscribe(method)?);
    }
    let mut reader = program.reader()?;
    // A hub says nothing to who has subscribed; whoever is asked after a while has.
    thread::sleep(Duration::from_millis(200));
    let started = "{\"type\":\"container_started\",\"container\":\"3f2a9c0d1e4b\"}\n";
    reader
        .write_all(started.as_bytes())
        .context("sending an event")?;
    for subscriber in &mut subscribers {
        subscriber.give_up_after(Duration::from_secs(60))?;
        let mut read = 0;
        let wanted = if method == TWO { 2 } else { 1 };
        while read < wanted {
            let now = subscriber.read()?;
            read += now;
            // The relay has no snapshot to end.
            if read > 0 && matches!(program.kind(), Kind::Relay) {
                break;
            }
        }
    }
    Ok(subscribers)
}

fn throughput(report: &Report, python: Option<&Kind>, part: usize) -> anyhow::Result<()> {
    let enough = Goal::AtLeast(500_000.0);
    for (name, flow, rounds, events, goal) in [
        // As many as fit into a ledger, from an empty one on, time after time.
        ("new questions", Flow::Distinct, 20, 100_000, enough),
        ("one question", Flow::Repeated, 1, 2_000_000, enough),
        // Each evicts the oldest of those that nobody answered.
        ("more than fit", Flow::Distinct, 1, 2_000_000, Goal::None),
    ] {
        let name = format!("lossless to 1 subscriber, 64 in flight, {name}");
        if !report.wants(&name) {
            continue;
        }
        let median = |kind: &Kind, rounds: usize, events: usize| -> anyhow::Result<Passed> {
            let mut all = (0..rounds.max(1))
                .map(|_| in_flight(kind, flow, events))
                .collect::<Result<Vec<_>, _>>()?;
            all.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
            Ok(all.swap_remove(all.len() / 2))
        };
        let (rounds, events) = (
            rounds / part,
            if rounds == 1 { events / part } else { events },
        );
        let ours = median(&Kind::Hub, rounds, events)?;
        let floor = median(&Kind::Relay, rounds, events)?;
        let theirs = match python {
            Some(python) if goal == enough => Some(median(python, 1, 20_000 / part)?),
            _ => None,
        };
        report.add(&Row {
            floor: Some(floor.per_second),
            python: theirs.as_ref().map(|theirs| theirs.per_second),
            ..Row::new(&*name, "events/s", ours.per_second, goal)
        });
        report.add(&Row {
            floor: Some(floor.cpu_each),
            python: theirs.as_ref().map(|theirs| theirs.cpu_each),
            ..Row::new(format!("{name}, CPU each"), "µs", ours.cpu_each, Goal::None)
        });
    }
    Ok(())
}

/// How fast events pass.
struct Passed {
    per_second: f64,
    /// The microseconds on a processor that the program spent on each.
    cpu_each: f64,
}

/// Keeps 64 events on their way until so many have passed.
fn in_flight(kind: &Kind, flow: Flow, events: usize) -> anyhow::Result<Passed> {
    const WINDOW: usize = 64;
    let program = Program::start(kind)?;
    let mut subscribers = subscribed(&program, ONE, 1)?;
    let Some(subscriber) = subscribers.first_mut() else {
        bail!("nobody subscribed");
    };
    let mut reader = program.reader()?;
    let mut lines = Lines::new(flow);
    let (mut sent, mut received) = (0, 0);
    let before = program.on_cpu()?;
    let clock = Stopwatch::start();
    while received < events {
        let free = (WINDOW - (sent - received)).min(events - sent);
        if free > 0 {
            reader
                .write_all(lines.next(free))
                .context("sending events")?;
            sent += free;
        }
        received += subscriber.read().context("an event was lost")?;
    }
    let took = clock.elapsed();
    let cpu = program.on_cpu()?.saturating_sub(before);
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a few millions"
    )]
    let events = events as f64;
    Ok(Passed {
        per_second: events / took.as_secs_f64(),
        cpu_each: cpu.as_secs_f64() * 1e6 / events,
    })
}

fn start(report: &Report, python: Option<&Kind>, part: usize) -> anyhow::Result<()> {
    let name = "start to both sockets, p50";
    if !report.wants(name) {
        return Ok(());
    }
    let median = |kind: &Kind, rounds: usize| -> anyhow::Result<f64> {
        let mut times = Times::default();
        for _ in 0..rounds.max(3) {
            times.push(Program::start(kind)?.start);
        }
        Ok(times.percentile(50) / 1e3)
    };
    report.add(&Row {
        floor: Some(median(&Kind::Relay, 100 / part)?),
        python: match python {
            Some(python) => Some(median(python, 10 / part)?),
            None => None,
        },
        ..Row::new(
            name,
            "ms",
            median(&Kind::Hub, 100 / part)?,
            Goal::AtMost(6.0),
        )
    });
    Ok(())
}

fn memory(report: &Report, python: Option<&Kind>) -> anyhow::Result<()> {
    let name = "PSS of each of 20 idle hubs, the largest";
    if !report.wants(name) {
        return Ok(());
    }
    let largest = |kind: &Kind| -> anyhow::Result<f64> {
        let programs: Vec<_> = (0..20)
            .map(|_| Program::start(kind))
            .collect::<Result<_, _>>()?;
        // As it is after the first reader has come and gone.
        for program in &programs {
            drop(program.reader()?);
        }
        thread::sleep(Duration::from_millis(300));
        let mut largest = 0.0_f64;
        for program in &programs {
            largest = largest.max(program.pss()?);
        }
        Ok(largest)
    };
    report.add(&Row {
        floor: Some(largest(&Kind::Relay)?),
        python: match python {
            Some(python) => Some(largest(python)?),
            None => None,
        },
        ..Row::new(name, "MiB", largest(&Kind::Hub)?, Goal::AtMost(1.6))
    });
    Ok(())
}

fn bursts(report: &Report, python: Option<&Kind>) -> anyhow::Result<()> {
    for events in [4_096, 50_000] {
        let name = format!("burst of {events} in one write");
        if !report.wants(&name) {
            continue;
        }
        let ours = burst(&Kind::Hub, events)?;
        let floor = burst(&Kind::Relay, events)?;
        let theirs = match python {
            Some(python) => Some(burst(python, events)?),
            None => None,
        };
        let number = |events: usize| u32::try_from(events).map_or(f64::NAN, f64::from);
        report.add(&Row {
            floor: Some(number(floor.delivered)),
            python: theirs.as_ref().map(|burst| number(burst.delivered)),
            ..Row::new(
                format!("{name}, delivered"),
                "questions",
                number(ours.delivered),
                Goal::AtLeast(number(events)),
            )
        });
        report.add(&Row {
            python: theirs.as_ref().map(|burst| number(burst.repeated)),
            ..Row::new(
                format!("{name}, delivered twice"),
                "questions",
                number(ours.repeated),
                Goal::AtMost(0.0),
            )
        });
        report.add(&Row {
            floor: Some(floor.took.as_secs_f64() * 1e3),
            ..Row::new(
                format!("{name}, until the last"),
                "ms",
                ours.took.as_secs_f64() * 1e3,
                Goal::None,
            )
        });
        report.add(&Row {
            floor: Some(floor.resident),
            python: theirs.as_ref().map(|burst| burst.resident),
            ..Row::new(
                format!("{name}, resident afterwards"),
                "MiB",
                ours.resident,
                Goal::None,
            )
        });
    }
    Ok(())
}

/// What became of a burst.
struct Burst {
    delivered: usize,
    repeated: usize,
    took: Duration,
    resident: f64,
}

fn burst(kind: &Kind, events: usize) -> anyhow::Result<Burst> {
    let program = Program::start(kind)?;
    let mut subscribers = subscribed(&program, ONE, 1)?;
    let Some(subscriber) = subscribers.first_mut() else {
        bail!("nobody subscribed");
    };
    subscriber.give_up_after(Duration::from_secs(2))?;
    let mut lines = Lines::new(Flow::Distinct);
    let bytes = lines.next(events).to_vec();
    let mut reader = program.reader()?;
    let clock = Stopwatch::start();
    let writer = thread::spawn(move || reader.write_all(&bytes).map(|()| reader));
    let (mut delivered, mut repeated) = (BTreeSet::new(), 0);
    let mut rest = Vec::new();
    let mut took = clock.elapsed();
    while delivered.len() < events {
        // A hub that has lost some has nothing more to say.
        let Ok((bytes, end)) = subscriber.take() else {
            break;
        };
        rest.extend_from_slice(bytes);
        let mut start = 0;
        for at in memchr::memchr_iter(end, &rest) {
            let event = rest.get(start..at).unwrap_or_default();
            start = at + 1;
            let id = Lines::number(event).context("an event without its number")?;
            if !delivered.insert(id) {
                repeated += 1;
            }
        }
        rest.drain(..start);
        took = clock.elapsed();
    }
    let reader = writer.join();
    let resident = program.resident()?;
    drop(reader);
    Ok(Burst {
        delivered: delivered.len(),
        repeated,
        took,
        resident,
    })
}

/// Whether each event is a question of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Distinct,
    Repeated,
}

/// Makes readers' lines faster than anybody takes them.
struct Lines {
    flow: Flow,
    sent: u32,
    template: Vec<u8>,
    /// Where the template's id and name have their number.
    id: usize,
    name: usize,
    bytes: Vec<u8>,
}

impl Lines {
    const MARK: &'static str = "00000000";
    const BEFORE_ID: &'static str = "3f2a9c0d1e4b:";

    fn new(flow: Flow) -> Self {
        let template = format!(
            "{{\"type\":\"pending\",\"container\":\"3f2a9c0d1e4b\",\"id\":\"{}{}\",\
             \"dest\":\"203.0.113.7\",\"port\":443,\"proto\":6,\"domain\":\"h{}.example.com\",\
             \"dossier\":{{\"project\":\"demo\",\"task\":\"t1\",\"name\":\"bench\"}},\
             \"ts\":\"2026-11-21T00:00:00+00:00\"}}\n",
            Self::BEFORE_ID,
            Self::MARK,
            Self::MARK,
        );
        let id = template.find(Self::MARK).unwrap_or_default();
        let name = template.rfind(Self::MARK).unwrap_or_default();
        Self {
            flow,
            sent: 0,
            template: template.into_bytes(),
            id,
            name,
            bytes: Vec::new(),
        }
    }

    /// Returns the next so many lines.
    fn next(&mut self, many: usize) -> &[u8] {
        self.bytes.clear();
        for _ in 0..many {
            self.sent += 1;
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&self.template);
            let name = if self.flow == Flow::Distinct {
                self.sent
            } else {
                0
            };
            for (at, number) in [(self.id, self.sent), (self.name, name)] {
                let place = start + at..start + at + Self::MARK.len();
                let mut left = number;
                for digit in self.bytes.get_mut(place).into_iter().flatten().rev() {
                    *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
                    left /= 10;
                }
            }
        }
        &self.bytes
    }

    /// Returns the number in an event's id.
    fn number(event: &[u8]) -> Option<u32> {
        let text = std::str::from_utf8(event).ok()?;
        let (_, after) = text.split_once(Self::BEFORE_ID)?;
        after.get(..Self::MARK.len())?.parse().ok()
    }
}

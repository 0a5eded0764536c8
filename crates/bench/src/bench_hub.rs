// SPDX-License-Identifier: Apache-2.0
//! The hub, compared with the relay and with the Python stack's hub.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::measured_program::{CountingSubscriber, MeasuredProgram, ProgramKind};
use crate::report::{BenchGoal, BenchReport, BenchRow};

const CLEARANCE1_SUBSCRIBE: &str = "org.terok.Clearance1.Subscribe";
const CLEARANCE2_SUBSCRIBE: &str = "org.terok.Clearance2.Subscribe";

/// Measures every row about the hub. `part` divides the number of rounds.
pub(crate) fn measure(report: &mut BenchReport, part: usize) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the entry point of a program may read the environment"
    )]
    let python =
        std::env::var_os("CLEARANCE_PYTHON").map(|path| ProgramKind::Python(PathBuf::from(path)));
    let python = python.as_ref();
    bench_latency(report, python, part)?;
    bench_throughput(report, python, part)?;
    bench_start_time(report, python, part)?;
    bench_memory(report, python)?;
    bench_bursts(report, python)
}

fn bench_latency(
    report: &BenchReport,
    python: Option<&ProgramKind>,
    part: usize,
) -> anyhow::Result<()> {
    for (subscribers, rounds, times) in [(1, 20_000, 2.0), (10, 8_000, 2.0), (100, 3_000, 1.5)] {
        let name = format!("event in to event out, {subscribers} subscriber(s)");
        if !report.includes(&name) {
            continue;
        }
        let rounds = rounds / part;
        let mut ours =
            measure_latency(&ProgramKind::Hub, CLEARANCE1_SUBSCRIBE, subscribers, rounds)?;
        let mut floor = measure_latency(
            &ProgramKind::Relay,
            CLEARANCE1_SUBSCRIBE,
            subscribers,
            rounds,
        )?;
        let mut theirs = match python {
            Some(python) => Some(measure_latency(
                python,
                CLEARANCE1_SUBSCRIBE,
                subscribers,
                rounds / 20,
            )?),
            None => None,
        };
        for (percent, goal) in [(50, BenchGoal::TimesFloor(times)), (99, BenchGoal::None)] {
            report.print_row(&BenchRow {
                floor: Some(floor.percentile_us(percent)),
                python: theirs.as_mut().map(|times| times.percentile_us(percent)),
                ..BenchRow::new(
                    format!("{name}, p{percent}"),
                    "µs",
                    ours.percentile_us(percent),
                    goal,
                )
            });
        }
        if subscribers != 10 {
            let mut newer =
                measure_latency(&ProgramKind::Hub, CLEARANCE2_SUBSCRIBE, subscribers, rounds)?;
            report.print_row(&BenchRow {
                floor: Some(floor.percentile_us(50)),
                ..BenchRow::new(
                    format!("{name}, p50, Clearance2"),
                    "µs",
                    newer.percentile_us(50),
                    BenchGoal::None,
                )
            });
        }
    }
    Ok(())
}

/// Sends events one after the other, each after the last subscriber has received the previous
/// event.
fn measure_latency(
    kind: &ProgramKind,
    method: &str,
    subscribers: usize,
    rounds: usize,
) -> anyhow::Result<LatencySamples> {
    let program = MeasuredProgram::start(kind)?;
    let mut subscribers = subscribe_all(&program, method, subscribers)?;
    let mut reader = program.connect_reader()?;
    let mut lines = EventLineGenerator::new(EventPattern::Distinct);
    let warm_up = rounds / 10;
    let mut times = LatencySamples::default();
    for round in 0..warm_up + rounds {
        let line = lines.next_lines(1);
        let clock = SpanTimer::start();
        reader.write_all(line).context("sending an event")?;
        for subscriber in &mut subscribers {
            while subscriber.count_events()? == 0 {}
        }
        if round >= warm_up {
            times.push(clock.elapsed());
        }
    }
    Ok(times)
}

/// Opens this number of subscriptions, and waits until each receives events.
fn subscribe_all(
    program: &MeasuredProgram,
    method: &str,
    many: usize,
) -> anyhow::Result<Vec<CountingSubscriber>> {
    let mut subscribers = Vec::new();
    for _ in 0..many {
        subscribers.push(program.subscribe(method)?);
    }
    let mut reader = program.connect_reader()?;
    // A hub does not confirm a subscription, so give the hub time before the first event.
    thread::sleep(Duration::from_millis(200));
    let started = "{\"type\":\"container_started\",\"container\":\"3f2a9c0d1e4b\"}\n";
    reader
        .write_all(started.as_bytes())
        .context("sending an event")?;
    for subscriber in &mut subscribers {
        subscriber.set_read_timeout(Duration::from_secs(60))?;
        let mut read = 0;
        let wanted = if method == CLEARANCE2_SUBSCRIBE { 2 } else { 1 };
        while read < wanted {
            let now = subscriber.count_events()?;
            read += now;
            // The relay sends no snapshot.
            if read > 0 && matches!(program.kind(), ProgramKind::Relay) {
                break;
            }
        }
    }
    Ok(subscribers)
}

fn bench_throughput(
    report: &BenchReport,
    python: Option<&ProgramKind>,
    part: usize,
) -> anyhow::Result<()> {
    let enough = BenchGoal::AtLeast(500_000.0);
    for (name, flow, rounds, events, goal) in [
        // Each round fills an empty ledger up to the limit.
        ("new questions", EventPattern::Distinct, 20, 100_000, enough),
        ("one question", EventPattern::Repeated, 1, 2_000_000, enough),
        // Each question beyond the limit evicts the oldest pending question.
        (
            "more than fit",
            EventPattern::Distinct,
            1,
            2_000_000,
            BenchGoal::None,
        ),
    ] {
        let name = format!("lossless to 1 subscriber, 64 in flight, {name}");
        if !report.includes(&name) {
            continue;
        }
        let median =
            |kind: &ProgramKind, rounds: usize, events: usize| -> anyhow::Result<HubThroughput> {
                let mut all = (0..rounds.max(1))
                    .map(|_| measure_throughput(kind, flow, events))
                    .collect::<Result<Vec<_>, _>>()?;
                all.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
                Ok(all.swap_remove(all.len() / 2))
            };
        let (rounds, events) = (
            rounds / part,
            if rounds == 1 { events / part } else { events },
        );
        let ours = median(&ProgramKind::Hub, rounds, events)?;
        let floor = median(&ProgramKind::Relay, rounds, events)?;
        let theirs = match python {
            Some(python) if goal == enough => Some(median(python, 1, 20_000 / part)?),
            _ => None,
        };
        report.print_row(&BenchRow {
            floor: Some(floor.per_second),
            python: theirs.as_ref().map(|theirs| theirs.per_second),
            ..BenchRow::new(&*name, "events/s", ours.per_second, goal)
        });
        report.print_row(&BenchRow {
            floor: Some(floor.cpu_us_per_event),
            python: theirs.as_ref().map(|theirs| theirs.cpu_us_per_event),
            ..BenchRow::new(
                format!("{name}, CPU each"),
                "µs",
                ours.cpu_us_per_event,
                BenchGoal::None,
            )
        });
    }
    Ok(())
}

/// The throughput of a hub.
struct HubThroughput {
    per_second: f64,
    /// Processor time of the hub per event, in microseconds.
    cpu_us_per_event: f64,
}

/// Keeps 64 events in flight until the given number has passed.
fn measure_throughput(
    kind: &ProgramKind,
    flow: EventPattern,
    events: usize,
) -> anyhow::Result<HubThroughput> {
    const MAX_IN_FLIGHT: usize = 64;
    let program = MeasuredProgram::start(kind)?;
    let mut subscribers = subscribe_all(&program, CLEARANCE1_SUBSCRIBE, 1)?;
    let Some(subscriber) = subscribers.first_mut() else {
        bail!("no subscriber connected");
    };
    let mut reader = program.connect_reader()?;
    let mut lines = EventLineGenerator::new(flow);
    let (mut sent, mut received) = (0, 0);
    let before = program.cpu_time()?;
    let clock = SpanTimer::start();
    while received < events {
        let free = (MAX_IN_FLIGHT - (sent - received)).min(events - sent);
        if free > 0 {
            reader
                .write_all(lines.next_lines(free))
                .context("sending events")?;
            sent += free;
        }
        received += subscriber.count_events().context("an event was lost")?;
    }
    let took = clock.elapsed();
    let cpu = program.cpu_time()?.saturating_sub(before);
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a few millions"
    )]
    let events = events as f64;
    Ok(HubThroughput {
        per_second: events / took.as_secs_f64(),
        cpu_us_per_event: cpu.as_secs_f64() * 1e6 / events,
    })
}

fn bench_start_time(
    report: &BenchReport,
    python: Option<&ProgramKind>,
    part: usize,
) -> anyhow::Result<()> {
    let name = "start to both sockets, p50";
    if !report.includes(name) {
        return Ok(());
    }
    let median = |kind: &ProgramKind, rounds: usize| -> anyhow::Result<f64> {
        let mut times = LatencySamples::default();
        for _ in 0..rounds.max(3) {
            times.push(MeasuredProgram::start(kind)?.start_time);
        }
        Ok(times.percentile_us(50) / 1e3)
    };
    report.print_row(&BenchRow {
        floor: Some(median(&ProgramKind::Relay, 100 / part)?),
        python: match python {
            Some(python) => Some(median(python, 10 / part)?),
            None => None,
        },
        ..BenchRow::new(
            name,
            "ms",
            median(&ProgramKind::Hub, 100 / part)?,
            BenchGoal::AtMost(6.0),
        )
    });
    Ok(())
}

fn bench_memory(report: &BenchReport, python: Option<&ProgramKind>) -> anyhow::Result<()> {
    let name = "PSS of each of 20 idle hubs, the largest";
    if !report.includes(name) {
        return Ok(());
    }
    let largest = |kind: &ProgramKind| -> anyhow::Result<f64> {
        let programs: Vec<_> = (0..20)
            .map(|_| MeasuredProgram::start(kind))
            .collect::<Result<_, _>>()?;
        // Measured after one reader has connected and disconnected.
        for program in &programs {
            drop(program.connect_reader()?);
        }
        thread::sleep(Duration::from_millis(300));
        let mut largest = 0.0_f64;
        for program in &programs {
            largest = largest.max(program.pss_mib()?);
        }
        Ok(largest)
    };
    report.print_row(&BenchRow {
        floor: Some(largest(&ProgramKind::Relay)?),
        python: match python {
            Some(python) => Some(largest(python)?),
            None => None,
        },
        ..BenchRow::new(
            name,
            "MiB",
            largest(&ProgramKind::Hub)?,
            BenchGoal::AtMost(1.6),
        )
    });
    Ok(())
}

fn bench_bursts(report: &BenchReport, python: Option<&ProgramKind>) -> anyhow::Result<()> {
    for events in [4_096, 50_000] {
        let name = format!("burst of {events} in one write");
        if !report.includes(&name) {
            continue;
        }
        let ours = measure_burst(&ProgramKind::Hub, events)?;
        let floor = measure_burst(&ProgramKind::Relay, events)?;
        let theirs = match python {
            Some(python) => Some(measure_burst(python, events)?),
            None => None,
        };
        let number = |events: usize| u32::try_from(events).map_or(f64::NAN, f64::from);
        report.print_row(&BenchRow {
            floor: Some(number(floor.delivered)),
            python: theirs.as_ref().map(|burst| number(burst.delivered)),
            ..BenchRow::new(
                format!("{name}, delivered"),
                "questions",
                number(ours.delivered),
                BenchGoal::AtLeast(number(events)),
            )
        });
        report.print_row(&BenchRow {
            python: theirs.as_ref().map(|burst| number(burst.repeated)),
            ..BenchRow::new(
                format!("{name}, delivered twice"),
                "questions",
                number(ours.repeated),
                BenchGoal::AtMost(0.0),
            )
        });
        report.print_row(&BenchRow {
            floor: Some(floor.duration.as_secs_f64() * 1e3),
            ..BenchRow::new(
                format!("{name}, until the last"),
                "ms",
                ours.duration.as_secs_f64() * 1e3,
                BenchGoal::None,
            )
        });
        report.print_row(&BenchRow {
            floor: Some(floor.resident_mib),
            python: theirs.as_ref().map(|burst| burst.resident_mib),
            ..BenchRow::new(
                format!("{name}, resident afterwards"),
                "MiB",
                ours.resident_mib,
                BenchGoal::None,
            )
        });
    }
    Ok(())
}

/// The result of a burst.
struct BurstResult {
    delivered: usize,
    repeated: usize,
    duration: Duration,
    resident_mib: f64,
}

fn measure_burst(kind: &ProgramKind, events: usize) -> anyhow::Result<BurstResult> {
    let program = MeasuredProgram::start(kind)?;
    let mut subscribers = subscribe_all(&program, CLEARANCE1_SUBSCRIBE, 1)?;
    let Some(subscriber) = subscribers.first_mut() else {
        bail!("no subscriber connected");
    };
    subscriber.set_read_timeout(Duration::from_secs(2))?;
    let mut lines = EventLineGenerator::new(EventPattern::Distinct);
    let bytes = lines.next_lines(events).to_vec();
    let mut reader = program.connect_reader()?;
    let clock = SpanTimer::start();
    let writer = thread::spawn(move || reader.write_all(&bytes).map(|()| reader));
    let (mut delivered, mut repeated) = (BTreeSet::new(), 0);
    let mut rest = Vec::new();
    let mut took = clock.elapsed();
    while delivered.len() < events {
        // If the hub skipped events, no more events come, and the read times out.
        let Ok((bytes, end)) = subscriber.read_bytes() else {
            break;
        };
        rest.extend_from_slice(bytes);
        let mut start = 0;
        for at in memchr::memchr_iter(end, &rest) {
            let event = rest.get(start..at).unwrap_or_default();
            start = at + 1;
            let id =
                EventLineGenerator::parse_number(event).context("an event without its number")?;
            if !delivered.insert(id) {
                repeated += 1;
            }
        }
        rest.drain(..start);
        took = clock.elapsed();
    }
    let reader = writer.join();
    let resident = program.resident_mib()?;
    drop(reader);
    Ok(BurstResult {
        delivered: delivered.len(),
        repeated,
        duration: took,
        resident_mib: resident,
    })
}

/// Whether events are different questions or repeats of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventPattern {
    Distinct,
    Repeated,
}

/// Generates lines of a reader, faster than any hub reads.
struct EventLineGenerator {
    pattern: EventPattern,
    sent: u32,
    template: Vec<u8>,
    /// The position of the number in the template's id.
    id_offset: usize,
    name_offset: usize,
    bytes: Vec<u8>,
}

impl EventLineGenerator {
    const NUMBER_PLACEHOLDER: &'static str = "00000000";
    const ID_PREFIX: &'static str = "3f2a9c0d1e4b:";

    fn new(flow: EventPattern) -> Self {
        let template = format!(
            "{{\"type\":\"pending\",\"container\":\"3f2a9c0d1e4b\",\"id\":\"{}{}\",\
             \"dest\":\"203.0.113.7\",\"port\":443,\"proto\":6,\"domain\":\"h{}.example.com\",\
             \"dossier\":{{\"project\":\"demo\",\"task\":\"t1\",\"name\":\"bench\"}},\
             \"ts\":\"2026-11-21T00:00:00+00:00\"}}\n",
            Self::ID_PREFIX,
            Self::NUMBER_PLACEHOLDER,
            Self::NUMBER_PLACEHOLDER,
        );
        let id = template.find(Self::NUMBER_PLACEHOLDER).unwrap_or_default();
        let name = template.rfind(Self::NUMBER_PLACEHOLDER).unwrap_or_default();
        Self {
            pattern: flow,
            sent: 0,
            template: template.into_bytes(),
            id_offset: id,
            name_offset: name,
            bytes: Vec::new(),
        }
    }

    /// Returns the next `many` lines.
    fn next_lines(&mut self, many: usize) -> &[u8] {
        self.bytes.clear();
        for _ in 0..many {
            self.sent += 1;
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&self.template);
            let name = if self.pattern == EventPattern::Distinct {
                self.sent
            } else {
                0
            };
            for (at, number) in [(self.id_offset, self.sent), (self.name_offset, name)] {
                let place = start + at..start + at + Self::NUMBER_PLACEHOLDER.len();
                let mut left = number;
                for digit in self.bytes.get_mut(place).into_iter().flatten().rev() {
                    *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
                    left /= 10;
                }
            }
        }
        &self.bytes
    }

    /// Returns the number in the id of an event.
    fn parse_number(event: &[u8]) -> Option<u32> {
        let text = std::str::from_utf8(event).ok()?;
        let (_, after) = text.split_once(Self::ID_PREFIX)?;
        after.get(..Self::NUMBER_PLACEHOLDER.len())?.parse().ok()
    }
}

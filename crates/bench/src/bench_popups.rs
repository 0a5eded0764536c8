// SPDX-License-Identifier: Apache-2.0
//! Popups: the delay from a question to the popup, and the effect of 500 questions in one second.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::fake_desktop::{FakeDesktop, WAIT_TIMEOUT};
use crate::latency_samples::{LatencySamples, SpanTimer, median};
use crate::many_hubs::ManyHubs;
use crate::measured_ui::start_notifier;
use crate::report::{BenchGoal, BenchReport, BenchRow};

const SANDBOX_COUNT: u32 = 50;
const QUESTION_COUNT: u32 = 500;
/// The interval of questions during the storm.
const QUESTION_INTERVAL: Duration = Duration::from_millis(2);
/// The time after which the rate limit of popups allows a full burst again.
const RATE_LIMIT_RESET: Duration = Duration::from_secs(4);

/// Measures every row about popups. `part` divides the number of rounds.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    let one = "notifier: question to popup";
    let storm = "notifier: 500 questions/s of 50 sandboxes";
    if !(report.includes(one) || report.includes(storm)) {
        return Ok(());
    }
    let crowd = ManyHubs::serve(SANDBOX_COUNT)?;
    let mut desktop = FakeDesktop::start();
    let program = start_notifier(&crowd, &desktop)?;
    // The notifier shows questions once all hubs are connected.
    crowd.ask_questions(1, QUESTION_INTERVAL)?;
    desktop.wait_for_notification("popup", |title| title.starts_with("Blocked: "))?;
    thread::sleep(RATE_LIMIT_RESET);
    withdraw_all(&crowd, &mut desktop)?;

    if report.includes(one) {
        let mut times = LatencySamples::default();
        for _ in 0..(50 / part).max(2) {
            // Longer than the interval of the rate limit.
            thread::sleep(Duration::from_millis(700));
            let clock = SpanTimer::start();
            crowd.ask_questions(1, QUESTION_INTERVAL)?;
            let at =
                desktop.wait_for_notification("popup", |title| title.starts_with("Blocked: "))?;
            times.push(at.since(clock));
            withdraw_all(&crowd, &mut desktop)?;
        }
        for percent in [50, 99] {
            let row = format!("{one}, p{percent}");
            report.print_row(&BenchRow::new(
                row,
                "µs",
                times.percentile_us(percent),
                BenchGoal::None,
            ));
        }
    }
    if report.includes(storm) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let (mut within, mut calls, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..(5 / part).max(1) {
            thread::sleep(RATE_LIMIT_RESET);
            desktop.discard_calls();
            let before = program.cpu_time_ms()?;
            let clock = SpanTimer::start();
            crowd.ask_questions(QUESTION_COUNT, QUESTION_INTERVAL)?;
            let all = format!("{QUESTION_COUNT} questions from {SANDBOX_COUNT} sandboxes");
            let mut times = Vec::new();
            loop {
                let (at, title) = desktop.next_notification()?;
                times.push(at.since(clock));
                if title == all {
                    break;
                }
                let waited = clock.elapsed();
                ensure!(
                    waited < WAIT_TIMEOUT,
                    "no popup {all:?} within {WAIT_TIMEOUT:?}"
                );
            }
            cpu.push(program.cpu_time_ms()? - before);
            let ms = |time: &Duration| time.as_secs_f64() * 1e3;
            first.extend(times.first().map(ms));
            let asked = QUESTION_INTERVAL * (QUESTION_COUNT - 1);
            last.extend(times.last().map(|at| ms(&at.saturating_sub(asked))));
            let in_time = times.iter().filter(|at| **at <= Duration::from_secs(1));
            within.push(to_figure(in_time.count()));
            calls.push(to_figure(times.len()));
            withdraw_all(&crowd, &mut desktop)?;
        }
        for (what, unit, figures, goal) in [
            (
                "first question to first popup",
                "ms",
                first,
                BenchGoal::None,
            ),
            (
                "Notify calls in that second",
                "",
                within,
                BenchGoal::AtMost(8.0),
            ),
            (
                "last question to the popup for all",
                "ms",
                last,
                BenchGoal::None,
            ),
            ("Notify calls until then", "", calls, BenchGoal::None),
            ("processor until then", "ms", cpu, BenchGoal::None),
        ] {
            report.print_row(&BenchRow::new(
                format!("{storm}, {what}"),
                unit,
                median(&figures),
                goal,
            ));
        }
    }
    drop(program);
    crowd.shut_down().context("serving the hubs of the popups")
}

fn to_figure(of: usize) -> f64 {
    u32::try_from(of).map_or(f64::NAN, f64::from)
}

fn withdraw_all(crowd: &ManyHubs, desktop: &mut FakeDesktop) -> anyhow::Result<()> {
    crowd.withdraw_all()?;
    desktop.wait_for_close()
}

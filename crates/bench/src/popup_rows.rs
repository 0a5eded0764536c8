// SPDX-License-Identifier: Apache-2.0
//! The desktop bridge: how soon a question is a popup, and what five hundred in a second become.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::crowd::Crowd;
use crate::desktop::{Desktop, PATIENCE};
use crate::gauge::{Stopwatch, Times, median};
use crate::report::{Goal, Report, Row};
use crate::ui::notifier;

const SANDBOXES: u32 = 50;
const QUESTIONS: u32 = 500;
/// The time between two questions of a storm of a second.
const PAUSE: Duration = Duration::from_millis(2);
/// After so long, as many popups as ever may come at once.
const QUIET: Duration = Duration::from_secs(4);

/// Measures every row about popups; `part` is what to divide the rounds by.
pub(crate) fn measure(report: &Report, part: usize) -> anyhow::Result<()> {
    let one = "notifier: question to popup";
    let storm = "notifier: 500 questions/s of 50 sandboxes";
    if !(report.wants(one) || report.wants(storm)) {
        return Ok(());
    }
    let crowd = Crowd::serve(SANDBOXES)?;
    let mut desktop = Desktop::start()?;
    let program = notifier(&crowd, &desktop)?;
    // It shows questions once it listens everywhere.
    crowd.ask(1, PAUSE)?;
    desktop.until("popup", |title| title.starts_with("Blocked: "))?;
    thread::sleep(QUIET);
    take_back(&crowd, &mut desktop)?;

    if report.wants(one) {
        let mut times = Times::default();
        for _ in 0..(50 / part).max(2) {
            // Slower than popups may come.
            thread::sleep(Duration::from_millis(700));
            let clock = Stopwatch::start();
            crowd.ask(1, PAUSE)?;
            let at = desktop.until("popup", |title| title.starts_with("Blocked: "))?;
            times.push(at.since(clock));
            take_back(&crowd, &mut desktop)?;
        }
        for percent in [50, 99] {
            let row = format!("{one}, p{percent}");
            report.add(&Row::new(row, "µs", times.percentile(percent), Goal::None));
        }
    }
    if report.wants(storm) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let (mut within, mut calls, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..(5 / part).max(1) {
            thread::sleep(QUIET);
            desktop.forget();
            let before = program.on_cpu()?;
            let clock = Stopwatch::start();
            crowd.ask(QUESTIONS, PAUSE)?;
            let all = format!("{QUESTIONS} questions from {SANDBOXES} sandboxes");
            let mut times = Vec::new();
            loop {
                let (at, title) = desktop.shown()?;
                times.push(at.since(clock));
                if title == all {
                    break;
                }
                let waited = clock.elapsed();
                ensure!(waited < PATIENCE, "no popup {all:?} within {PATIENCE:?}");
            }
            cpu.push(program.on_cpu()? - before);
            let ms = |time: &Duration| time.as_secs_f64() * 1e3;
            first.extend(times.first().map(ms));
            let asked = PAUSE * (QUESTIONS - 1);
            last.extend(times.last().map(|at| ms(&at.saturating_sub(asked))));
            let in_time = times.iter().filter(|at| **at <= Duration::from_secs(1));
            within.push(count(in_time.count()));
            calls.push(count(times.len()));
            take_back(&crowd, &mut desktop)?;
        }
        for (what, unit, figures, goal) in [
            ("first question to first popup", "ms", first, Goal::None),
            ("Notify calls in that second", "", within, Goal::AtMost(8.0)),
            ("last question to the popup for all", "ms", last, Goal::None),
            ("Notify calls until then", "", calls, Goal::None),
            ("processor until then", "ms", cpu, Goal::None),
        ] {
            report.add(&Row::new(
                format!("{storm}, {what}"),
                unit,
                median(&figures),
                goal,
            ));
        }
    }
    drop(program);
    crowd.end().context("serving the hubs of the popups")
}

fn count(of: usize) -> f64 {
    u32::try_from(of).map_or(f64::NAN, f64::from)
}

fn take_back(crowd: &Crowd, desktop: &mut Desktop) -> anyhow::Result<()> {
    crowd.take_back()?;
    desktop.until_closed()
}

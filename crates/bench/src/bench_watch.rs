// SPDX-License-Identifier: Apache-2.0
//! Each user interface with one hub and with a thousand hubs, compared with the Python stack's
//! `MultiSocketSubscriber`: the cost until every question is shown, and the cost while idle.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::fake_desktop::FakeDesktop;
use crate::latency_samples::median;
use crate::many_hubs::ManyHubs;
use crate::measured_ui::{MeasuredUi, RunningUi};
use crate::proc_stats::own_cpu_time_ms;
use crate::report::{BenchGoal, BenchReport, BenchRow};

/// The number of starts of each user interface.
const START_COUNT: usize = 5;
/// The time after which all work of the start is done and threads needed by the start have ended.
const SETTLE_TIME: Duration = Duration::from_secs(12);

/// Measures every row about watching. `part` divides the number of starts and the idle time.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the entry point of a program may read the environment"
    )]
    let python = std::env::var_os("CLEARANCE_PYTHON").map(PathBuf::from);
    let counter = python.clone().map(MeasuredUi::PythonCounter);
    let popups = python.map(MeasuredUi::PythonPopups);
    let uis = [
        ("watch", MeasuredUi::Watch, counter.clone()),
        ("tui", MeasuredUi::Tui, counter),
        ("notifier", MeasuredUi::Notifier, popups),
    ];
    for (hubs, many) in [(1, "1 hub"), (1000, "1000 hubs")] {
        let name = |ui: &str| format!("{ui}: {many}");
        if !uis.iter().any(|(ui, ..)| report.includes(&name(ui))) {
            continue;
        }
        let crowd = ManyHubs::serve(hubs)?;
        crowd.ask_questions(hubs, Duration::from_micros(1))?;
        crowd.wait_until_done()?;
        let mut desktop = FakeDesktop::start();
        for (ui, ours, theirs) in &uis {
            let name = name(ui);
            if report.includes(&name) {
                let uis: Vec<_> = std::iter::once(ours).chain(theirs).collect();
                let figures = measure_interleaved(&uis, &crowd, &mut desktop, hubs, part)?;
                print_figures(report, &name, &figures);
            }
        }
        drop(desktop);
        crowd.shut_down()?;
    }
    Ok(())
}

/// The cost of watching.
#[derive(Debug, Default)]
struct UiFigures {
    /// Time from the start of the program until all questions are shown, in milliseconds.
    start_ms: Vec<f64>,
    /// Processor time of the program until all questions are shown, in milliseconds.
    start_cpu_ms: Vec<f64>,
    /// Processor time of the hubs and the desktop until all questions are shown, in milliseconds.
    server_cpu_ms: Vec<f64>,
    /// Proportional set size after [`SETTLE_TIME`], in MiB.
    pss_mib: f64,
    /// Processor time during ten idle seconds, in milliseconds.
    idle_cpu_ms: f64,
    /// Context switches of all threads during ten idle seconds.
    context_switches: f64,
}

/// Measures the user interfaces alternately.
fn measure_interleaved(
    uis: &[&MeasuredUi],
    crowd: &ManyHubs,
    desktop: &mut FakeDesktop,
    hubs: u32,
    part: usize,
) -> anyhow::Result<Vec<UiFigures>> {
    let mut figures: Vec<_> = uis.iter().map(|_| UiFigures::default()).collect();
    let rounds = (START_COUNT / part).max(1);
    for round in 1..=rounds {
        for (ui, figures) in uis.iter().zip(&mut figures) {
            let before = own_cpu_time_ms()?;
            let (running, start) = ui.start(crowd, desktop, hubs)?;
            figures.server_cpu_ms.push(own_cpu_time_ms()? - before);
            figures.start_ms.push(start.as_secs_f64() * 1e3);
            figures.start_cpu_ms.push(running.program().cpu_time_ms()?);
            if round == rounds {
                measure_idle(&running, figures, part)?;
            }
        }
    }
    Ok(figures)
}

fn measure_idle(running: &RunningUi, figures: &mut UiFigures, part: usize) -> anyhow::Result<()> {
    let program = running.program();
    let part = u32::try_from(part)?;
    let length = Duration::from_secs(10) / part;
    thread::sleep(SETTLE_TIME / part);
    let (cpu, switches) = (program.cpu_time_ms()?, program.context_switches()?);
    thread::sleep(length);
    let scale = 10.0 / length.as_secs_f64();
    figures.idle_cpu_ms = (program.cpu_time_ms()? - cpu) * scale;
    figures.context_switches = (program.context_switches()? - switches) * scale;
    figures.pss_mib = program.pss_mib()?;
    Ok(())
}

type FigureSelector = fn(&UiFigures) -> f64;

fn print_figures(report: &BenchReport, name: &str, figures: &[UiFigures]) {
    let rows: [(&str, &str, BenchGoal, FigureSelector); 6] = [
        ("start until all are shown", "ms", BenchGoal::None, |f| {
            median(&f.start_ms)
        }),
        ("processor until then", "ms", BenchGoal::None, |f| {
            median(&f.start_cpu_ms)
        }),
        (
            "processor of hubs and desktop",
            "ms",
            BenchGoal::None,
            |f| median(&f.server_cpu_ms),
        ),
        ("PSS", "MiB", BenchGoal::None, |f| f.pss_mib),
        (
            "processor while idle",
            "ms/10 s",
            BenchGoal::AtMost(0.0),
            |f| f.idle_cpu_ms,
        ),
        (
            "context switches while idle",
            "/10 s",
            BenchGoal::AtMost(0.0),
            |f| f.context_switches,
        ),
    ];
    for (what, unit, goal, figure) in rows {
        let Some(ours) = figures.first() else {
            continue;
        };
        report.print_row(&BenchRow {
            python: figures.get(1).map(figure),
            ..BenchRow::new(format!("{name}, {what}"), unit, figure(ours), goal)
        });
    }
}

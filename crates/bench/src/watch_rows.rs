// SPDX-License-Identifier: Apache-2.0
//! Each UI over a thousand live hubs, and over one, beside the Python stack's
//! `MultiSocketSubscriber`: what it costs until every question is shown, and when nothing happens.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::crowd::Crowd;
use crate::desktop::Desktop;
use crate::figures::on_cpu_here;
use crate::gauge::median;
use crate::report::{Goal, Report, Row};
use crate::ui::{Running, Ui};

/// How often each is started.
const STARTS: usize = 5;
/// After this, what the start left to do is done, and a thread that only it needed has ended.
const SETTLE: Duration = Duration::from_secs(12);

/// Measures every row about watching; `part` is what to divide the rounds by.
pub(crate) fn measure(report: &Report, part: usize) -> anyhow::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a program's own environment, at its edge"
    )]
    let python = std::env::var_os("CLEARANCE_PYTHON").map(PathBuf::from);
    let counter = python.clone().map(Ui::Counter);
    let popups = python.map(Ui::Popups);
    let uis = [
        ("watch", Ui::Watch, counter.clone()),
        ("tui", Ui::Tui, counter),
        ("notifier", Ui::Notifier, popups),
    ];
    for (hubs, many) in [(1, "1 hub"), (1000, "1000 hubs")] {
        let name = |ui: &str| format!("{ui}: {many}");
        if !uis.iter().any(|(ui, ..)| report.wants(&name(ui))) {
            continue;
        }
        let crowd = Crowd::serve(hubs)?;
        crowd.ask(hubs, Duration::from_micros(1))?;
        crowd.done()?;
        let mut desktop = Desktop::start()?;
        for (ui, ours, theirs) in &uis {
            let name = name(ui);
            if report.wants(&name) {
                let uis: Vec<_> = std::iter::once(ours).chain(theirs).collect();
                let figures = compare(&uis, &crowd, &mut desktop, hubs, part)?;
                add(report, &name, &figures);
            }
        }
        drop(desktop);
        crowd.end()?;
    }
    Ok(())
}

/// What it costs to watch: medians of all starts, and of the last one when nothing happens.
#[derive(Debug, Default)]
struct Figures {
    /// From the start of the program until the question of every hub was shown, in milliseconds.
    start: Vec<f64>,
    /// The processor time until then, of every thread, in milliseconds.
    start_cpu: Vec<f64>,
    /// That of the hubs, and of the desktop that it shows them on.
    served: Vec<f64>,
    /// Its proportional set size a while after that, in MiB.
    pss: f64,
    /// The processor time within ten seconds in which nothing happens, in milliseconds.
    idle_cpu: f64,
    /// How often one of its threads gave the processor back within that time.
    switches: f64,
}

/// Measures UIs by turns.
fn compare(
    uis: &[&Ui],
    crowd: &Crowd,
    desktop: &mut Desktop,
    hubs: u32,
    part: usize,
) -> anyhow::Result<Vec<Figures>> {
    let mut figures: Vec<_> = uis.iter().map(|_| Figures::default()).collect();
    let rounds = (STARTS / part).max(1);
    for round in 1..=rounds {
        for (ui, figures) in uis.iter().zip(&mut figures) {
            let before = on_cpu_here()?;
            let (running, start) = ui.start(crowd, desktop, hubs)?;
            figures.served.push(on_cpu_here()? - before);
            figures.start.push(start.as_secs_f64() * 1e3);
            figures.start_cpu.push(running.program().on_cpu()?);
            if round == rounds {
                idle(&running, figures, part)?;
            }
        }
    }
    Ok(figures)
}

fn idle(running: &Running, figures: &mut Figures, part: usize) -> anyhow::Result<()> {
    let program = running.program();
    let part = u32::try_from(part)?;
    let length = Duration::from_secs(10) / part;
    thread::sleep(SETTLE / part);
    let (cpu, switches) = (program.on_cpu()?, program.switches()?);
    thread::sleep(length);
    let scale = 10.0 / length.as_secs_f64();
    figures.idle_cpu = (program.on_cpu()? - cpu) * scale;
    figures.switches = (program.switches()? - switches) * scale;
    figures.pss = program.pss()?;
    Ok(())
}

type Figure = fn(&Figures) -> f64;

fn add(report: &Report, name: &str, figures: &[Figures]) {
    let rows: [(&str, &str, Goal, Figure); 6] = [
        ("start until all are shown", "ms", Goal::None, |f| {
            median(&f.start)
        }),
        ("processor until then", "ms", Goal::None, |f| {
            median(&f.start_cpu)
        }),
        ("processor of hubs and desktop", "ms", Goal::None, |f| {
            median(&f.served)
        }),
        ("PSS", "MiB", Goal::None, |f| f.pss),
        ("processor while idle", "ms/10 s", Goal::AtMost(0.0), |f| {
            f.idle_cpu
        }),
        (
            "context switches while idle",
            "/10 s",
            Goal::AtMost(0.0),
            |f| f.switches,
        ),
    ];
    for (what, unit, goal, figure) in rows {
        let Some(ours) = figures.first() else {
            continue;
        };
        report.add(&Row {
            python: figures.get(1).map(figure),
            ..Row::new(format!("{name}, {what}"), unit, figure(ours), goal)
        });
    }
}

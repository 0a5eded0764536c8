// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI: what a frame costs however long the list is, and how soon a key is seen to
//! have done something while fifty sandboxes ask.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{HubId, InboxEvent};
use operator::tui::{ClockReading, Theme, TimeZone, TuiMessage, TuiModel};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{ContainerId, Protocol, Scope};

use crate::crowd::{Crowd, blocked};
use crate::gauge::{Stopwatch, Times};
use crate::report::{Goal, Report, Row};
use crate::screen::Screen;
use crate::ui::ours;

const SANDBOXES: u32 = 50;
/// The time between two questions of all sandboxes together.
const PAUSE: Duration = Duration::from_millis(2);
const THEME: Theme = Theme {
    color: true,
    unicode: true,
};

/// Measures every row about the screen; `part` is what to divide the rounds by.
pub(crate) fn measure(report: &Report, part: usize) -> anyhow::Result<()> {
    for questions in [100, 10_000, 100_000] {
        let name = format!("screen: a key and its frame, {questions} questions, p50");
        if report.wants(&name) {
            let mut times = frames(questions, 2000 / part)?;
            report.add(&Row::new(name, "µs", times.percentile(50), Goal::None));
        }
    }
    let name = "tui: key to paint, 500 questions/s of 50 sandboxes";
    if report.wants(name) {
        let mut storm = storm(part)?;
        for percent in [50, 99] {
            let row = format!("{name}, p{percent}");
            // Two frames of a film: what nobody notices.
            let goal = Goal::AtMost(83_000.0);
            let figure = storm.times.percentile(percent);
            report.add(&Row {
                floor: Some(storm.quiet.percentile(percent)),
                ..Row::new(row, "µs", figure, goal)
            });
        }
        let row = "tui: processor in a second of that, without keys";
        report.add(&Row::new(row, "ms", storm.cpu, Goal::None));
    }
    Ok(())
}

/// Measures key presses with the frames that they make, on a screen without a terminal.
fn frames(questions: u32, rounds: usize) -> anyhow::Result<Times> {
    let hub = HubId::new(Path::new("/run/hub.sock"));
    let mut model = TuiModel::new("/run", THEME, TimeZone::default());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).context("making a screen")?;
    let now = ClockReading::default();
    model.update(
        TuiMessage::InboxEvent(hub.clone(), InboxEvent::Up(ProtocolVersion::Clearance2)),
        now,
    );
    let container: ContainerId = "web".parse()?;
    for number in 0..questions {
        let blocked = blocked(&container, number)?;
        let scope = Scope {
            port: Some(443),
            protocol: Some(Protocol::TCP),
            ..Scope::whole_dest(blocked.dest().clone())
        };
        let event = Event::Pending(Arc::new(Request::new(blocked, scope, 1)));
        model.update(
            TuiMessage::InboxEvent(hub.clone(), InboxEvent::Received(event)),
            now,
        );
    }
    let mut times = Times::default();
    for round in 0..rounds {
        let code = if round % 4 == 3 {
            KeyCode::End
        } else {
            KeyCode::PageUp
        };
        let clock = Stopwatch::start();
        model.update(
            TuiMessage::Key(KeyEvent::new(code, KeyModifiers::NONE)),
            now,
        );
        terminal
            .draw(|frame| {
                model.lay_out(frame.area(), now);
                frame.render_widget(&model, frame.area());
            })
            .context("drawing")?;
        times.push(clock.elapsed());
    }
    Ok(times)
}

/// What a storm of questions does to the screen.
struct Storm {
    /// From a key to its page, while they come.
    times: Times,
    /// The same while nothing is asked.
    quiet: Times,
    /// The processor time in a second of it in which nobody presses a key, in milliseconds.
    cpu: f64,
}

/// Measures from a key written to a terminal until its page is painted there.
fn storm(part: usize) -> anyhow::Result<Storm> {
    let (rounds, watched) = (600 / part, Duration::from_secs(5) / u32::try_from(part)?);
    let crowd = Crowd::serve(SANDBOXES)?;
    let mut screen = Screen::start(ours(&crowd)?.arg("tui"))?;
    screen.until(&format!("{SANDBOXES} hubs"))?;
    let quiet = keys(&mut screen, rounds)?;
    // More than come until the end.
    crowd.ask(u32::MAX, PAUSE)?;
    screen.until("questions wait")?;
    let times = keys(&mut screen, rounds)?;
    let before = screen.program.on_cpu()?;
    let clock = Stopwatch::start();
    screen.paint_for(watched)?;
    let cpu = (screen.program.on_cpu()? - before) / clock.elapsed().as_secs_f64();
    drop(screen);
    crowd.end()?;
    Ok(Storm { times, quiet, cpu })
}

/// Presses keys at a quick person's pace, and returns how long each took.
fn keys(screen: &mut Screen, rounds: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for _ in 0..rounds {
        for (key, title) in [(b"?", "The keys"), (b"q", "Waiting for you")] {
            // Questions come between the keys.
            thread::sleep(Duration::from_millis(5));
            let clock = Stopwatch::start();
            screen.press(key)?;
            screen.until(title)?;
            times.push(clock.elapsed());
        }
    }
    Ok(times)
}

// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI: the cost of a frame with a long list, and the delay from a key press to the
//! painted result while fifty sandboxes ask questions.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{HubId, Inbox, InboxEvent};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{ContainerId, Protocol, Scope, Timestamp};
use tui::{
    ClockReading, ScreenLayout, SessionView, Theme, TimeZone, TuiEffect, TuiMessage, TuiModel,
};

use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::many_hubs::{ManyHubs, blocked_packet};
use crate::measured_ui::clearance_command;
use crate::pty_screen::PtyScreen;
use crate::report::{BenchGoal, BenchReport, BenchRow};

const SANDBOX_COUNT: u32 = 50;
/// The interval of questions, all sandboxes together.
const QUESTION_INTERVAL: Duration = Duration::from_millis(2);
const THEME: Theme = Theme {
    color: true,
    unicode: true,
};

/// Measures every row about the screen. `part` divides the number of rounds.
pub(crate) fn measure(report: &BenchReport, part: usize) -> anyhow::Result<()> {
    for questions in [100, 10_000, 100_000] {
        let name = format!("screen: a key and its frame, {questions} questions, p50");
        if report.includes(&name) {
            let mut times = measure_frames(questions, 2000 / part)?;
            report.print_row(&BenchRow::new(
                name,
                "µs",
                times.percentile_us(50),
                BenchGoal::None,
            ));
        }
    }
    let name = "tui: key to paint, 500 questions/s of 50 sandboxes";
    if report.includes(name) {
        let mut storm = measure_question_storm(part)?;
        for percent in [50, 99] {
            let row = format!("{name}, p{percent}");
            // Two frames of a film; a shorter delay is not noticeable.
            let goal = BenchGoal::AtMost(83_000.0);
            let figure = storm.busy_latency.percentile_us(percent);
            report.print_row(&BenchRow {
                floor: Some(storm.quiet_latency.percentile_us(percent)),
                ..BenchRow::new(row, "µs", figure, goal)
            });
        }
        let row = "tui: processor in a second of that, without keys";
        report.print_row(&BenchRow::new(
            row,
            "ms",
            storm.cpu_ms_per_second,
            BenchGoal::None,
        ));
    }
    Ok(())
}

/// Measures the handling of key presses and the drawing of frames, without a terminal.
fn measure_frames(questions: u32, rounds: usize) -> anyhow::Result<LatencySamples> {
    let hub = HubId::new(Path::new("/run/hub.sock"));
    let mut model = TuiModel::new("/run", THEME, TimeZone::default());
    let mut inbox = Inbox::new();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).context("making a screen")?;
    let changes = inbox.apply_event(&hub, InboxEvent::Up(ProtocolVersion::Clearance2));
    update(&mut model, &inbox, TuiMessage::Changed(changes));
    let container: ContainerId = "web".parse()?;
    for number in 0..questions {
        let blocked = blocked_packet(&container, number)?;
        let scope = Scope {
            port: Some(443),
            protocol: Some(Protocol::TCP),
            ..Scope::whole_dest(blocked.dest().clone())
        };
        let event = Event::Pending(Arc::new(Request::new(
            blocked,
            scope,
            Timestamp::from_micros(1),
        )));
        let changes = inbox.apply_event(&hub, InboxEvent::Received(event));
        update(&mut model, &inbox, TuiMessage::Changed(changes));
    }
    let mut times = LatencySamples::default();
    for round in 0..rounds {
        let code = if round % 4 == 3 {
            KeyCode::End
        } else {
            KeyCode::PageUp
        };
        let clock = SpanTimer::start();
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        update(&mut model, &inbox, TuiMessage::Key(key));
        let mut drawn = None;
        terminal
            .draw(|frame| {
                let layout = ScreenLayout::new(&model, session_view(&inbox), frame.area());
                frame.render_widget(&layout, frame.area());
                drawn = Some(layout.into_drawn());
            })
            .context("drawing")?;
        let drawn = drawn.context("drawing")?;
        update(&mut model, &inbox, TuiMessage::Drawn(drawn));
        times.push(clock.elapsed());
    }
    Ok(times)
}

fn session_view(inbox: &Inbox) -> SessionView<'_> {
    SessionView {
        inbox,
        unanswered: 0,
        is_synced: true,
    }
}

fn update(model: &mut TuiModel, inbox: &Inbox, msg: TuiMessage) -> Option<TuiEffect> {
    model.update(msg, session_view(inbox), ClockReading::default())
}

/// What a storm of questions does to the screen.
struct QuestionStorm {
    /// The delay from a key press to the page during the storm.
    busy_latency: LatencySamples,
    /// The delay from a key press to the page without new questions.
    quiet_latency: LatencySamples,
    /// The processor time in milliseconds per second of the storm without key presses.
    cpu_ms_per_second: f64,
}

/// Measures the time from a key written to the terminal to the painted page.
fn measure_question_storm(part: usize) -> anyhow::Result<QuestionStorm> {
    let (rounds, watched) = (600 / part, Duration::from_secs(5) / u32::try_from(part)?);
    let crowd = ManyHubs::serve(SANDBOX_COUNT)?;
    let mut screen = PtyScreen::start(clearance_command(&crowd)?.arg("tui"))?;
    screen.wait_for_text(&format!("{SANDBOX_COUNT} hubs"))?;
    let quiet = measure_key_latency(&mut screen, rounds)?;
    // The storm lasts until the hubs are dropped.
    crowd.ask_questions(u32::MAX, QUESTION_INTERVAL)?;
    screen.wait_for_text("questions wait")?;
    let times = measure_key_latency(&mut screen, rounds)?;
    let before = screen.program.cpu_time_ms()?;
    let clock = SpanTimer::start();
    screen.read_for(watched)?;
    let cpu = (screen.program.cpu_time_ms()? - before) / clock.elapsed().as_secs_f64();
    drop(screen);
    crowd.shut_down()?;
    Ok(QuestionStorm {
        busy_latency: times,
        quiet_latency: quiet,
        cpu_ms_per_second: cpu,
    })
}

/// Presses keys at the pace of a fast typist, and returns the delay of each.
fn measure_key_latency(screen: &mut PtyScreen, rounds: usize) -> anyhow::Result<LatencySamples> {
    let mut times = LatencySamples::default();
    for _ in 0..rounds {
        for (key, title) in [(b"?", "Keys"), (b"q", "Waiting for you")] {
            // Questions come between the keys.
            thread::sleep(Duration::from_millis(5));
            let clock = SpanTimer::start();
            screen.send_keys(key)?;
            screen.wait_for_text(title)?;
            times.push(clock.elapsed());
        }
    }
    Ok(times)
}

// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI: what a frame costs however long the list is, and how soon a key is seen to
//! have done something while fifty sandboxes ask.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hub::{Hub, Options};
use operator::hubs::Hubs;
use operator::inbox::{HubId, News};
use operator::tui::{Model, Msg, Now, Theme, Zone, converse};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;
use terok_clearance::client::Speaks;
use terok_clearance::socket::{self, Layout, RuntimeDir};
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Blocked, ContainerId, Dossier, Protocol, Scope};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gauge::{Stopwatch, Times};
use crate::program::Instant;
use crate::report::{Goal, Report, Row};

/// Hubs, and how long it is between two questions of all their sandboxes together.
const STORM: (u32, Duration) = (50, Duration::from_millis(2));
/// Hubs that have nothing to ask within the time of a measurement.
const QUIET: (u32, Duration) = (1000, Duration::from_secs(3600));
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
    let name = "screen: key to paint, 500 questions/s of 50 sandboxes";
    if report.wants(name) {
        let mut times = storm(600 / part)?;
        for percent in [50, 99] {
            let row = format!("{name}, p{percent}");
            // Two frames of a film: what nobody notices.
            let goal = Goal::AtMost(83_000.0);
            report.add(&Row::new(row, "µs", times.percentile(percent), goal));
        }
    }
    let name = "screen: 1000 idle hubs";
    if report.wants(name) {
        let idle = idle()?;
        for (what, unit, figure, goal) in [
            ("start to the last", "ms", idle.start, Goal::None),
            ("resident", "MiB", idle.resident, Goal::None),
            (
                "on a processor in 5 s",
                "ms",
                idle.on_cpu,
                Goal::AtMost(0.0),
            ),
        ] {
            report.add(&Row::new(format!("{name}, {what}"), unit, figure, goal));
        }
    }
    Ok(())
}

/// What it costs to watch hubs that say nothing.
struct Idle {
    start: f64,
    resident: f64,
    on_cpu: f64,
}

fn idle() -> anyhow::Result<Idle> {
    with_hubs(QUIET, |directory| {
        let clock = Stopwatch::start();
        let mut screen = Screen::start(directory)?;
        screen.until("1000 hubs")?;
        let start = clock.elapsed().as_secs_f64() * 1000.0;
        // The first of the hubs has asked its only question by then, and that is painted.
        thread::sleep(Duration::from_secs(2));
        let before = screen.on_cpu()?;
        thread::sleep(Duration::from_secs(5));
        Ok(Idle {
            start,
            resident: screen.resident()?,
            on_cpu: (screen.on_cpu()? - before) / 1e6,
        })
    })
}

/// Returns a packet of a sandbox that was dropped.
pub(crate) fn blocked(container: &ContainerId, number: u32) -> anyhow::Result<Blocked> {
    Ok(Blocked {
        container: container.clone(),
        request: format!("{container}:{number}").parse()?,
        address: std::net::IpAddr::from(number.to_be_bytes()).into(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some(format!("host{number}.example").parse()?),
        dossier: Dossier::default(),
        process: None,
    })
}

/// Measures key presses with the frames that they make, on a screen without a terminal.
fn frames(questions: u32, rounds: usize) -> anyhow::Result<Times> {
    let hub = HubId::new(Path::new("/run/hub.sock"));
    let mut model = Model::new("/run", THEME, Zone::default());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).context("making a screen")?;
    let now = Now::default();
    model.update(Msg::News(hub.clone(), News::Up(Speaks::Clearance2)), now);
    let container: ContainerId = "web".parse()?;
    for number in 0..questions {
        let blocked = blocked(&container, number)?;
        let scope = Scope {
            port: Some(443),
            protocol: Some(Protocol::TCP),
            ..Scope::whole(blocked.dest().clone())
        };
        let event = Event::Pending(Arc::new(Request::new(blocked, scope, 1)));
        model.update(Msg::News(hub.clone(), News::Said(event)), now);
    }
    let mut times = Times::default();
    for round in 0..rounds {
        let code = if round % 4 == 3 {
            KeyCode::End
        } else {
            KeyCode::PageUp
        };
        let clock = Stopwatch::start();
        model.update(Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)), now);
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

/// Measures from a key written to a terminal until its page is painted there, while questions come.
fn storm(rounds: usize) -> anyhow::Result<Times> {
    with_hubs(STORM, |directory| {
        let mut screen = Screen::start(directory)?;
        screen.until("questions wait")?;
        let mut times = Times::default();
        for _ in 0..rounds {
            for (key, title) in [(b"?", "The keys"), (b"q", "Waiting for you")] {
                // A quick person's pace, in which questions come between the keys.
                thread::sleep(Duration::from_millis(5));
                let clock = Stopwatch::start();
                screen.master.write_all(key).context("pressing a key")?;
                screen.until(title)?;
                times.push(clock.elapsed());
            }
        }
        Ok(times)
    })
}

/// Does something while hubs are served in a directory.
fn with_hubs<T>(
    hubs: (u32, Duration),
    work: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory.path(), private).context("making a directory private")?;
    take_descriptors();
    let stop = CancellationToken::new();
    let (place, halt) = (directory.path().to_owned(), stop.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let serving = thread::spawn(move || ask(&place, hubs, &halt, &tell));
    let done = match told.recv() {
        Ok(()) => work(directory.path()),
        // Why is what the thread returns.
        Err(_) => Err(anyhow::anyhow!("the hubs did not start")),
    };
    stop.cancel();
    match serving.join() {
        Ok(asked) => asked?,
        Err(_) => bail!("the hubs broke"),
    }
    done
}

/// Each hub takes a descriptor at both ends.
pub(crate) fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    drop(setrlimit(Resource::Nofile, all).context("raising the limit of open files"));
}

/// Serves the hubs, and has each of them ask in turn.
fn ask(
    directory: &Path,
    (sandboxes, pause): (u32, Duration),
    stop: &CancellationToken,
    ready: &std::sync::mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let place = RuntimeDir::new(directory);
        let mut tasks = JoinSet::new();
        let mut hubs = Vec::new();
        for number in 0..sandboxes {
            let container: ContainerId = format!("sandbox{number}").parse()?;
            let listener = socket::bind(&place.of(&container, Layout::D).hub)?;
            let hub = Hub::new(Instant, Options::default());
            tasks.spawn(hub::serve(hub.clone(), listener, stop.clone()));
            hubs.push((container, hub));
        }
        ready.send(()).context("telling that the hubs are ready")?;
        let mut clock = tokio::time::interval(pause);
        for (number, (container, hub)) in (0..).zip(hubs.iter().cycle()) {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = clock.tick() => {
                    hub.report(terok_clearance::Event::Blocked(blocked(container, number)?));
                }
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}

/// A UI in a process and on a terminal of its own.
struct Screen {
    master: File,
    child: Child,
    shown: String,
}

impl Screen {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("opening a terminal")?;
        unlockpt(&master).context("opening a terminal")?;
        let slave = File::from(ioctl_tiocgptpeer(&master, flags).context("opening a terminal")?);
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).context("setting the terminal's size")?;
        let child = Command::new(std::env::current_exe().context("finding ourselves")?)
            .arg("serve-screen")
            .arg(directory)
            .stdin(slave.try_clone()?)
            .stdout(slave)
            .spawn()
            .context("starting the UI")?;
        Ok(Self {
            master: master.into(),
            child,
            shown: String::new(),
        })
    }

    /// Returns how many nanoseconds it has run on a processor.
    fn on_cpu(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let first = text.split(' ').next().context("no time")?;
        first.parse().context("no time")
    }

    /// Returns its resident memory in MiB.
    fn resident(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.context("no memory")?.parse().context("no memory")?;
        Ok(kib / 1024.0)
    }

    /// Reads until a text was painted.
    fn until(&mut self, text: &str) -> anyhow::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return Ok(());
            }
            let read = self.master.read(&mut bytes).context("reading the screen")?;
            let read = bytes.get(..read).unwrap_or_default();
            self.shown.push_str(&String::from_utf8_lossy(read));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Shows the hubs below `directory` on the terminal until it is killed.
pub(crate) fn serve(directory: &Path) -> anyhow::Result<()> {
    take_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let hubs = Hubs::all(RuntimeDir::new(directory)).context("watching for hubs")?;
        let options = operator::tui::Options {
            theme: THEME,
            zone: Zone::default(),
        };
        converse(hubs, "/run", options, std::future::pending::<()>())
            .await
            .context("showing them")?;
        Ok(())
    })
}

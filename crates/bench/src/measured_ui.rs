// SPDX-License-Identifier: Apache-2.0
//! The measured user interfaces: the real programs, and the Python stack's counterparts.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fake_desktop::FakeDesktop;
use crate::latency_samples::SpanTimer;
use crate::many_hubs::ManyHubs;
use crate::proc_stats::MeasuredChild;
use crate::pty_screen::PtyScreen;

/// The time after which missing output fails the benchmark.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A Python program that watches hubs with the Python stack's subscriber. The program prints
/// `ready` after one question of each hub has reached the notifier, which counts or shows popups.
const PYTHON_SUBSCRIBER: &str = r#"
import asyncio, sys
from terok_clearance import MultiSocketSubscriber, create_notifier

class Counter:
    count = 0
    def __init__(self, to):
        self.to = to
    async def notify(self, *args, **options):
        shown = await self.to.notify(*args, **options) if self.to else self.count + 1
        self.count += 1
        if self.count == int(sys.argv[2]):
            print("ready", flush=True)
        return shown
    async def on_action(self, *args):
        if self.to:
            await self.to.on_action(*args)
    async def close(self, *args):
        if self.to:
            await self.to.close(*args)
    async def disconnect(self):
        pass

async def main():
    notifier = Counter(await create_notifier() if sys.argv[3] == "desktop" else None)
    subscriber = MultiSocketSubscriber(notifier, socket_glob=sys.argv[1])
    await subscriber.start()
    await asyncio.Event().wait()

asyncio.run(main())
"#;

/// A kind of user interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MeasuredUi {
    /// `terok-clearance watch --json`, into a pipe.
    Watch,
    /// `terok-clearance tui`, on a terminal.
    Tui,
    /// `terok-clearance notifier`, on a session bus.
    Notifier,
    /// The Python stack's `MultiSocketSubscriber`, run by this interpreter, with a notifier that
    /// only counts.
    PythonCounter(PathBuf),
    /// The Python stack's `MultiSocketSubscriber` with the Python stack's notifier, on a session
    /// bus.
    PythonPopups(PathBuf),
}

/// A running user interface.
#[derive(Debug)]
pub(crate) enum RunningUi {
    /// A program on a terminal.
    Screen(PtyScreen),
    /// A program that writes lines or nothing.
    LineOutput {
        /// The program.
        program: MeasuredChild,
        /// Kept open, because the program ends when its output is closed.
        _output: Option<ChildStdout>,
    },
}

impl RunningUi {
    pub(crate) const fn program(&self) -> &MeasuredChild {
        match self {
            Self::Screen(screen) => &screen.program,
            Self::LineOutput { program, .. } => program,
        }
    }
}

/// Returns a command that runs `terok-clearance` from the directory of this program.
pub(crate) fn clearance_command(crowd: &ManyHubs) -> anyhow::Result<Command> {
    let mut command = Command::new(clearance_program()?);
    isolate_environment(&mut command, crowd.directory());
    Ok(command)
}

/// Returns the path of `terok-clearance` in the directory of this program.
pub(crate) fn clearance_program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().context("finding the path of this program")?;
    let program = beside.with_file_name("terok-clearance");
    ensure!(
        program.exists(),
        "{} does not exist; build it with `cargo build --release -p terok-clearance-cli`",
        program.display()
    );
    Ok(program)
}

pub(crate) fn isolate_environment(command: &mut Command, runtime: &Path) {
    command.env_clear().env("XDG_RUNTIME_DIR", runtime);
    command.env("HOME", runtime).env("TERM", "xterm-256color");
    command.env("LC_ALL", "C.UTF-8");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}

/// Starts the notifier. Only questions become popups, because all popups share a rate limit.
pub(crate) fn start_notifier(
    crowd: &ManyHubs,
    desktop: &FakeDesktop,
) -> anyhow::Result<MeasuredChild> {
    let mut command = clearance_command(crowd)?;
    command.arg("notifier");
    command.env("DBUS_SESSION_BUS_ADDRESS", desktop.address());
    command.env("TEROK_CLEARANCE_NOTIFY_EVENTS", "blocked");
    MeasuredChild::start(&mut command)
}

impl MeasuredUi {
    /// Starts the user interface with `hubs` hubs that have one question each, and waits until all
    /// questions are shown.
    pub(crate) fn start(
        &self,
        crowd: &ManyHubs,
        desktop: &mut FakeDesktop,
        hubs: u32,
    ) -> anyhow::Result<(RunningUi, Duration)> {
        let mut clock = SpanTimer::start();
        let running = match self {
            Self::Watch => {
                let mut command = clearance_command(crowd)?;
                command.args(["watch", "--json"]).stdout(Stdio::piped());
                clock = SpanTimer::start();
                start_and_wait_for_output(command, &format!("\"rows\":{hubs}}}"))?
            }
            Self::Tui => {
                let mut command = clearance_command(crowd)?;
                command.arg("tui");
                clock = SpanTimer::start();
                let mut screen = PtyScreen::start(&mut command)?;
                screen.wait_for_text(&match hubs {
                    1 => "1 question waits  1 sandbox  1 hub".to_owned(),
                    _ => format!("{hubs} questions wait  {hubs} sandboxes  {hubs} hubs"),
                })?;
                RunningUi::Screen(screen)
            }
            Self::Notifier => {
                let program = start_notifier(crowd, desktop)?;
                let all = format!("{hubs} questions from {hubs} sandboxes");
                desktop.wait_for_notification("popup for all", |title| match hubs {
                    1 => title.starts_with("Blocked: "),
                    _ => title == all,
                })?;
                RunningUi::LineOutput {
                    program,
                    _output: None,
                }
            }
            Self::PythonCounter(python) | Self::PythonPopups(python) => {
                let mut command = Command::new(python);
                isolate_environment(&mut command, crowd.directory());
                command.env("DBUS_SESSION_BUS_ADDRESS", desktop.address());
                let glob = crowd.directory().join("terok/clearance/*/hub.sock");
                let kind = match self {
                    Self::PythonPopups(_) => "desktop",
                    _ => "count",
                };
                command.args(["-c", PYTHON_SUBSCRIBER]).arg(glob);
                command
                    .arg(hubs.to_string())
                    .arg(kind)
                    .stdout(Stdio::piped());
                desktop.discard_calls();
                clock = SpanTimer::start();
                let running = start_and_wait_for_output(command, "ready\n")?;
                if matches!(self, Self::PythonPopups(_)) {
                    // Wait for a notification: without a desktop the Python program would not fail.
                    desktop.next_notification()?;
                }
                running
            }
        };
        Ok((running, clock.elapsed()))
    }
}

/// Starts a program and waits for the text `wanted` in the output.
fn start_and_wait_for_output(mut command: Command, wanted: &str) -> anyhow::Result<RunningUi> {
    let clock = SpanTimer::start();
    let name = command.get_program().to_string_lossy().into_owned();
    let mut program = MeasuredChild::start(&mut command)?;
    let mut output = program.0.stdout.take().context("no output")?;
    let mut said = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    while memchr::memmem::find(&said, wanted.as_bytes()).is_none() {
        let Some(left) = WAIT_TIMEOUT.checked_sub(clock.elapsed()) else {
            bail!("{name} did not print {wanted:?} within {WAIT_TIMEOUT:?}");
        };
        // Keep only the last bytes, which may be the start of the wanted text.
        said.drain(..said.len().saturating_sub(wanted.len()));
        let left = Timespec::try_from(left).context("waiting")?;
        let mut ready = [PollFd::new(&output, PollFlags::IN)];
        if poll(&mut ready, Some(&left)).context("waiting for lines")? > 0 {
            let read = output.read(&mut bytes).context("reading lines")?;
            ensure!(read > 0, "{name} ended without printing {wanted:?}");
            said.extend_from_slice(bytes.get(..read).unwrap_or_default());
        }
    }
    Ok(RunningUi::LineOutput {
        program,
        _output: Some(output),
    })
}

// SPDX-License-Identifier: Apache-2.0
//! One UI that watches a thousand live hubs, beside the Python stack's `MultiSocketSubscriber`
//! watching as many: what it costs until each hub's question is shown, and when nothing happens.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hub::{Hub, Options};
use operator::hubs::Hubs;
use operator::script::{Watching, watch};
use tempfile::TempDir;
use terok_clearance::ContainerId;
use terok_clearance::socket::{self, Layout, RuntimeDir};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gauge::Stopwatch;
use crate::program::Instant;
use crate::report::{Goal, Report, Row};
use crate::screen_rows::{blocked, take_descriptors};

const HUBS: u32 = 1000;

/// Shows nothing, counts questions, and says so when there is one of each hub.
const SUBSCRIBER: &str = r#"
import asyncio, sys
from terok_clearance import MultiSocketSubscriber

class Counter:
    count = 0
    async def notify(self, *_args, **_options):
        self.count += 1
        if self.count == int(sys.argv[2]):
            print("ready", flush=True)
        return self.count
    async def on_action(self, *_):
        pass
    async def close(self, *_):
        pass
    async def disconnect(self):
        pass

async def main():
    subscriber = MultiSocketSubscriber(Counter(), socket_glob=sys.argv[1])
    await subscriber.start()
    await asyncio.Event().wait()

asyncio.run(main())
"#;

/// Measures every row about watching; `part` is what to divide the time of idling by.
pub(crate) fn measure(report: &Report, part: usize) -> anyhow::Result<()> {
    let name = format!("watch: {HUBS} hubs");
    if !report.wants(&name) {
        return Ok(());
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a program's own environment, at its edge"
    )]
    let python = std::env::var_os("CLEARANCE_PYTHON").map(PathBuf::from);
    let idle = Duration::from_secs(10) / u32::try_from(part).unwrap_or(1);
    let (ours, theirs) = with_hubs(|directory| {
        let mut command = Command::new(std::env::current_exe().context("finding ourselves")?);
        command.arg("serve-watch").arg(directory);
        let ours = Watcher::start(command)?.measure(idle)?;
        let theirs = python.map(|python| {
            let glob = directory.join("terok/clearance/*/hub.sock");
            let mut command = Command::new(python);
            command.args(["-c", SUBSCRIBER]).arg(glob);
            command.arg(HUBS.to_string());
            Watcher::start(command)?.measure(idle)
        });
        Ok((ours, theirs.transpose()?))
    })?;
    let rows: [(&str, &str, Goal, Figure); 5] = [
        ("start until all are heard", "ms", Goal::None, |f| f.start),
        ("processor until then", "ms", Goal::None, |f| f.start_cpu),
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
        report.add(&Row {
            python: theirs.as_ref().map(figure),
            ..Row::new(format!("{name}, {what}"), unit, figure(&ours), goal)
        });
    }
    Ok(())
}

type Figure = fn(&Figures) -> f64;

/// What it costs to watch.
struct Figures {
    /// From the start of the program until the question of every hub was shown, in milliseconds.
    start: f64,
    /// The processor time until then, of every thread, in milliseconds.
    start_cpu: f64,
    /// Its proportional set size a while after that, in MiB.
    pss: f64,
    /// The processor time within ten seconds in which nothing happens, in milliseconds.
    idle_cpu: f64,
    /// How often one of its threads gave the processor back within that time.
    switches: f64,
}

/// A program that says `ready` when it has heard every hub.
struct Watcher {
    child: Child,
    /// Open as long as it runs.
    _output: BufReader<ChildStdout>,
    start: Duration,
}

impl Watcher {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let clock = Stopwatch::start();
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            let read = output
                .read_line(&mut line)
                .context("reading what is watched")?;
            ensure!(read > 0, "it ended before it had heard every hub");
        }
        let rows = format!("\"rows\":{HUBS}");
        ensure!(line == "ready\n" || line.contains(&rows), "not all: {line}");
        Ok(Self {
            child,
            start: clock.elapsed(),
            _output: output,
        })
    }

    fn measure(self, idle: Duration) -> anyhow::Result<Figures> {
        let start_cpu = self.on_cpu()?;
        // What the start left to do is done by then, and a thread that only it needed has ended.
        thread::sleep(Duration::from_secs(12));
        let (cpu, switches) = (self.on_cpu()?, self.switches()?);
        thread::sleep(idle);
        let scale = 10.0 / idle.as_secs_f64();
        Ok(Figures {
            start: self.start.as_secs_f64() * 1e3,
            start_cpu,
            idle_cpu: (self.on_cpu()? - cpu) * scale,
            switches: (self.switches()? - switches) * scale,
            pss: self.figure("smaps_rollup", "Pss:")? / 1024.0,
        })
    }

    /// Returns how many milliseconds its threads have run on a processor.
    fn on_cpu(&self) -> anyhow::Result<f64> {
        self.each_thread("schedstat", |text| {
            let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
            Some(nanoseconds / 1e6)
        })
    }

    /// Returns how often its threads have given the processor back, or were put aside.
    fn switches(&self) -> anyhow::Result<f64> {
        self.each_thread("status", |text| {
            Some(
                field(text, "voluntary_ctxt_switches:")?
                    + field(text, "nonvoluntary_ctxt_switches:")?,
            )
        })
    }

    /// Returns the sum over its threads of what is in a file of each.
    fn each_thread(&self, file: &str, figure: impl Fn(&str) -> Option<f64>) -> anyhow::Result<f64> {
        let threads = format!("/proc/{}/task", self.child.id());
        let mut sum = 0.0;
        for thread in std::fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
            let path = thread?.path().join(file);
            // A thread may have ended since.
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            sum += figure(&text).with_context(|| format!("{} is odd", path.display()))?;
        }
        Ok(sum)
    }

    fn figure(&self, file: &str, name: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        field(&text, name).with_context(|| format!("{path} has no {name}"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the number on the line that starts with `name`.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Does something while hubs are served in a directory, each of which has one question.
fn with_hubs<T>(work: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory.path(), private).context("making a directory private")?;
    // Each connection takes a descriptor at both ends; programs that are started inherit this.
    take_descriptors();
    let stop = CancellationToken::new();
    let (place, halt) = (RuntimeDir::new(directory.path()), stop.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let serving = thread::spawn(move || serve_hubs(&place, &halt, &tell));
    let done = match told.recv() {
        Ok(()) => work(directory.path()),
        // Why is what the thread returns.
        Err(_) => Err(anyhow::anyhow!("the hubs did not start")),
    };
    stop.cancel();
    match serving.join() {
        Ok(served) => served?,
        Err(_) => bail!("the hubs broke"),
    }
    done
}

fn serve_hubs(
    place: &RuntimeDir,
    stop: &CancellationToken,
    ready: &std::sync::mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for number in 0..HUBS {
            let container: ContainerId = format!("sandbox{number}").parse()?;
            let listener = socket::bind(&place.of(&container, Layout::D).hub)?;
            let hub = Hub::new(Instant, Options::default());
            hub.report(terok_clearance::Event::Blocked(blocked(
                &container, number,
            )?));
            tasks.spawn(hub::serve(hub, listener, stop.clone()));
        }
        ready.send(()).context("telling that the hubs are ready")?;
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}

/// Watches the hubs below `directory`, as `terok-clearance watch --json` does, until it is killed.
pub(crate) fn serve(directory: &Path) -> anyhow::Result<()> {
    take_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let hubs = Hubs::all(RuntimeDir::new(directory)).context("watching for hubs")?;
        let watching = Watching {
            json: true,
            ..Watching::default()
        };
        let never = std::future::pending::<()>();
        watch(hubs, &watching, tokio::io::stdout(), never)
            .await
            .context("telling what happens")
    })
}

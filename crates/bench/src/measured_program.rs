// SPDX-License-Identifier: Apache-2.0
//! The measured hubs, each in a separate process.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hub::{Claim, DecisionEnforcer, Hub, HubOptions};
use tempfile::TempDir;
use terok_clearance::EnforcementOutcome;
use terok_clearance::socket::{self, HubSocketPaths, RuntimeDir};
use tokio_util::sync::CancellationToken;

use crate::latency_samples::SpanTimer;

/// A kind of measured program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    /// The hub of this project.
    Hub,
    /// The relay, the floor of the hub.
    Relay,
    /// The Python stack's hub, run by this interpreter.
    Python(PathBuf),
}

/// A running program and its sockets. Killed on drop.
#[derive(Debug)]
pub(crate) struct MeasuredProgram {
    kind: ProgramKind,
    child: Child,
    sockets: HubSocketPaths,
    /// The time from the start until both sockets accepted connections.
    pub(crate) start_time: Duration,
    _directory: TempDir,
}

impl MeasuredProgram {
    /// Starts a program and waits until both sockets accept connections.
    pub(crate) fn start(kind: &ProgramKind) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
        let runtime = directory.path().join("run");
        std::fs::create_dir(&runtime).context("making a directory")?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&runtime, private).context("making a directory private")?;
        let sockets = RuntimeDir::new(&runtime).shared_hub_sockets();
        let mut command = match kind {
            ProgramKind::Hub | ProgramKind::Relay => {
                let ourselves =
                    std::env::current_exe().context("finding the path of this program")?;
                let mut command = Command::new(ourselves);
                let verb = if *kind == ProgramKind::Hub {
                    "serve-hub"
                } else {
                    "serve-relay"
                };
                command.arg(verb).arg(&runtime);
                command
            }
            ProgramKind::Python(python) => {
                let mut command = Command::new(python);
                command.args(["-m", "terok_clearance.cli.main", "serve"]);
                command.env("XDG_RUNTIME_DIR", &runtime);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if !matches!(kind, ProgramKind::Hub) {
            command.stderr(Stdio::null());
        }
        let clock = SpanTimer::start();
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {kind:?}"))?;
        for path in [&sockets.ingester, &sockets.hub] {
            while UnixStream::connect(path).is_err() {
                if let Some(status) = child.try_wait().context("waiting for the program")? {
                    bail!("{kind:?} ended: {status}");
                }
                if clock.elapsed() > Duration::from_secs(30) {
                    bail!("{kind:?} made no socket at {}", path.display());
                }
                sleep(Duration::from_micros(20));
            }
        }
        let start = clock.elapsed();
        Ok(Self {
            kind: kind.clone(),
            child,
            sockets,
            start_time: start,
            _directory: directory,
        })
    }

    /// Returns the kind of program.
    pub(crate) const fn kind(&self) -> &ProgramKind {
        &self.kind
    }

    /// Connects to the ingester socket like a reader.
    pub(crate) fn connect_reader(&self) -> anyhow::Result<UnixStream> {
        UnixStream::connect(&self.sockets.ingester).context("connecting as a reader")
    }

    /// Subscribes with a method of an interface. The relay needs no method call.
    pub(crate) fn subscribe(&self, method: &str) -> anyhow::Result<CountingSubscriber> {
        let mut stream = UnixStream::connect(&self.sockets.hub).context("subscribing")?;
        if self.kind != ProgramKind::Relay {
            let call = format!("{{\"method\":\"{method}\",\"more\":true}}\0");
            stream.write_all(call.as_bytes()).context("subscribing")?;
        }
        Ok(CountingSubscriber {
            stream,
            delimiter: if self.kind == ProgramKind::Relay {
                b'\n'
            } else {
                0
            },
            buffer: vec![0; 256 << 10],
        })
    }

    /// Returns the proportional set size in MiB.
    pub(crate) fn pss_mib(&self) -> anyhow::Result<f64> {
        self.read_kib("smaps_rollup", "Pss:")
            .map(|kib| kib / 1024.0)
    }

    /// Returns the resident set size in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        self.read_kib("status", "VmRSS:").map(|kib| kib / 1024.0)
    }

    /// Returns the processor time of the program.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
        nanoseconds
            .map(Duration::from_nanos)
            .with_context(|| format!("{path} has no time"))
    }

    fn read_kib(&self, file: &str, field: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse().ok())
            .with_context(|| format!("{path} has no {field}"))
    }
}

impl Drop for MeasuredProgram {
    fn drop(&mut self) {
        // Fails if the program has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A subscriber that only counts events.
#[derive(Debug)]
pub(crate) struct CountingSubscriber {
    stream: UnixStream,
    delimiter: u8,
    buffer: Vec<u8>,
}

impl CountingSubscriber {
    /// Reads once, and returns the number of events that ended.
    pub(crate) fn count_events(&mut self) -> anyhow::Result<usize> {
        self.read_bytes()
            .map(|bytes| memchr::memchr_iter(bytes.1, bytes.0).count())
    }

    /// Reads once, and returns the bytes and the byte that ends each event.
    pub(crate) fn read_bytes(&mut self) -> anyhow::Result<(&[u8], u8)> {
        let read = self
            .stream
            .read(&mut self.buffer)
            .context("reading events")?;
        if read == 0 {
            bail!("the hub closed a subscriber's connection");
        }
        Ok((self.buffer.get(..read).unwrap_or_default(), self.delimiter))
    }

    /// Sets the time limit of each read.
    pub(crate) fn set_read_timeout(&self, limit: Duration) -> anyhow::Result<()> {
        self.stream
            .set_read_timeout(Some(limit))
            .context("setting a time limit")
    }
}

/// Serves a hub on the classic sockets in `directory` until it is killed.
pub(crate) fn serve_hub(directory: &Path) -> anyhow::Result<()> {
    let sockets = RuntimeDir::new(directory).shared_hub_sockets();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let hub = Hub::new(NoopEnforcer, HubOptions::default());
        let stop = CancellationToken::new();
        let ingester = socket::bind(&sockets.ingester)?;
        let clearance = socket::bind(&sockets.hub)?;
        tokio::select! {
            served = hub::serve(hub.clone(), clearance, stop.clone()) => served.context("serving"),
            taken = hub::ingest::ingest(hub, ingester, stop) => taken.context("receiving events"),
        }
    })
}

/// A firewall that does nothing and reports success.
#[derive(Debug)]
pub(crate) struct NoopEnforcer;

impl DecisionEnforcer for NoopEnforcer {
    fn supports_ports(&self) -> bool {
        false
    }

    async fn enforce(&self, _: Claim) -> EnforcementOutcome {
        EnforcementOutcome::Applied
    }
}

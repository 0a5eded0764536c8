// SPDX-License-Identifier: Apache-2.0
//! What the demo is played on: the internet's process, the supervisor's thread, the program's
//! pipes. Each goes away when it is dropped, and says how it ended when it is closed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use netns::sandbox::RunningSandbox;
use netns::{NetnsRef, ProcessHandle, SocketSpec};
use rustix::pipe::{PipeFlags, pipe_with};
use shield::{ListedElement, NftShield, Policy};
use supervisor::{Supervisor, SupervisorConfig, TraceObserver};
use terok_clearance::{DisplayText, RequestId};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::clock::now_us;
use super::protocol::{self, InternetMessage, WorkloadMessage};

/// How long a part may take to come up or to go away.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The pretend internet's process.
#[derive(Debug)]
pub(super) struct InternetProcess {
    child: Child,
    stdin: ChildStdin,
    output: BufReader<ChildStdout>,
    buffer: Vec<u8>,
}

impl InternetProcess {
    /// Starts it next to the sandbox that `process` is in; returns why there is no IPv6, too. It
    /// sweeps `directory` away when it ends, for a demo that is killed cannot.
    pub(super) async fn start(
        process: &ProcessHandle,
        directory: &Path,
    ) -> anyhow::Result<(Self, Option<DisplayText>)> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("terok-clearance")
            .args(["demo-internet", &process.pid().to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for the demo, which then closes this process's standard input.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting the pretend internet")?;
        let mut this = Self {
            stdin: child.stdin.take().context("no pipe")?,
            output: BufReader::new(child.stdout.take().context("no pipe")?),
            buffer: Vec::new(),
            child,
        };
        let said = tokio::time::timeout(START_STOP_TIMEOUT, this.next_message()).await;
        match said.context("the pretend internet does not come up")?? {
            Some(InternetMessage::Ready { without_v6 }) => Ok((this, without_v6)),
            Some(InternetMessage::Failed { error }) => {
                bail!("the pretend internet failed: {error}")
            }
            _ => bail!("the pretend internet ended"),
        }
    }

    /// Ends it, and returns how often each of its hosts was reached.
    pub(super) async fn close(mut self) -> anyhow::Result<BTreeMap<SocketAddr, usize>> {
        drop(self.stdin);
        let mut reached = BTreeMap::new();
        let rest = async {
            while let Some(said) =
                protocol::read_message::<InternetMessage>(&mut self.output, &mut self.buffer)
                    .await?
            {
                match said {
                    InternetMessage::Reached { host } => *reached.entry(host).or_default() += 1,
                    InternetMessage::Failed { error } => {
                        bail!("the pretend internet failed: {error}")
                    }
                    InternetMessage::Ready { .. } => {}
                }
            }
            self.child
                .wait()
                .await
                .context("waiting for the pretend internet")
        };
        let ended = tokio::time::timeout(START_STOP_TIMEOUT, rest).await;
        ended.context("the pretend internet does not end")??;
        Ok(reached)
    }

    async fn next_message(&mut self) -> anyhow::Result<Option<InternetMessage>> {
        protocol::read_message(&mut self.output, &mut self.buffer).await
    }
}

/// When the supervisor was how far with a question, in microseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QuestionTimestamps {
    /// It had read the packet from the kernel's log.
    pub(super) read_at: Option<u64>,
    /// The kernel had taken the set element.
    pub(super) set_at: Option<u64>,
}

/// The supervisor, in a thread and a runtime of its own.
#[derive(Debug)]
pub(super) struct SupervisorThread {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    stop: CancellationToken,
    hub: PathBuf,
    timestamps: Arc<Mutex<BTreeMap<RequestId, QuestionTimestamps>>>,
}

impl SupervisorThread {
    /// Starts it; when this returns, the ruleset is in force and verified, and the hub listens.
    pub(super) async fn start(config: SupervisorConfig) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let token = stop.clone();
        let marks = Arc::default();
        let observer = record_timestamps(Arc::clone(&marks));
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                crate::block_on(async {
                    let supervisor = match Supervisor::start(config) {
                        Ok(supervisor) => supervisor,
                        Err(error) => {
                            drop(ready.send(Err(anyhow::Error::new(error))));
                            return Ok(());
                        }
                    };
                    // Nobody waits any more if the demo was stopped: then the token says so.
                    drop(ready.send(Ok(supervisor.hub_path().to_owned())));
                    supervisor.with_observer(observer).serve(token).await?;
                    Ok(())
                })
            })
            .context("starting the supervisor")?;
        let mut this = Self {
            thread: Some(thread),
            stop,
            hub: PathBuf::new(),
            timestamps: marks,
        };
        this.hub = is_ready
            .await
            .map_err(|_gone| anyhow!("the supervisor panicked"))?
            .context("starting the supervisor")?;
        Ok(this)
    }

    /// Returns where the hub listens.
    pub(super) fn hub(&self) -> &Path {
        &self.hub
    }

    /// Returns how far it was with a question when.
    pub(super) fn question_timestamps(&self, request: &RequestId) -> QuestionTimestamps {
        let marks = self
            .timestamps
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        marks.get(request).copied().unwrap_or_default()
    }

    /// Stops it and waits until its sockets are gone.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(|| thread.join());
        let joined = tokio::time::timeout(START_STOP_TIMEOUT, joined).await;
        joined
            .context("the supervisor does not end")??
            .map_err(|_panic| anyhow!("the supervisor panicked"))?
    }
}

impl Drop for SupervisorThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its sockets are gone then. How it ended is of interest to nobody any more.
            drop(thread.join());
        }
    }
}

fn record_timestamps(marks: Arc<Mutex<BTreeMap<RequestId, QuestionTimestamps>>>) -> TraceObserver {
    Box::new(move |step| {
        let at = Some(now_us());
        let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            supervisor::TraceEvent::Asked(blocked) => {
                marks.entry(blocked.request.clone()).or_default().read_at = at;
            }
            supervisor::TraceEvent::Enforced { request, .. } => {
                marks.entry(request.clone()).or_default().set_at = at;
            }
            _ => {}
        }
    })
}

/// A second pair of eyes on the ruleset: the supervisor has its own.
#[derive(Debug)]
pub(super) struct RulesetInspector {
    shield: NftShield,
}

impl RulesetInspector {
    /// Looks into the sandbox; fails unless the kernel holds what `policy` means.
    pub(super) fn attach(place: &NetnsRef, policy: &Policy) -> anyhow::Result<Self> {
        let mut sockets = place
            .open_sockets(&[SocketSpec::Netfilter])
            .context("looking at the firewall")?;
        let socket = sockets.pop().context("no socket")?;
        let now = tokio::time::Instant::now().into_std();
        let mut shield =
            NftShield::attach(socket, policy, now).context("verifying the firewall")?;
        shield.verify().context("verifying the firewall")?;
        Ok(Self { shield })
    }

    /// Returns what the sets hold.
    pub(super) fn list_elements(&mut self) -> anyhow::Result<Vec<ListedElement>> {
        self.shield.list_elements().context("reading the sets")
    }
}

/// The demo's ends of the program's standard input and output.
#[derive(Debug)]
pub(super) struct WorkloadPipes {
    input: OwnedFd,
    output: OwnedFd,
}

impl WorkloadPipes {
    /// Makes both pipes; returns the program's ends, too, and nothing for its standard error.
    pub(super) fn new() -> io::Result<(Self, [Option<Arc<OwnedFd>>; 3])> {
        let (read, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let inside = [Some(Arc::new(read)), Some(Arc::new(write)), None];
        Ok((Self { input, output }, inside))
    }
}

/// The program in the sandbox. Dropping it ends the sandbox.
#[derive(Debug)]
pub(super) struct WorkloadProcess {
    running: RunningSandbox,
    input: pipe::Sender,
    output: BufReader<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl WorkloadProcess {
    /// Makes it of the running program and its pipes.
    pub(super) fn new(running: RunningSandbox, pipes: WorkloadPipes) -> anyhow::Result<Self> {
        let pipe = "talking to the program in the sandbox";
        Ok(Self {
            running,
            input: pipe::Sender::from_owned_fd(pipes.input).context(pipe)?,
            output: BufReader::new(pipe::Receiver::from_owned_fd(pipes.output).context(pipe)?),
            buffer: Vec::new(),
        })
    }

    /// Sends it a line.
    pub(super) async fn write_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let sent = self.input.write_all(line).await;
        sent.context("talking to the program in the sandbox")
    }

    /// Returns what it says next. To be cancelled at will: nothing is lost.
    pub(super) async fn next_message(&mut self) -> anyhow::Result<WorkloadMessage> {
        // The sandbox's first process has the pipe, too: it does not end with the program.
        tokio::select! {
            told = protocol::read_message(&mut self.output, &mut self.buffer) => told
                .context("listening to the program in the sandbox")?
                .context("the program in the sandbox has closed its output"),
            change = self.running.wait_for_status() => {
                let change = change.context("watching the program in the sandbox")?;
                bail!("the program in the sandbox ended: {change:?}")
            }
        }
    }
}

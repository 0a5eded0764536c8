// SPDX-License-Identifier: Apache-2.0
//! The parts of a demo: the process of the simulated internet, the thread of the supervisor, and
//! the program in the sandbox with its pipes. Dropping a part ends the part; `close` also returns
//! an error after an abnormal end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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

use crate::INTERNET_COMMAND;
use crate::clock::now_us;
use crate::error::{ChildMessageError, DemoError, DemoPartError};
use crate::protocol::{InternetMessage, WorkloadMessage, read_message};

/// Name of the simulated internet in errors.
const INTERNET_PART: &str = "the simulated internet";
/// Name of the sandbox in errors.
const SANDBOX_PART: &str = "the sandbox";
/// Name of the supervisor in errors.
const SUPERVISOR_PART: &str = "the supervisor";
/// Name of the program in errors.
pub(crate) const WORKLOAD_PART: &str = "the program in the sandbox";
/// Maximum time for the start and for the end of a part.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The process of the simulated internet.
#[derive(Debug)]
pub(crate) struct InternetProcess {
    child: Child,
    stdin: ChildStdin,
    output: BufReader<ChildStdout>,
    buffer: Vec<u8>,
}

impl InternetProcess {
    /// Starts the process for the sandbox of `process`. Also returns the reason if IPv6 is missing.
    /// At the end the process removes `directory`, because a killed demo cannot do so.
    pub(crate) async fn start(
        process: &ProcessHandle,
        directory: &Path,
    ) -> Result<(Self, Option<DisplayText>), DemoError> {
        let failed = DemoPartError::of(INTERNET_PART);
        let mut child = Command::new("/proc/self/exe")
            .arg0("terok-clearance")
            .args([INTERNET_COMMAND, &process.pid().to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C then reaches only the demo, which closes the standard input of this process.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(DemoPartError::Start(error)))?;
        let no_pipe = || failed(DemoPartError::Start(io::ErrorKind::BrokenPipe.into()));
        let mut this = Self {
            stdin: child.stdin.take().ok_or_else(no_pipe)?,
            output: BufReader::new(child.stdout.take().ok_or_else(no_pipe)?),
            buffer: Vec::new(),
            child,
        };
        let message = tokio::time::timeout(START_STOP_TIMEOUT, this.next_message()).await;
        let message = message.map_err(|_elapsed| failed(DemoPartError::NotReady))?;
        Err(failed(match message {
            Ok(Some(InternetMessage::Ready { without_v6 })) => return Ok((this, without_v6)),
            Ok(Some(InternetMessage::Failed { error })) => DemoPartError::Reported(error),
            Ok(Some(InternetMessage::Reached { .. })) => DemoPartError::UnexpectedMessage,
            Ok(None) => DemoPartError::Ended("without a message".to_owned()),
            Err(error) => error.into(),
        }))
    }

    /// Ends the process and returns the number of connections to each host.
    pub(crate) async fn close(mut self) -> Result<BTreeMap<SocketAddr, usize>, DemoError> {
        let failed = DemoPartError::of(INTERNET_PART);
        drop(self.stdin);
        let mut reached = BTreeMap::new();
        let rest = async {
            while let Some(message) = read_message(&mut self.output, &mut self.buffer).await? {
                match message {
                    InternetMessage::Reached { host } => *reached.entry(host).or_default() += 1,
                    InternetMessage::Failed { error } => {
                        return Err(DemoPartError::Reported(error));
                    }
                    InternetMessage::Ready { .. } => {}
                }
            }
            self.child.wait().await.map_err(DemoPartError::Wait)
        };
        let ended = tokio::time::timeout(START_STOP_TIMEOUT, rest).await;
        let ended = ended.map_err(|_elapsed| failed(DemoPartError::NotEnded))?;
        ended.map_err(failed)?;
        Ok(reached)
    }

    async fn next_message(&mut self) -> Result<Option<InternetMessage>, ChildMessageError> {
        read_message(&mut self.output, &mut self.buffer).await
    }
}

/// Times of the supervisor's steps for a question, in microseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QuestionTimestamps {
    /// Time when the packet was read from the kernel's log.
    pub(crate) read_at: Option<u64>,
    /// Time when the kernel had accepted the set element.
    pub(crate) set_at: Option<u64>,
}

/// The supervisor in a separate thread with a separate runtime.
#[derive(Debug)]
pub(crate) struct SupervisorThread {
    thread: Option<JoinHandle<Result<(), DemoPartError>>>,
    stop: CancellationToken,
    hub: PathBuf,
    timestamps: Arc<Mutex<BTreeMap<RequestId, QuestionTimestamps>>>,
}

impl SupervisorThread {
    /// Starts the supervisor. On return, the ruleset is in force and verified, and the hub listens.
    pub(crate) async fn start(config: SupervisorConfig) -> Result<Self, DemoError> {
        let failed = DemoPartError::of(SUPERVISOR_PART);
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let token = stop.clone();
        let marks = Arc::default();
        let observer = record_timestamps(Arc::clone(&marks));
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build()
                    .map_err(DemoPartError::Start)?;
                runtime.block_on(async {
                    let supervisor = Supervisor::start(config)?;
                    // Fails if the demo was stopped; the token is cancelled then.
                    drop(ready.send(supervisor.hub_path().to_owned()));
                    supervisor.with_observer(observer).serve(token).await?;
                    Ok(())
                })
            })
            .map_err(|error| failed(DemoPartError::Start(error)))?;
        let mut this = Self {
            thread: Some(thread),
            stop,
            hub: PathBuf::new(),
            timestamps: marks,
        };
        match is_ready.await {
            Ok(hub) => this.hub = hub,
            Err(_ended) => {
                this.close().await?;
                return Err(failed(DemoPartError::Ended("without a hub".to_owned())));
            }
        }
        Ok(this)
    }

    /// Returns the path of the hub's socket.
    pub(crate) fn hub(&self) -> &Path {
        &self.hub
    }

    /// Returns the times of the steps for a question.
    pub(crate) fn question_timestamps(&self, request: &RequestId) -> QuestionTimestamps {
        let marks = self
            .timestamps
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        marks.get(request).copied().unwrap_or_default()
    }

    /// Stops the supervisor and waits until the sockets are closed.
    pub(crate) async fn close(mut self) -> Result<(), DemoError> {
        let failed = DemoPartError::of(SUPERVISOR_PART);
        self.stop.cancel();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(|| thread.join());
        let joined = tokio::time::timeout(START_STOP_TIMEOUT, joined).await;
        match joined {
            Err(_elapsed) => Err(failed(DemoPartError::NotEnded)),
            Ok(Ok(Ok(ended))) => ended.map_err(failed),
            Ok(Err(_) | Ok(Err(_))) => Err(failed(DemoPartError::Panicked)),
        }
    }
}

impl Drop for SupervisorThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Wait until the sockets are closed. The thread's result does not matter: the demo has
            // failed or was stopped.
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

/// Reads the kernel's ruleset, independently of the supervisor.
#[derive(Debug)]
pub(crate) struct RulesetInspector {
    shield: NftShield,
}

impl RulesetInspector {
    /// Opens a netlink socket in the sandbox and compares the kernel's ruleset with `policy`.
    pub(crate) fn attach(netns: &NetnsRef, policy: &Policy) -> Result<Self, DemoError> {
        let mut sockets = netns
            .open_sockets(&[SocketSpec::Netfilter])
            .map_err(DemoError::EnterSandbox)?;
        let no_socket = || DemoPartError::of(SANDBOX_PART)(DemoPartError::NoSocket);
        let socket = sockets.pop().ok_or_else(no_socket)?;
        let now = tokio::time::Instant::now().into_std();
        let mut shield =
            NftShield::attach(socket, policy, now).map_err(DemoError::VerifyFirewall)?;
        shield.verify().map_err(DemoError::VerifyFirewall)?;
        Ok(Self { shield })
    }

    /// Returns the elements of the kernel's sets.
    pub(crate) fn list_elements(&mut self) -> Result<Vec<ListedElement>, DemoPartError> {
        Ok(self.shield.list_elements()?)
    }
}

/// The demo's ends of the program's standard input and output.
#[derive(Debug)]
pub(crate) struct WorkloadPipes {
    input: OwnedFd,
    output: OwnedFd,
}

impl WorkloadPipes {
    /// Creates both pipes. Also returns the program's ends; standard error is inherited.
    pub(crate) fn new() -> io::Result<(Self, [Option<Arc<OwnedFd>>; 3])> {
        let (read, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let inside = [Some(Arc::new(read)), Some(Arc::new(write)), None];
        Ok((Self { input, output }, inside))
    }
}

/// The program in the sandbox. Dropping the value ends the sandbox.
#[derive(Debug)]
pub(crate) struct WorkloadProcess {
    running: RunningSandbox,
    input: pipe::Sender,
    output: BufReader<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl WorkloadProcess {
    /// Combines the running program with the demo's ends of the pipes.
    pub(crate) fn new(running: RunningSandbox, pipes: WorkloadPipes) -> Result<Self, DemoError> {
        let failed = |error| DemoPartError::of(WORKLOAD_PART)(DemoPartError::Start(error));
        let output = pipe::Receiver::from_owned_fd(pipes.output).map_err(failed)?;
        Ok(Self {
            running,
            input: pipe::Sender::from_owned_fd(pipes.input).map_err(failed)?,
            output: BufReader::new(output),
            buffer: Vec::new(),
        })
    }

    /// Sends a line to the program.
    pub(crate) async fn write_line(&mut self, line: &[u8]) -> Result<(), DemoError> {
        let sent = self.input.write_all(line).await;
        sent.map_err(|error| {
            DemoPartError::of(WORKLOAD_PART)(ChildMessageError::from(error).into())
        })
    }

    /// Returns the next message of the program. Cancel safe.
    pub(crate) async fn next_message(&mut self) -> Result<WorkloadMessage, DemoError> {
        // The sandbox's first process also holds the pipe, so the pipe outlives the program.
        let failure = tokio::select! {
            message = read_message(&mut self.output, &mut self.buffer) => match message {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => DemoPartError::Ended("its output is closed".to_owned()),
                Err(error) => error.into(),
            },
            status = self.running.wait_for_status() => match status {
                Ok(status) => DemoPartError::Ended(format!("{status:?}")),
                Err(error) => DemoPartError::Wait(error),
            },
        };
        Err(DemoPartError::of(WORKLOAD_PART)(failure))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A host for containers: the real listener, which starts the real supervisors, and processes in
//! network namespaces that stand for containers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use containers::host_layout::START_SOCKET;
use containers::{ContainerNetwork, PROTOCOL_VERSION, StartReply, StartRequest, annotation_keys};
use tempfile::TempDir;
use terok_clearance::ContainerId;
use test_support::namespaces::NamespaceHolder;

use crate::latency_samples::SpanTimer;
use crate::measured_run::private_directory;
use crate::measured_ui::{clearance_program, isolate_environment};
use crate::proc_stats::{MeasuredChild, list_children};

/// The time after which what does not happen fails the benchmark.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks at a condition that ends no measurement.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The configuration of a container, as a runtime writes it, reduced to what a hook reads.
const CONFIG: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},
    "process":{"capabilities":{"bounding":["CAP_CHOWN"]}},
    "linux":{"namespaces":[{"type":"pid"},{"type":"network"}]}}"#;

/// The host. On drop its containers end, and with them the supervisors.
#[derive(Debug)]
pub(crate) struct ContainerHost {
    containers: Vec<BenchContainer>,
    started: u64,
    listener: MeasuredChild,
    directory: TempDir,
}

/// A process that stands for a container which waits for its hook.
#[derive(Debug)]
struct BenchContainer {
    id: ContainerId,
    process: NamespaceHolder,
}

impl ContainerHost {
    /// Starts the listener, in a directory of its own.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let directory = private_directory()?;
        std::fs::create_dir_all(directory.path().join("bundle/rootfs/etc"))
            .context("making a bundle")?;
        let files = [
            ("bundle/config.json", CONFIG),
            ("bundle/rootfs/etc/resolv.conf", "nameserver 192.0.2.53\n"),
        ];
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).context("writing a bundle")?;
        }
        let mut command = Command::new(clearance_program()?);
        isolate_environment(&mut command, directory.path());
        command
            .args(["container-supervisor", "--listen"])
            // Not a line for each container.
            .env("RUST_LOG", "warn")
            .stderr(Stdio::inherit());
        let host = Self {
            containers: Vec::new(),
            started: 0,
            listener: MeasuredChild::start(&mut command)?,
            directory,
        };
        let socket = host.start_socket();
        wait_until("the listener listens", || Ok(socket.exists()))?;
        Ok(host)
    }

    fn start_socket(&self) -> PathBuf {
        self.directory.path().join(START_SOCKET)
    }

    /// Starts a container that waits for its hook.
    pub(crate) fn add_container(&mut self) -> anyhow::Result<()> {
        self.started += 1;
        // The first digits alone name the sockets.
        let id = format!("{:012x}{:052}", self.started, 0).parse()?;
        let process = NamespaceHolder::start(&["--net"]);
        self.containers.push(BenchContainer { id, process });
        Ok(())
    }

    fn last(&self) -> anyhow::Result<&BenchContainer> {
        self.containers.last().context("no container was started")
    }

    /// Runs the hook of the last container, and returns the time from its start to its end.
    pub(crate) fn time_hook(&self) -> anyhow::Result<Duration> {
        let container = self.last()?;
        let state = serde_json::json!({
            "ociVersion": "1.0.2",
            "id": container.id,
            "status": "created",
            "pid": container.process.pid(),
            "bundle": self.bundle(),
            "annotations": { annotation_keys::NETWORK: annotation_keys::NETWORK_DIALED },
        });
        let path = self.directory.path().join("state.json");
        std::fs::write(&path, state.to_string()).context("writing a container's state")?;
        let state = File::open(&path).context("opening a container's state")?;
        let mut hook = Command::new(clearance_program()?);
        isolate_environment(&mut hook, self.directory.path());
        hook.args(["hook", "createRuntime"])
            .stdin(state)
            .stderr(Stdio::inherit());
        let clock = SpanTimer::start();
        let status = hook.status().context("starting the hook")?;
        let took = clock.elapsed();
        ensure!(status.success(), "the hook failed: {status}");
        Ok(took)
    }

    /// Asks for a supervisor of the last container, as its hook does, and returns the time from the
    /// connection to the reply.
    pub(crate) fn time_supervisor(&self) -> anyhow::Result<Duration> {
        let container = self.last()?;
        let network = ContainerNetwork::Dialed;
        let annotation = (annotation_keys::NETWORK.into(), network.as_str().into());
        let request = StartRequest {
            version: PROTOCOL_VERSION,
            id: container.id.clone(),
            pid: container.process.pid(),
            bundle: self.bundle(),
            network,
            annotations: BTreeMap::from([annotation]),
            asks_loopback: false,
        };
        let request = serde_json::to_string(&request)?;
        let path = self.start_socket();
        let clock = SpanTimer::start();
        let reply = exchange_line(&path, &request)?;
        let took = clock.elapsed();
        let reply: StartReply = serde_json::from_str(&reply).context("reading the reply")?;
        ensure!(
            reply == StartReply::Ready,
            "the supervisor replied {reply:?}"
        );
        Ok(took)
    }

    fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    /// Ends all containers, and waits until their supervisors have ended.
    pub(crate) fn end_containers(&mut self) -> anyhow::Result<()> {
        self.containers.clear();
        wait_until("the supervisors end", || Ok(self.supervisors()?.is_empty()))
    }

    /// Returns the processes of the supervisors.
    pub(crate) fn supervisors(&self) -> anyhow::Result<Vec<u32>> {
        let mut all = Vec::new();
        let mut parents = vec![self.listener.0.id()];
        while !parents.is_empty() {
            parents = list_children(&parents)?;
            all.extend(&parents);
        }
        Ok(all)
    }
}

impl Drop for ContainerHost {
    fn drop(&mut self) {
        // An error was reported already, or the supervisors end later: nothing holds their
        // containers.
        drop(self.end_containers());
    }
}

/// Connects to a socket, sends a line, and returns the line that is the reply.
pub(crate) fn exchange_line(path: &Path, line: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(path).context("connecting to the start socket")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("setting a time limit")?;
    let sent = stream.write_all(format!("{line}\n").as_bytes());
    sent.context("sending a request")?;
    let mut reply = String::new();
    let read = BufReader::new(stream).read_line(&mut reply);
    read.context("waiting for the reply")?;
    Ok(reply)
}

fn wait_until(
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let clock = SpanTimer::start();
    while !condition()? {
        if clock.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain: {what}");
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

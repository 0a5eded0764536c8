// SPDX-License-Identifier: Apache-2.0
//! Other programs that are measured beside `terok-clearance run`, as far as they are installed.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::latency_samples::{SpanTimer, median};
use crate::measured_run::{
    ProbeProcess, private_directory, program_search_path, run_command, to_figure,
};
use crate::measured_ui::isolate_environment;
use crate::probe::UNASKED_NAME;
use crate::proc_stats::{MeasuredChild, children_cpu_ticks};

/// The time after which a peer that is not ready fails the benchmark.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The processor time of ended processes is counted in hundredths of a second.
const TICK_MS: f64 = 10.0;

/// Returns the path of an installed program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&program_search_path())
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// A connection of a namespace without privileges, as rootless containers use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootlessNetwork {
    Pasta,
    Slirp4netns,
}

impl RootlessNetwork {
    pub(crate) const ALL: [Self; 2] = [Self::Pasta, Self::Slirp4netns];

    /// Returns the name of the program.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Returns the address inside that leads to the loopback address outside.
    pub(crate) const fn outside_loopback(self) -> &'static str {
        match self {
            // The gateway of the namespace in which the rows are measured.
            Self::Pasta => "192.0.2.1",
            Self::Slirp4netns => "10.0.2.2",
        }
    }

    /// Starts a probe in a namespace that is connected by the installed program.
    ///
    /// The second value is a program that must live as long as the probe.
    pub(crate) fn start_probe(
        self,
    ) -> anyhow::Result<Option<(ProbeProcess, Option<MeasuredChild>)>> {
        let Some(program) = find_program(self.program()) else {
            return Ok(None);
        };
        if self == Self::Pasta {
            let mut command = Command::new(program);
            command.args(["--quiet", "--config-net", "--"]);
            // Its warnings are about IPv6 and the system log.
            command.stderr(Stdio::null());
            return Ok(Some((ProbeProcess::start(command)?, None)));
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]);
        let probe = ProbeProcess::start(command)?;
        let pid = probe.program.0.id().to_string();
        let mut command = Command::new(program);
        command.args(["--configure", "--mtu=65520", &pid, "tap0"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let connection = MeasuredChild::start(&mut command)?;
        let routes = format!("/proc/{pid}/net/route");
        wait_for("slirp4netns", || {
            Ok(std::fs::read_to_string(&routes)
                .context("reading the routes of a namespace")?
                .contains("tap0\t00000000"))
        })?;
        Ok(Some((probe, Some(connection))))
    }
}

fn wait_for(name: &str, mut is_ready: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let clock = SpanTimer::start();
    while !is_ready()? {
        if clock.elapsed() > START_TIMEOUT {
            bail!("{name} was not ready within {START_TIMEOUT:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Starts `dnsmasq`, if it is installed, with the name of the lookups in its cache. Returns its
/// port.
pub(crate) fn start_dnsmasq() -> anyhow::Result<Option<(MeasuredChild, u16)>> {
    let Some(program) = find_program("dnsmasq") else {
        return Ok(None);
    };
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    let port = free.local_addr().context("finding a free port")?.port();
    drop(free);
    let mut command = Command::new(program);
    command.args([
        // Unlike --keep-in-foreground, needs no right to change the user.
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--pid-file=",
    ]);
    command.arg(format!("--port={port}"));
    command.arg(format!("--host-record={UNASKED_NAME},203.0.113.7,3600"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = MeasuredChild::start(&mut command)?;
    let wanted = format!("0100007F:{port:04X} ");
    wait_for("dnsmasq", || {
        let ended = server.0.try_wait().context("waiting for dnsmasq")?;
        ensure!(ended.is_none(), "dnsmasq ended: {ended:?}");
        let sockets = std::fs::read_to_string("/proc/self/net/udp").context("listing sockets")?;
        Ok(sockets.contains(&wanted))
    })?;
    Ok(Some((server, port)))
}

/// A program that runs a command in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandSandbox {
    /// `terok-clearance run`.
    Ours,
    Bwrap,
    Srt,
}

/// Wall and processor time of one command in a sandbox, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct CommandCost {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl CommandCost {
    /// Returns the median of the wall times.
    pub(crate) fn wall_ms(&self) -> f64 {
        median(&self.wall)
    }

    /// Returns the mean of the processor times: a single one is shorter than the clock's tick.
    pub(crate) fn cpu_ms(&self) -> f64 {
        let count = u32::try_from(self.cpu.len()).unwrap_or(u32::MAX);
        self.cpu.iter().sum::<f64>() / f64::from(count)
    }
}

impl CommandSandbox {
    /// Returns the name of the program.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Ours => "terok-clearance",
            Self::Bwrap => "bwrap",
            Self::Srt => "srt",
        }
    }

    fn command(self, directory: &TempDir) -> anyhow::Result<Option<Command>> {
        if self == Self::Ours {
            let mut command = run_command(directory.path(), &[])?;
            command.args(["--", "true"]);
            return Ok(Some(command));
        }
        let Some(program) = find_program(self.program()) else {
            return Ok(None);
        };
        let mut command = Command::new(program);
        isolate_environment(&mut command, directory.path());
        command.env("PATH", program_search_path());
        command.stderr(Stdio::inherit());
        match self {
            Self::Bwrap => command.args(["--unshare-net", "--dev-bind", "/", "/", "true"]),
            _ => command.arg("true"),
        };
        Ok(Some(command))
    }

    /// Runs `true` in the sandbox once. Returns `false` if the program is not installed.
    pub(crate) fn run_true(self, cost: &mut CommandCost) -> anyhow::Result<bool> {
        let directory = private_directory()?;
        let Some(mut command) = self.command(&directory)? else {
            return Ok(false);
        };
        let before = children_cpu_ticks()?;
        let clock = SpanTimer::start();
        let status = command.status();
        let wall = clock.elapsed();
        let status = status.with_context(|| format!("starting {}", self.program()))?;
        ensure!(
            status.success(),
            "{} could not run `true`: {status}",
            self.program()
        );
        cost.wall.push(wall.as_secs_f64() * 1e3);
        cost.cpu
            .push(to_figure(children_cpu_ticks()? - before) * TICK_MS);
        Ok(true)
    }
}

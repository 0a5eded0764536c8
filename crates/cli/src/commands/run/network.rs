// SPDX-License-Identifier: Apache-2.0
//! Connects a sandbox to the network by a helper program, which runs as the operator.
//!
//! Both helpers speak for the sandbox through ordinary sockets of the operator's: no rights are
//! needed, and no port of the sandbox is reachable from outside.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use netns::{NetnsRef, ProcessHandle, RouteWatcher, StderrCapture, StderrPart};
use terok_clearance::DisplayText;
use tokio::process::{Child, Command};

use crate::{CommandFailure, ErrorExt as _};

/// How the sandbox is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkChoice {
    /// By whichever program is installed, pasta first.
    Auto,
    /// By pasta, of the package passt.
    Pasta,
    /// By slirp4netns.
    Slirp4netns,
    /// Not at all.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NetworkHelperKind {
    Pasta,
    Slirp4netns,
}

impl NetworkHelperKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }
}

/// A program that connects a sandbox.
#[derive(Debug)]
pub(super) struct NetworkHelper {
    kind: NetworkHelperKind,
    program: PathBuf,
}

/// How long a helper may take to connect the sandbox.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl NetworkHelper {
    /// Returns the program for `choice`, looked for along `path`; none if none is wanted.
    pub(super) fn find(
        choice: NetworkChoice,
        path: Option<&OsStr>,
    ) -> Result<Option<Self>, CommandFailure> {
        let kinds: &[NetworkHelperKind] = match choice {
            NetworkChoice::Auto => &[NetworkHelperKind::Pasta, NetworkHelperKind::Slirp4netns],
            NetworkChoice::Pasta => &[NetworkHelperKind::Pasta],
            NetworkChoice::Slirp4netns => &[NetworkHelperKind::Slirp4netns],
            NetworkChoice::None => return Ok(None),
        };
        let found = kinds.iter().find_map(|&kind| {
            let program = find_installed(kind.name(), path)?;
            Some(Self { kind, program })
        });
        if found.is_some() {
            return Ok(found);
        }
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        let missing = anyhow!(
            "{} not installed",
            names.join(" and ") + plural_verb(names.len())
        );
        Err(missing)
            .with_hint("install pasta (package `passt`) or slirp4netns (package `slirp4netns`)")
            .with_hint("`--network none` works without: the command then has no network at all")
    }

    /// Returns the address at which the helper answers DNS queries, on behalf of the host's own
    /// resolver.
    pub(super) const fn resolver(&self) -> IpAddr {
        IpAddr::V4(match self.kind {
            // What podman uses; no host can have it (RFC 3927).
            NetworkHelperKind::Pasta => Ipv4Addr::new(169, 254, 1, 1),
            NetworkHelperKind::Slirp4netns => Ipv4Addr::new(10, 0, 2, 3),
        })
    }

    /// Connects the sandbox of `init` and returns when it has a default route.
    pub(super) async fn connect(
        &self,
        init: &ProcessHandle,
        place: &NetnsRef,
    ) -> anyhow::Result<NetworkConnection> {
        let name = self.kind.name();
        let routes = RouteWatcher::watch(place).context("watching the sandbox's routes")?;
        let mut command = std::process::Command::new(&self.program);
        command.args(self.arguments(init.pid()));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        netns::kill_on_parent_exit(&mut command);
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let stderr = StderrCapture::new(child.stderr.take(), StderrPart::End(STDERR_TAIL_BYTES));
        let mut connection = NetworkConnection {
            name,
            child,
            stderr,
        };
        tokio::select! {
            biased;
            added = routes.wait_for_default_route() => {
                added.context("watching the sandbox's routes")?;
                Ok(connection)
            }
            ended = connection.wait_for_exit() => Err(ended),
            () = tokio::time::sleep(CONNECT_TIMEOUT) => {
                Err(anyhow!("{name} did not connect the sandbox within {} s", CONNECT_TIMEOUT.as_secs()))
            }
        }
    }

    fn arguments(&self, pid: u32) -> Vec<String> {
        let mut arguments: Vec<String> = match self.kind {
            NetworkHelperKind::Pasta => [
                "--config-net",
                "--no-map-gw",
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--foreground",
                "--quiet",
                "--dns-forward",
            ]
            .map(str::to_owned)
            .into(),
            NetworkHelperKind::Slirp4netns => {
                ["--configure", "--mtu=65520", "--disable-host-loopback"]
                    .map(str::to_owned)
                    .into()
            }
        };
        match self.kind {
            NetworkHelperKind::Pasta => {
                arguments.push(self.resolver().to_string());
                if rustix::process::geteuid().is_root() {
                    // As nobody, which it would become, it may not enter root's sandbox.
                    arguments.extend(["--runas", "0"].map(str::to_owned));
                }
                arguments.push(pid.to_string());
            }
            NetworkHelperKind::Slirp4netns => {
                if host_has_ipv6() {
                    arguments.push("--enable-ipv6".to_owned());
                }
                arguments.push(format!("--userns-path=/proc/{pid}/ns/user"));
                arguments.extend([pid.to_string(), "tap0".to_owned()]);
            }
        }
        arguments
    }
}

const fn plural_verb(count: usize) -> &'static str {
    if count == 1 { " is" } else { " are" }
}

fn find_installed(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    // Some distributions install them in directories of root's `PATH` only.
    let system = OsStr::new("/usr/sbin:/usr/local/sbin:/sbin");
    path.and_then(|path| netns::find_program(name, path))
        .or_else(|| netns::find_program(name, system))
}

fn host_has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/ipv6_route").is_ok_and(|table| has_default_route(&table))
}

/// Whether a table as in `/proc/net/ipv6_route` has a default route over a real link.
fn has_default_route(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [dest, "00", .., link]
            if dest.bytes().all(|byte| byte == b'0') && *link != "lo")
    })
}

/// A helper at work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct NetworkConnection {
    name: &'static str,
    child: Child,
    stderr: StderrCapture,
}

/// What is kept of a helper's last words, in bytes.
const STDERR_TAIL_BYTES: usize = 2048;

impl NetworkConnection {
    /// Returns when the helper has ended, which it should not, with what it said last. A call that
    /// is dropped before it is done loses nothing.
    pub(super) async fn wait_for_exit(&mut self) -> anyhow::Error {
        self.stderr.read_to_end().await;
        let status = self.child.wait().await;
        let name = self.name;
        let how = match status {
            Ok(status) => describe_exit(status),
            Err(error) => error.to_string(),
        };
        match last_error_line(self.stderr.bytes()) {
            words if words.is_empty() => anyhow!("{name} {how}"),
            words => anyhow!("{name} {how}: {words}"),
        }
    }

    /// Ends the helper and waits until it is gone.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

fn describe_exit(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last line that says something: a pasta without a log daemon also says that.
fn last_error_line(said: &[u8]) -> DisplayText {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().map(str::trim).rev();
    let line = lines.find(|line| !line.is_empty() && !line.starts_with("Failed to send"));
    DisplayText::new(line.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_helper_is_named_with_its_package() {
        let nowhere = Some(OsStr::new("/nonexistent"));
        assert!(
            NetworkHelper::find(NetworkChoice::None, nowhere)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_default_route_over_a_link_is_ipv6() {
        let zero = "00000000000000000000000000000000";
        let line = |dest: &str, bits: &str, link: &str| {
            format!("{dest} {bits} {zero} 00 {zero} 00000400 00000001 00000000 00000003 {link}\n")
        };
        assert!(has_default_route(&line(zero, "00", "    eth0")));
        assert!(!has_default_route(&line(zero, "00", "      lo")));
        assert!(!has_default_route(&line(
            "fe800000000000000000000000000000",
            "40",
            "eth0"
        )));
        assert!(!has_default_route(""));
    }

    #[test]
    fn the_last_words_are_those_that_say_something() {
        let check = |said: &str, expected: &str| {
            assert_eq!(last_error_line(said.as_bytes()).as_str(), expected);
        };
        check("", "");
        check(
            "no such device\nFailed to send 12 bytes to syslog\n\n",
            "no such device",
        );
        check("a\x1b[31mred", "a [31mred");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Connects a sandbox to the network with a helper program that runs as the operator.
//!
//! Both helpers relay the sandbox's traffic through ordinary sockets of the operator. They need no
//! privileges, and no port of the sandbox is reachable from outside.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use netns::{EnterError, NetnsRef, ProcessHandle, RouteWatcher, StderrCapture, StderrPart};
use terok_clearance::DisplayText;
use tokio::process::{Child, Command};

use crate::NetworkChoice;

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

/// An installed network helper.
#[derive(Debug)]
pub(crate) struct NetworkHelper {
    kind: NetworkHelperKind,
    program: PathBuf,
}

/// The sandbox could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkHelperError {
    /// No helper is installed.
    #[error("{} {} not installed", names.join(" and "), plural_verb(names.len()))]
    NotInstalled {
        /// The names of the missing helpers.
        names: Vec<&'static str>,
    },
    /// The routes of the sandbox cannot be watched.
    #[error("cannot watch the sandbox's routes")]
    WatchRoutes(#[source] EnterError),
    /// The routes of the sandbox can no longer be watched.
    #[error("cannot wait for the sandbox's default route")]
    WaitForRoute(#[source] io::Error),
    /// The helper cannot be executed.
    #[error("cannot start {}", program.display())]
    Start {
        /// The helper.
        program: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The helper ended instead of connecting the sandbox.
    #[error(transparent)]
    Ended(#[from] NetworkHelperExit),
    /// The helper exceeded the time limit.
    #[error("{name} did not connect the sandbox within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// The name of the helper.
        name: &'static str,
    },
}

const fn plural_verb(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// The early end of a network helper; normally the sandbox ends first.
#[derive(Debug, thiserror::Error)]
pub struct NetworkHelperExit {
    name: &'static str,
    status: io::Result<ExitStatus>,
    /// The last line on standard error; may be empty.
    last_line: DisplayText,
}

impl fmt::Display for NetworkHelperExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            status,
            last_line,
        } = self;
        match status {
            Ok(status) => write!(f, "{name} {}", describe_exit(*status))?,
            Err(error) => write!(f, "{name} {error}")?,
        }
        if last_line.is_empty() {
            return Ok(());
        }
        write!(f, ": {last_line}")
    }
}

/// Maximum time for a helper to connect the sandbox.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl NetworkHelper {
    /// Returns the program for `choice`, looked up in `path`; `None` for [`NetworkChoice::None`].
    pub(crate) fn find(
        choice: NetworkChoice,
        path: Option<&OsStr>,
    ) -> Result<Option<Self>, NetworkHelperError> {
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
        match found {
            Some(helper) => Ok(Some(helper)),
            None => Err(NetworkHelperError::NotInstalled {
                names: kinds.iter().map(|kind| kind.name()).collect(),
            }),
        }
    }

    /// Returns the address at which the helper answers DNS queries, on behalf of the host's own
    /// resolver.
    pub(crate) const fn resolver(&self) -> IpAddr {
        IpAddr::V4(match self.kind {
            // podman's address; link-local, so no host of the network has it (RFC 3927).
            NetworkHelperKind::Pasta => Ipv4Addr::new(169, 254, 1, 1),
            NetworkHelperKind::Slirp4netns => Ipv4Addr::new(10, 0, 2, 3),
        })
    }

    /// Connects the sandbox of `init` and returns when the sandbox has a default route.
    pub(crate) async fn connect(
        &self,
        init: &ProcessHandle,
        netns: &NetnsRef,
    ) -> Result<NetworkConnection, NetworkHelperError> {
        let name = self.kind.name();
        let routes = RouteWatcher::watch(netns).map_err(NetworkHelperError::WatchRoutes)?;
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
            .map_err(|source| NetworkHelperError::Start {
                program: self.program.clone(),
                source,
            })?;
        let stderr = StderrCapture::new(child.stderr.take(), StderrPart::End(STDERR_TAIL_BYTES));
        let mut connection = NetworkConnection {
            name,
            child,
            stderr,
        };
        tokio::select! {
            biased;
            added = routes.wait_for_default_route() => {
                added.map_err(NetworkHelperError::WaitForRoute)?;
                Ok(connection)
            }
            exit = connection.wait_for_exit() => Err(exit.into()),
            () = tokio::time::sleep(CONNECT_TIMEOUT) => Err(NetworkHelperError::TimedOut { name }),
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
                    // Otherwise it becomes the user nobody, who may not enter root's sandbox.
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

fn find_installed(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    // Some distributions install them in directories of root's `PATH` only.
    let system = OsStr::new("/usr/sbin:/usr/local/sbin:/sbin");
    path.and_then(|path| netns::find_program(name, path))
        .or_else(|| netns::find_program(name, system))
}

fn host_has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/ipv6_route").is_ok_and(|table| has_default_route(&table))
}

/// Returns `true` if a table like `/proc/net/ipv6_route` has a default route over a real link.
fn has_default_route(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [dest, "00", .., link]
            if dest.bytes().all(|byte| byte == b'0') && *link != "lo")
    })
}

/// A running helper. Dropping the value ends the helper.
#[derive(Debug)]
pub(crate) struct NetworkConnection {
    name: &'static str,
    child: Child,
    stderr: StderrCapture,
}

/// Maximum bytes kept of the end of a helper's standard error.
const STDERR_TAIL_BYTES: usize = 2048;

impl NetworkConnection {
    /// Waits for the end of the helper.
    ///
    /// Cancel safe.
    pub(crate) async fn wait_for_exit(&mut self) -> NetworkHelperExit {
        self.stderr.read_to_end().await;
        NetworkHelperExit {
            name: self.name,
            status: self.child.wait().await,
            last_line: last_error_line(self.stderr.bytes()),
        }
    }

    /// Ends the helper and waits for the end.
    pub(crate) async fn close(mut self) -> io::Result<()> {
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

/// Returns the last line of standard error that describes a problem. Without a log daemon, pasta
/// also prints that its log messages failed.
fn last_error_line(stderr: &[u8]) -> DisplayText {
    let text = String::from_utf8_lossy(stderr);
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
    fn the_last_line_that_describes_a_problem_is_reported() {
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

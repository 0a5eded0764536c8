// SPDX-License-Identifier: Apache-2.0
//! Checks of the kernel.

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde_json::Value;

use crate::HostDescription;
use crate::finding::{Check, Finding};
use crate::kernel_probe::{PROBE_COMMAND, PROBED_CHECKS, USER_NAMESPACES};
use crate::program_output::run_program;

const KERNEL: Check = Check::of_commands("kernel");
const PIDFD: Check = Check::of_commands("process-descriptors");
const PING: Check = Check::of_commands("ping");

/// The oldest kernel on which a sandbox works.
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// The oldest kernel that repeats waiting connections every second and tells who is at the other
/// end of a socket.
const BETTER_KERNEL: (u32, u32) = (6, 5);
/// The file with the groups that may use ping sockets.
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

/// Checks the version of the kernel.
pub(crate) fn check_version(release: &str) -> Finding {
    let found = format!("Linux {release}");
    match parse_release(release) {
        None => KERNEL.warning(
            &found,
            "use Linux 5.12 or newer: its version is not readable here",
        ),
        Some(version) if version < OLDEST_KERNEL => KERNEL.failure(
            &format!("{found} is older than 5.12"),
            "install a newer kernel of your distribution, and restart",
        ),
        Some(version) if version < BETTER_KERNEL => KERNEL.warning(
            &format!(
                "{found}: waiting connections are repeated in growing pauses, and a process at a \
                 socket may be mistaken for a later one"
            ),
            "use Linux 6.5 or newer",
        ),
        Some(_) => KERNEL.pass(&found),
    }
}

/// Returns the version of a release such as `6.1.0-18-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks that processes can be referred to by descriptors.
pub(crate) fn check_pidfd() -> Finding {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_descriptor) => PIDFD.pass("processes can be referred to by descriptors (pidfd)"),
        Err(error) => PIDFD.failure(
            &format!("processes cannot be referred to by descriptors (pidfd_open): {error}"),
            "run outside of the container whose filter refuses it, or use Linux 5.12 or newer",
        ),
    }
}

/// Checks that `ping` works in a sandbox: replies come over ping sockets of the user.
pub(crate) fn check_ping(host: &HostDescription, groups: &[u32]) -> Finding {
    let range = host.read_system_file(PING_GROUPS);
    let bounds = range.as_deref().and_then(parse_range);
    let fix = host.sysctl_fix("net.ipv4.ping_group_range=0 2147483647");
    match bounds {
        Some((low, high)) if groups.iter().any(|group| (low..=high).contains(group)) => {
            PING.pass("`ping` works in a sandbox")
        }
        Some(_) => PING.warning(
            "no group of yours may ping: `ping` fails in a sandbox",
            &fix,
        ),
        None => PING.warning(&format!("{PING_GROUPS} cannot be read"), &fix),
    }
}

fn parse_range(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Runs [`probe_kernel`](crate::probe_kernel) in a process of its own.
pub(crate) async fn probe_in_child(host: &HostDescription) -> Vec<Finding> {
    let (runtime, limit) = (&host.runtime_dir, host.time_limit);
    let probed = run_program(&host.program, &[PROBE_COMMAND], runtime, limit).await;
    let reason = match probed {
        Ok(output) => match parse_findings(&output.stdout) {
            Some(findings) => return findings,
            None => format!("its process ended with {}", output.status),
        },
        Err(error) => error.describe("the process that tries the kernel out"),
    };
    let found = format!("no sandbox could be tried out: {reason}");
    let fix = "run `terok-clearance demo`, whose error names the step";
    let first = USER_NAMESPACES.failure(&found, fix);
    let rest = PROBED_CHECKS.iter().skip(1);
    let rest = rest.map(|check| check.warning("not checked", "fix user-namespaces first"));
    std::iter::once(first).chain(rest).collect()
}

/// Parses the output of the probe, a line of JSON.
fn parse_findings(text: &str) -> Option<Vec<Finding>> {
    let value: Value = serde_json::from_str(text).ok()?;
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckStatus;

    #[test]
    fn the_version_of_the_kernel_is_judged() {
        for (release, expected) in [
            ("6.18.5", CheckStatus::Pass),
            ("6.5.0-1-amd64", CheckStatus::Pass),
            ("6.1.0-18-amd64", CheckStatus::Warning),
            ("5.12", CheckStatus::Warning),
            ("5.11.22-generic", CheckStatus::Failure),
            ("4.19.0", CheckStatus::Failure),
            ("unknown", CheckStatus::Warning),
        ] {
            let finding = check_version(release);
            assert_eq!(finding.status, expected, "{finding:?}");
            assert_eq!(finding.fix.is_some(), expected != CheckStatus::Pass);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Finds the resolvers of a sandbox in its own `/etc/resolv.conf`.
//!
//! The sandbox may have written that file, and a resolver's port 53 is open without a question.
//! Therefore an address counts only if it leads to no stranger: it is on a local network, where
//! containers have their resolvers, or it is a resolver of this machine, too.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use names::parse_server_addresses;
use netns::{ProcessHandle, read_process_file};
use shield::Policy;
use terok_clearance::address_class::AddressClass;

/// Timeout for reading the file, which may be on a file system that the sandbox serves itself.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum bytes read of a file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The resolvers that a sandbox's `/etc/resolv.conf` names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxResolvers {
    /// Those that can be allowed.
    pub usable: Vec<IpAddr>,
    /// The others.
    pub refused: Vec<(IpAddr, ResolverRefusal)>,
}

/// The reason why a resolver of a sandbox is not allowed without an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolverRefusal {
    /// A loopback address, or one that is no host.
    #[error("it is an address inside the sandbox")]
    Inside,
    /// An address of the internet that this machine does not use as a resolver.
    #[error("it is neither on a local network nor a resolver of this machine")]
    Stranger,
}

/// The resolvers of a sandbox could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxResolversError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Reading the file took too long.
    #[error("reading it took longer than {READ_TIMEOUT:?}")]
    TimedOut,
}

/// Reads the `/etc/resolv.conf` that `process` sees. `host_files` are those of this machine; a file
/// that cannot be read names no resolver.
pub fn find_sandbox_resolvers(
    process: &ProcessHandle,
    host_files: &[&Path],
) -> Result<SandboxResolvers, SandboxResolversError> {
    let process = process.try_clone()?;
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("resolv-conf".to_owned())
        .spawn(move || {
            let read = read_process_file(&process, "/etc/resolv.conf", MAX_FILE_BYTES);
            drop(sender.send(read)); // after the timeout, the receiver is gone
        })?;
    let text = match receiver.recv_timeout(READ_TIMEOUT) {
        Ok(read) => read?,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            return Err(SandboxResolversError::TimedOut);
        }
    };
    let named = parse_server_addresses(&String::from_utf8_lossy(&text));
    Ok(judge_resolvers(named, &read_host_resolvers(host_files)))
}

fn read_host_resolvers(files: &[&Path]) -> Vec<IpAddr> {
    let mut resolvers = Vec::new();
    for path in files {
        match std::fs::read(path) {
            Ok(text) => resolvers.extend(parse_server_addresses(&String::from_utf8_lossy(&text))),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "host's resolvers not read");
            }
        }
    }
    resolvers
}

fn judge_resolvers(named: Vec<IpAddr>, of_host: &[IpAddr]) -> SandboxResolvers {
    let mut resolvers = SandboxResolvers::default();
    for address in named {
        if Policy::new([address]).is_err() {
            resolvers.refused.push((address, ResolverRefusal::Inside));
        } else if of_host.contains(&address) || is_local(address) {
            resolvers.usable.push(address);
        } else {
            resolvers.refused.push((address, ResolverRefusal::Stranger));
        }
    }
    resolvers
}

/// Returns `true` for private and link-local addresses except for those of cloud metadata services.
fn is_local(address: IpAddr) -> bool {
    const METADATA_V4: [u8; 3] = [169, 254, 169];
    const METADATA_CONTAINERS_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
    match address {
        _ if AddressClass::classify(address) == AddressClass::Private => true,
        IpAddr::V4(ip) => {
            ip.is_link_local()
                && ip.octets().first_chunk() != Some(&METADATA_V4)
                && ip != METADATA_CONTAINERS_V4
        }
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_of_a_sandbox_leads_to_no_stranger() {
        use ResolverRefusal::{Inside, Stranger};
        let of_host =
            ["192.0.2.53", "169.254.169.253", "2001:db8::53"].map(|ip| ip.parse().unwrap());
        let check = |address: &str, expected: Option<ResolverRefusal>| {
            let address: IpAddr = address.parse().unwrap();
            let judged = judge_resolvers(vec![address], &of_host);
            let refused: Vec<_> = expected.map(|why| (address, why)).into_iter().collect();
            assert_eq!(judged.refused, refused, "{address}");
            assert_eq!(
                judged.usable.len(),
                usize::from(expected.is_none()),
                "{address}"
            );
        };
        for local in [
            "10.0.2.3",
            "192.168.1.1",
            "100.100.1.1",
            "169.254.1.1",
            "fd00::3",
            "fe80::1",
        ] {
            check(local, None);
        }
        for of_host in ["192.0.2.53", "169.254.169.253", "2001:db8::53"] {
            check(of_host, None);
        }
        for inside in [
            "127.0.0.11",
            "127.0.0.53",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
        ] {
            check(inside, Some(Inside));
        }
        for stranger in [
            "203.0.113.66",
            "2001:db8:1::66",
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            check(stranger, Some(Stranger));
        }
    }

    #[test]
    fn a_missing_file_of_the_host_names_no_resolver() {
        let missing = Path::new("/nonexistent/resolv.conf");
        assert!(read_host_resolvers(&[missing]).is_empty());
    }
}

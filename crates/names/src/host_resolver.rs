// SPDX-License-Identifier: Apache-2.0
//! Looks up names as the host's own programs do: hosts file, name service switch, name servers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use hickory_proto::rr::{Record, RecordType};
use terok_clearance::DomainName;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::dns_client::query_records;
use crate::dns_resolver::HostLookupSockets;
use crate::lookup::{LookupFailure, NameLookup};
use crate::resolv_conf::read_name_servers;

mod hosts_file;

pub use hosts_file::read_host_labels;

/// Maximum calls of `getaddrinfo` at a time; more lookups wait.
const MAX_SYSTEM_LOOKUPS: usize = 32;
/// Maximum time of a lookup, the wait for its turn included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks up names with the means and the settings of the host.
///
/// Files and settings are read at each lookup, so that a change, for example of a VPN, counts at
/// once. Clones share the limit of 32 system lookups at a time.
///
/// A call of the C library cannot be cancelled. It can outlive its lookup by some 20 s, and a tokio
/// runtime waits for it at its end unless it is shut down in the background.
#[derive(Debug, Clone)]
pub struct HostResolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// Overrides the name servers of `resolv_conf`, whose port is fixed.
    name_servers: Option<Vec<SocketAddr>>,
    system_lookup: SystemLookup,
    system_slots: Arc<Semaphore>,
    time_limit: Duration,
}

/// A blocking lookup of a name by the C library; the name has a trailing dot or not.
type SystemLookup = fn(&str) -> Result<Vec<IpAddr>, LookupFailure>;

impl HostResolver {
    /// Creates a resolver that reads these files, usually `/etc/hosts` and `/etc/resolv.conf`.
    ///
    /// `getaddrinfo` reads the files of the machine, whatever the paths are here.
    pub fn new(hosts: impl Into<PathBuf>, resolv_conf: impl Into<PathBuf>) -> Self {
        Self {
            hosts: hosts.into(),
            resolv_conf: resolv_conf.into(),
            name_servers: None,
            system_lookup,
            system_slots: Arc::new(Semaphore::new(MAX_SYSTEM_LOOKUPS)),
            time_limit: LOOKUP_TIMEOUT,
        }
    }

    /// Returns the addresses by the hosts file, else by the C library.
    async fn find_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        let is_dotted = name.as_str().contains('.') && !is_local(name);
        // The C library ignores the hosts file for a name with a trailing dot.
        if is_dotted {
            let hosts = self.hosts.clone();
            let wanted = name.clone();
            let found = run_blocking(move || Ok(find_in_hosts(&hosts, &wanted))).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let permit = Arc::clone(&self.system_slots)
            .acquire_owned()
            .await
            .map_err(|error| LookupFailure::failed(&error.to_string()))?;
        let lookup = self.system_lookup;
        // The trailing dot makes the name absolute: no search domain is appended. The modules for
        // single labels and for `.local` want the name without it.
        let text = format!("{name}{}", if is_dotted { "." } else { "" });
        run_blocking(move || {
            // The permit belongs to the call, which outlives a lookup that timed out.
            let _permit = permit;
            lookup(&text)
        })
        .await
    }

    async fn find_records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        let name_servers = if let Some(name_servers) = &self.name_servers {
            name_servers.clone()
        } else {
            let path = self.resolv_conf.clone();
            run_blocking(move || {
                read_name_servers(&path).map_err(|error| {
                    LookupFailure::failed(&format!("reading {}: {error}", path.display()))
                })
            })
            .await?
        };
        query_records(&HostLookupSockets, &name_servers, name, record_type).await
    }

    async fn limit_time<T>(
        &self,
        lookup: impl Future<Output = Result<T, LookupFailure>>,
    ) -> Result<T, LookupFailure> {
        timeout(self.time_limit, lookup)
            .await
            .unwrap_or_else(|elapsed| {
                let seconds = self.time_limit.as_secs();
                tracing::debug!(%elapsed, "lookup timed out");
                Err(LookupFailure::failed(&format!(
                    "no answer within {seconds} s; check the network and its name servers"
                )))
            })
    }
}

impl NameLookup for HostResolver {
    async fn lookup_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        self.limit_time(self.find_addresses(name)).await
    }

    async fn lookup_records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        self.limit_time(self.find_records(name, record_type)).await
    }
}

/// `.local` belongs to multicast DNS (RFC 6762 section 3).
fn is_local(name: &DomainName) -> bool {
    name.as_str().rsplit('.').next() == Some("local")
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LookupFailure> + Send + 'static,
) -> Result<T, LookupFailure> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(LookupFailure::failed(&error.to_string())))
}

/// Returns the addresses in the hosts file; a file that cannot be read has none.
fn find_in_hosts(hosts: &Path, name: &DomainName) -> Vec<IpAddr> {
    hosts_file::find_addresses(hosts, name).unwrap_or_else(|error| {
        tracing::debug!(path = %hosts.display(), %error, "hosts file not read");
        Vec::new()
    })
}

/// Calls `getaddrinfo`. The standard library's call does not tell a name that does not exist from
/// a failure.
fn system_lookup(name: &str) -> Result<Vec<IpAddr>, LookupFailure> {
    let hints = AddrInfoHints {
        // One type of socket, so that each address comes once.
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(lookup_failure)?;
    let mut addresses = Vec::new();
    // Entries of other families than IP are errors of the iterator.
    for address in found.flatten().map(|found| found.sockaddr.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err(LookupFailure::NoData)
    } else {
        Ok(addresses)
    }
}

fn lookup_failure(error: LookupError) -> LookupFailure {
    match error.kind() {
        LookupErrorKind::NoName => LookupFailure::NotFound,
        LookupErrorKind::NoData => LookupFailure::NoData,
        _ => LookupFailure::failed(&std::io::Error::from(error).to_string()),
    }
}

#[cfg(test)]
mod tests;

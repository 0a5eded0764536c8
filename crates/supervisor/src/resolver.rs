// SPDX-License-Identifier: Apache-2.0
//! Resolves allowed names before the sandbox does, so that its first packet passes.
//!
//! Sandbox and reader receive a DNS answer at the same moment, and the sandbox's first packet can
//! overtake the order for the new address. Names allowed from the start avoid this race: they are
//! resolved through the sandbox's own network before the workload starts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns::{NetnsRef, SocketSpec};
use reader::dns::{self, DnsAnswer};
use terok_clearance::DomainName;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::shield_enforcer::ShieldEnforcer;

/// Timeout for all names together.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval between queries for unanswered names.
const RETRY_AFTER: Duration = Duration::from_millis(700);
/// Buffer size for answers; plain DNS has at most 512 bytes (RFC 1035 section 4.2.1), but some
/// resolvers send more.
const MAX_ANSWER_BYTES: usize = 4096;

/// Queries `resolver` from within `netns` for the addresses of `names` and passes them to the
/// firewall. Returns the names without an answer before the timeout.
pub(crate) async fn resolve_names(
    netns: &NetnsRef,
    firewall: &ShieldEnforcer,
    resolver: IpAddr,
    names: &[DomainName],
) -> io::Result<Vec<DomainName>> {
    let spec = if resolver.is_ipv4() {
        SocketSpec::Udp4
    } else {
        SocketSpec::Udp6
    };
    let socket = std::net::UdpSocket::from(netns.open_socket(spec).map_err(io::Error::other)?);
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    // The kernel drops datagrams from other senders.
    socket
        .connect(SocketAddr::new(resolver, dns::DNS_PORT))
        .await?;

    let kinds = [dns::TYPE_A, dns::TYPE_AAAA];
    let asked = names.iter().flat_map(|name| kinds.map(|kind| (name, kind)));
    let mut open: Vec<(u16, &DomainName, u16)> = (1..)
        .zip(asked)
        .map(|(id, (name, kind))| (id, name, kind))
        .collect();
    let limit = Instant::now() + RESOLVE_TIMEOUT;
    let mut answer = vec![0; MAX_ANSWER_BYTES];
    while !open.is_empty() && Instant::now() < limit {
        for (id, name, kind) in &open {
            // A failed send (port unreachable) counts as no answer.
            drop(socket.send(&dns::encode_query(name, *kind, *id)).await);
        }
        let round = timeout(RETRY_AFTER, async {
            while !open.is_empty() {
                let Ok(length) = socket.recv(&mut answer).await else {
                    continue;
                };
                let message = answer.get(..length).unwrap_or_default();
                if let Some(DnsAnswer { name, addresses }) = DnsAnswer::parse(message)
                    && names.contains(&name)
                {
                    let addresses: Vec<_> = addresses.iter().map(|(ip, _)| *ip).collect();
                    firewall.learn_addresses(&name, &addresses);
                }
                open.retain(|(id, ..)| Some(*id) != dns::message_id(message));
            }
        });
        drop(timeout_at(limit, round).await);
    }
    let mut unanswered: Vec<_> = open.into_iter().map(|(_, name, _)| name.clone()).collect();
    unanswered.dedup();
    Ok(unanswered)
}

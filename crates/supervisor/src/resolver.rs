// SPDX-License-Identifier: Apache-2.0
//! Looks names up before the sandbox does, so that its first packet finds them open.
//!
//! The sandbox and the reader get an answer at the same moment, and the sandbox's first packet can
//! be faster than the order that opens its address. What is allowed from the start need not lose
//! that race: its addresses are asked for, by way of the sandbox's own network, before anything
//! runs in there.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns::{NetnsRef, SocketSpec};
use reader::dns::{self, DnsAnswer};
use terok_clearance::DomainName;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::shield_enforcer::ShieldEnforcer;

/// How long the resolver may take for all names together.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// After how long of silence what is not answered is asked again: a datagram may be lost.
const RETRY_AFTER: Duration = Duration::from_millis(700);
/// The longest answer without extensions (RFC 1035 section 4.2.1), and room for resolvers that
/// send longer ones all the same.
const MAX_ANSWER_BYTES: usize = 4096;

/// Asks `resolver` from within `place` for the addresses of `names`, and tells the firewall what
/// comes back. Returns the names about which it said nothing in time.
pub(crate) async fn resolve_names(
    place: &NetnsRef,
    firewall: &ShieldEnforcer,
    resolver: IpAddr,
    names: &[DomainName],
) -> io::Result<Vec<DomainName>> {
    let spec = if resolver.is_ipv4() {
        SocketSpec::Udp4
    } else {
        SocketSpec::Udp6
    };
    let socket = std::net::UdpSocket::from(place.open_socket(spec).map_err(io::Error::other)?);
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    // From nobody else is anything taken.
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
            // A refusal (nobody listens there yet) is no answer either.
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
    let mut silent: Vec<_> = open.into_iter().map(|(_, name, _)| name.clone()).collect();
    silent.dedup();
    Ok(silent)
}

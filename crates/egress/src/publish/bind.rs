// SPDX-License-Identifier: Apache-2.0
//! Binds the listeners of published ports on the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use terok_clearance::Protocol;
use tokio::net::{TcpListener, UdpSocket};

use super::PublishSpec;

/// Maximum connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Maximum ports that are tried until one is free at both loopback addresses.
const MAX_CHOICES: usize = 16;

/// A bound socket of a published port.
#[derive(Debug)]
pub(super) enum PublishSocket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// A port could not be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish {spec}: cannot listen at {address}")]
pub struct PublishError {
    /// The port.
    pub spec: PublishSpec,
    /// The address outside.
    pub address: SocketAddr,
    /// The kernel error.
    #[source]
    pub source: io::Error,
}

/// Returns the sockets of a published port with their addresses.
pub(super) fn bind_spec(
    spec: &PublishSpec,
) -> Result<Vec<(SocketAddr, PublishSocket)>, PublishError> {
    let host_port = spec.host_port().map_or(0, NonZeroU16::get);
    let open = |address: IpAddr, port| {
        let address = SocketAddr::new(address, port);
        bind_socket(address, spec.protocol()).map_err(|source| PublishError {
            spec: spec.clone(),
            address,
            source,
        })
    };
    if let Some(address) = spec.address() {
        return Ok(vec![open(address, host_port)?]);
    }
    let mut choices = 1;
    loop {
        let first = open(Ipv4Addr::LOCALHOST.into(), host_port)?;
        // The same port: clients of `localhost` may take either address.
        match open(Ipv6Addr::LOCALHOST.into(), first.0.port()) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if is_without_ipv6(&error.source) => return Ok(vec![first]),
            Err(error)
                if error.source.kind() == io::ErrorKind::AddrInUse
                    && host_port == 0
                    && choices < MAX_CHOICES =>
            {
                choices = choices.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

fn bind_socket(address: SocketAddr, protocol: Protocol) -> io::Result<(SocketAddr, PublishSocket)> {
    let is_udp = protocol == Protocol::UDP;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = if is_udp {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        // `[::]` would otherwise be every IPv4 address too.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if !is_udp {
        // As every server: earlier connections of the port may still be closing.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if is_udp {
        let socket = UdpSocket::from_std(socket.into())?;
        Ok((socket.local_addr()?, PublishSocket::Udp(socket)))
    } else {
        listen(&socket, BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok((listener.local_addr()?, PublishSocket::Tcp(listener)))
    }
}

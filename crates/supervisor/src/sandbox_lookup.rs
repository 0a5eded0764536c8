// SPDX-License-Identifier: Apache-2.0
//! Looks names up at a sandbox's own resolvers, over the sandbox's own connection.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use names::LookupSockets;
use netns::{NetnsRef, SocketSpec, set_packet_mark};
use shield::LOOKUP_MARK;
use tokio::net::TcpSocket;

/// Opens sockets inside a sandbox whose packets to its resolvers pass the firewall.
#[derive(Debug)]
pub(crate) struct SandboxLookupSockets(pub(crate) NetnsRef);

impl SandboxLookupSockets {
    fn open(&self, spec: SocketSpec) -> io::Result<OwnedFd> {
        let socket = self.0.open_socket(spec).map_err(io::Error::other)?;
        set_packet_mark(&socket, LOOKUP_MARK)?;
        Ok(socket)
    }
}

impl LookupSockets for SandboxLookupSockets {
    fn udp_socket(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.open(match server {
            SocketAddr::V4(_) => SocketSpec::Udp4,
            SocketAddr::V6(_) => SocketSpec::Udp6,
        })?;
        Ok(UdpSocket::from(socket))
    }

    fn tcp_socket(&self, server: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.open(match server {
            SocketAddr::V4(_) => SocketSpec::Tcp4,
            SocketAddr::V6(_) => SocketSpec::Tcp6,
        })?;
        let socket = TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Looks names up at a sandbox's own resolvers, over the sandbox's own connection.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use egress::dial::DialSockets as _;
use egress::publish::SandboxSockets;
use names::LookupSockets;
use netns::set_packet_mark;
use shield::LOOKUP_MARK;
use tokio::net::TcpSocket;

/// Opens sockets inside a sandbox whose packets to its resolvers pass the firewall.
#[derive(Debug)]
pub(crate) struct SandboxLookupSockets(pub(crate) SandboxSockets);

impl LookupSockets for SandboxLookupSockets {
    fn udp_socket(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.0.udp_socket(server)?;
        set_packet_mark(&socket, LOOKUP_MARK)?;
        Ok(socket)
    }

    fn tcp_socket(&self, server: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.0.tcp_socket(server)?;
        set_packet_mark(&socket, LOOKUP_MARK)?;
        Ok(socket)
    }
}

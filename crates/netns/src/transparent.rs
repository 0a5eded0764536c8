// SPDX-License-Identifier: Apache-2.0
//! Sockets of a gateway that receive packets for every address, and send packets from every
//! address.
//!
//! The kernel checks the rights at each call: the caller must own the user namespace of the
//! gateway, as the builder of the sandbox does.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{SendFlags, sockopt};

use crate::{PollableFd, sys};

/// Connections that wait to be accepted, per listener.
const LISTEN_BACKLOG: i32 = 4_096;
/// Size of the receive buffer for datagrams; unprivileged users get at most `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Listens at `address` for connections that a rule delivers there (`tproxy`), with any
/// destination. `local_addr` of an accepted connection is its destination.
///
/// `socket` is an unbound TCP socket of the gateway's namespace.
pub fn listen_transparently(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    sys::set_transparent(socket.as_fd(), address.is_ipv6())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket.into())
}

/// A UDP socket for datagrams that a rule delivers there (`tproxy`), with any destination.
#[derive(Debug)]
pub struct TransparentUdpSocket(PollableFd);

/// A received datagram: its size and both addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// The number of bytes received.
    pub length: usize,
    /// The sender.
    pub source: SocketAddr,
    /// The destination in the datagram's headers.
    pub destination: SocketAddr,
}

impl TransparentUdpSocket {
    /// Binds `socket`, an unbound UDP socket of the gateway's namespace, to `address`. Requires a
    /// tokio runtime.
    pub fn bind(socket: OwnedFd, address: SocketAddr) -> io::Result<Self> {
        sys::set_transparent(socket.as_fd(), address.is_ipv6())?;
        sys::report_original_destination(socket.as_fd(), address.is_ipv6())?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
        }
        rustix::net::bind(&socket, &address)?;
        Ok(Self(PollableFd::new_readable(socket)?))
    }

    /// Waits until a datagram may be queued. Cancel safe.
    pub async fn wait_readable(&self) -> io::Result<()> {
        self.0.wait_readable().await
    }

    /// Receives a queued datagram into `buffer`, after [`wait_readable`](Self::wait_readable);
    /// `WouldBlock` if there is none. A longer datagram is cut.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<ReceivedDatagram> {
        self.0
            .try_read_with(|fd| sys::receive_with_destination(fd, buffer))
    }
}

/// Sends complete IP packets into a gateway's namespace: repeated first packets, resets, ICMP
/// errors, and datagrams from any address.
#[derive(Debug)]
pub struct RawPacketSender {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

impl RawPacketSender {
    /// Wraps raw sockets of the gateway's namespace. Every packet has the mark `mark` there.
    pub fn new(v4: OwnedFd, v6: Option<OwnedFd>, mark: u32) -> io::Result<Self> {
        for socket in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            sys::set_mark(socket.as_fd(), mark)?;
            rustix::io::ioctl_fionbio(socket, true)?;
        }
        Ok(Self { v4, v6 })
    }

    /// Sends `packet`, with its IP header, on the way to `destination`.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        let socket = match (destination, &self.v6) {
            (IpAddr::V4(_), _) => &self.v4,
            (IpAddr::V6(_), Some(v6)) => v6,
            (IpAddr::V6(_), None) => return Err(rustix::io::Errno::AFNOSUPPORT.into()),
        };
        let to = SocketAddr::new(destination, 0);
        rustix::net::sendto(socket, packet, SendFlags::DONTWAIT, &to)?;
        Ok(())
    }
}

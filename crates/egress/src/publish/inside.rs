// SPDX-License-Identifier: Apache-2.0
//! Sockets of a sandbox's network namespace, made in small batches.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use netns::{NetnsRef, SocketSpec};
use tokio::net::TcpSocket;

use crate::dial::DialSockets;

/// Sockets made at once: entering the namespace takes longer than a socket.
const BATCH: usize = 8;

/// Makes the sockets that connect to servers in a sandbox.
///
/// Up to seven sockets of each kind are kept for the next calls. They keep the sandbox's namespace
/// alive.
#[derive(Debug)]
pub struct SandboxSockets {
    netns: NetnsRef,
    unused: Mutex<[Vec<OwnedFd>; SPECS.len()]>,
}

const SPECS: [SocketSpec; 4] = [
    SocketSpec::Tcp4,
    SocketSpec::Tcp6,
    SocketSpec::Udp4,
    SocketSpec::Udp6,
];

impl SandboxSockets {
    /// Creates the maker of sockets in `netns`.
    pub fn new(netns: NetnsRef) -> Self {
        Self {
            netns,
            unused: Mutex::default(),
        }
    }

    fn open(&self, wanted: SocketSpec) -> io::Result<OwnedFd> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pools = SPECS.iter().zip(unused.iter_mut());
        let pool = pools.find_map(|(spec, pool)| (*spec == wanted).then_some(pool));
        let pool = pool.ok_or(io::ErrorKind::Unsupported)?;
        if pool.is_empty() {
            let opened = self.netns.open_sockets(&[wanted; BATCH]);
            *pool = opened.map_err(io::Error::other)?;
        }
        pool.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DialSockets for SandboxSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.open(match remote {
            SocketAddr::V4(_) => SocketSpec::Tcp4,
            SocketAddr::V6(_) => SocketSpec::Tcp6,
        })?;
        let socket = TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket))
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.open(match remote {
            SocketAddr::V4(_) => SocketSpec::Udp4,
            SocketAddr::V6(_) => SocketSpec::Udp6,
        })?;
        Ok(UdpSocket::from(socket))
    }
}

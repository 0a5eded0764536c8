// SPDX-License-Identifier: Apache-2.0
//! Dials an outside address for a sandbox: happy eyeballs (RFC 8305) over judged candidates.

mod attempts;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use attempts::{AttemptErrors, Attempts};

/// Time limit for a dial: that of a `connect()` on Linux with its default of six retries.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(130);

/// Connection attempt delay (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Maximum attempts under way; the oldest is given up for a new one. It had
/// `MAX_ATTEMPTS * ATTEMPT_DELAY` = 8 s, so a name with many dead addresses takes few descriptors.
const MAX_ATTEMPTS: usize = 32;

/// Creates the sockets of the network that is dialed into.
pub trait DialSockets: Send + Sync + 'static {
    /// Creates a TCP socket for a connection to `remote`.
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket>;

    /// Creates a UDP socket, bound or not, for datagrams to `remote`.
    fn udp_socket(&self, remote: SocketAddr) -> io::Result<UdpSocket>;

    /// Returns `true` if `ip` is an address of the machine that dials: its kernel reaches the
    /// address from the address itself. No packet is sent. A bind would succeed for every address
    /// where `net.ipv4.ip_nonlocal_bind` is set.
    fn is_host_address(&self, ip: IpAddr) -> bool {
        let at = SocketAddr::new(ip, ANY_PORT);
        let local = self.udp_socket(at).and_then(|socket| {
            socket.connect(at)?;
            socket.local_addr()
        });
        local.is_ok_and(|local| local.ip() == ip)
    }
}

/// A port for a socket that sends nothing (`discard`).
const ANY_PORT: u16 = 9;

/// Ordinary sockets of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostSockets;

impl DialSockets for HostSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        match remote {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::bind((any, 0))
    }
}

/// The reason why no candidate could be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The destination refused the connection.
    #[error("the destination refused the connection")]
    Refused,
    /// No way leads to the destination.
    #[error("the {0} is unreachable")]
    Unreachable(UnreachablePart),
    /// The destination did not answer.
    #[error("the destination did not answer in time")]
    TimedOut,
    /// A firewall outside of the sandbox, or a proxy, forbids the connection.
    #[error("a firewall or a proxy of this network forbids the connection")]
    NotPermitted,
    /// The process or the system has no descriptor left.
    #[error("too many open files; raise the limit of open files (ulimit -n)")]
    TooManyOpenFiles,
    /// The socket could not be created or used, for a reason on this machine.
    #[error("cannot open a connection on this machine")]
    Local(#[source] io::Error),
    /// The list of candidates was empty.
    #[error("no address to connect to")]
    NoCandidates,
}

/// The part of the way that is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnreachablePart {
    /// No route leads to the network.
    Network,
    /// The host does not answer in its network.
    Host,
}

impl std::fmt::Display for UnreachablePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Host => "host",
        })
    }
}

impl DialError {
    /// Returns the error that the app's `connect()` should report. Faults of this machine are
    /// refusals, so that the app does not wait.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Refused | Self::TooManyOpenFiles | Self::Local(_) => Errno::CONNREFUSED,
            Self::Unreachable(UnreachablePart::Network) => Errno::NETUNREACH,
            Self::Unreachable(UnreachablePart::Host) | Self::NoCandidates => Errno::HOSTUNREACH,
            Self::TimedOut => Errno::TIMEDOUT,
            Self::NotPermitted => Errno::ACCESS,
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            // The peer accepted and reset at once: what an app would call refused.
            Some(Errno::CONNREFUSED | Errno::CONNRESET | Errno::PIPE) => Self::Refused,
            Some(Errno::NETUNREACH | Errno::NETDOWN) => Self::Unreachable(UnreachablePart::Network),
            // An ICMP protocol error is reported as NOPROTOOPT.
            Some(Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NOPROTOOPT) => {
                Self::Unreachable(UnreachablePart::Host)
            }
            Some(Errno::TIMEDOUT) => Self::TimedOut,
            Some(Errno::PERM | Errno::ACCESS) => Self::NotPermitted,
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpenFiles,
            _ => Self::Local(error),
        }
    }
}

/// Connects to the first candidate that accepts; the other attempts are closed.
///
/// Families alternate, starting with that of the first candidate. The next attempt begins 250 ms
/// after the last one, or at once when one fails, so a dead address does not make a name
/// unreachable. The whole takes at most [`DIAL_TIMEOUT`]. Cancel safe.
pub async fn dial_tcp(
    sockets: &impl DialSockets,
    candidates: Vec<SocketAddr>,
) -> Result<TcpStream, DialError> {
    let mut deadline = pin!(tokio::time::sleep(DIAL_TIMEOUT));
    let mut candidates = interleave(candidates).into_iter();
    let mut attempts = Attempts::default();
    let mut errors = AttemptErrors::default();
    loop {
        if let Some(candidate) = candidates.next() {
            match sockets.tcp_socket(candidate) {
                Ok(socket) => {
                    if attempts.push(Box::pin(socket.connect(candidate)), MAX_ATTEMPTS) {
                        errors.push(Errno::TIMEDOUT.into());
                    }
                }
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            }
        }
        let more = candidates.len() > 0;
        tokio::select! {
            biased;
            result = attempts.next() => match result {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => errors.push(error),
                None => return Err(errors.most_telling()),
            },
            () = &mut deadline => return Err(errors.most_telling_after_timeout()),
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

/// Returns a UDP socket connected to the first candidate that a route leads to.
pub fn connect_udp(
    sockets: &impl DialSockets,
    candidates: Vec<SocketAddr>,
) -> Result<tokio::net::UdpSocket, DialError> {
    let mut errors = AttemptErrors::default();
    for candidate in interleave(candidates) {
        let connected = sockets.udp_socket(candidate).and_then(|socket| {
            socket.connect(candidate)?;
            socket.set_nonblocking(true)?;
            tokio::net::UdpSocket::from_std(socket)
        });
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => errors.push(error),
        }
    }
    Err(errors.most_telling())
}

/// Alternates the families, starting with the first candidate's, and drops duplicates.
fn interleave(candidates: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let starts_with_v4 = candidates.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| candidate.is_ipv4() == starts_with_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        for candidate in pair.into_iter().flatten() {
            if !ordered.contains(&candidate) {
                ordered.push(candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests;

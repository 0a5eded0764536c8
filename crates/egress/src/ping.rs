// SPDX-License-Identifier: Apache-2.0
//! Sends an echo request from an unprivileged ICMP socket, and waits for its reply.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::dial::{DialError, UnreachablePart};

/// Maximum length of the data of an echo request: what fits into an IPv4 packet.
pub const MAX_PING_PAYLOAD: usize = 65_507;

/// A reply to an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingReply {
    /// The data that came back; at most as long as that of the request.
    pub payload: Vec<u8>,
}

/// The reason why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// This process may not create ICMP sockets.
    #[error("ping needs net.ipv4.ping_group_range to include a group of this process")]
    NotPermitted,
    /// No reply came within the limit.
    #[error("the destination did not reply in time")]
    TimedOut,
    /// No way leads to the destination.
    #[error("the {0} is unreachable")]
    Unreachable(UnreachablePart),
    /// The payload exceeds [`MAX_PING_PAYLOAD`].
    #[error("the payload is longer than {MAX_PING_PAYLOAD} bytes")]
    PayloadTooLong,
    /// The socket failed.
    #[error("cannot send or receive an echo message")]
    Socket(#[source] io::Error),
}

/// Sends an echo request from this process' network and waits at most `limit` for the reply.
///
/// The kernel chooses the identifier, so the app's own does not leave. Cancel safe.
pub async fn ping(
    destination: IpAddr,
    sequence: u16,
    payload: &[u8],
    limit: Duration,
) -> Result<PingReply, PingError> {
    let socket = ping_socket(destination)?;
    ping_on(socket, destination, sequence, payload, limit).await
}

/// Creates a socket for [`ping_on`] in the network namespace of the calling thread.
pub fn ping_socket(destination: IpAddr) -> Result<OwnedFd, PingError> {
    let (family, protocol) = match destination {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::DGRAM, flags, Some(protocol)).map_err(|errno| match errno {
        Errno::ACCESS | Errno::PERM => PingError::NotPermitted,
        errno => PingError::Socket(errno.into()),
    })
}

/// The same as [`ping`] on a socket of [`ping_socket`].
pub async fn ping_on(
    socket: OwnedFd,
    destination: IpAddr,
    sequence: u16,
    payload: &[u8],
    limit: Duration,
) -> Result<PingReply, PingError> {
    if payload.len() > MAX_PING_PAYLOAD {
        return Err(PingError::PayloadTooLong);
    }
    // The standard library's datagram socket fits ICMP's too.
    let socket = UdpSocket::from(socket);
    // A connected socket reports ICMP errors, and sends to one destination only.
    socket.connect((destination, 0))?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    match tokio::time::timeout(limit, exchange(&socket, destination, sequence, payload)).await {
        Ok(result) => result,
        Err(_) => Err(PingError::TimedOut),
    }
}

async fn exchange(
    socket: &tokio::net::UdpSocket,
    destination: IpAddr,
    sequence: u16,
    payload: &[u8],
) -> Result<PingReply, PingError> {
    let (request_kind, reply_kind) = match destination {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    };
    // The kernel fills in the checksum and the identifier.
    let mut message = vec![request_kind, 0, 0, 0, 0, 0];
    message.extend(sequence.to_be_bytes());
    message.extend_from_slice(payload);
    socket.send(&message).await?;
    let mut buffer = vec![0; message.len()];
    loop {
        let (received, from) = socket.recv_from(&mut buffer).await?;
        let message = buffer.get(..received).unwrap_or_default();
        if let [kind, 0, _, _, _, _, high, low, payload @ ..] = message
            && *kind == reply_kind
            && u16::from_be_bytes([*high, *low]) == sequence
            && from.ip() == destination
        {
            return Ok(PingReply {
                payload: payload.to_vec(),
            });
        }
    }
}

impl From<io::Error> for PingError {
    fn from(error: io::Error) -> Self {
        match DialError::from(error) {
            DialError::Unreachable(part) => Self::Unreachable(part),
            // A port cannot refuse an echo request: some host answered with that ICMP error.
            DialError::Refused => Self::Unreachable(UnreachablePart::Host),
            DialError::TimedOut => Self::TimedOut,
            DialError::Local(error) => Self::Socket(error),
            DialError::TooManyOpenFiles => Self::Socket(Errno::MFILE.into()),
            DialError::NotPermitted => Self::Socket(Errno::ACCESS.into()),
            DialError::NoCandidates => Self::Socket(Errno::INVAL.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Returns `true` if `net.ipv4.ping_group_range` holds a group of this process.
    fn is_permitted() -> bool {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
        let bounds: Vec<u32> = range
            .split_whitespace()
            .map(|bound| bound.parse().unwrap())
            .collect();
        let mut groups: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .iter()
            .map(|group| group.as_raw())
            .collect();
        groups.push(rustix::process::getegid().as_raw());
        groups
            .iter()
            .any(|group| (bounds[0]..=bounds[1]).contains(group))
    }

    #[tokio::test]
    async fn loopback_replies_where_permitted() {
        for address in ["127.0.0.1", "::1"] {
            let destination: IpAddr = address.parse().unwrap();
            for payload in [&b""[..], b"payload", &vec![7; 20_000]] {
                let result = ping(destination, 0xabcd, payload, LIMIT).await;
                if is_permitted() {
                    assert_eq!(result.unwrap().payload, payload, "{address}");
                } else {
                    let error = result.unwrap_err();
                    assert!(matches!(error, PingError::NotPermitted), "{error:?}");
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn missing_and_foreign_replies_are_waited_for_until_the_limit() {
        // A datagram socket that is connected to a peer stands in for an ICMP socket: the peer's
        // messages have another sequence, type or length.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        for message in [
            &[0, 0, 0, 0, 0, 0, 0, 8, 1][..],
            &[8, 0, 0, 0, 0, 0, 0, 7, 2],
            &[0, 1, 0, 0, 0, 0, 0, 7, 3],
            &[0, 0, 0, 0],
            b"",
        ] {
            peer.send(message).unwrap();
        }
        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
        let localhost = "127.0.0.1".parse().unwrap();
        let exchange = exchange(&socket, localhost, 7, b"x");
        assert!(tokio::time::timeout(LIMIT, exchange).await.is_err());
        peer.send(&[0, 0, 9, 9, 9, 9, 0, 7, b'x', b'y']).unwrap();
        let reply = super::exchange(&socket, localhost, 7, b"x").await.unwrap();
        assert_eq!(reply.payload, b"x", "cut to the length of the request");
    }

    #[tokio::test]
    async fn long_payload_is_refused() {
        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let payload = vec![0; MAX_PING_PAYLOAD + 1];
        let error = ping_on(socket, "127.0.0.1".parse().unwrap(), 1, &payload, LIMIT).await;
        assert!(matches!(error, Err(PingError::PayloadTooLong)));
    }

    #[test]
    fn errors_of_the_network_are_told() {
        for (errno, expected) in [
            (Errno::NETUNREACH, "Unreachable(Network)"),
            (Errno::HOSTUNREACH, "Unreachable(Host)"),
            (Errno::CONNREFUSED, "Unreachable(Host)"),
            (Errno::TIMEDOUT, "TimedOut"),
        ] {
            assert_eq!(
                format!("{:?}", PingError::from(io::Error::from(errno))),
                expected
            );
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Queries the kernel's sockets of one network namespace (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use netns::netlink::{
    AttributeBuilder, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    append_message, parse_messages,
};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags};
use terok_clearance::Protocol;

/// A `NETLINK_SOCK_DIAG` socket. It sees the sockets of its own network namespace.
#[derive(Debug)]
pub struct SocketDiag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A socket of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketEntry {
    /// The inode, as in the link `socket:[INODE]` of a descriptor.
    pub inode: u64,
    /// The user id of the owner, in the user namespace in which the netlink socket was opened.
    pub uid: u32,
    /// The state.
    pub state: SocketState,
}

/// The state of a socket by its number in the kernel (`net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketState(pub u8);

impl SocketState {
    /// A connection, or a UDP socket with a remote address.
    pub const ESTABLISHED: Self = Self(1);
    /// A connection whose program still waits for the answer.
    pub const SYN_SENT: Self = Self(2);
    /// A UDP socket without a remote address.
    pub const CLOSE: Self = Self(7);
    /// A socket that accepts connections.
    pub const LISTEN: Self = Self(10);

    /// Returns the bit of the state in the mask of a request.
    fn mask(self) -> u32 {
        1_u32.wrapping_shl(self.0.into())
    }
}

/// The mask of every state.
const ANY_STATE: u32 = u32::MAX;

/// `SOCK_DIAG_BY_FAMILY`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The kernel's datagrams of a dump have at most 32 KiB, if the reader has room for them.
const BUFFER_BYTES: usize = 32 * 1024;
/// Maximum datagrams of one dump: about 64,000 sockets of one port.
const MAX_DUMP_DATAGRAMS: usize = 256;

impl SocketDiag {
    /// Takes a `NETLINK_SOCK_DIAG` socket over, possibly one of another namespace.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        // Root over the namespace can send to any netlink socket of it. A connected socket takes
        // messages of the kernel only.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Returns the socket of a TCP connection or a UDP datagram; `None` if there is none, or for
    /// another protocol.
    ///
    /// For UDP the socket is a guess if several share the local port. Does not block.
    pub fn find_socket(
        &mut self,
        protocol: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<SocketEntry>> {
        let query = SocketQuery {
            protocol,
            local: canonical(local),
            remote: canonical(remote),
        };
        if !matches!(protocol, Protocol::TCP | Protocol::UDP)
            || query.local.is_ipv4() != query.remote.is_ipv4()
        {
            return Ok(None);
        }
        let exact = self.find_exact(&query)?;
        match exact.filter(|found| query.score(found).is_some()) {
            Some(found) => Ok(Some(found.entry)),
            // The exact query does not find a socket that is bound to an interface.
            None => self.find_in_dump(&query),
        }
    }

    /// Returns the remote addresses of all TCP connections whose programs still wait for the answer
    /// to their first packet, one entry for each connection. Does not block.
    pub fn list_connecting(&mut self) -> io::Result<Vec<SocketAddr>> {
        let mut remotes = Vec::new();
        for any in [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        ] {
            let query = SocketQuery {
                protocol: Protocol::TCP,
                local: any,
                remote: any,
            };
            let states = SocketState::SYN_SENT.mask();
            let id = query.dump_socket_id();
            self.request(&query, NLM_F_DUMP, states, &id, |socket| {
                remotes.push(socket.remote);
            })?;
        }
        Ok(remotes)
    }

    /// Ends the socket of a TCP connection, or of a UDP flow with a remote address: its program
    /// gets an error (`ECONNABORTED`), the other end of TCP a reset. Returns `false` if there is
    /// none. Requires `CAP_NET_ADMIN` over the namespace, which the owner of its user namespace
    /// has. Does not block.
    pub fn destroy_socket(
        &mut self,
        protocol: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<bool> {
        let query = SocketQuery {
            protocol,
            local: canonical(local),
            remote: canonical(remote),
        };
        if !matches!(protocol, Protocol::TCP | Protocol::UDP)
            || query.local.is_ipv4() != query.remote.is_ipv4()
        {
            return Ok(false);
        }
        if protocol == Protocol::UDP {
            // The kernel would also take one that has no remote address, and other flows.
            let found = self.find_socket(protocol, local, remote)?;
            if found.is_none_or(|found| found.state != SocketState::ESTABLISHED) {
                return Ok(false);
            }
        }
        self.drain()?;
        // The kernel looks for the socket from "source" to "destination", of both protocols.
        let id = encode_socket_id(query.local, query.remote);
        self.send(&query, SOCK_DESTROY, NLM_F_ACK, ANY_STATE, &id)?;
        let length = receive(&self.socket, &mut self.buffer)?;
        let datagram = self.buffer.get(..length).unwrap_or_default();
        let reply = parse_messages(datagram).next();
        let reply = reply
            .ok_or(Errno::BADMSG)?
            .map_err(|_incomplete| Errno::BADMSG)?;
        match reply.error_code().ok_or(Errno::BADMSG)? {
            0 => Ok(true),
            code if code == Errno::NOENT.raw_os_error() => Ok(false),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn find_exact(&mut self, query: &SocketQuery) -> io::Result<Option<DiagSocket>> {
        let mut found = None;
        let socket_id = query.exact_socket_id();
        match self.request(query, 0, ANY_STATE, &socket_id, |socket| {
            found = Some(socket);
        }) {
            Ok(()) => Ok(found),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the sockets with the ports of the query, and returns the one that fits best.
    fn find_in_dump(&mut self, query: &SocketQuery) -> io::Result<Option<SocketEntry>> {
        let mut best: Option<(u8, SocketEntry)> = None;
        let socket_id = query.dump_socket_id();
        self.request(query, NLM_F_DUMP, ANY_STATE, &socket_id, |socket| {
            if let Some(score) = query.score(&socket)
                && best.is_none_or(|(other, _)| score > other)
            {
                best = Some((score, socket.entry));
            }
        })?;
        Ok(best.map(|(_, entry)| entry))
    }

    /// Sends a request for sockets in some states, and passes on those of the reply.
    fn request(
        &mut self,
        query: &SocketQuery,
        flags: u16,
        states: u32,
        socket_id: &[u8; SOCKET_ID_BYTES],
        mut on_socket: impl FnMut(DiagSocket),
    ) -> Result<(), Errno> {
        self.drain()?;
        self.send(query, SOCK_DIAG_BY_FAMILY, flags, states, socket_id)?;
        for _ in 0..MAX_DUMP_DATAGRAMS {
            let length = receive(&self.socket, &mut self.buffer)?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            for message in parse_messages(datagram) {
                let Ok(message) = message else {
                    return Err(Errno::BADMSG);
                };
                if message.header.sequence != self.sequence {
                    continue;
                }
                match message.header.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = message.error_code().ok_or(Errno::BADMSG)?;
                        return Err(Errno::from_raw_os_error(code));
                    }
                    _ => {
                        on_socket(DiagSocket::parse(message.payload).ok_or(Errno::BADMSG)?);
                        if flags == 0 {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Err(Errno::TOOBIG)
    }

    fn send(
        &mut self,
        query: &SocketQuery,
        kind: u16,
        flags: u16,
        states: u32,
        socket_id: &[u8; SOCKET_ID_BYTES],
    ) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let header = NetlinkHeader {
            kind,
            flags: NLM_F_REQUEST | flags,
            sequence: self.sequence,
        };
        let family = if query.local.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let mut request = vec![family, query.protocol.0, 0, 0];
        request.extend(states.to_ne_bytes());
        request.extend(socket_id);
        let mut message = Vec::new();
        append_message(&mut message, header, &request, &AttributeBuilder::default());
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Discards what an earlier request left, so that the kernel ends its dump.
    fn drain(&mut self) -> Result<(), Errno> {
        for _ in 0..MAX_DUMP_DATAGRAMS {
            match receive(&self.socket, &mut self.buffer) {
                Ok(_) | Err(Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::TOOBIG)
    }
}

/// Receives a datagram. The kernel answers before the request returns.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Size of `struct inet_diag_sockid`.
const SOCKET_ID_BYTES: usize = 48;

struct SocketQuery {
    protocol: Protocol,
    local: SocketAddr,
    remote: SocketAddr,
}

impl SocketQuery {
    fn exact_socket_id(&self) -> [u8; SOCKET_ID_BYTES] {
        if self.protocol == Protocol::UDP {
            // The kernel looks for the receiver of a datagram from "source" to "destination".
            encode_socket_id(self.remote, self.local)
        } else {
            encode_socket_id(self.local, self.remote)
        }
    }

    /// Returns the id of a dump: only ports count.
    fn dump_socket_id(&self) -> [u8; SOCKET_ID_BYTES] {
        let any = |port| match self.local.ip() {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        let remote_port = if self.protocol == Protocol::UDP {
            0 // a UDP socket may have no remote address
        } else {
            self.remote.port()
        };
        encode_socket_id(any(self.local.port()), any(remote_port))
    }

    /// Returns how well a socket fits, `None` if it cannot be the one.
    fn score(&self, socket: &DiagSocket) -> Option<u8> {
        let local = socket.local == self.local;
        let remote = socket.remote == self.remote;
        if socket.entry.inode == 0 || socket.entry.state == SocketState::LISTEN {
            return None; // no process holds the former
        }
        if self.protocol == Protocol::TCP {
            return (local && remote).then_some(0);
        }
        let unbound = socket.local.ip().is_unspecified();
        let unconnected = socket.remote.port() == 0;
        if socket.local.port() != self.local.port() || !(local || unbound) {
            return None;
        }
        if !(remote || unconnected) {
            return None;
        }
        Some(u8::from(local).saturating_add(u8::from(remote).saturating_mul(2)))
    }
}

/// Encodes `struct inet_diag_sockid` without interface and cookie.
fn encode_socket_id(source: SocketAddr, destination: SocketAddr) -> [u8; SOCKET_ID_BYTES] {
    let mut id = Vec::with_capacity(SOCKET_ID_BYTES);
    id.extend(source.port().to_be_bytes());
    id.extend(destination.port().to_be_bytes());
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(v4) => {
                id.extend(v4.octets());
                id.extend([0; 12]);
            }
            IpAddr::V6(v6) => id.extend(v6.octets()),
        }
    }
    id.extend(0_u32.to_ne_bytes());
    id.extend([0xff; 8]); // INET_DIAG_NOCOOKIE
    id.try_into().unwrap_or([0; SOCKET_ID_BYTES])
}

/// The parts of `struct inet_diag_msg` that count here.
struct DiagSocket {
    local: SocketAddr,
    remote: SocketAddr,
    entry: SocketEntry,
}

impl DiagSocket {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let ([family, state, _timer, _retransmits], rest) = bytes.split_first_chunk()?;
        let (local_port, rest) = rest.split_first_chunk()?;
        let (remote_port, rest) = rest.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (destination, rest) = rest.split_first_chunk::<16>()?;
        // Interface, cookie, expiry and two queues: 24 bytes.
        let (_, rest) = rest.split_first_chunk::<24>()?;
        let (uid, rest) = rest.split_first_chunk()?;
        let (inode, _) = rest.split_first_chunk()?;
        let address = |bytes: &[u8; 16]| match (*family, bytes) {
            (AF_INET, [a, b, c, d, ..]) => Some(IpAddr::from([*a, *b, *c, *d])),
            (AF_INET6, bytes) => Some(IpAddr::from(*bytes).to_canonical()),
            _ => None,
        };
        Some(Self {
            local: SocketAddr::new(address(source)?, u16::from_be_bytes(*local_port)),
            remote: SocketAddr::new(address(destination)?, u16::from_be_bytes(*remote_port)),
            entry: SocketEntry {
                inode: u32::from_ne_bytes(*inode).into(),
                uid: u32::from_ne_bytes(*uid),
                state: SocketState(*state),
            },
        })
    }
}

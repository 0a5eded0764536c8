// SPDX-License-Identifier: Apache-2.0
//! The supervisor's sockets and lookups outside the sandbox, which lead to the simulated internet
//! instead of the real one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress::dial::DialSockets;
use hickory_proto::op::ResponseCode;
use names::{LookupFailure, NameLookup, Record, RecordType};
use netns::{EnterError, NetnsRef, SocketSpec};
use terok_clearance::DomainName;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use crate::dns_message::{AddressQuery, MAX_ANSWER_BYTES};
use crate::topology;

/// Sockets opened at once when none is left. Entering a namespace takes longer than opening many
/// sockets there.
const SPARE_SOCKETS: usize = 4;
/// Maximum time for an answer of the simulated name server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens sockets in the network namespace of the simulated internet. Clones share spare sockets.
#[derive(Clone)]
pub(crate) struct InternetSockets {
    netns: Arc<NetnsRef>,
    spares: Arc<Mutex<Vec<(SocketSpec, OwnedFd)>>>,
}

impl InternetSockets {
    /// Opens spare sockets in a network namespace, enough for most demos.
    pub(crate) fn open(netns: NetnsRef, has_ipv6: bool) -> Result<Self, EnterError> {
        let mut specs = [
            [SocketSpec::Udp4; SPARE_SOCKETS],
            [SocketSpec::Tcp4; SPARE_SOCKETS],
        ]
        .concat();
        if has_ipv6 {
            specs.extend([SocketSpec::Tcp6; SPARE_SOCKETS]);
        }
        let opened = netns.open_sockets(&specs)?;
        Ok(Self {
            netns: Arc::new(netns),
            spares: Arc::new(Mutex::new(specs.into_iter().zip(opened).collect())),
        })
    }

    fn take(&self, wanted: SocketSpec) -> io::Result<OwnedFd> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |(spec, _): &(SocketSpec, OwnedFd)| *spec == wanted;
        if !spares.iter().any(is_wanted) {
            let opened = self.netns.open_sockets(&[wanted; SPARE_SOCKETS]);
            let opened = opened.map_err(io::Error::other)?;
            spares.extend(opened.into_iter().map(|socket| (wanted, socket)));
        }
        let found = spares.iter().position(is_wanted);
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(spares.swap_remove(found).1)
    }
}

impl fmt::Debug for InternetSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternetSockets")
            .field("netns", &self.netns)
            .finish_non_exhaustive()
    }
}

impl DialSockets for InternetSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        let socket = self.take(match remote {
            SocketAddr::V4(_) => SocketSpec::Tcp4,
            SocketAddr::V6(_) => SocketSpec::Tcp6,
        })?;
        // The type of a connected socket, which only carries the descriptor here.
        let socket = std::net::TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket))
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let socket = self.take(match remote {
            SocketAddr::V4(_) => SocketSpec::Udp4,
            SocketAddr::V6(_) => SocketSpec::Udp6,
        })?;
        Ok(std::net::UdpSocket::from(socket))
    }

    /// The addresses in the namespace are those of the simulated hosts; the machine that dials has
    /// none there.
    fn is_host_address(&self, _ip: IpAddr) -> bool {
        false
    }
}

/// Asks the name server of the simulated internet.
#[derive(Debug, Clone)]
pub(crate) struct InternetLookup(pub(crate) InternetSockets);

impl InternetLookup {
    fn connect(&self) -> io::Result<UdpSocket> {
        let server = SocketAddr::new(topology::RESOLVER_ADDRESS, topology::DNS_PORT);
        let socket = self.0.udp_socket(server)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

/// Returns the addresses of one IP version.
async fn query(
    socket: &UdpSocket,
    name: &DomainName,
    kind: RecordType,
) -> Result<Vec<IpAddr>, LookupFailure> {
    let exchange = async {
        let query = AddressQuery::new(name.as_str(), kind).map_err(io::Error::other)?;
        let datagram = query.encode().map_err(io::Error::other)?;
        socket.send(&datagram).await?;
        let mut datagram = [0; MAX_ANSWER_BYTES];
        loop {
            let length = socket.recv(&mut datagram).await?;
            let datagram = datagram.get(..length).unwrap_or_default();
            if let Some(answer) = query.parse_answer(datagram) {
                return Ok(answer);
            }
        }
    };
    let answered = timeout(ANSWER_TIMEOUT, exchange).await;
    let answered = answered.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    answered
        .map_err(|error| lookup_failed(&error))?
        .map_err(|code| match code {
            ResponseCode::NXDomain => LookupFailure::NotFound,
            code => LookupFailure::failed(&code.to_string()),
        })
}

fn lookup_failed(error: &io::Error) -> LookupFailure {
    LookupFailure::failed(&error.to_string())
}

impl NameLookup for InternetLookup {
    async fn lookup_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        let socket = self.connect().map_err(|error| lookup_failed(&error))?;
        let mut addresses = query(&socket, name, RecordType::A).await?;
        addresses.extend(query(&socket, name, RecordType::AAAA).await?);
        if addresses.is_empty() {
            return Err(LookupFailure::NoData);
        }
        Ok(addresses)
    }

    async fn lookup_records(
        &self,
        _name: &DomainName,
        _record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        // The simulated name server knows addresses only.
        Err(LookupFailure::NoData)
    }
}

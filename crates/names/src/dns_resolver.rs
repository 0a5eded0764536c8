// SPDX-License-Identifier: Apache-2.0
//! Lookups at given name servers, with sockets of the caller's choice.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hickory_proto::rr::{RData, Record, RecordType};
use terok_clearance::DomainName;
use tokio::net::TcpSocket;

use crate::DNS_PORT;
use crate::dns_client::query_records;
use crate::lookup::{LookupFailure, NameLookup};

/// Opens the sockets of lookups.
pub trait LookupSockets: Send + Sync + 'static {
    /// Opens a UDP socket, bound or not, for queries to `server`.
    fn udp_socket(&self, server: SocketAddr) -> io::Result<UdpSocket>;

    /// Opens an unbound TCP socket for queries to `server`.
    fn tcp_socket(&self, server: SocketAddr) -> io::Result<TcpSocket>;
}

/// Ordinary sockets of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLookupSockets;

impl LookupSockets for HostLookupSockets {
    fn udp_socket(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        })
    }

    fn tcp_socket(&self, server: SocketAddr) -> io::Result<TcpSocket> {
        match server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
    }
}

/// Looks names up at given name servers, which resolve recursively.
pub struct DnsResolver<S> {
    name_servers: Vec<SocketAddr>,
    sockets: S,
}

impl<S: LookupSockets> DnsResolver<S> {
    /// Creates a resolver that asks port 53 of these addresses, in this order.
    pub fn new(name_servers: impl IntoIterator<Item = IpAddr>, sockets: S) -> Self {
        let at_port = |address| SocketAddr::new(address, DNS_PORT);
        Self {
            name_servers: name_servers.into_iter().map(at_port).collect(),
            sockets,
        }
    }

    async fn query(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        query_records(&self.sockets, &self.name_servers, name, record_type).await
    }
}

impl<S: LookupSockets> NameLookup for DnsResolver<S> {
    async fn lookup_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        let (v4, v6) = tokio::join!(
            self.query(name, RecordType::A),
            self.query(name, RecordType::AAAA)
        );
        match (v4, v6) {
            (Err(failure), Err(_)) => Err(failure),
            (v4, v6) => {
                let records = [v4, v6].into_iter().flatten().flatten();
                Ok(records.filter_map(|record| address_of(&record)).collect())
            }
        }
    }

    async fn lookup_records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        self.query(name, record_type).await
    }
}

impl<S> fmt::Debug for DnsResolver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsResolver")
            .field("name_servers", &self.name_servers)
            .finish_non_exhaustive()
    }
}

fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

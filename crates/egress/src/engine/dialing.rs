// SPDX-License-Identifier: Apache-2.0
//! From an allowed destination to a connection outside: resolve, judge, dial.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use names::{LookupFailure, NameLookup};
use terok_clearance::{
    DestZone, DomainName, PacketDest, PacketHost, Protocol, classify_destination,
};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::ZonedDest;
use crate::dial::{DialError, DialSockets, UnreachablePart, connect_udp, dial_tcp};
use crate::packet_build::IcmpErrorKind;
use crate::proxy::{ProxyServer, connect_through};
use crate::{AddressVerdict, EgressNotice, EgressPolicy, ProxySettings};

/// Maximum time of a lookup and a dial together; a program waits no longer with its own.
const DIAL_TIMEOUT: Duration = Duration::from_secs(130);

const HTTPS_PORT: u16 = 443;
/// A port for a socket that sends nothing (`discard`).
const UNUSED_PORT: u16 = 9;

/// Makes the connections outside.
#[derive(Debug)]
pub(crate) struct Dialer<P, N, D> {
    pub(crate) policy: Arc<P>,
    pub(crate) lookup: Arc<N>,
    pub(crate) sockets: Arc<D>,
    pub(crate) proxy: Option<ProxySettings>,
    /// Names of this host.
    pub(crate) own_names: Vec<DomainName>,
}

/// The reason why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialRefusal {
    /// The name leads to this address with a question of its own: a private one, or one of this
    /// host.
    #[error("the name leads to {}, which needs an answer of its own", .0.dest)]
    AskAddress(ZonedDest),
    /// A rule denies every address of the name.
    #[error("a rule denies the addresses of the name")]
    Denied,
    /// Nothing opens the addresses of the name.
    #[error("the name leads to addresses that are never opened")]
    Floor,
    /// The destination is a proxy of the operator's.
    #[error("the destination is the operator's proxy")]
    OperatorProxy,
    /// The name has no address.
    #[error("the name could not be resolved")]
    NotFound(#[source] LookupFailure),
    /// The connection failed.
    #[error("the connection failed")]
    Failed(#[from] DialError),
}

impl DialRefusal {
    /// Returns the notice for the operator about a connection to `dest`.
    pub(crate) fn notice(&self, dest: &PacketDest) -> Option<EgressNotice> {
        match self {
            Self::Floor => Some(EgressNotice::Floor(dest.clone())),
            Self::OperatorProxy => Some(EgressNotice::OperatorProxy(dest.clone())),
            Self::Failed(DialError::TooManyOpenFiles) => {
                Some(EgressNotice::OutOfSockets(dest.clone()))
            }
            Self::Failed(_) | Self::NotFound(_) | Self::Denied | Self::AskAddress(_) => None,
        }
    }

    /// Returns the ICMP error with which a program gets the errno; `None`: it is refused.
    pub(super) const fn icmp_kind(&self) -> Option<IcmpErrorKind> {
        match self {
            Self::Floor | Self::OperatorProxy | Self::Denied | Self::AskAddress(_) => None,
            Self::NotFound(_) => Some(IcmpErrorKind::HostUnreachable),
            Self::Failed(error) => match error {
                DialError::Refused | DialError::TooManyOpenFiles | DialError::Local(_) => None,
                DialError::NotPermitted => Some(IcmpErrorKind::AdministrativelyProhibited),
                DialError::Unreachable(UnreachablePart::Network) => {
                    Some(IcmpErrorKind::NetworkUnreachable)
                }
                DialError::Unreachable(UnreachablePart::Host)
                | DialError::TimedOut
                | DialError::NoCandidates => Some(IcmpErrorKind::HostUnreachable),
            },
        }
    }
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets> Dialer<P, N, D> {
    /// Connects to an allowed destination, and returns the address of the connection.
    pub(crate) async fn dial_tcp(
        &self,
        dest: &PacketDest,
    ) -> Result<(TcpStream, SocketAddr), DialRefusal> {
        let dialed = async {
            if let Some((proxy, host)) = self.proxy_for(dest) {
                return self.dial_proxy(proxy, &host, dest.port).await;
            }
            let candidates = self.candidates(dest).await?;
            let stream = dial_tcp(&*self.sockets, candidates).await?;
            let address = stream.peer_addr().map_err(DialError::Local)?;
            Ok((stream, address))
        };
        timeout(DIAL_TIMEOUT, dialed)
            .await
            .unwrap_or(Err(DialRefusal::Failed(DialError::TimedOut)))
    }

    /// Returns a UDP socket connected to an allowed destination, and the address.
    pub(crate) async fn connect_udp(
        &self,
        dest: &PacketDest,
    ) -> Result<(UdpSocket, SocketAddr), DialRefusal> {
        let candidates = self.candidates(dest).await?;
        let socket = connect_udp(&*self.sockets, candidates)?;
        let address = socket.peer_addr().map_err(DialError::Local)?;
        Ok((socket, address))
    }

    /// Returns the address to ping for an allowed destination.
    pub(crate) async fn ping_address(&self, dest: &PacketDest) -> Result<IpAddr, DialRefusal> {
        let candidates = self.candidates(dest).await?;
        let first = candidates.first().map(SocketAddr::ip);
        first.ok_or(DialRefusal::Failed(DialError::NoCandidates))
    }

    /// Returns `true` if `ip` is an address of the host.
    pub(crate) fn is_host_address(&self, ip: IpAddr) -> bool {
        self.sockets.is_host_address(ip)
    }

    /// Returns the addresses of a destination that may be dialed, as resolved: each was judged, and
    /// no other is dialed.
    async fn candidates(&self, dest: &PacketDest) -> Result<Vec<SocketAddr>, DialRefusal> {
        let mut candidates = self.allowed_addresses(dest).await?;
        let servers = self.proxy.iter().flat_map(ProxySettings::servers);
        for proxy in servers.filter(|server| server.port() == dest.port) {
            let addresses = self.proxy_addresses(proxy).await?;
            let is_proxy = |ip| {
                let mut addresses = addresses.iter();
                addresses.any(|address| self.is_same_host(*address, ip))
            };
            candidates.retain(|candidate| !is_proxy(candidate.ip()));
            if candidates.is_empty() {
                return Err(DialRefusal::OperatorProxy);
            }
        }
        Ok(candidates)
    }

    /// Returns the addresses of a destination that the rules allow.
    async fn allowed_addresses(&self, dest: &PacketDest) -> Result<Vec<SocketAddr>, DialRefusal> {
        let at = |address| SocketAddr::new(address, dest.port);
        let name = match &dest.host {
            PacketHost::Address(address) => return Ok(vec![at(*address)]),
            PacketHost::Name(name) if self.own_names.contains(name) => {
                return Ok(vec![
                    at(Ipv4Addr::LOCALHOST.into()),
                    at(Ipv6Addr::LOCALHOST.into()),
                ]);
            }
            PacketHost::Name(name) => name,
        };
        let resolved = self.resolve(name).await?;
        let mut allowed = Vec::new();
        let mut asked = None;
        let mut denied = false;
        for address in resolved {
            let zone = classify_destination(address, |ip| self.is_host_address(ip));
            let judged = self
                .policy
                .decide_address(name, address, dest.port, dest.protocol, zone);
            match judged {
                AddressVerdict::Allow => allowed.push(at(address)),
                AddressVerdict::Ask => {
                    asked.get_or_insert((address, zone));
                }
                AddressVerdict::Deny => denied = true,
                AddressVerdict::Floor => {}
            }
        }
        match asked {
            _ if !allowed.is_empty() => Ok(allowed),
            Some((address, zone)) => Err(DialRefusal::AskAddress(ZonedDest {
                dest: PacketDest {
                    host: PacketHost::Address(address.to_canonical()),
                    ..dest.clone()
                },
                zone,
                looked_up_as: Some(name.clone()),
            })),
            None if denied => Err(DialRefusal::Denied),
            None => Err(DialRefusal::Floor),
        }
    }

    async fn resolve(&self, name: &DomainName) -> Result<Vec<IpAddr>, DialRefusal> {
        let resolved = self.lookup.lookup_addresses(name).await;
        resolved.map_err(|failure| match failure {
            _ if self.is_out_of_sockets() => DialError::TooManyOpenFiles.into(),
            failure => DialRefusal::NotFound(failure),
        })
    }

    /// Returns `true` if no socket can be created at the moment. The C library tells a lookup that
    /// failed for this reason from no other failure.
    pub(crate) fn is_out_of_sockets(&self) -> bool {
        let unused = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), UNUSED_PORT);
        let socket = self.sockets.udp_socket(unused);
        socket.is_err_and(|error| matches!(DialError::from(error), DialError::TooManyOpenFiles))
    }

    /// Returns `true` for a name whose HTTPS connections go through a proxy, which resolves it.
    pub(crate) fn is_proxied(&self, name: &DomainName) -> bool {
        let dest = PacketDest {
            host: PacketHost::Name(name.clone()),
            port: HTTPS_PORT,
            protocol: Protocol::TCP,
        };
        self.proxy_for(&dest).is_some()
    }

    /// Returns `true` for a destination whose connections go through a proxy.
    pub(crate) fn is_proxied_dest(&self, dest: &PacketDest) -> bool {
        self.proxy_for(dest).is_some()
    }

    /// Returns `true` if both are one address, or addresses of this host.
    fn is_same_host(&self, one: IpAddr, other: IpAddr) -> bool {
        let zone = |ip| classify_destination(ip, |ip| self.is_host_address(ip));
        one.to_canonical() == other.to_canonical()
            || [zone(one), zone(other)] == [DestZone::ThisHost; 2]
    }

    /// Returns `true` for a proxy of the operator's: a program that reaches it reaches everything.
    /// A destination with another name or address of a proxy is found out when it is dialed.
    pub(crate) fn is_proxy(&self, dest: &PacketDest) -> bool {
        let host = match &dest.host {
            PacketHost::Name(name) => name.to_string(),
            PacketHost::Address(address) => address.to_string(),
        };
        let mut servers = self.proxy.iter().flat_map(ProxySettings::servers);
        servers
            .any(|server| server.port() == dest.port && server.host().eq_ignore_ascii_case(&host))
    }

    /// Returns the proxy for a destination and the host to name to it. Private destinations, and
    /// names that only this host can resolve, are never given to a proxy.
    fn proxy_for(&self, dest: &PacketDest) -> Option<(&ProxyServer, String)> {
        let proxy = self.proxy.as_ref()?;
        let host = match &dest.host {
            PacketHost::Name(name) => {
                let text = name.as_str();
                let last = text.rsplit('.').next();
                let is_local = !text.contains('.')
                    || matches!(last, Some("local" | "internal"))
                    || self.own_names.contains(name);
                if is_local {
                    return None;
                }
                text.to_owned()
            }
            PacketHost::Address(address) => {
                let zone = classify_destination(*address, |ip| self.is_host_address(ip));
                if zone != DestZone::Public {
                    return None;
                }
                address.to_string()
            }
        };
        Some((proxy.proxy_for(&host, dest.port)?, host))
    }

    async fn proxy_addresses(&self, proxy: &ProxyServer) -> Result<Vec<IpAddr>, DialRefusal> {
        if let Ok(address) = proxy.host().parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let name = proxy.host().parse::<DomainName>();
        let name = name.map_err(|_not_a_name| DialError::NoCandidates)?;
        self.resolve(&name).await
    }

    async fn dial_proxy(
        &self,
        proxy: &ProxyServer,
        host: &str,
        port: u16,
    ) -> Result<(TcpStream, SocketAddr), DialRefusal> {
        // The operator chose the proxy, so that its addresses need no rule.
        let addresses = self.proxy_addresses(proxy).await?;
        let at = |address| SocketAddr::new(address, proxy.port());
        let candidates = addresses.into_iter().map(at).collect();
        let stream = dial_tcp(&*self.sockets, candidates).await?;
        let address = stream.peer_addr().map_err(DialError::Local)?;
        let stream = connect_through(stream, proxy, host, port)
            .await
            .map_err(DialError::from)?;
        Ok((stream, address))
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! Rules and sockets for the tests of the engine's parts.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use names::StaticHosts;
use rustix::io::Errno;
use terok_clearance::{DestZone, DomainName, PacketDest, Protocol};
use tokio::net::TcpSocket;

use crate::dial::{DialSockets, HostSockets};
use crate::engine::dialing::Dialer;
use crate::{
    AddressVerdict, DialedConnection, EgressPolicy, EgressVerdict, ProxySettings, RuleTag,
};

/// Rules that allow everything.
pub(crate) struct OpenPolicy;

impl EgressPolicy for OpenPolicy {
    fn decide(&self, _dest: &PacketDest, _zone: DestZone) -> EgressVerdict {
        EgressVerdict::Allow(RuleTag(1))
    }

    fn decide_address(
        &self,
        _name: &DomainName,
        _address: IpAddr,
        _port: u16,
        _protocol: Protocol,
        _zone: DestZone,
    ) -> AddressVerdict {
        AddressVerdict::Allow
    }

    fn allows_name(&self, _name: &DomainName) -> bool {
        true
    }

    fn note_uses(&self, _rule: RuleTag, _count: u64) {}

    fn rule_to_go_on(&self, connection: &DialedConnection) -> Option<RuleTag> {
        Some(connection.rule)
    }

    fn note_opened(&self, _rule: RuleTag) {}

    fn note_closed(&self, _rule: RuleTag) {}
}

/// Ordinary sockets, or none because of too many open files.
#[derive(Default)]
pub(crate) struct LimitedSockets {
    pub(crate) are_used_up: AtomicBool,
}

impl DialSockets for LimitedSockets {
    fn tcp_socket(&self, remote: SocketAddr) -> io::Result<TcpSocket> {
        HostSockets.tcp_socket(remote)
    }

    fn udp_socket(&self, remote: SocketAddr) -> io::Result<UdpSocket> {
        if self.are_used_up.load(Ordering::Relaxed) {
            return Err(Errno::MFILE.into());
        }
        HostSockets.udp_socket(remote)
    }
}

/// Returns a dialer for which `host.internal` is this host, and which knows the other names by
/// `hosts`.
pub(crate) fn open_dialer(
    hosts: &[(&str, &[&str])],
    proxy: Option<ProxySettings>,
) -> Dialer<OpenPolicy, StaticHosts, LimitedSockets> {
    let hosts = hosts.iter().map(|(name, addresses)| {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        (name.parse().unwrap(), addresses.collect())
    });
    Dialer {
        policy: Arc::new(OpenPolicy),
        lookup: Arc::new(hosts.collect()),
        sockets: Arc::default(),
        proxy,
        own_names: vec!["host.internal".parse().unwrap()],
    }
}

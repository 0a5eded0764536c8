// SPDX-License-Identifier: Apache-2.0
//! The sockets of a gateway, opened and bound before its sandbox starts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use netns::gateway::{
    DNS_PORT, GATEWAY_V4, GATEWAY_V6, GatewayNetns, REPLAY_MARK, TCP_PORT, UDP_PORT,
};
use netns::transparent::{
    RawPacketSender, ReceivedDatagram, TransparentUdpSocket, listen_transparently,
};
use netns::{EnterError, SocketSpec};
use tokio::net::TcpListener;

use crate::LoopbackDns;

/// The sockets of a gateway.
#[derive(Debug)]
pub struct GatewaySockets {
    /// For the ruleset.
    pub rules: OwnedFd,
    /// For the log of held connections.
    pub held_log: OwnedFd,
    /// For the log of packets that are neither TCP nor UDP.
    pub other_log: OwnedFd,
    /// For the engine.
    pub egress: EgressSockets,
}

/// The sockets of an engine, with one of each for IPv6 where the gateway has IPv6.
#[derive(Debug)]
pub struct EgressSockets {
    pub(crate) raw: Arc<RawPacketSender>,
    pub(crate) tcp: FamilySockets<TcpListener>,
    pub(crate) dns: FamilySockets<TcpListener>,
    pub(crate) udp: FamilySockets<TransparentUdpSocket>,
    pub(crate) loopback: Option<LoopbackDns>,
}

impl EgressSockets {
    /// Adds a name server at the loopback address of the sandbox.
    #[must_use]
    pub fn with_loopback(self, loopback: Option<LoopbackDns>) -> Self {
        Self { loopback, ..self }
    }
}

/// A socket for each IP version.
#[derive(Debug)]
pub(crate) struct FamilySockets<T> {
    pub(crate) v4: T,
    pub(crate) v6: Option<T>,
}

/// The sockets of a gateway could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewaySocketsError {
    /// The gateway's namespace could not be entered.
    #[error("the gateway's network namespace could not be entered")]
    Enter(#[from] EnterError),
    /// A socket could not be set up.
    #[error("a socket of the gateway could not be set up")]
    SetUp(#[from] io::Error),
}

impl GatewaySockets {
    /// Opens and binds the sockets. Requires a tokio runtime.
    pub fn open(gateway: &GatewayNetns) -> Result<Self, GatewaySocketsError> {
        use SocketSpec::{Netfilter, RawPacket4, RawPacket6, Tcp4, Tcp6, Udp4, Udp6};
        let netns = gateway.netns_ref()?;
        let opened = netns.open_sockets(&[
            Netfilter, Netfilter, Netfilter, RawPacket4, Tcp4, Tcp4, Udp4,
        ])?;
        let Ok([rules, held_log, other_log, raw4, tcp4, dns4, udp4]) = <[_; 7]>::try_from(opened)
        else {
            return Err(EnterError::BadReply.into());
        };
        let v6 = if gateway.has_ipv6() {
            let opened = netns.open_sockets(&[RawPacket6, Tcp6, Tcp6, Udp6])?;
            Some(<[_; 4]>::try_from(opened).map_err(|_wrong| EnterError::BadReply)?)
        } else {
            None
        };
        let (raw6, [tcp6, dns6, udp6]) = match v6 {
            Some([raw, tcp, dns, udp]) => (Some(raw), [Some(tcp), Some(dns), Some(udp)]),
            None => (None, [None, None, None]),
        };
        let listen = |socket, address: IpAddr, port| {
            TcpListener::from_std(listen_transparently(
                socket,
                SocketAddr::new(address, port),
            )?)
        };
        let listeners = |v4, v6: Option<_>, port| -> io::Result<_> {
            Ok(FamilySockets {
                v4: listen(v4, GATEWAY_V4.into(), port)?,
                v6: v6
                    .map(|v6| listen(v6, GATEWAY_V6.into(), port))
                    .transpose()?,
            })
        };
        let bind = |socket, address: IpAddr| {
            TransparentUdpSocket::bind(socket, SocketAddr::new(address, UDP_PORT))
        };
        Ok(Self {
            rules,
            held_log,
            other_log,
            egress: EgressSockets {
                raw: Arc::new(RawPacketSender::new(raw4, raw6, REPLAY_MARK)?),
                tcp: listeners(tcp4, tcp6, TCP_PORT)?,
                dns: listeners(dns4, dns6, DNS_PORT)?,
                udp: FamilySockets {
                    v4: bind(udp4, GATEWAY_V4.into())?,
                    v6: udp6.map(|v6| bind(v6, GATEWAY_V6.into())).transpose()?,
                },
                loopback: None,
            },
        })
    }
}

impl FamilySockets<TransparentUdpSocket> {
    /// Waits until a datagram of either IP version may be queued. Cancel safe.
    pub(crate) async fn wait_readable(&self) -> io::Result<()> {
        match &self.v6 {
            None => self.v4.wait_readable().await,
            Some(v6) => tokio::select! {
                ready = self.v4.wait_readable() => ready,
                ready = v6.wait_readable() => ready,
            },
        }
    }

    /// Receives a queued datagram of either IP version; `WouldBlock` if there is none.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<ReceivedDatagram> {
        match (self.v4.try_receive(buffer), &self.v6) {
            (Err(error), Some(v6)) if error.kind() == io::ErrorKind::WouldBlock => {
                v6.try_receive(buffer)
            }
            (received, _) => received,
        }
    }
}

impl FamilySockets<TcpListener> {
    /// Accepts a connection of either IP version. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
        match &self.v6 {
            None => self.v4.accept().await,
            Some(v6) => tokio::select! {
                accepted = self.v4.accept() => accepted,
                accepted = v6.accept() => accepted,
            },
        }
    }
}

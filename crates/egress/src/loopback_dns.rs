// SPDX-License-Identifier: Apache-2.0
//! The name server at the loopback address of a sandbox without a configured resolver: there the C
//! library asks (`resolv.conf(5)`), and no packet to it reaches the gateway.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use names::{DNS_PORT, DnsTransport, NameLookup, QueryPlan};
use netns::{EnterError, NetnsRef, SocketSpec};
use rustix::net::sockopt::set_socket_reuseaddr;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::dial::DialSockets;
use crate::name_server::NameServer;
use crate::{EgressPolicy, GatewaySocketsError};

/// Maximum waiting connections of a listener.
const BACKLOG: i32 = 64;
/// Maximum lookups and connections at the same time.
const MAX_TASKS: usize = 256;
/// Maximum bytes of a query over UDP. A question and its OPT record take less than 600.
const MAX_QUERY_BYTES: usize = 4_096;

/// The sockets of the name server at `127.0.0.1`, port 53, inside a sandbox.
#[derive(Debug)]
pub struct LoopbackDns {
    datagrams: Arc<UdpSocket>,
    streams: TcpListener,
}

impl LoopbackDns {
    /// Binds the sockets. Fails with `AddrInUse` if a program of the sandbox is a name server
    /// itself. Requires a tokio runtime.
    pub fn bind(netns: &NetnsRef) -> Result<Self, GatewaySocketsError> {
        let opened = netns.open_sockets(&[SocketSpec::Udp4, SocketSpec::Tcp4])?;
        let Ok([datagrams, streams]) = <[OwnedFd; 2]>::try_from(opened) else {
            return Err(EnterError::BadReply.into());
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT));
        rustix::net::bind(&datagrams, &address).map_err(io::Error::from)?;
        // The connections of an earlier supervisor may still be closing.
        set_socket_reuseaddr(&streams, true).map_err(io::Error::from)?;
        rustix::net::bind(&streams, &address).map_err(io::Error::from)?;
        rustix::net::listen(&streams, BACKLOG).map_err(io::Error::from)?;
        let datagrams = std::net::UdpSocket::from(datagrams);
        datagrams.set_nonblocking(true)?;
        let streams = std::net::TcpListener::from(streams);
        streams.set_nonblocking(true)?;
        Ok(Self {
            datagrams: Arc::new(UdpSocket::from_std(datagrams)?),
            streams: TcpListener::from_std(streams)?,
        })
    }

    /// Answers queries until dropped, or until a socket fails.
    pub(crate) async fn serve<P, N, D>(self, names: Arc<NameServer<P, N, D>>)
    where
        P: EgressPolicy,
        N: NameLookup,
        D: DialSockets,
    {
        let mut buffer = vec![0; MAX_QUERY_BYTES];
        // Dropped with this task.
        let mut tasks = JoinSet::new();
        let error = loop {
            tokio::select! {
                received = self.datagrams.recv_from(&mut buffer) => match received {
                    Ok((length, client)) => {
                        let query = buffer.get(..length).unwrap_or_default();
                        let plan = names.plan(query, DnsTransport::Udp);
                        self.answer(plan, client, &names, &mut tasks);
                    }
                    // An earlier reply did not arrive: its client is gone.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => break error,
                },
                accepted = self.streams.accept(), if tasks.len() < MAX_TASKS => match accepted {
                    Ok((stream, _)) => {
                        tasks.spawn(Arc::clone(&names).serve_stream(stream));
                    }
                    Err(error) => break error,
                },
                Some(_) = tasks.join_next() => {}
            }
        };
        tracing::warn!(%error, "the name server at the loopback address of the sandbox failed");
    }

    /// Sends the reply to a query, at once or after a lookup. The client notices a lost reply and
    /// asks again.
    fn answer<P, N, D>(
        &self,
        plan: QueryPlan,
        client: SocketAddr,
        names: &Arc<NameServer<P, N, D>>,
        tasks: &mut JoinSet<()>,
    ) where
        P: EgressPolicy,
        N: NameLookup,
        D: DialSockets,
    {
        match plan {
            QueryPlan::Reply(reply) => drop(self.datagrams.try_send_to(&reply, client)),
            QueryPlan::Ignore => {}
            QueryPlan::Lookup(_) if tasks.len() >= MAX_TASKS => {}
            QueryPlan::Lookup(pending) => {
                let (socket, names) = (Arc::clone(&self.datagrams), Arc::clone(names));
                tasks.spawn(async move {
                    let reply = names.finish(pending).await;
                    drop(socket.send_to(&reply, client).await);
                });
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The name server inside a sandbox of the filtered way: its sockets, and the task that serves
//! them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use names::{DnsTransport, QueryPlan, serve_dns_stream};
use netns::{EnterError, NetnsRef, SocketSpec};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use shield::NAME_SERVER_PORT;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::served_names::WantedNames;
use crate::shield_enforcer::ShieldEnforcer;

/// Maximum TCP connections; further ones are closed at once.
const MAX_STREAMS: usize = 64;
/// Maximum bytes of a query over UDP. A question and its OPT record take less than 600.
const MAX_QUERY_BYTES: usize = 4096;

/// The bound sockets of a name server.
#[derive(Debug)]
pub(crate) struct NameServerSockets {
    datagrams: Vec<UdpSocket>,
    streams: Vec<TcpListener>,
}

/// The name server's port inside the sandbox could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameServerBindError {
    /// The network namespace could not be entered.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The address could not be bound.
    #[error("cannot listen at {0} inside the sandbox")]
    Bind(SocketAddr, #[source] io::Error),
}

impl NameServerSockets {
    /// Binds the loopback addresses of the sandbox; that of IPv6 only if the sandbox has it.
    pub(crate) fn bind(netns: &NetnsRef) -> Result<Self, NameServerBindError> {
        let mut sockets = Self {
            datagrams: Vec::new(),
            streams: Vec::new(),
        };
        sockets.add(netns, [SocketSpec::Udp4, SocketSpec::Tcp4])?;
        match sockets.add(netns, [SocketSpec::Udp6, SocketSpec::Tcp6]) {
            Ok(()) => {}
            Err(NameServerBindError::Bind(_, error))
                if error.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                tracing::debug!("the sandbox has no IPv6");
            }
            Err(NameServerBindError::Enter(error)) => {
                tracing::debug!(%error, "the sandbox has no IPv6");
            }
            Err(error) => return Err(error),
        }
        Ok(sockets)
    }

    fn add(&mut self, netns: &NetnsRef, specs: [SocketSpec; 2]) -> Result<(), NameServerBindError> {
        let opened = netns.open_sockets(&specs)?;
        let Ok([datagrams, stream]) = <[OwnedFd; 2]>::try_from(opened) else {
            return Err(EnterError::BadReply.into());
        };
        let address = match specs {
            [SocketSpec::Udp4, _] => IpAddr::from(Ipv4Addr::LOCALHOST),
            _ => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let address = SocketAddr::new(address, NAME_SERVER_PORT);
        let failed = |error| NameServerBindError::Bind(address, error);
        self.datagrams
            .push(bind_datagrams(datagrams, address).map_err(failed)?);
        self.streams
            .push(bind_streams(stream, address).map_err(failed)?);
        Ok(())
    }

    /// Answers queries and looks the `wanted` names up, until dropped or until a socket fails.
    pub(crate) async fn serve(self, firewall: ShieldEnforcer, wanted: WantedNames) -> io::Error {
        let mut tasks = JoinSet::new();
        tasks.spawn(look_up_wanted(wanted, firewall.clone()));
        for socket in self.datagrams {
            tasks.spawn(serve_datagrams(Arc::new(socket), firewall.clone()));
        }
        for listener in self.streams {
            tasks.spawn(serve_streams(listener, firewall.clone()));
        }
        match tasks.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(panic)) => io::Error::other(panic.to_string()),
            None => std::future::pending().await,
        }
    }
}

fn bind_datagrams(socket: OwnedFd, address: SocketAddr) -> io::Result<UdpSocket> {
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    let socket = std::net::UdpSocket::from(socket);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn bind_streams(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    // The connections of an earlier supervisor may still be closing.
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 64)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn look_up_wanted(mut wanted: WantedNames, firewall: ShieldEnforcer) -> io::Error {
    let mut lookups = JoinSet::new();
    loop {
        tokio::select! {
            name = wanted.recv() => match name {
                Some(name) => {
                    let firewall = firewall.clone();
                    lookups.spawn(async move { firewall.look_up(name).await });
                }
                // The sender belongs to the firewall, which this task has.
                None => std::future::pending().await,
            },
            Some(_) = lookups.join_next() => {}
        }
    }
}

async fn serve_datagrams(socket: Arc<UdpSocket>, firewall: ShieldEnforcer) -> io::Error {
    let mut buffer = vec![0; MAX_QUERY_BYTES];
    // Dropped with this task, together with the lookups that still run.
    let mut lookups = JoinSet::new();
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier reply did not arrive: its client is gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        while lookups.try_join_next().is_some() {}
        let query = buffer.get(..length).unwrap_or_default();
        match firewall.plan_query(query, DnsTransport::Udp) {
            // The client notices a lost reply and asks again.
            QueryPlan::Reply(reply) => drop(socket.send_to(&reply, client).await),
            QueryPlan::Lookup(pending) => {
                let (socket, firewall) = (Arc::clone(&socket), firewall.clone());
                lookups.spawn(async move {
                    let reply = firewall.finish_query(pending).await;
                    drop(socket.send_to(&reply, client).await);
                });
            }
            QueryPlan::Ignore => {}
        }
    }
}

async fn serve_streams(listener: TcpListener, firewall: ShieldEnforcer) -> io::Error {
    let slots = Arc::new(Semaphore::new(MAX_STREAMS));
    let mut streams = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        while streams.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let firewall = firewall.clone();
        streams.spawn(async move {
            serve_stream(stream, firewall).await;
            drop(slot);
        });
    }
}

async fn serve_stream(stream: TcpStream, firewall: ShieldEnforcer) {
    serve_dns_stream(stream, |query| {
        let firewall = firewall.clone();
        async move {
            match firewall.plan_query(&query, DnsTransport::Tcp) {
                QueryPlan::Reply(reply) => Some(reply),
                QueryPlan::Lookup(pending) => Some(firewall.finish_query(pending).await),
                QueryPlan::Ignore => None,
            }
        }
    })
    .await;
}

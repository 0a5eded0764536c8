// SPDX-License-Identifier: Apache-2.0
//! Connects clients outside with servers in a sandbox: `--publish`.
//!
//! The listeners are sockets of this process on the host. For each client a socket of the sandbox's
//! namespace connects to a server there; the sandbox receives nothing that it could reach out with.
//! Servers are looked for at the loopback addresses first, then at the addresses of `eth0`.

mod bind;
mod inside;
mod spec;
mod tcp;
mod udp;

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use netns::gateway::{SANDBOX_V4, SANDBOX_V6};
use terok_clearance::{DisplayText, Protocol};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::dial::DialSockets;

pub use bind::PublishError;
pub use inside::SandboxSockets;
pub use spec::{PublishSpec, PublishSpecError};

use bind::{PublishSocket, bind_spec};

/// Maximum connections of all published ports; further ones are reset at once.
pub const MAX_PUBLISHED_CONNECTIONS: usize = 4_096;
/// Maximum UDP flows of all published ports; a new one ends the one that was idle for the longest
/// time on its port.
pub const MAX_PUBLISHED_FLOWS: usize = 1_024;

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// The addresses outside that it listens at.
    pub addresses: Vec<SocketAddr>,
    /// The port inside.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// This program chose the port outside.
    pub is_chosen: bool,
}

/// The listeners of the published ports of one sandbox.
#[derive(Debug)]
pub struct PublishedPorts {
    ports: Vec<(PublishedPort, Vec<PublishSocket>)>,
}

/// A task of a published port panicked, which indicates a bug.
#[derive(Debug, thiserror::Error)]
#[error("a task of a published port panicked: {0}")]
pub struct PublishPanicked(DisplayText);

impl PublishedPorts {
    /// Binds the listeners. Clients wait until [`serve`](Self::serve). Requires a tokio runtime.
    pub fn bind(specs: &[PublishSpec]) -> Result<Self, PublishError> {
        let bind = |spec: &PublishSpec| {
            let sockets = bind_spec(spec)?;
            let port = PublishedPort {
                addresses: sockets.iter().map(|(address, _)| *address).collect(),
                port: spec.port(),
                protocol: spec.protocol(),
                is_chosen: spec.host_port().is_none(),
            };
            Ok((
                port,
                sockets.into_iter().map(|(_, socket)| socket).collect(),
            ))
        };
        let ports = specs.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { ports })
    }

    /// Returns the ports.
    pub fn ports(&self) -> impl Iterator<Item = &PublishedPort> {
        self.ports.iter().map(|(port, _)| port)
    }

    /// Connects clients with servers that `sockets` reach, until the future is dropped, which ends
    /// every connection.
    pub async fn serve(
        self,
        sockets: Arc<impl DialSockets>,
    ) -> Result<Infallible, PublishPanicked> {
        let connections = Arc::new(Semaphore::new(MAX_PUBLISHED_CONNECTIONS));
        let flows = Arc::new(Semaphore::new(MAX_PUBLISHED_FLOWS));
        let mut servers = JoinSet::new();
        for (PublishedPort { port, .. }, listeners) in self.ports {
            for listener in listeners {
                let sockets = Arc::clone(&sockets);
                match listener {
                    PublishSocket::Tcp(listener) => {
                        let connections = Arc::clone(&connections);
                        servers.spawn(tcp::serve_tcp(listener, port, sockets, connections));
                    }
                    PublishSocket::Udp(socket) => {
                        let server =
                            udp::UdpPublisher::new(socket, port, sockets, Arc::clone(&flows));
                        servers.spawn(server.serve());
                    }
                }
            }
        }
        match servers.join_next().await {
            Some(Ok(Err(panicked))) => Err(panicked),
            Some(Err(error)) => Err(PublishPanicked(DisplayText::new(&error.to_string()))),
            Some(Ok(Ok(never))) => match never {},
            None => std::future::pending().await,
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            if index > 0 {
                f.write_str(" and ")?;
            }
            address.fmt(f)?;
        }
        f.write_str(" to ")?;
        if self.protocol == Protocol::UDP {
            f.write_str("UDP ")?;
        }
        write!(f, "port {} of the sandbox", self.port)
    }
}

/// Returns the addresses inside at which a server of `port` may listen, in the order of attempts.
fn server_addresses(port: u16) -> [SocketAddr; 4] {
    [
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
        (SANDBOX_V4, port).into(),
        (SANDBOX_V6, port).into(),
    ]
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! TCP: accept outside, connect inside, relay.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use terok_clearance::DisplayText;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::{PublishPanicked, server_addresses};
use crate::dial::DialSockets;
use crate::relay::{RelayStats, relay_tcp};

/// Maximum time until a server accepts: only one with a full queue takes any.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, for example without free descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Connects clients of `listener` with the server of `port`.
pub(super) async fn serve_tcp(
    listener: TcpListener,
    port: u16,
    sockets: Arc<impl DialSockets>,
    connections: Arc<Semaphore>,
) -> Result<Infallible, PublishPanicked> {
    let mut relays = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = relays.join_next() => check_panic(ended)?,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                        let sockets = Arc::clone(&sockets);
                        relays.spawn(connect_and_relay(client, port, sockets, permit));
                    } else {
                        tracing::warn!(port, "a published port has too many connections");
                        reset(&client);
                    }
                }
                Err(error) => {
                    tracing::warn!(port, %error, "a published port did not accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                }
            },
        }
    }
}

async fn connect_and_relay(
    client: TcpStream,
    port: u16,
    sockets: Arc<impl DialSockets>,
    permit: OwnedSemaphorePermit,
) {
    let connected = timeout(CONNECT_TIMEOUT, connect_to_server(&*sockets, port)).await;
    match connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
        Ok(server) => {
            let ended = relay_tcp(server, client, &RelayStats::default()).await;
            tracing::debug!(port, ?ended, "a connection to a published port ended");
        }
        Err(error) => {
            tracing::debug!(port, %error, "no server in the sandbox accepts the connection");
            reset(&client);
        }
    }
    drop(permit);
}

/// Connects to the first address inside at which a server accepts.
async fn connect_to_server(sockets: &impl DialSockets, port: u16) -> io::Result<TcpStream> {
    let mut last_error = io::ErrorKind::NotFound.into();
    for address in server_addresses(port) {
        let socket = match sockets.tcp_socket(address) {
            Ok(socket) => socket,
            Err(error) => {
                last_error = error;
                continue;
            }
        };
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Makes the end of a connection a reset.
fn reset(client: &TcpStream) {
    if let Err(error) = client.set_zero_linger() {
        tracing::debug!(%error, "a client of a published port is closed in order");
    }
}

pub(super) fn check_panic<T>(ended: Result<T, JoinError>) -> Result<(), PublishPanicked> {
    match ended {
        Err(error) if error.is_panic() => {
            Err(PublishPanicked(DisplayText::new(&error.to_string())))
        }
        _ => Ok(()),
    }
}

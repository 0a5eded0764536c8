// SPDX-License-Identifier: Apache-2.0
//! One supervisor for each network namespace: the containers of a pod share one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use terok_clearance::socket::{
    SameUserListener, SocketBindError, SocketConnectError, bind, connect,
};
use tokio::time::{Instant, sleep};

use crate::start_connection::pass_on;
use crate::start_request::{StartReply, StartRequest};

/// Maximum time until another supervisor of the same network namespace has begun to listen: it is
/// starting, or systemd starts it again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The supervisor of a network namespace.
#[derive(Debug)]
pub enum NetworkClaim {
    /// This process; further containers of the namespace are announced at the listener.
    Owned(Box<SameUserListener>),
    /// Another process, with its reply to the request.
    Joined(StartReply),
}

/// The supervisor of a network namespace could not be settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkClaimError {
    /// The socket could not be bound.
    #[error("cannot listen for further containers of the same network")]
    Bind(#[from] SocketBindError),
    /// The other supervisor does not answer.
    #[error("the supervisor of the container's network does not answer")]
    Connect(#[from] SocketConnectError),
    /// The other supervisor ended.
    #[error("the supervisor of the container's network ended")]
    Exchange(#[source] io::Error),
}

/// Returns the path at which the supervisor of a network namespace listens.
pub fn claim_path(runtime_dir: &Path, netns_inode: u64) -> PathBuf {
    runtime_dir.join(format!("terok/containers/netns-{netns_inode}.sock"))
}

/// Claims a network namespace, or passes `request` on to the process that has claimed it.
///
/// Requires a tokio runtime.
pub async fn claim_network(
    path: &Path,
    request: &StartRequest,
) -> Result<NetworkClaim, NetworkClaimError> {
    let start = Instant::now();
    loop {
        match bind(path) {
            Ok(listener) => return Ok(NetworkClaim::Owned(Box::new(listener))),
            Err(SocketBindError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match connect(path).await {
            Ok((mut stream, _)) => {
                let reply = pass_on(&mut stream, request).await;
                return reply
                    .map(NetworkClaim::Joined)
                    .map_err(NetworkClaimError::Exchange);
            }
            Err(error) if start.elapsed() > JOIN_TIMEOUT => return Err(error.into()),
            Err(_starting) => sleep(RETRY_INTERVAL).await,
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A relay between our hub and our verdict helper that records their messages.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The messages so far: `true` for those of the hub, `false` for those of the helper.
type RelayLog = Arc<Mutex<Vec<(bool, Value)>>>;

/// A relay that runs until it is dropped.
pub(crate) struct Relay {
    path: PathBuf,
    log: RelayLog,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens at `path`, and forwards each connection to the socket `server`.
    pub(crate) fn start(path: &Path, server: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let log = RelayLog::default();
        let (server, record) = (server.to_owned(), Arc::clone(&log));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut ways = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let behind = UnixStream::connect(&server).await.unwrap();
                let (from_hub, to_hub) = client.into_split();
                let (from_helper, to_helper) = behind.into_split();
                ways.spawn(forward(true, from_hub, to_helper, Arc::clone(&record)));
                ways.spawn(forward(false, from_helper, to_hub, Arc::clone(&record)));
            }
        });
        Self {
            path: path.to_owned(),
            log,
            _tasks: tasks,
        }
    }

    /// Returns the messages since the last call.
    pub(crate) fn take(&self) -> Vec<(bool, Value)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

async fn forward(
    by_hub: bool,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    log: RelayLog,
) {
    let mut from = BufReader::new(from);
    loop {
        let mut frame = Vec::new();
        if from.read_until(0, &mut frame).await.unwrap_or(0) == 0 {
            break;
        }
        let message = serde_json::from_slice(frame.strip_suffix(b"\0").unwrap()).unwrap();
        log.lock().unwrap().push((by_hub, message));
        if to.write_all(&frame).await.is_err() {
            break;
        }
    }
}

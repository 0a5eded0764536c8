// SPDX-License-Identifier: Apache-2.0
//! The relay, the floor of the hub: copies all bytes from one unix socket to the clients of
//! another.
//!
//! The relay has one thread that calls `poll`, `read` and `write`, without a runtime, a parser or a
//! history.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use terok_clearance::socket::RuntimeDir;

/// Relays between the classic sockets in `directory` until killed.
pub(crate) fn serve(directory: &Path) -> anyhow::Result<()> {
    let sockets = RuntimeDir::new(directory).shared_hub_sockets();
    let listen = |path: &Path| {
        UnixListener::bind(path).with_context(|| format!("listening on {}", path.display()))
    };
    let readers = listen(&sockets.hub)?;
    let writers = listen(&sockets.ingester)?;
    let mut inputs: Vec<UnixStream> = Vec::new();
    let mut outputs: Vec<UnixStream> = Vec::new();
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let ready: Vec<bool> = {
            let mut fds = vec![
                PollFd::new(&readers, PollFlags::IN),
                PollFd::new(&writers, PollFlags::IN),
            ];
            fds.extend(inputs.iter().map(|i| PollFd::new(i, PollFlags::IN)));
            poll(&mut fds, None).context("polling")?;
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut ready = ready.into_iter();
        if ready.next() == Some(true) {
            outputs.push(readers.accept().context("accepting")?.0);
        }
        if ready.next() == Some(true) {
            inputs.push(writers.accept().context("accepting")?.0);
        }
        let mut gone = Vec::new();
        for (at, (input, ready)) in inputs.iter_mut().zip(ready).enumerate() {
            if !ready {
                continue;
            }
            let read = input.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                gone.push(at);
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            outputs.retain_mut(|output| output.write_all(bytes).is_ok());
        }
        for at in gone.into_iter().rev() {
            inputs.swap_remove(at);
        }
    }
}

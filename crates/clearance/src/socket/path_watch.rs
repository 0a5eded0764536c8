// SPDX-License-Identifier: Apache-2.0
//! Notices through inotify(7) that the file of a socket, or a directory above it, has changed.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// Watches on a path's directory and on those above it.
#[derive(Debug)]
pub(super) struct PathWatch {
    /// The inotify descriptor; a pipe is tokio's safe way to wait for one.
    inotify: pipe::Receiver,
    path: PathBuf,
}

impl PathWatch {
    /// Changes of a directory itself.
    const OWN_FLAGS: WatchFlags = WatchFlags::DELETE_SELF
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ATTRIB)
        .union(WatchFlags::ONLYDIR);
    /// Changes of the entries of a directory, too.
    const ENTRY_FLAGS: WatchFlags = Self::OWN_FLAGS
        .union(WatchFlags::CREATE)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM);

    /// Watches `path`, which may be missing.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let watch = Self {
            inotify: pipe::Receiver::from_owned_fd_unchecked(inotify)?,
            path: path.to_owned(),
        };
        watch.update();
        Ok(watch)
    }

    /// Watches the directories that lead to the path now. Only later changes are reported, so look
    /// at the path after this call.
    pub(super) fn update(&self) {
        // Entries count in the nearest directory that exists: there the next one appears.
        let mut flags = Self::ENTRY_FLAGS;
        for directory in self.path.ancestors().skip(1) {
            let directory = if directory.as_os_str().is_empty() {
                Path::new(".")
            } else {
                directory
            };
            match inotify::add_watch(&self.inotify, directory, flags) {
                Ok(_) => flags = Self::OWN_FLAGS,
                Err(error) => {
                    let path = directory.display();
                    tracing::debug!(%path, %error, "cannot watch a directory of a socket");
                }
            }
        }
    }

    /// Waits for a change; several changes may count as one. Cancel safe.
    pub(super) async fn changed(&self) {
        loop {
            let read = match self.inotify.readable().await {
                Ok(()) => self.inotify.try_io(|| self.read_all()),
                Err(error) => Err(error),
            };
            match read {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::error!(%error, "cannot watch the path of a socket any more");
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Reads the events of one batch.
    fn read_all(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            events.next()?;
            if events.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

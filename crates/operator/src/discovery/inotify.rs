// SPDX-License-Identifier: Apache-2.0
//! Watches directories for hub sockets, through inotify(7).

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;

use super::location::{DirectoryFilter, HubLocation};

/// Inotify watches, one per directory.
#[derive(Debug)]
pub(super) struct DirectoryWatcher {
    /// The inotify descriptor; a pipe is tokio's safe way to wait for one.
    inotify: pipe::Receiver,
    /// The relevant entries by watch descriptor.
    filters: HashMap<i32, DirectoryFilter>,
}

impl DirectoryWatcher {
    const WATCH_FLAGS: WatchFlags = WatchFlags::CREATE
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::DELETE_SELF)
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ONLYDIR);

    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify: pipe::Receiver::from_owned_fd_unchecked(inotify)?,
            filters: HashMap::new(),
        })
    }

    /// Watches every directory of `location`; for a missing one, its nearest existing ancestor.
    ///
    /// [`Self::changed`] reports only what appears later, so scan for sockets after this call.
    pub(super) fn update_watches(&mut self, location: &HubLocation) {
        let previous = std::mem::take(&mut self.filters);
        for (directory, filter) in location.directories() {
            self.watch_directory(&directory, &filter);
        }
        for number in previous.keys() {
            if !self.filters.contains_key(number) {
                // Fails if the kernel removed the watch together with its directory.
                let removed = inotify::remove_watch(&self.inotify, *number);
                tracing::trace!(?removed, "stopped watching a directory");
            }
        }
    }

    /// Watches one directory or, if it is missing, its nearest existing ancestor.
    fn watch_directory(&mut self, directory: &Path, filter: &DirectoryFilter) {
        loop {
            if self.add_watch(directory, filter.clone()) {
                return;
            }
            let mut missing = directory;
            loop {
                let (Some(above), Some(name)) = (missing.parent(), missing.file_name()) else {
                    return;
                };
                if self.add_watch(above, DirectoryFilter::Names([name.to_owned()].into())) {
                    break;
                }
                missing = above;
            }
            // The directory may have appeared before the watch on its ancestor.
            if !missing.is_dir() {
                return;
            }
        }
    }

    /// Watches a directory. Returns `false` if the directory is missing.
    fn add_watch(&mut self, directory: &Path, filter: DirectoryFilter) -> bool {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let number = match inotify::add_watch(&self.inotify, directory, Self::WATCH_FLAGS) {
            Ok(number) => number,
            Err(Errno::NOENT | Errno::NOTDIR) => return false,
            Err(error) => {
                let path = directory.display();
                tracing::warn!(%path, %error, "cannot watch a directory for hubs");
                return true;
            }
        };
        let kept = self.filters.entry(number).or_insert_with(|| filter.clone());
        match (&mut *kept, filter) {
            (DirectoryFilter::Names(names), DirectoryFilter::Names(more)) => names.extend(more),
            (kept, DirectoryFilter::All) => *kept = DirectoryFilter::All,
            (DirectoryFilter::All, _) => {}
        }
        true
    }

    /// Waits for a change that may concern a hub; several changes may count as one.
    ///
    /// Cancel safe.
    pub(super) async fn changed(&self) {
        loop {
            let batch = match self.inotify.readable().await {
                Ok(()) => self.inotify.try_io(|| self.read_batch()),
                Err(error) => Err(error),
            };
            match batch {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::error!(%error, "cannot watch for hubs any more");
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Reads events until one is relevant, or the end of a batch, so that a busy directory cannot
    /// starve other tasks. Returns `true` if an event is relevant.
    fn read_batch(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            if self.is_relevant(&events.next()?) {
                return Ok(true);
            }
            if events.is_buffer_empty() {
                return Ok(false);
            }
        }
    }

    fn is_relevant(&self, event: &inotify::Event<'_>) -> bool {
        // Events of the directory itself, and of an event queue that overflowed.
        let whole = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW;
        let name = event.file_name().map(CStr::to_bytes).unwrap_or_default();
        event.events().intersects(whole)
            || self
                .filters
                .get(&event.wd())
                .is_some_and(|filter| filter.matches(OsStr::from_bytes(name)))
    }
}

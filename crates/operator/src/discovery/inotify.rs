// SPDX-License-Identifier: Apache-2.0
//! Waits for changes in directories, through inotify(7).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;

use super::location::{DirectoryFilter, HubLocation};

/// The watches, of which each is for one directory.
#[derive(Debug)]
pub(super) struct DirectoryWatcher {
    /// The inotify descriptor, which is read as a pipe is: that is tokio's safe door.
    inotify: pipe::Receiver,
    /// What is of interest, by the number that inotify gave to the directory.
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

    /// Watches every directory of `place` that is there, and for those that are not.
    ///
    /// What appears after this is told by [`Watch::changed`]; so look after it, not before.
    pub(super) fn update_watches(&mut self, place: &HubLocation) {
        let before = std::mem::take(&mut self.filters);
        for (directory, interest) in place.directories() {
            self.watch_directory(&directory, &interest);
        }
        for number in before.keys() {
            if !self.filters.contains_key(number) {
                // Gone with its directory, as a rule, and then there is nothing to remove.
                let removed = inotify::remove_watch(&self.inotify, *number);
                tracing::trace!(?removed, "a directory is no longer watched");
            }
        }
    }

    /// Watches one directory; where it is not there, the nearest above it that is.
    fn watch_directory(&mut self, directory: &Path, interest: &DirectoryFilter) {
        loop {
            if self.add_watch(directory, interest.clone()) {
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
            // It may have appeared before the watch that would have told of it.
            if !missing.is_dir() {
                return;
            }
        }
    }

    /// Watches a directory, and says whether that is all that can be done: not where it is missing.
    fn add_watch(&mut self, directory: &Path, interest: DirectoryFilter) -> bool {
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
        let kept = self
            .filters
            .entry(number)
            .or_insert_with(|| interest.clone());
        match (&mut *kept, interest) {
            (DirectoryFilter::Names(names), DirectoryFilter::Names(more)) => names.extend(more),
            (kept, DirectoryFilter::All) => *kept = DirectoryFilter::All,
            (DirectoryFilter::All, _) => {}
        }
        true
    }

    /// Waits until something has changed that matters; many changes may be one.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub(super) async fn changed(&self) {
        let mut buffer = [0; 4096];
        loop {
            // Whole events are read, never parts (inotify(7)).
            let read = match self.inotify.readable().await {
                Ok(()) => self.inotify.try_read(&mut buffer),
                Err(error) => Err(error),
            };
            match read {
                Ok(length) => {
                    let mut events = InotifyEvents(buffer.get(..length).unwrap_or_default());
                    if events.any(|event| self.is_relevant(&event)) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::error!(%error, "cannot watch for hubs any more");
                    return std::future::pending().await;
                }
            }
        }
    }

    fn is_relevant(&self, event: &InotifyEvent<'_>) -> bool {
        // Of the directory itself, or of a queue that ran over.
        let whole = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW;
        event.flags.intersects(whole)
            || self
                .filters
                .get(&event.watch_descriptor)
                .is_some_and(|interest| interest.matches(event.name))
    }
}

/// An event of a directory.
#[derive(Debug, PartialEq, Eq)]
struct InotifyEvent<'a> {
    /// The number that inotify gave to the directory.
    watch_descriptor: i32,
    flags: ReadFlags,
    /// The entry; empty where the event is about the directory.
    name: &'a OsStr,
}

/// Events as they are read, `struct inotify_event` of inotify(7) one after the other.
struct InotifyEvents<'a>(&'a [u8]);

impl<'a> Iterator for InotifyEvents<'a> {
    type Item = InotifyEvent<'a>;

    fn next(&mut self) -> Option<InotifyEvent<'a>> {
        let (directory, rest) = self.0.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (_cookie, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u32::from_ne_bytes(*length).try_into().ok()?;
        let (name, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(InotifyEvent {
            watch_descriptor: i32::from_ne_bytes(*directory),
            flags: ReadFlags::from_bits_retain(u32::from_ne_bytes(*flags)),
            name: OsStr::from_bytes(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_kernel_writes_them() {
        let event = |directory: i32, flags: u32, name: &[u8]| {
            let mut bytes = directory.to_ne_bytes().to_vec();
            bytes.extend(flags.to_ne_bytes());
            bytes.extend(0_u32.to_ne_bytes());
            bytes.extend(u32::try_from(name.len()).unwrap().to_ne_bytes());
            bytes.extend(name);
            bytes
        };
        let bytes = [
            event(1, 0x100, b"hub.sock\0\0\0\0\0\0\0\0"),
            event(2, 0x400, b""),
        ]
        .concat();
        let event = |directory, flags, name: &'static str| InotifyEvent {
            watch_descriptor: directory,
            flags,
            name: OsStr::new(name),
        };
        let read: Vec<_> = InotifyEvents(&bytes).collect();
        let expected = [
            event(1, ReadFlags::CREATE, "hub.sock"),
            event(2, ReadFlags::DELETE_SELF, ""),
        ];
        assert_eq!(read, expected);
        assert_eq!(InotifyEvents(&bytes[..20]).count(), 0);
    }
}

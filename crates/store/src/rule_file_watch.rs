// SPDX-License-Identifier: Apache-2.0
//! Notices through inotify(7) that rule files have changed.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;

use crate::rule_store::{PROFILES_DIR, PROJECTS_DIR, RULES_DIR};

/// A watch on every rule file in a configuration directory.
///
/// Directories may be missing, may appear later, and may be replaced.
#[derive(Debug)]
pub struct RuleFileWatch {
    /// The inotify descriptor; a pipe is tokio's safe way to wait for one.
    inotify: pipe::Receiver,
    directories: [PathBuf; 4],
    /// The watch descriptors and whether the directory itself may contain rule files.
    watched: HashMap<i32, bool>,
}

impl RuleFileWatch {
    const WATCH_FLAGS: WatchFlags = WatchFlags::CLOSE_WRITE
        .union(WatchFlags::ATTRIB)
        .union(WatchFlags::CREATE)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::DELETE_SELF)
        .union(WatchFlags::MOVE_SELF)
        .union(WatchFlags::ONLYDIR);

    /// Watches a configuration directory. Only later changes are reported, so load the rules after
    /// this call.
    pub fn new(config_dir: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let rules = config_dir.join(RULES_DIR);
        let mut watch = Self {
            inotify: pipe::Receiver::from_owned_fd_unchecked(inotify)?,
            directories: [
                config_dir.to_owned(),
                config_dir.join(PROFILES_DIR),
                rules.join(PROJECTS_DIR),
                rules,
            ],
            watched: HashMap::new(),
        };
        watch.update_watches()?;
        Ok(watch)
    }

    /// Waits until a rule file may have changed; several changes may count as one. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.inotify.readable().await?;
            let is_relevant = match self.inotify.try_io(|| self.read_batch()) {
                Ok(is_relevant) => is_relevant,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            // A new directory may have had files before it was watched.
            if self.update_watches()? || is_relevant {
                return Ok(());
            }
        }
    }

    /// Watches the directories, or the nearest directory above a missing one. Returns `true` if a
    /// directory of rule files is watched that was not watched before.
    fn update_watches(&mut self) -> io::Result<bool> {
        let previous = std::mem::take(&mut self.watched);
        let directories = self.directories.clone();
        for directory in &directories {
            self.watch_directory(directory)?;
        }
        for number in previous.keys() {
            if !self.watched.contains_key(number) {
                // Fails if the kernel removed the watch together with its directory.
                let removed = inotify::remove_watch(&self.inotify, *number);
                tracing::trace!(?removed, "stopped watching a directory");
            }
        }
        let was_watched = |number| previous.get(number) == Some(&true);
        let mut found = self.watched.iter();
        Ok(found.any(|(number, has_files)| *has_files && !was_watched(number)))
    }

    fn watch_directory(&mut self, directory: &Path) -> io::Result<()> {
        loop {
            if self.add_watch(directory, true)? {
                return Ok(());
            }
            let mut above = directory.ancestors().skip(1);
            let watched = loop {
                match above.next() {
                    None => break None,
                    Some(parent) if self.add_watch(parent, false)? => break Some(parent),
                    Some(_) => {}
                }
            };
            // What leads to the directory may have appeared before the watch above it.
            let Some(watched) = watched else {
                return Ok(());
            };
            let next = directory.ancestors().take_while(|path| *path != watched);
            if !next.last().is_some_and(Path::is_dir) {
                return Ok(());
            }
        }
    }

    /// Watches a directory. Returns `false` if it does not exist.
    fn add_watch(&mut self, directory: &Path, has_files: bool) -> io::Result<bool> {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        match inotify::add_watch(&self.inotify, directory, Self::WATCH_FLAGS) {
            Ok(number) => {
                let kept = self.watched.entry(number).or_default();
                *kept |= has_files;
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            // The store refuses what it cannot read; a watch is not needed for it.
            Err(Errno::ACCESS) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the events of one batch. Returns `true` if one may concern a rule file.
    fn read_batch(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut found = false;
        loop {
            found |= self.is_relevant(&events.next()?);
            if events.is_buffer_empty() {
                return Ok(found);
            }
        }
    }

    fn is_relevant(&self, event: &inotify::Event<'_>) -> bool {
        let whole = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW;
        if event.events().intersects(whole) {
            return true;
        }
        // A directory itself, whose permissions count.
        let Some(name) = event.file_name().map(CStr::to_bytes) else {
            return self.watched.get(&event.wd()) == Some(&true);
        };
        let is_rule_file = !name.starts_with(b".")
            && (name.ends_with(b".rules") || name.ends_with(b".txt"))
            // A file that is written in place is reported when it is closed.
            && !event.events().contains(ReadFlags::CREATE);
        is_rule_file && self.watched.get(&event.wd()) == Some(&true)
    }
}

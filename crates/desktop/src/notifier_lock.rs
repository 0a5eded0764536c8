// SPDX-License-Identifier: Apache-2.0
//! The lock of the program that shows the popups of every sandbox: two of them would show each
//! question twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use terok_clearance::DisplayText;

/// The lock of a user's notifier, held until it is dropped.
#[derive(Debug)]
pub struct NotifierLock {
    _file: File,
}

/// The lock was not acquired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifierLockError {
    /// Another process holds the lock.
    #[error("your notifier runs already, as process {pid}")]
    Held {
        /// The process id in the lock file; empty if there is none.
        pid: DisplayText,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

impl NotifierLock {
    /// Acquires the lock in a user's runtime directory, and writes the process id to its file.
    pub fn acquire(runtime: &Path) -> Result<Self, NotifierLockError> {
        let path = lock_path(runtime);
        let file_error = |source| NotifierLockError::File {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.mode(0o600).open(&path).map_err(file_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Without a process id in the file, the message names none.
                drop((&file).take(20).read_to_string(&mut holder));
                let pid = DisplayText::new(holder.trim());
                return Err(NotifierLockError::Held { pid });
            }
            Err(error) => return Err(file_error(error.into())),
        }
        write_process_id(&mut file).map_err(file_error)?;
        Ok(Self { _file: file })
    }

    /// Returns `true` if a process holds the lock in a user's runtime directory.
    pub fn is_held(runtime: &Path) -> bool {
        let locked = File::open(lock_path(runtime))
            .map(|file| flock(&file, FlockOperation::NonBlockingLockShared));
        matches!(locked, Ok(Err(Errno::WOULDBLOCK)))
    }
}

fn lock_path(runtime: &Path) -> PathBuf {
    runtime.join("terok-clearance-notifier.lock")
}

fn write_process_id(file: &mut File) -> io::Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{pid}")
}

// SPDX-License-Identifier: Apache-2.0
//! The lock of a record, which every process takes before it changes the files.

use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The interval between two attempts: flock(2) has no time limit. A writer holds the lock for some
/// milliseconds.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// The lock, held until dropped. The lock of a killed process ends with it.
#[derive(Debug)]
pub(crate) struct RecordLock<'a>(&'a File);

impl<'a> RecordLock<'a> {
    /// Locks against all others. Returns `None` after about `limit`.
    pub(crate) fn exclusive(file: &'a File, limit: Duration) -> io::Result<Option<Self>> {
        Self::acquire(file, FlockOperation::NonBlockingLockExclusive, limit)
    }

    /// Locks against writers. Returns `None` after about `limit`.
    pub(crate) fn shared(file: &'a File, limit: Duration) -> io::Result<Option<Self>> {
        Self::acquire(file, FlockOperation::NonBlockingLockShared, limit)
    }

    fn acquire(
        file: &'a File,
        operation: FlockOperation,
        limit: Duration,
    ) -> io::Result<Option<Self>> {
        let mut waited = Duration::ZERO;
        loop {
            match flock(file, operation) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(Errno::WOULDBLOCK | Errno::INTR) if waited < limit => {
                    thread::sleep(ATTEMPT_INTERVAL);
                    waited = waited.saturating_add(ATTEMPT_INTERVAL);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for RecordLock<'_> {
    fn drop(&mut self) {
        if let Err(error) = flock(self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "cannot unlock the record");
        }
    }
}

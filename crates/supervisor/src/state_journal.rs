// SPDX-License-Identifier: Apache-2.0
//! The state of a supervisor in a file that outlives it.
//!
//! A service manager keeps the file's descriptor (a memfd) and passes it to the next process after
//! a kill. Each change is in the file before anything tells of it: a rule before it decides, the
//! end of a rule before its operator hears of it, a question before an operator sees it, the name
//! of a stand-in address before the reply to the lookup.
//!
//! What is read back never opens more than what was allowed. A change that was being written counts
//! or does not. A file that cannot be read, is of another sandbox or boot, or is inconsistent
//! counts as empty: everything is asked again. A change that cannot be written makes the file
//! empty, because it may be a revocation.

mod change;
mod log_file;
mod names;
mod pattern_parts;
mod questions;
mod state;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use terok_clearance::{ContainerId, DisplayText};

use log_file::{LogContents, LogFile, LogStorage};

pub(crate) use change::{JournalChange, JournaledBypass, JournaledRule, JournaledStartRule};
pub(crate) use state::{BypassState, JournalState};

/// Bytes of a file that is not made shorter yet. Above, it may grow to twice the size of its
/// state.
const MIN_COMPACTED_BYTES: u64 = 256 << 10;

/// The state of a sandbox's supervisor in an open file, for the next supervisor of the sandbox.
#[derive(Debug)]
pub struct StateJournal {
    file: File,
}

/// The reason why a supervisor starts without the state of the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of the earlier supervisor is not used, and everything is asked again: {reason}")]
pub struct StateNotRestored {
    /// The reason.
    reason: DisplayText,
}

impl StateJournal {
    /// Creates an empty state in memory. Its descriptor is to be passed to the next supervisor
    /// ([`AsFd`]).
    pub fn create() -> io::Result<Self> {
        let file = memfd_create("terok-clearance-state", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: file.into() })
    }

    /// Opens the state in a file that another process has passed.
    pub fn from_fd(file: OwnedFd) -> Self {
        Self { file: file.into() }
    }

    /// Reads the state of `container`, which counts in this boot of the machine, and takes the file
    /// over.
    pub(crate) fn open(self, container: &ContainerId, boot: &str) -> OpenedJournal {
        OpenedJournal::open(self.file, container, boot)
    }
}

impl AsFd for StateJournal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A state with the journal of its further changes.
#[derive(Debug)]
pub(crate) struct OpenedJournal {
    pub(crate) journal: SharedJournal,
    /// What the earlier supervisor knew.
    pub(crate) state: JournalState,
    /// There was an earlier supervisor, whose state this is.
    pub(crate) is_restart: bool,
    /// There was a state that is not used.
    pub(crate) lost: Option<StateNotRestored>,
}

impl OpenedJournal {
    fn open(storage: impl LogStorage + 'static, container: &ContainerId, boot: &str) -> Self {
        let (log, read) = match LogFile::open(storage) {
            Ok((log, contents)) => (Some(log), read_state(contents, container, boot)),
            Err(error) => (None, Err(DisplayText::new(&error.to_string()))),
        };
        let begin = || JournalState::begin(container.clone(), boot.to_owned());
        let is_restart = matches!(read, Ok(Some(_)));
        let (state, lost) = match read {
            Ok(state) => (state.unwrap_or_else(begin), None),
            Err(reason) => {
                tracing::warn!(%reason, "the state of the earlier supervisor is not used");
                (begin(), Some(StateNotRestored { reason }))
            }
        };
        let writer = JournalWriter {
            log: log.map(|log| Box::new(log) as Box<dyn StateLog>),
            state: state.clone(),
            compact_at: 0,
            has_failed: false,
        };
        let journal = SharedJournal(Arc::new(Mutex::new(writer)));
        journal.lock().write(&[]);
        Self {
            journal,
            state,
            is_restart,
            lost,
        }
    }
}

/// Returns the state that a file contains; `None` if it contains none.
fn read_state(
    contents: LogContents,
    container: &ContainerId,
    boot: &str,
) -> Result<Option<JournalState>, DisplayText> {
    let records = match contents {
        LogContents::New => return Ok(None),
        LogContents::Unreadable(reason) => return Err(DisplayText::new(reason)),
        LogContents::Records(records) => records,
    };
    let parsed: Result<Vec<Vec<JournalChange>>, _> = records
        .iter()
        .map(|record| serde_json::from_slice(record))
        .collect();
    let parsed = parsed.map_err(|error| DisplayText::new(&error.to_string()))?;
    let state = JournalState::of_records(parsed.into_iter());
    let state = state.map_err(|error| DisplayText::new(&error.to_string()))?;
    match state.subject() {
        Some((own, _)) if own != container => Err(DisplayText::new("it is of another sandbox")),
        Some((_, own)) if own != boot => Err(DisplayText::new("it is of another boot")),
        _ => Ok(Some(state)),
    }
}

/// The journal of a sandbox. Clones share it. Its lock is the innermost one.
#[derive(Debug, Clone)]
pub(crate) struct SharedJournal(Arc<Mutex<JournalWriter>>);

impl SharedJournal {
    /// Records changes, all of them or none.
    pub(crate) fn record(&self, changes: Vec<JournalChange>) {
        self.lock().record(changes);
    }

    fn lock(&self) -> MutexGuard<'_, JournalWriter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log, whatever its file is.
trait StateLog: std::fmt::Debug + Send {
    fn used(&self) -> u64;
    fn append(&mut self, record: &[u8]) -> io::Result<()>;
    fn rewrite(&mut self, records: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()>;
    fn clear(&mut self) -> io::Result<()>;
}

impl<S: LogStorage> StateLog for LogFile<S> {
    fn used(&self) -> u64 {
        self.used()
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.append(record)
    }

    fn rewrite(&mut self, records: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        self.rewrite(records)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear()
    }
}

#[derive(Debug)]
struct JournalWriter {
    /// `None` if the file cannot be read.
    log: Option<Box<dyn StateLog>>,
    /// The state that the file leads to.
    state: JournalState,
    /// The size of the log from which a complete state takes its place; 0 before the first one.
    compact_at: u64,
    has_failed: bool,
}

impl JournalWriter {
    fn record(&mut self, changes: Vec<JournalChange>) {
        let mut recorded = Vec::new();
        for change in changes {
            if self.state.is_redundant(&change) {
                continue;
            }
            // A change that cannot be read back would make the whole file unreadable.
            let applied = read_back(&change).and_then(|change| {
                let applied = self.state.apply(change.clone());
                applied.map_err(io::Error::other)?;
                Ok(change)
            });
            match applied {
                Ok(change) => recorded.push(change),
                Err(error) => tracing::error!(%error, "a change of the state is not recorded"),
            }
        }
        if !recorded.is_empty() {
            self.write(&recorded);
        }
    }

    /// Writes changes that the state has already, or the complete state.
    fn write(&mut self, changes: &[JournalChange]) {
        let Some(log) = &mut self.log else {
            return;
        };
        let may_append = !self.has_failed && log.used() < self.compact_at;
        let appended = may_append && encode(changes).is_ok_and(|line| log.append(&line).is_ok());
        if appended {
            return;
        }
        let records: io::Result<Vec<_>> = self
            .state
            .to_records()
            .map(|record| encode(&record))
            .collect();
        match records.and_then(|records| log.rewrite(&mut records.into_iter())) {
            Ok(()) => {
                self.has_failed = false;
                self.compact_at = log.used().saturating_mul(2).max(MIN_COMPACTED_BYTES);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(%error, "a later supervisor will ask everything again");
                }
                if let Err(error) = log.clear() {
                    tracing::error!(%error, "an old state could not be removed");
                }
            }
        }
    }
}

/// Returns a change as the file gives it back.
fn read_back(change: &JournalChange) -> io::Result<JournalChange> {
    Ok(serde_json::from_slice(&serde_json::to_vec(change)?)?)
}

fn encode(changes: &[JournalChange]) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(changes)?)
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! Writes entries in a thread, so that a slow or full disk delays nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use terok_clearance::{DisplayText, Timestamp, error_chain};

use crate::{
    AppendError, AuditEntry, AuditEvent, AuditLoss, AuditSandbox, RecordAppender, RecordConfig,
};

/// Maximum number of entries that wait for the thread; the entries of one write come on top.
const QUEUE_ENTRIES: usize = 4096;
/// Time between two attempts to write to a record that cannot be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Stack of the thread, which has no deep calls.
const STACK_BYTES: usize = 256 << 10;

/// A change of the record's state that a person should hear of.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordNotice {
    /// The record cannot be written. Reported once for each cause, until it can be again.
    Failed(AppendError),
    /// The record is written again.
    Restored {
        /// The number of entries that were lost meanwhile; the record says so, too.
        lost: u64,
    },
}

/// The result of [`RecordWriter::close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseOutcome {
    /// All entries are on the disk.
    Complete,
    /// The record could not be written; this number of entries is missing.
    Lost(u64),
    /// The time was over before the thread had finished.
    TimedOut,
}

/// Accepts entries without blocking; a thread appends them to the record.
///
/// Clones share one thread. After the last clone is dropped, the thread writes the accepted entries
/// and ends; [`RecordWriter::close`] waits for that.
#[derive(Debug, Clone)]
pub struct RecordWriter {
    shared: Arc<SharedQueue>,
    _closer: Arc<QueueCloser>,
}

#[derive(Debug, Default)]
struct SharedQueue {
    state: Mutex<QueueState>,
    /// Signalled when the state changes.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    entries: VecDeque<AuditEntry>,
    lost: Option<LostEntries>,
    is_closing: bool,
    finished: Option<CloseOutcome>,
}

/// Entries that were not accepted.
#[derive(Debug, Clone)]
struct LostEntries {
    count: u64,
    since: Timestamp,
    until: Timestamp,
    sandbox: Option<AuditSandbox>,
}

/// Ends the thread when the last writer is dropped.
#[derive(Debug)]
struct QueueCloser(Arc<SharedQueue>);

impl Drop for QueueCloser {
    fn drop(&mut self) {
        self.0.lock().is_closing = true;
        self.0.changed.notify_all();
    }
}

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordWriter {
    /// Starts the thread. Fails only if there is no thread: a record that cannot be written is
    /// reported to `on_notice`, which the thread calls.
    pub fn open(
        config: RecordConfig,
        on_notice: impl FnMut(RecordNotice) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(SharedQueue::default());
        let mut thread = WriterThread {
            shared: Arc::clone(&shared),
            appender: RecordAppender::new(config),
            batch: Vec::new(),
            failure: None,
            has_ended: false,
            on_notice: Box::new(on_notice),
        };
        thread::Builder::new()
            .name("record".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || thread.run())?;
        Ok(Self {
            _closer: Arc::new(QueueCloser(Arc::clone(&shared))),
            shared,
        })
    }

    /// Accepts an entry. Never blocks: an entry that finds no room is counted, and the record gets
    /// an entry about the loss as soon as it can be written.
    pub fn record(&self, entry: AuditEntry) {
        let mut state = self.shared.lock();
        if state.entries.len() < QUEUE_ENTRIES && state.lost.is_none() {
            state.entries.push_back(entry);
        } else {
            let lost = state.lost.get_or_insert(LostEntries {
                count: 0,
                since: entry.time,
                until: entry.time,
                sandbox: None,
            });
            lost.count = lost.count.saturating_add(1);
            lost.until = entry.time;
            lost.sandbox = entry.sandbox;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Writes all accepted entries to the disk, and waits for that at most `limit`. Entries that
    /// other clones pass later are not written.
    pub fn close(self, limit: Duration) -> CloseOutcome {
        let mut state = self.shared.lock();
        state.is_closing = true;
        self.shared.changed.notify_all();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, limit, |state| state.finished.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.finished.unwrap_or(CloseOutcome::TimedOut)
    }
}

/// The thread that writes.
struct WriterThread {
    shared: Arc<SharedQueue>,
    appender: RecordAppender,
    /// The entries that are written next. While writing fails, they are kept.
    batch: Vec<AuditEntry>,
    failure: Option<WriteFailure>,
    /// Whether the last attempt was made.
    has_ended: bool,
    on_notice: Box<dyn FnMut(RecordNotice) + Send>,
}

struct WriteFailure {
    /// The text of the last error, which was reported.
    text: DisplayText,
    /// The number of entries that were lost meanwhile.
    lost: u64,
}

impl WriterThread {
    fn run(&mut self) {
        while self.wait_for_entries() {
            self.write_batch();
        }
        let outcome = if self.batch.is_empty() {
            match self.appender.sync() {
                Ok(()) => CloseOutcome::Complete,
                Err(error) => {
                    (self.on_notice)(RecordNotice::Failed(error));
                    CloseOutcome::Lost(0)
                }
            }
        } else {
            let state = self.shared.lock();
            let kept = self.batch.len().saturating_add(state.entries.len());
            let kept = u64::try_from(kept).unwrap_or(u64::MAX);
            let lost = state.lost.as_ref().map_or(0, |lost| lost.count);
            CloseOutcome::Lost(kept.saturating_add(lost))
        };
        self.shared.lock().finished = Some(outcome);
        self.shared.changed.notify_all();
    }

    /// Waits for something to write. Returns `false` at the end.
    fn wait_for_entries(&mut self) -> bool {
        let mut state = self.shared.lock();
        if self.failure.is_some() && !self.batch.is_empty() {
            if !state.is_closing {
                let waiting =
                    self.shared
                        .changed
                        .wait_timeout_while(state, RETRY_INTERVAL, |state| !state.is_closing);
                drop(waiting);
                return true;
            }
            // One attempt more with all entries.
            if std::mem::replace(&mut self.has_ended, true) {
                return false;
            }
            self.batch.extend(state.entries.drain(..));
            return true;
        }
        while state.entries.is_empty() && state.lost.is_none() {
            if state.is_closing {
                return false;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.batch.extend(state.entries.drain(..));
        if let Some(lost) = state.lost.take() {
            let why = match &mut self.failure {
                Some(failure) => {
                    failure.lost = failure.lost.saturating_add(lost.count);
                    failure.text.clone()
                }
                None => "they came faster than they could be written".into(),
            };
            self.batch.push(loss_entry(lost, why));
        }
        true
    }

    fn write_batch(&mut self) {
        let (appended, result) = self.appender.append(&self.batch);
        drop(self.batch.drain(..appended));
        match result {
            Ok(()) => self.report_restored(),
            Err(error) => self.report_failure(error),
        }
    }

    fn report_failure(&mut self, error: AppendError) {
        let text = error_chain(&error);
        let failure = self.failure.get_or_insert_with(|| WriteFailure {
            text: DisplayText::default(),
            lost: 0,
        });
        if failure.text != text {
            failure.text = text;
            (self.on_notice)(RecordNotice::Failed(error));
        }
    }

    fn report_restored(&mut self) {
        // The entry about lost entries belongs to the failure.
        let has_more = self.shared.lock().lost.is_some();
        if !has_more && let Some(failure) = self.failure.take() {
            (self.on_notice)(RecordNotice::Restored { lost: failure.lost });
        }
    }
}

fn loss_entry(lost: LostEntries, why: DisplayText) -> AuditEntry {
    let event = AuditEvent::Lost(AuditLoss {
        count: Some(lost.count),
        since: Some(lost.since),
        why,
        cut_bytes: None,
    });
    AuditEntry::new(lost.until, lost.sandbox, event)
}

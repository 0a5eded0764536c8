// SPDX-License-Identifier: Apache-2.0
//! Passes the events of a supervisor to the record.

use std::io;
use std::time::Duration;

use record::{
    AppendError, AuditEntry, AuditEvent, AuditNote, AuditSandbox, AuditSandboxEnd,
    AuditSandboxStart, CloseOutcome, RecordAppender, RecordConfig, RecordNotice, RecordWriter,
};
use supervisor::TraceEvent;
use terok_clearance::{DisplayText, Timestamp};

use crate::audit_event::to_audit_event;

/// Maximum time for the last entries at the end of a sandbox.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The records of one sandbox. Clones write to the same ones.
#[derive(Debug, Clone)]
pub struct SandboxAudit {
    /// One for each record; none is kept without.
    writers: Vec<RecordWriter>,
    sandbox: AuditSandbox,
}

/// The records of a sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditOpenError {
    /// The record that is required cannot be written.
    #[error("cannot write the record, without which your organisation permits no sandbox")]
    Required(#[source] AppendError),
    /// The thread that writes the record did not start.
    #[error("cannot start the thread that writes the record")]
    Thread(#[source] io::Error),
}

impl SandboxAudit {
    /// Opens the records. With `is_required` it fails if one of them cannot be written; otherwise,
    /// and later, failures are passed to `on_notice`.
    ///
    /// Starts threads: a sandbox must have been built before.
    pub fn open(
        records: &[RecordConfig],
        is_required: bool,
        sandbox: AuditSandbox,
        on_notice: impl Fn(RecordNotice) + Clone + Send + 'static,
    ) -> Result<Self, AuditOpenError> {
        let mut audit = Self {
            writers: Vec::new(),
            sandbox,
        };
        for of_file in records {
            if is_required {
                let mut appender = RecordAppender::new(of_file.clone());
                let text = DisplayText::new("a sandbox begins");
                let note = audit.entry(AuditEvent::Note(AuditNote { text }));
                let (_, written) = appender.append(&[note]);
                written.map_err(AuditOpenError::Required)?;
            }
            let writer = RecordWriter::open(of_file.clone(), on_notice.clone());
            audit.writers.push(writer.map_err(AuditOpenError::Thread)?);
        }
        Ok(audit)
    }

    /// Records the start of the sandbox.
    pub fn start(&self, start: AuditSandboxStart) {
        self.write(AuditEvent::SandboxStarted(start));
    }

    /// Records an event of the supervisor, if it is one for the record.
    pub fn observe(&self, event: &TraceEvent<'_>) {
        self.observe_with_program(event, None);
    }

    /// Records an event of the supervisor; the end of a connection with the program that made it.
    pub(crate) fn observe_with_program(
        &self,
        event: &TraceEvent<'_>,
        program: Option<DisplayText>,
    ) {
        if self.writers.is_empty() {
            return;
        }
        if let Some(mut event) = to_audit_event(event) {
            if let AuditEvent::Closed(end) = &mut event {
                end.process = program;
            }
            self.write(event);
        }
    }

    /// Records the end of the sandbox; `None` if the sandbox goes on. Waits for a short time until
    /// all is written, and returns `false` if something is not.
    pub fn finish(self, end: Option<AuditSandboxEnd>) -> bool {
        if let Some(end) = end {
            self.write(AuditEvent::SandboxEnded(end));
        }
        let mut is_complete = true;
        for writer in self.writers {
            is_complete &= writer.close(CLOSE_TIMEOUT) == CloseOutcome::Complete;
        }
        is_complete
    }

    /// Records a note.
    pub fn note(&self, text: &str) {
        let text = DisplayText::new(text);
        self.write(AuditEvent::Note(AuditNote { text }));
    }

    fn write(&self, event: AuditEvent) {
        let entry = self.entry(event);
        for writer in &self.writers {
            writer.record(entry.clone());
        }
    }

    fn entry(&self, event: AuditEvent) -> AuditEntry {
        AuditEntry::new(Timestamp::now(), Some(self.sandbox.clone()), event)
    }
}

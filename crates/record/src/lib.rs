// SPDX-License-Identifier: Apache-2.0
//! The record: every question, answer, rule and connection, in an append-only file of the user.
//!
//! A supervisor passes an [`AuditEntry`] to its [`RecordWriter`], which never blocks. A thread
//! appends the entries to `audit.jsonl`, one JSON object per line; several processes may append to
//! one file. Each line has the hash of the line before (`prev`), and [`verify_record`] checks the
//! chain. [`RecordReader`] reads the lines of all files, [`RecordFilter`] selects lines without
//! parsing most of them, and [`parse_line`] parses one.
//!
//! ```no_run
//! use std::time::Duration;
//! use record::{AuditEntry, AuditEvent, AuditNote, RecordConfig, RecordNotice, RecordWriter};
//! # use terok_clearance_record as record;
//!
//! # fn example(now: terok_clearance::Timestamp) -> std::io::Result<()> {
//! let config = RecordConfig::new("/home/user/.local/state/terok-clearance/audit.jsonl");
//! let writer = RecordWriter::open(config, |notice| match notice {
//!     RecordNotice::Failed(error) => eprintln!("the record cannot be written: {error}"),
//!     RecordNotice::Restored { lost } => eprintln!("it is written again; {lost} entries lost"),
//!     _ => {}
//! })?;
//! let note = AuditEvent::Note(AuditNote { text: "started".into() });
//! writer.record(AuditEntry::new(now, None, note));
//! writer.close(Duration::from_secs(2));
//! # Ok(())
//! # }
//! ```
//!
//! `docs/record.md` describes the format and what the chain shows.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod append;
mod chain;
mod chain_tail;
mod entry;
mod files;
mod filter;
mod follow;
mod last_lines;
mod line;
mod lock;
mod reader;
mod record_time;
mod scanner;
mod summary;
mod verify;
mod words;
mod writer;

pub use append::{AppendError, RecordAppender};
pub use chain::ChainHash;
pub use entry::{
    AuditAnswer, AuditConnection, AuditConnectionEnd, AuditEntry, AuditEvent, AuditLoss, AuditNote,
    AuditOperator, AuditPosture, AuditQuestion, AuditRefusal, AuditRule, AuditRuleEnd,
    AuditSandbox, AuditSandboxEnd, AuditSandboxStart, KNOWN_KINDS,
};
pub use files::{
    DEFAULT_KEPT_FILES, DEFAULT_ROTATE_BYTES, FILE_NAME, RecordConfig, RecordFileError,
};
pub use filter::{DestFilter, RecordFilter};
pub use follow::RecordFollower;
pub use last_lines::LastLines;
pub use line::{
    LineParseError, MAX_LINE_BYTES, RecordedEntry, encode_line, may_have_zone, parse_line,
    scan_pattern,
};
pub use reader::{ReadRecordError, RecordLine, RecordReader};
pub use record_time::format_record_time;
pub use scanner::{LineScanner, ScannedLine};
pub use summary::{DestSummary, RecordSummary};
pub use verify::{ChainBreak, ChainBreakReason, ChainReport, ChainVerifier, verify_record};
pub use words::{ConnectionEndReason, PostureChange, RefusalReason, RuleEndReason};
pub use writer::{CloseOutcome, RecordNotice, RecordWriter};

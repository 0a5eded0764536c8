// SPDX-License-Identifier: Apache-2.0
//! Reads from the record what a run has reached.

use std::collections::BTreeMap;
use std::path::Path;

use record::{AuditEvent, AuditSandbox, ReadRecordError, RecordFilter, RecordReader, parse_line};
use runner::{LearntDest, LearntDests};
use terok_clearance::{Dest, DestPattern, PacketDest, PacketHost, Protocol, Target, Timestamp};

/// Maximum destinations, as of a run that learns.
const MAX_DESTS: usize = 10_000;
/// The name of the newest run.
const NEWEST: &str = "last";

/// A run, as the record knows it.
#[derive(Debug)]
pub(super) struct RecordedRun {
    /// The sandbox.
    pub(super) sandbox: AuditSandbox,
    /// The start; `None` if the record does not go back so far.
    pub(super) started: Option<Timestamp>,
    /// The end is recorded.
    pub(super) has_ended: bool,
    /// Runs with the name.
    pub(super) namesakes: usize,
    /// Entries are missing since the start.
    pub(super) has_losses: bool,
    /// What was reached.
    pub(super) learnt: LearntDests,
}

impl RecordedRun {
    /// Reads the newest run with a name or an id, or the newest of all for `last`; `None` if there
    /// is none.
    pub(super) fn read(path: &Path, name: &str) -> Result<Option<Self>, ReadRecordError> {
        let Some(mut run) = Self::find(path, name)? else {
            return Ok(None);
        };
        run.read_connections(path)?;
        Ok(Some(run))
    }

    fn find(path: &Path, name: &str) -> Result<Option<Self>, ReadRecordError> {
        let mut filter = RecordFilter::default().kind("sandbox_started");
        if name != NEWEST {
            // The start of a long run may be in a file that is gone.
            filter = filter.kind("connected").sandbox(name);
        }
        let mut found: Option<Self> = None;
        let mut reader = RecordReader::open(path)?;
        while let Some(line) = reader.next_line()? {
            if !filter.selects(line.bytes) {
                continue;
            }
            let Ok(entry) = parse_line(line.bytes) else {
                continue;
            };
            let (Some(sandbox), Some(event)) = (entry.sandbox, entry.event) else {
                continue;
            };
            let is_start = matches!(event, AuditEvent::SandboxStarted(_));
            let is_known = found
                .as_ref()
                .is_some_and(|run| is_same_run(&run.sandbox, &sandbox));
            // Only a start makes a run newer than one that goes on at the same time.
            if !is_known && (is_start || found.is_none()) {
                let before = found.map_or(0, |run| run.namesakes);
                found = Some(Self {
                    sandbox,
                    started: is_start.then_some(entry.time),
                    has_ended: false,
                    namesakes: before.saturating_add(1),
                    has_losses: false,
                    learnt: LearntDests::default(),
                });
            }
        }
        Ok(found)
    }

    fn read_connections(&mut self, path: &Path) -> Result<(), ReadRecordError> {
        let filter = RecordFilter::default()
            .sandbox(self.sandbox.id.as_str())
            .kind("connected")
            .kind("closed")
            .kind("sandbox_ended");
        let mut losses = RecordFilter::default().kind("lost");
        if let Some(started) = self.started {
            losses = losses.since(started);
        }
        let mut dests: BTreeMap<DestPattern, LearntDest> = BTreeMap::new();
        let mut reader = RecordReader::open(path)?;
        while let Some(line) = reader.next_line()? {
            if losses.selects(line.bytes) {
                self.has_losses = true;
            }
            if !filter.selects(line.bytes) {
                continue;
            }
            let Ok(entry) = parse_line(line.bytes) else {
                continue;
            };
            let is_of_run = entry
                .sandbox
                .is_some_and(|sandbox| is_same_run(&self.sandbox, &sandbox));
            if !is_of_run {
                continue;
            }
            match entry.event {
                Some(AuditEvent::Connected(connection)) => {
                    let at = (&connection.dest, connection.port, connection.protocol);
                    if let Some(dest) = dest_entry(&mut dests, at) {
                        dest.add_connection();
                    }
                }
                Some(AuditEvent::Closed(end)) => {
                    if let Some(dest) = dest_entry(&mut dests, (&end.dest, end.port, end.protocol))
                    {
                        dest.add_bytes(end.bytes_out, end.bytes_in);
                        if let Some(process) = end.process {
                            dest.add_program(process);
                        }
                    }
                }
                Some(AuditEvent::SandboxEnded(_)) => self.has_ended = true,
                _ => {}
            }
        }
        self.learnt = LearntDests::group(dests.into_values());
        Ok(())
    }
}

fn is_same_run(one: &AuditSandbox, other: &AuditSandbox) -> bool {
    one.id == other.id && one.run == other.run
}

/// Returns the sums of a destination; `None` if no rule covers it, or for too many.
fn dest_entry<'a>(
    dests: &'a mut BTreeMap<DestPattern, LearntDest>,
    (dest, port, protocol): (&Dest, u16, Protocol),
) -> Option<&'a mut LearntDest> {
    let host = match dest.parse_target().ok()? {
        Target::Name(name) => PacketHost::Name(name),
        Target::Address(address) => PacketHost::Address(address),
    };
    let learnt = LearntDest::new(&PacketDest {
        host,
        port,
        protocol,
    })?;
    let has_room = dests.len() < MAX_DESTS;
    if !has_room && !dests.contains_key(&learnt.pattern) {
        return None;
    }
    Some(dests.entry(learnt.pattern.clone()).or_insert(learnt))
}

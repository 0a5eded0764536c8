// SPDX-License-Identifier: Apache-2.0
//! Adds a record up: each destination with its connections, bytes, and who allowed it.

use std::collections::{BTreeMap, BTreeSet};

use terok_clearance::{Action, Dest, DisplayText};

use crate::{AuditEvent, AuditOperator, AuditSandbox, RecordedEntry};

/// Sums over the entries of a record.
#[derive(Debug, Default)]
pub struct RecordSummary {
    dests: BTreeMap<Dest, DestSums>,
    /// Who made each rule of each run.
    rules: BTreeMap<RuleKey, String>,
    open: BTreeSet<(RunKey, u64)>,
    lost_entries: u64,
    has_unknown_loss: bool,
}

/// A run of a sandbox: the sandbox's id and the run's.
type RunKey = (Option<String>, Option<DisplayText>);
type RuleKey = (RunKey, DisplayText);

#[derive(Debug, Default)]
struct DestSums {
    questions: u64,
    connections: u64,
    open: u64,
    refused: u64,
    bytes_out: u64,
    bytes_in: u64,
    allowed_by: BTreeSet<String>,
}

/// The sums of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestSummary<'a> {
    /// The destination.
    pub dest: &'a Dest,
    /// The number of questions.
    pub questions: u64,
    /// The number of dialed connections.
    pub connections: u64,
    /// The number of those whose end is not in the record.
    pub open: u64,
    /// The number of refused connections.
    pub refused: u64,
    /// The bytes that left the sandboxes.
    pub bytes_out: u64,
    /// The bytes that came back.
    pub bytes_in: u64,
    /// The origins of the rules that allowed the connections, with their operators.
    pub allowed_by: Vec<&'a str>,
}

impl RecordSummary {
    /// Adds an entry. Entries come in the order of the record.
    pub fn push(&mut self, entry: &RecordedEntry) {
        let run = run_key(entry.sandbox.as_ref());
        match &entry.event {
            Some(AuditEvent::Asked(question)) => {
                let sums = self.dests.entry(question.dest.clone()).or_default();
                sums.questions = sums.questions.saturating_add(1);
            }
            Some(AuditEvent::RuleAdded(rule)) if rule.action == Action::Allow => {
                let by = rule.by.as_ref().and_then(describe_operator);
                let maker = match by {
                    Some(by) => format!("{} of {by}", rule.origin),
                    None => rule.origin.to_string(),
                };
                self.rules.insert((run, rule.rule.clone()), maker);
            }
            Some(AuditEvent::Connected(connection)) => {
                let sums = self.dests.entry(connection.dest.clone()).or_default();
                sums.connections = sums.connections.saturating_add(1);
                sums.open = sums.open.saturating_add(1);
                let rule = connection.rule.clone().map(|rule| (run.clone(), rule));
                let maker = rule.and_then(|rule| self.rules.get(&rule).cloned());
                let origin = connection.origin.as_ref().map(ToString::to_string);
                sums.allowed_by.extend(maker.or(origin));
                self.open.insert((run, connection.connection));
            }
            Some(AuditEvent::Closed(end)) => {
                let sums = self.dests.entry(end.dest.clone()).or_default();
                sums.bytes_out = sums.bytes_out.saturating_add(end.bytes_out);
                sums.bytes_in = sums.bytes_in.saturating_add(end.bytes_in);
                if self.open.remove(&(run, end.connection)) {
                    sums.open = sums.open.saturating_sub(1);
                }
            }
            Some(AuditEvent::Refused(refusal)) => {
                let sums = self.dests.entry(refusal.dest.clone()).or_default();
                sums.refused = sums.refused.saturating_add(refusal.count.into());
            }
            Some(AuditEvent::Lost(loss)) => match loss.count {
                Some(count) => self.lost_entries = self.lost_entries.saturating_add(count),
                None => self.has_unknown_loss = true,
            },
            _ => {}
        }
    }

    /// Returns the destinations, those with the most bytes first.
    pub fn dests(&self) -> Vec<DestSummary<'_>> {
        let mut rows: Vec<_> = self
            .dests
            .iter()
            .map(|(dest, sums)| DestSummary {
                dest,
                questions: sums.questions,
                connections: sums.connections,
                open: sums.open,
                refused: sums.refused,
                bytes_out: sums.bytes_out,
                bytes_in: sums.bytes_in,
                allowed_by: sums.allowed_by.iter().map(String::as_str).collect(),
            })
            .collect();
        let bytes = |row: &DestSummary<'_>| row.bytes_out.saturating_add(row.bytes_in);
        rows.sort_by_key(|row| std::cmp::Reverse((bytes(row), row.connections)));
        rows
    }

    /// Returns the number of entries that the record says are missing.
    pub const fn lost_entries(&self) -> u64 {
        self.lost_entries
    }

    /// Returns `true` if a writer ended within a line, so that entries of it may be missing.
    pub const fn has_unknown_loss(&self) -> bool {
        self.has_unknown_loss
    }
}

fn run_key(sandbox: Option<&AuditSandbox>) -> RunKey {
    let id = sandbox.map(|sandbox| sandbox.id.as_str().to_owned());
    (id, sandbox.and_then(|sandbox| sandbox.run.clone()))
}

fn describe_operator(operator: &AuditOperator) -> Option<String> {
    match (operator.uid, &operator.program) {
        (Some(uid), Some(program)) => Some(format!("uid {uid} ({program})")),
        (Some(uid), None) => Some(format!("uid {uid}")),
        (None, Some(program)) => Some(program.to_string()),
        (None, None) => None,
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The pending questions, and the permission to answer each of them once.
//!
//! The ledger is pure: callers pass events and the time, and the ledger performs no I/O and reads
//! no clock. Only the ledger creates a [`Claim`], and the hub's one call to a firewall requires a
//! [`Claim`]. A firewall therefore opens only for a recorded question with an accepted answer.

mod answer_check;
mod claim;
mod entry;
mod history;
#[cfg(test)]
mod model;
mod outcome;
mod question_index;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::sync::Arc;

use terok_clearance::{
    Action, BlockedPacket, ContainerId, Decision, DecisionAction, DisplayText, Dossier,
    EnforcementOutcome, Process, RequestId, Timestamp, WaitingConnections,
};

pub use answer_check::{ClaimError, ClaimMismatch};
pub use claim::{Claim, ClaimReceipt, QuestionTriple, RequestedScope};
pub use entry::LedgerQuestion;
pub use outcome::{AnsweredQuestion, RecordOutcome, RuleSweep, SettledClaim, WithdrawnQuestion};

pub use stored::{QuestionChange, StoredQuestion};

use claim::ClaimTarget;
use entry::LedgerEntry;
use history::{DecisionHistory, PastDecision};
use question_index::QuestionIndex;

use crate::scope_support::ScopeSupport;

/// Maximum pending questions of all sandboxes together.
pub const MAX_PENDING: usize = 131_072;
/// Maximum bytes in the texts of all pending questions. The limit holds 131,072 questions of usual
/// length, and bounds the memory for questions with long texts.
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Maximum decisions in the history.
pub const MAX_HISTORY: usize = 1_000;

/// Maximum ids under which the history finds one decision.
const MAX_IDS_PER_DECISION: usize = 64;

/// Every pending question, and the last decisions.
///
/// A question is pending from [`record`](Self::record) until an answer, a dismissal, a withdrawal
/// or an eviction. Questions are numbered in the order of arrival, from 1.
#[derive(Debug)]
pub struct Ledger {
    questions: BTreeMap<u64, Box<LedgerEntry>>,
    by_id: QuestionIndex,
    by_packet: QuestionIndex,
    sandboxes: BTreeMap<ContainerId, SandboxQuestions>,
    /// The sandboxes, ordered by their number of pending questions.
    sandboxes_by_load: BTreeSet<(usize, ContainerId)>,
    hasher: RandomState,
    newest_number: u64,
    max_pending: usize,
    /// The sum of [`LedgerEntry::text_bytes`] over all questions.
    text_bytes: usize,
    max_text_bytes: usize,
    support: ScopeSupport,
    history: DecisionHistory,
    /// The questions that have changed since the changes were last taken; `None` if changes are not
    /// recorded.
    changed: Option<BTreeSet<u64>>,
}

#[derive(Debug, Default)]
struct SandboxQuestions {
    pending: BTreeSet<u64>,
    dossier: Dossier,
}

impl Ledger {
    /// Creates an empty ledger with at most `limit` pending questions. The scopes of
    /// answers depend on `support`.
    pub fn new(limit: usize, support: ScopeSupport) -> Self {
        Self {
            questions: BTreeMap::new(),
            by_id: QuestionIndex::default(),
            by_packet: QuestionIndex::default(),
            sandboxes: BTreeMap::new(),
            sandboxes_by_load: BTreeSet::new(),
            hasher: RandomState::new(),
            newest_number: 0,
            max_pending: limit.max(1),
            text_bytes: 0,
            max_text_bytes: MAX_TEXT_BYTES,
            support,
            history: DecisionHistory::new(MAX_HISTORY),
            changed: None,
        }
    }

    /// Records a blocked packet, at `now` (microseconds since the epoch).
    ///
    /// A packet with the sandbox, destination, address, port, protocol and zone of a pending question
    /// is a repeat: the question's count rises, and the packet's id becomes another id of the
    /// question. A full ledger first evicts the oldest questions of the sandbox with the most
    /// pending questions.
    pub fn record(&mut self, blocked: BlockedPacket, now: Timestamp) -> RecordOutcome {
        let packet = entry::hash_packet(&blocked, &self.hasher);
        let questions = &self.questions;
        let known = self.by_packet.find(packet, |number| {
            questions
                .get(&number)
                .is_some_and(|e| e.matches_packet(&blocked))
        });
        if let Some(number) = known {
            self.record_repeat(number, blocked, now);
            return RecordOutcome {
                number,
                is_new: false,
                evicted: self.evict(self.max_pending),
            };
        }
        let evicted = self.evict(self.max_pending.saturating_sub(1));
        let number = self.newest_number.saturating_add(1);
        self.newest_number = number;
        let mut entry = Box::new(LedgerEntry::new(blocked, packet, now));
        if self.numbers_with_id(entry.id().as_str()).next().is_some() {
            entry.assign_unique_id(number);
        }
        self.insert(number, entry);
        RecordOutcome {
            number,
            is_new: true,
            evicted,
        }
    }

    /// Sets the connections that are held for the question `request`.
    ///
    /// Returns the question's number if the value changed. An unknown question is ignored; of
    /// several questions with that id, the newest counts.
    pub fn set_waiting(&mut self, request: &RequestId, waiting: WaitingConnections) -> Option<u64> {
        let number = self.numbers_with_id(request.as_str()).max()?;
        let entry = self.questions.get_mut(&number)?;
        entry.set_waiting(waiting).then_some(number)
    }

    /// Sets the process that sent the packet of the question `request`.
    ///
    /// Returns the question's number, as [`set_waiting`](Self::set_waiting) does.
    pub fn set_process(&mut self, request: &RequestId, process: Arc<Process>) -> Option<u64> {
        self.change_details(request, |entry| entry.set_process(process))
    }

    /// Sets what an approver says about the question `request`.
    ///
    /// Returns the question's number, as [`set_waiting`](Self::set_waiting) does.
    pub fn set_approver_note(&mut self, request: &RequestId, note: DisplayText) -> Option<u64> {
        self.change_details(request, |entry| entry.set_approver_note(note))
    }

    /// Changes the texts of a question. Returns its number if `change` returned `true`.
    fn change_details(
        &mut self,
        request: &RequestId,
        change: impl FnOnce(&mut LedgerEntry) -> bool,
    ) -> Option<u64> {
        let number = self.numbers_with_id(request.as_str()).max()?;
        let entry = self.questions.get_mut(&number)?;
        let before = entry.text_bytes();
        let changed = change(entry);
        entry.recompute_text_bytes();
        let others = self.text_bytes.saturating_sub(before);
        self.text_bytes = others.saturating_add(entry.text_bytes());
        if changed {
            self.note_change(number);
        }
        changed.then_some(number)
    }

    /// Claims the question that `asked` names, for `action`.
    ///
    /// The [`Claim`] goes to the firewall. The [`ClaimReceipt`] returns to [`settle`](Self::settle)
    /// with the outcome; until then the question cannot be claimed again. Dropping the receipt
    /// releases the question.
    pub fn claim(
        &mut self,
        asked: QuestionTriple<'_>,
        action: Action,
        requested: RequestedScope,
        by: DisplayText,
        now: Timestamp,
    ) -> Result<(Claim, ClaimReceipt), ClaimError> {
        let number = self.find_claimable(asked)?;
        let Some(entry) = self.questions.get_mut(&number) else {
            return Err(ClaimError::UnknownRequest);
        };
        let scope = answer_check::resolve_scope(entry.blocked(), self.support, requested)?;
        Ok(entry.claim(number, asked.request, action, scope, by, now))
    }

    /// Claims the question that `asked` names like [`claim`](Self::claim), also if it was answered
    /// before: then the answer is a new one to the same question.
    pub fn claim_again(
        &self,
        asked: QuestionTriple<'_>,
        action: Action,
        requested: RequestedScope,
        by: DisplayText,
        now: Timestamp,
    ) -> Result<(Claim, ClaimReceipt), ClaimError> {
        let past = self.history.find_applied(asked.request);
        let question = past.and_then(|past| past.question.as_ref());
        let question = question.ok_or(ClaimError::UnknownRequest)?;
        answer_check::check_triple(question, asked)?;
        let scope = answer_check::resolve_scope(question, self.support, requested)?;
        let (target, id) = (ClaimTarget::Answered, question.request.clone());
        Ok(Claim::issue(question, target, id, action, scope, by, now))
    }

    /// Records the outcome of a claim, at `now`.
    ///
    /// [`EnforcementOutcome::Applied`] removes the question, and [`Ledger::sweep_rule`] then finds
    /// further questions that the same rule answers. After any other outcome the question is
    /// pending as before, unless it was withdrawn in the meantime.
    pub fn settle(
        &mut self,
        receipt: ClaimReceipt,
        outcome: &EnforcementOutcome,
        now: Timestamp,
    ) -> SettledClaim {
        let decision = receipt.to_decision(outcome, now);
        let target = receipt.target;
        let mut ids = vec![receipt.answered_id.clone()];
        drop(receipt);
        if let ClaimTarget::Pending(number) = target
            && let Some(entry) = self.questions.get(&number)
        {
            push_unique(&mut ids, entry.question(self.support).newest_id());
        }
        let (question, question_ids) = match target {
            _ if !outcome.is_applied() => (None, Vec::new()),
            ClaimTarget::Pending(number) => match self.remove(number) {
                Some(entry) => {
                    let (question, ids) = entry.into_packet();
                    (Some(question), ids)
                }
                None => (None, Vec::new()),
            },
            ClaimTarget::Answered => match self.history.find_applied(decision.request.as_str()) {
                Some(past) => (past.question.clone(), past.ids.clone()),
                None => (None, Vec::new()),
            },
        };
        // A question that was withdrawn and asked again may belong to another ruleset, in which
        // this rule does not exist.
        let sweep = question.as_ref().map(|question| RuleSweep {
            decision: decision.clone(),
            zone: question.zone,
            after: 0,
            ids_left: MAX_IDS_PER_DECISION,
        });
        self.history.push(PastDecision {
            decision: decision.clone(),
            ids: question_ids,
            question,
        });
        SettledClaim {
            sweep,
            answered: AnsweredQuestion { decision, ids },
        }
    }

    /// Answers a bounded number of other questions that the rule covers.
    ///
    /// Questions with an answer in progress are left alone. Returns the answered questions, and the
    /// rest of the search if questions remain to be examined.
    pub fn sweep_rule(&mut self, sweep: RuleSweep) -> (Vec<AnsweredQuestion>, Option<RuleSweep>) {
        /// Keeps the lock of the hub below one millisecond.
        const MAX_QUESTIONS_PER_SWEEP: usize = 1024;
        let mut answered = Vec::new();
        let (Some(scope), Some(sandbox)) = (
            &sweep.decision.scope,
            self.sandboxes.get(&sweep.decision.container),
        ) else {
            return (answered, None);
        };
        let next = sweep.after.saturating_add(1);
        let batch: Vec<u64> = sandbox
            .pending
            .range(next..)
            .take(MAX_QUESTIONS_PER_SWEEP)
            .copied()
            .collect();
        let after = batch
            .last()
            .copied()
            .filter(|_| batch.len() == MAX_QUESTIONS_PER_SWEEP);
        let covered = batch.into_iter().filter(|number| {
            self.questions.get(number).is_some_and(|entry| {
                let question = entry.question(self.support);
                question.zone() == sweep.zone
                    && question.is_covered_by(scope)
                    && entry.in_flight_decision().is_none()
            })
        });
        let mut ids_left = sweep.ids_left;
        for number in covered.collect::<Vec<_>>() {
            let Some(entry) = self.remove(number) else {
                continue;
            };
            let question = entry.question(self.support);
            answered.push(AnsweredQuestion {
                decision: Decision {
                    request: question.id().clone(),
                    ..sweep.decision.clone()
                },
                ids: vec![question.newest_id().clone()],
            });
            let also: Vec<_> = entry.ids().take(ids_left).cloned().collect();
            ids_left = ids_left.saturating_sub(also.len());
            self.history.add_ids(&sweep.decision.request, also);
        }
        let rest = after.map(|after| RuleSweep {
            after,
            ids_left,
            ..sweep
        });
        (answered, rest)
    }

    /// Dismisses the question that `asked` names, without a rule. The next packet asks again.
    pub fn dismiss(
        &mut self,
        asked: QuestionTriple<'_>,
        by: DisplayText,
        now: Timestamp,
    ) -> Result<AnsweredQuestion, ClaimError> {
        let number = self.find_claimable(asked)?;
        let Some(entry) = self.remove(number) else {
            return Err(ClaimError::UnknownRequest);
        };
        let question = entry.question(self.support);
        let decision = Decision {
            request: question.id().clone(),
            container: question.container().clone(),
            dest: question.dest().clone(),
            action: DecisionAction::Dismiss,
            scope: None,
            by,
            at: now,
            ok: true,
            reason: None,
        };
        let newest = question.newest_id().clone();
        let (question, ids) = entry.into_packet();
        self.history.push(PastDecision {
            decision: decision.clone(),
            ids,
            question: Some(question),
        });
        let ids = vec![newest];
        Ok(AnsweredQuestion { decision, ids })
    }

    /// Withdraws every question of `container`, including those with an answer in progress.
    pub fn withdraw_container(&mut self, container: &ContainerId) -> Vec<WithdrawnQuestion> {
        let numbers = match self.sandboxes.get(container) {
            Some(sandbox) => sandbox.pending.iter().copied().collect(),
            None => Vec::new(),
        };
        self.withdraw(numbers)
    }

    /// Withdraws every question of every sandbox.
    pub fn withdraw_all(&mut self) -> Vec<WithdrawnQuestion> {
        self.withdraw(self.questions.keys().copied().collect())
    }

    /// Returns the pending question with this number.
    pub fn question(&self, number: u64) -> Option<LedgerQuestion<'_>> {
        self.questions
            .get(&number)
            .map(|entry| entry.question(self.support))
    }

    /// Returns the newest pending question with this id.
    pub fn find_question(&self, request: &RequestId) -> Option<LedgerQuestion<'_>> {
        self.question(self.numbers_with_id(request.as_str()).max()?)
    }

    /// Returns the questions with a number over `after`, oldest first, each with its number.
    pub fn pending_after(&self, after: u64) -> impl Iterator<Item = (u64, LedgerQuestion<'_>)> {
        self.questions
            .range(after.saturating_add(1)..)
            .map(|(number, entry)| (*number, entry.question(self.support)))
    }

    /// Returns the number of the newest question, pending or not; 0 before the first.
    pub const fn newest_number(&self) -> u64 {
        self.newest_number
    }

    /// Returns the number of pending questions.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Returns `true` if no question is pending.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Returns the last decisions, newest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.history.newest_first()
    }

    /// Finds the question that `asked` names, unless an answer is in progress.
    fn find_claimable(&self, asked: QuestionTriple<'_>) -> Result<u64, ClaimError> {
        // A restarted reader may reuse an id. Among the questions with that id, the newest with the
        // right sandbox and destination counts, otherwise the newest of all.
        let mut candidate: Option<(u64, bool)> = None;
        // An answer must not reach another zone: if the questions that fit differ in the zone, only
        // the one counts that has this id as its own.
        let (mut zone, mut zones_differ, mut own) = (None, false, None);
        for number in self.numbers_with_id(asked.request) {
            let Some(entry) = self.questions.get(&number) else {
                continue;
            };
            let fits = entry.is_about(asked.container, asked.dest);
            if candidate.is_none_or(|best| (best.1, best.0) < (fits, number)) {
                candidate = Some((number, fits));
            }
            if fits {
                zones_differ |= *zone.get_or_insert_with(|| entry.zone()) != entry.zone();
                if entry.id().as_str() == asked.request {
                    own = Some((number, fits));
                }
            }
        }
        if zones_differ {
            candidate = own;
        }
        let entry = candidate.and_then(|(number, _)| Some((number, self.questions.get(&number)?)));
        let Some((number, entry)) = entry else {
            return Err(match self.history.find_applied(asked.request) {
                Some(past) => ClaimError::AlreadyDecided(Box::new(past.decision.clone())),
                None => ClaimError::UnknownRequest,
            });
        };
        if let Some(decision) = entry.in_flight_decision() {
            return Err(ClaimError::BeingDecided(Box::new(decision)));
        }
        answer_check::check_triple(entry.blocked(), asked)?;
        Ok(number)
    }

    /// Returns the numbers of the questions with this id.
    fn numbers_with_id<'a>(&'a self, id: &'a str) -> impl Iterator<Item = u64> + 'a {
        let hash = entry::hash_id(id, &self.hasher);
        self.by_id.find_all(hash).filter(move |number| {
            self.questions
                .get(number)
                .is_some_and(|entry| entry.has_id(id))
        })
    }

    fn record_repeat(&mut self, number: u64, blocked: BlockedPacket, now: Timestamp) {
        let Some(entry) = self.questions.get_mut(&number) else {
            return;
        };
        let before = entry.text_bytes();
        let (added, forgotten) = entry.record_repeat(blocked, now);
        if let Some(sandbox) = self.sandboxes.get_mut(entry.container()) {
            entry.share_dossier(&mut sandbox.dossier);
        }
        entry.recompute_text_bytes();
        self.text_bytes = self
            .text_bytes
            .saturating_sub(before)
            .saturating_add(entry.text_bytes());
        self.note_change(number);
        let hash = |id: RequestId| entry::hash_id(id.as_str(), &self.hasher);
        if let Some(id) = added {
            self.by_id.insert(hash(id), number);
        }
        if let Some(id) = forgotten {
            self.by_id.remove(hash(id), number);
        }
    }

    fn add_to_sandbox(&mut self, number: u64, entry: &mut LedgerEntry) {
        let container = entry.container().clone();
        let sandbox = self.sandboxes.entry(container.clone()).or_default();
        entry.share_dossier(&mut sandbox.dossier);
        let mut rank = (sandbox.pending.len(), container);
        self.sandboxes_by_load.remove(&rank);
        sandbox.pending.insert(number);
        rank.0 = sandbox.pending.len();
        self.sandboxes_by_load.insert(rank);
    }

    fn remove_from_sandbox(&mut self, number: u64, container: &ContainerId) {
        let Some(sandbox) = self.sandboxes.get_mut(container) else {
            return;
        };
        let mut rank = (sandbox.pending.len(), container.clone());
        self.sandboxes_by_load.remove(&rank);
        sandbox.pending.remove(&number);
        rank.0 = sandbox.pending.len();
        if rank.0 == 0 {
            self.sandboxes.remove(container);
        } else {
            self.sandboxes_by_load.insert(rank);
        }
    }

    /// Evicts until at most `limit` questions are pending and their texts fit the memory limit. The
    /// text limit never evicts the last question.
    fn evict(&mut self, limit: usize) -> Vec<WithdrawnQuestion> {
        let mut evicted = Vec::new();
        while self.questions.len() > limit
            || (self.text_bytes > self.max_text_bytes && self.questions.len() > 1)
        {
            let Some(oldest) = self.oldest_of_busiest_sandbox() else {
                break;
            };
            let Some(entry) = self.remove(oldest) else {
                break;
            };
            evicted.push(WithdrawnQuestion {
                entry,
                support: self.support,
            });
        }
        evicted
    }

    fn oldest_of_busiest_sandbox(&self) -> Option<u64> {
        let (_, container) = self.sandboxes_by_load.last()?;
        self.sandboxes.get(container)?.pending.first().copied()
    }

    fn withdraw(&mut self, numbers: Vec<u64>) -> Vec<WithdrawnQuestion> {
        numbers
            .into_iter()
            .filter_map(|number| {
                let entry = self.remove(number)?;
                Some(WithdrawnQuestion {
                    entry,
                    support: self.support,
                })
            })
            .collect()
    }

    fn remove(&mut self, number: u64) -> Option<Box<LedgerEntry>> {
        let entry = self.questions.remove(&number)?;
        self.text_bytes = self.text_bytes.saturating_sub(entry.text_bytes());
        for id in entry.ids() {
            let hash = entry::hash_id(id.as_str(), &self.hasher);
            self.by_id.remove(hash, number);
        }
        self.by_packet.remove(entry.packet_hash(), number);
        self.remove_from_sandbox(number, entry.container());
        self.note_change(number);
        if self.questions.is_empty() {
            // Frees the memory that a burst of questions needed.
            self.by_id = QuestionIndex::default();
            self.by_packet = QuestionIndex::default();
        }
        Some(entry)
    }
}

fn push_unique(ids: &mut Vec<RequestId>, id: &RequestId) {
    if !ids.contains(id) {
        ids.push(id.clone());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What was asked and not yet answered, and who may answer it.
//!
//! The ledger does no input or output and reads no clock: events and the time come in, values go
//! out. It is the only maker of a [`Claim`], and a [`Claim`] is the only thing that the hub's one
//! call towards a firewall takes; so nothing is opened that was not asked for and answered.

mod claim;
mod entry;
mod history;
#[cfg(test)]
mod model;
mod question_index;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;

use terok_clearance::{
    Action, BlockedPacket, ContainerId, Decision, DecisionAction, DisplayText, Dossier,
    EnforcementOutcome, RequestId, Timestamp,
};

pub use claim::{Claim, ClaimError, ClaimMismatch, ClaimReceipt, QuestionTriple, RequestedScope};
pub use entry::LedgerQuestion;

use entry::LedgerEntry;
use history::DecisionHistory;
use question_index::QuestionIndex;

/// How many questions may be pending at once, all sandboxes together.
pub const MAX_PENDING: usize = 131_072;
/// How many bytes the texts of pending questions may take, all sandboxes together: as many as
/// 131,072 questions of a usual length do, however long somebody makes them.
const MAX_TEXT_BYTES: usize = 64 << 20;
/// How many decisions are remembered.
pub const MAX_HISTORY: usize = 1_000;

/// Under how many ids a decision is remembered.
const MAX_IDS_PER_DECISION: usize = 64;

/// Every pending question, and the last decisions.
///
/// A question is pending from [`record`](Self::record) until it is answered, put away, cleared
/// with its sandbox, or evicted. Questions are numbered in the order in which they came, from 1.
#[derive(Debug)]
pub struct Ledger {
    questions: BTreeMap<u64, Box<LedgerEntry>>,
    by_id: QuestionIndex,
    by_packet: QuestionIndex,
    sandboxes: BTreeMap<ContainerId, SandboxQuestions>,
    /// The sandboxes by how many questions they have pending.
    sandboxes_by_load: BTreeSet<(usize, ContainerId)>,
    hasher: RandomState,
    newest_number: u64,
    max_pending: usize,
    /// The bytes of the questions' texts, and how many they may be.
    text_bytes: usize,
    max_text_bytes: usize,
    supports_ports: bool,
    history: DecisionHistory,
}

#[derive(Debug, Default)]
struct SandboxQuestions {
    pending: BTreeSet<u64>,
    dossier: Dossier,
}

/// What [`Ledger::record`] made of a blocked packet.
#[derive(Debug)]
pub struct RecordOutcome {
    /// The question's number.
    pub number: u64,
    /// Whether it is a new question, not one more packet of a pending one.
    pub is_new: bool,
    /// The questions that had to go so that this one fits.
    pub evicted: Vec<WithdrawnQuestion>,
}

/// A question that was answered, or was not though somebody tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredQuestion {
    /// The record of it, under the question's own id.
    pub decision: Decision,
    /// The ids under which clients of Clearance1 may know it: the one that the answer named, and
    /// the reader's newest.
    pub ids: Vec<RequestId>,
}

/// What became of a claim.
#[derive(Debug)]
pub struct SettledClaim {
    /// The claim's own question.
    pub answered: AnsweredQuestion,
    /// The rule that it became, for [`Ledger::sweep_rule`].
    pub sweep: Option<RuleSweep>,
}

/// A rule, and how far the search for questions that it answers has come.
#[derive(Debug)]
pub struct RuleSweep {
    decision: Decision,
    /// The number of the last question that was looked at.
    after: u64,
    /// Under how many more ids the decision is remembered.
    ids_left: usize,
}

/// A question that is no longer pending, though nobody answered it.
#[derive(Debug)]
pub struct WithdrawnQuestion {
    entry: Box<LedgerEntry>,
    supports_ports: bool,
}

impl WithdrawnQuestion {
    /// Returns the question as it was last.
    pub fn question(&self) -> LedgerQuestion<'_> {
        self.entry.question(self.supports_ports)
    }
}

impl Ledger {
    /// Makes an empty ledger that holds at most `limit` pending questions. `narrow` says whether
    /// the firewall can open a single port: it decides what a question is taken to ask for.
    pub fn new(limit: usize, narrow: bool) -> Self {
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
            supports_ports: narrow,
            history: DecisionHistory::new(MAX_HISTORY),
        }
    }

    /// Notes a blocked packet, at `now` (microseconds since the epoch).
    ///
    /// A packet like a pending one (same sandbox, destination, address, port and protocol) is no
    /// new question: it raises the count, and its id becomes one more name of that question. A
    /// full ledger first evicts the oldest questions of the sandbox that has the most pending.
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
        self.add_to_sandbox(number, &mut entry);
        for name in entry.ids() {
            let hash = entry::hash_id(name.as_str(), &self.hasher);
            self.by_id.insert(hash, number);
        }
        self.by_packet.insert(packet, number);
        entry.recompute_text_bytes();
        self.text_bytes = self.text_bytes.saturating_add(entry.text_bytes());
        self.questions.insert(number, entry);
        RecordOutcome {
            number,
            is_new: true,
            evicted,
        }
    }

    /// Hands out the right to carry out `action` on the question that `asked` names.
    ///
    /// The [`Claim`] goes to the firewall, the
    /// [`ClaimReceipt`] comes back with the outcome to [`settle`](Self::settle); until then nobody
    /// else can claim the question. A receipt that is dropped instead frees it again.
    pub fn claim(
        &mut self,
        asked: QuestionTriple<'_>,
        action: Action,
        reach: RequestedScope,
        by: DisplayText,
        now: Timestamp,
    ) -> Result<(Claim, ClaimReceipt), ClaimError> {
        let narrow = self.supports_ports;
        let number = self.find_claimable(asked)?;
        let Some(entry) = self.questions.get_mut(&number) else {
            return Err(ClaimError::UnknownRequest);
        };
        let scope = claim::resolve_scope(&entry.question(narrow), reach)?;
        Ok(entry.claim(number, asked.request, action, scope, by, now))
    }

    /// Notes what became of a claim, at `now`.
    ///
    /// With [`EnforcementOutcome::Applied`] the question is answered and gone; [`Ledger::sweep_rule`] then finds
    /// the others that the same rule answers. Otherwise the question is pending as before, unless
    /// it was withdrawn in the meantime.
    pub fn settle(
        &mut self,
        receipt: ClaimReceipt,
        outcome: &EnforcementOutcome,
        now: Timestamp,
    ) -> SettledClaim {
        let decision = receipt.to_decision(outcome, now);
        let number = receipt.number();
        let mut ids = vec![receipt.answered_id.clone()];
        drop(receipt);
        if let Some(entry) = self.questions.get(&number) {
            push_unique(&mut ids, entry.question(self.supports_ports).newest_id());
        }
        let gone = if outcome.is_applied() {
            self.remove(number)
        } else {
            None
        };
        let names = gone.iter().flat_map(|entry| entry.ids().cloned());
        self.history.push(decision.clone(), names.collect());
        SettledClaim {
            // A question that was withdrawn meanwhile and is asked again is perhaps asked of
            // another ruleset: no rule of this one answers it.
            sweep: gone.map(|_| RuleSweep {
                decision: decision.clone(),
                after: 0,
                ids_left: MAX_IDS_PER_DECISION,
            }),
            answered: AnsweredQuestion { decision, ids },
        }
    }

    /// Answers other questions of the sandbox that a rule covers and nobody is answering, for
    /// nobody is to be asked about what is decided. Looks at a bounded number of them, and
    /// returns with those that it answered what is left to look at.
    pub fn sweep_rule(&mut self, cover: RuleSweep) -> (Vec<AnsweredQuestion>, Option<RuleSweep>) {
        /// So few that everybody else is kept waiting for less than a millisecond.
        const MAX_QUESTIONS_PER_SWEEP: usize = 1024;
        let mut answered = Vec::new();
        let (Some(scope), Some(sandbox)) = (
            &cover.decision.scope,
            self.sandboxes.get(&cover.decision.container),
        ) else {
            return (answered, None);
        };
        let next = cover.after.saturating_add(1);
        let turn: Vec<u64> = sandbox
            .pending
            .range(next..)
            .take(MAX_QUESTIONS_PER_SWEEP)
            .copied()
            .collect();
        let after = turn
            .last()
            .copied()
            .filter(|_| turn.len() == MAX_QUESTIONS_PER_SWEEP);
        let covered = turn.into_iter().filter(|number| {
            self.questions.get(number).is_some_and(|entry| {
                entry.question(self.supports_ports).is_covered_by(scope)
                    && entry.in_flight_decision().is_none()
            })
        });
        let mut names = cover.ids_left;
        for number in covered.collect::<Vec<_>>() {
            let Some(entry) = self.remove(number) else {
                continue;
            };
            let question = entry.question(self.supports_ports);
            answered.push(AnsweredQuestion {
                decision: Decision {
                    request: question.id().clone(),
                    ..cover.decision.clone()
                },
                ids: vec![question.newest_id().clone()],
            });
            let also: Vec<_> = entry.ids().take(names).cloned().collect();
            names = names.saturating_sub(also.len());
            self.history.add_ids(&cover.decision.request, also);
        }
        let rest = after.map(|after| RuleSweep {
            after,
            ids_left: names,
            ..cover
        });
        (answered, rest)
    }

    /// Puts the question that `asked` names away without a rule; the next packet asks again.
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
        let question = entry.question(self.supports_ports);
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
        let names = entry.ids().cloned().collect();
        self.history.push(decision.clone(), names);
        let ids = vec![question.newest_id().clone()];
        Ok(AnsweredQuestion { decision, ids })
    }

    /// Withdraws every question of `container`, those that are being answered too.
    pub fn withdraw_container(&mut self, container: &ContainerId) -> Vec<WithdrawnQuestion> {
        let numbers = match self.sandboxes.get(container) {
            Some(sandbox) => sandbox.pending.iter().copied().collect(),
            None => Vec::new(),
        };
        self.withdraw(numbers)
    }

    /// Withdraws every question, whosever it is.
    pub fn withdraw_all(&mut self) -> Vec<WithdrawnQuestion> {
        self.withdraw(self.questions.keys().copied().collect())
    }

    /// Returns the pending question with this number.
    pub fn question(&self, number: u64) -> Option<LedgerQuestion<'_>> {
        self.questions
            .get(&number)
            .map(|entry| entry.question(self.supports_ports))
    }

    /// Returns the questions with a number over `after`, oldest first, each with its number.
    pub fn pending_after(&self, after: u64) -> impl Iterator<Item = (u64, LedgerQuestion<'_>)> {
        self.questions
            .range(after.saturating_add(1)..)
            .map(|(number, entry)| (*number, entry.question(self.supports_ports)))
    }

    /// Returns the number of the question that came last, pending or not; 0 before the first.
    pub const fn newest_number(&self) -> u64 {
        self.newest_number
    }

    /// Returns how many questions are pending.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Says whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Returns the last decisions, newest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.history.newest_first()
    }

    /// Finds the question that `asked` names and that nobody is answering.
    fn find_claimable(&self, asked: QuestionTriple<'_>) -> Result<u64, ClaimError> {
        // A reader that restarts may give an id again: among those that bear it, the one that
        // fits is meant, and otherwise the newest.
        let mut candidate: Option<(u64, bool)> = None;
        for number in self.numbers_with_id(asked.request) {
            let fits = self
                .questions
                .get(&number)
                .is_some_and(|e| e.is_about(asked.container, asked.dest));
            if candidate.is_none_or(|best| (best.1, best.0) < (fits, number)) {
                candidate = Some((number, fits));
            }
        }
        let entry = candidate.and_then(|(number, _)| Some((number, self.questions.get(&number)?)));
        let Some((number, entry)) = entry else {
            return Err(match self.history.find_applied(asked.request) {
                Some(decision) => ClaimError::AlreadyDecided(Box::new(decision.clone())),
                None => ClaimError::UnknownRequest,
            });
        };
        if let Some(decision) = entry.in_flight_decision() {
            return Err(ClaimError::BeingDecided(Box::new(decision)));
        }
        claim::check_triple(&entry.question(self.supports_ports), asked)?;
        Ok(number)
    }

    /// Returns the numbers of the questions that bear this id.
    fn numbers_with_id<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        let hash = entry::hash_id(name, &self.hasher);
        self.by_id.find_all(hash).filter(move |number| {
            self.questions
                .get(number)
                .is_some_and(|entry| entry.has_id(name))
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
        let hash = |name: RequestId| entry::hash_id(name.as_str(), &self.hasher);
        if let Some(name) = added {
            self.by_id.insert(hash(name), number);
        }
        if let Some(name) = forgotten {
            self.by_id.remove(hash(name), number);
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

    /// Evicts until at most `limit` questions are pending and their texts fit, but for the last.
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
                supports_ports: self.supports_ports,
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
                    supports_ports: self.supports_ports,
                })
            })
            .collect()
    }

    fn remove(&mut self, number: u64) -> Option<Box<LedgerEntry>> {
        let entry = self.questions.remove(&number)?;
        self.text_bytes = self.text_bytes.saturating_sub(entry.text_bytes());
        for name in entry.ids() {
            let hash = entry::hash_id(name.as_str(), &self.hasher);
            self.by_id.remove(hash, number);
        }
        self.by_packet.remove(entry.packet_hash(), number);
        self.remove_from_sandbox(number, entry.container());
        if self.questions.is_empty() {
            // A burst must not leave its tables behind.
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

// SPDX-License-Identifier: Apache-2.0
//! What was asked and not yet answered, and who may answer it.
//!
//! The ledger does no input or output and reads no clock: events and the time come in, values go
//! out. It is the only maker of a [`Claim`], and a [`Claim`] is the only thing that the hub's one
//! call towards a firewall takes; so nothing is opened that was not asked for and answered.

mod claim;
mod entry;
mod history;
mod index;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;

use terok_clearance::{
    Action, BlockedPacket, ContainerId, Decision, DecisionAction, DisplayText, Dossier,
    EnforcementOutcome, RequestId,
};

pub use claim::{Asked, Claim, Mismatch, Reach, Receipt, Refusal};
pub use entry::Question;

use entry::Entry;
use history::History;
use index::Index;

/// How many questions may be pending at once, all sandboxes together.
pub const PENDING_LIMIT: usize = 131_072;
/// How many bytes the texts of pending questions may take, all sandboxes together: as many as
/// 131,072 questions of a usual length do, however long somebody makes them.
const TEXT_LIMIT: usize = 64 << 20;
/// How many decisions are remembered.
pub const HISTORY_LIMIT: usize = 1_000;

/// Under how many ids a decision is remembered.
const NAMES_LIMIT: usize = 64;

/// Every pending question, and the last decisions.
///
/// A question is pending from [`record`](Self::record) until it is answered, put away, cleared
/// with its sandbox, or evicted. Questions are numbered in the order in which they came, from 1.
#[derive(Debug)]
pub struct Ledger {
    questions: BTreeMap<u64, Box<Entry>>,
    by_name: Index,
    by_packet: Index,
    sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// The sandboxes by how many questions they have pending.
    fullest: BTreeSet<(usize, ContainerId)>,
    hasher: RandomState,
    newest: u64,
    limit: usize,
    /// The bytes of the questions' texts, and how many they may be.
    text: usize,
    text_limit: usize,
    narrow: bool,
    history: History,
}

#[derive(Debug, Default)]
struct Sandbox {
    pending: BTreeSet<u64>,
    dossier: Dossier,
}

/// What [`Ledger::record`] made of a blocked packet.
#[derive(Debug)]
pub struct Recorded {
    /// The question's number.
    pub number: u64,
    /// Whether it is a new question, not one more packet of a pending one.
    pub new: bool,
    /// The questions that had to go so that this one fits.
    pub evicted: Vec<Withdrawn>,
}

/// A question that was answered, or was not though somebody tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The record of it, under the question's own id.
    pub decision: Decision,
    /// The ids under which clients of Clearance1 may know it: the one that the answer named, and
    /// the reader's newest.
    pub ids: Vec<RequestId>,
}

/// What became of a claim.
#[derive(Debug)]
pub struct Settled {
    /// The claim's own question.
    pub answered: Answered,
    /// The rule that it became, for [`Ledger::cover`].
    pub covers: Option<Cover>,
}

/// A rule, and how far the search for questions that it answers has come.
#[derive(Debug)]
pub struct Cover {
    decision: Decision,
    /// The number of the last question that was looked at.
    after: u64,
    /// Under how many more ids the decision is remembered.
    names: usize,
}

/// A question that is no longer pending, though nobody answered it.
#[derive(Debug)]
pub struct Withdrawn {
    entry: Box<Entry>,
    narrow: bool,
}

impl Withdrawn {
    /// Returns the question as it was last.
    pub fn question(&self) -> Question<'_> {
        self.entry.question(self.narrow)
    }
}

impl Ledger {
    /// Makes an empty ledger that holds at most `limit` pending questions. `narrow` says whether
    /// the firewall can open a single port: it decides what a question is taken to ask for.
    pub fn new(limit: usize, narrow: bool) -> Self {
        Self {
            questions: BTreeMap::new(),
            by_name: Index::default(),
            by_packet: Index::default(),
            sandboxes: BTreeMap::new(),
            fullest: BTreeSet::new(),
            hasher: RandomState::new(),
            newest: 0,
            limit: limit.max(1),
            text: 0,
            text_limit: TEXT_LIMIT,
            narrow,
            history: History::new(HISTORY_LIMIT),
        }
    }

    /// Notes a blocked packet, at `now` (microseconds since the epoch).
    ///
    /// A packet like a pending one (same sandbox, destination, address, port and protocol) is no
    /// new question: it raises the count, and its id becomes one more name of that question. A
    /// full ledger first evicts the oldest questions of the sandbox that has the most pending.
    pub fn record(&mut self, blocked: BlockedPacket, now: u64) -> Recorded {
        let packet = entry::packet_hash(&blocked, &self.hasher);
        let questions = &self.questions;
        let known = self.by_packet.find(packet, |number| {
            questions.get(&number).is_some_and(|e| e.is_of(&blocked))
        });
        if let Some(number) = known {
            self.repeat(number, blocked, now);
            return Recorded {
                number,
                new: false,
                evicted: self.evict(self.limit),
            };
        }
        let evicted = self.evict(self.limit.saturating_sub(1));
        let number = self.newest.saturating_add(1);
        self.newest = number;
        let mut entry = Box::new(Entry::new(blocked, packet, now));
        if self.named(entry.id().as_str()).next().is_some() {
            entry.rename(number);
        }
        self.enter_sandbox(number, &mut entry);
        for name in entry.names() {
            let hash = entry::name_hash(name.as_str(), &self.hasher);
            self.by_name.insert(hash, number);
        }
        self.by_packet.insert(packet, number);
        entry.weigh();
        self.text = self.text.saturating_add(entry.text());
        self.questions.insert(number, entry);
        Recorded {
            number,
            new: true,
            evicted,
        }
    }

    /// Hands out the right to carry out `action` on the question that `asked` names.
    ///
    /// The [`Claim`] goes to the firewall, the
    /// [`Receipt`] comes back with the outcome to [`settle`](Self::settle); until then nobody
    /// else can claim the question. A receipt that is dropped instead frees it again.
    pub fn claim(
        &mut self,
        asked: Asked<'_>,
        action: Action,
        reach: Reach,
        by: DisplayText,
        now: u64,
    ) -> Result<(Claim, Receipt), Refusal> {
        let narrow = self.narrow;
        let number = self.find(asked)?;
        let Some(entry) = self.questions.get_mut(&number) else {
            return Err(Refusal::Unknown);
        };
        let scope = claim::scope(&entry.question(narrow), reach)?;
        Ok(entry.claim(number, asked.request, action, scope, by, now))
    }

    /// Notes what became of a claim, at `now`.
    ///
    /// With [`Outcome::Applied`] the question is answered and gone; [`Ledger::cover`] then finds
    /// the others that the same rule answers. Otherwise the question is pending as before, unless
    /// it was withdrawn in the meantime.
    pub fn settle(&mut self, receipt: Receipt, outcome: &EnforcementOutcome, now: u64) -> Settled {
        let decision = receipt.decision(outcome, now);
        let number = receipt.number();
        let mut ids = vec![receipt.named.clone()];
        drop(receipt);
        if let Some(entry) = self.questions.get(&number) {
            push_new(&mut ids, entry.question(self.narrow).newest_id());
        }
        let gone = if outcome.is_applied() {
            self.remove(number)
        } else {
            None
        };
        let names = gone.iter().flat_map(|entry| entry.names().cloned());
        self.history.push(decision.clone(), names.collect());
        Settled {
            // A question that was withdrawn meanwhile and is asked again is perhaps asked of
            // another ruleset: no rule of this one answers it.
            covers: gone.map(|_| Cover {
                decision: decision.clone(),
                after: 0,
                names: NAMES_LIMIT,
            }),
            answered: Answered { decision, ids },
        }
    }

    /// Answers other questions of the sandbox that a rule covers and nobody is answering, for
    /// nobody is to be asked about what is decided. Looks at a bounded number of them, and
    /// returns with those that it answered what is left to look at.
    pub fn cover(&mut self, cover: Cover) -> (Vec<Answered>, Option<Cover>) {
        /// So few that everybody else is kept waiting for less than a millisecond.
        const TURN: usize = 1024;
        let mut answered = Vec::new();
        let (Some(scope), Some(sandbox)) = (
            &cover.decision.scope,
            self.sandboxes.get(&cover.decision.container),
        ) else {
            return (answered, None);
        };
        let next = cover.after.saturating_add(1);
        let turn: Vec<u64> = sandbox.pending.range(next..).take(TURN).copied().collect();
        let after = turn.last().copied().filter(|_| turn.len() == TURN);
        let covered = turn.into_iter().filter(|number| {
            self.questions.get(number).is_some_and(|entry| {
                entry.question(self.narrow).is_covered_by(scope) && entry.in_flight().is_none()
            })
        });
        let mut names = cover.names;
        for number in covered.collect::<Vec<_>>() {
            let Some(entry) = self.remove(number) else {
                continue;
            };
            let question = entry.question(self.narrow);
            answered.push(Answered {
                decision: Decision {
                    request: question.id().clone(),
                    ..cover.decision.clone()
                },
                ids: vec![question.newest_id().clone()],
            });
            let also: Vec<_> = entry.names().take(names).cloned().collect();
            names = names.saturating_sub(also.len());
            self.history.name(&cover.decision.request, also);
        }
        let rest = after.map(|after| Cover {
            after,
            names,
            ..cover
        });
        (answered, rest)
    }

    /// Puts the question that `asked` names away without a rule; the next packet asks again.
    pub fn dismiss(
        &mut self,
        asked: Asked<'_>,
        by: DisplayText,
        now: u64,
    ) -> Result<Answered, Refusal> {
        let number = self.find(asked)?;
        let Some(entry) = self.remove(number) else {
            return Err(Refusal::Unknown);
        };
        let question = entry.question(self.narrow);
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
        let names = entry.names().cloned().collect();
        self.history.push(decision.clone(), names);
        let ids = vec![question.newest_id().clone()];
        Ok(Answered { decision, ids })
    }

    /// Withdraws every question of `container`, those that are being answered too.
    pub fn clear(&mut self, container: &ContainerId) -> Vec<Withdrawn> {
        let numbers = match self.sandboxes.get(container) {
            Some(sandbox) => sandbox.pending.iter().copied().collect(),
            None => Vec::new(),
        };
        self.withdraw(numbers)
    }

    /// Withdraws every question, whosever it is.
    pub fn clear_all(&mut self) -> Vec<Withdrawn> {
        self.withdraw(self.questions.keys().copied().collect())
    }

    /// Returns the pending question with this number.
    pub fn question(&self, number: u64) -> Option<Question<'_>> {
        self.questions
            .get(&number)
            .map(|entry| entry.question(self.narrow))
    }

    /// Returns the questions with a number over `after`, oldest first, each with its number.
    pub fn pending_after(&self, after: u64) -> impl Iterator<Item = (u64, Question<'_>)> {
        self.questions
            .range(after.saturating_add(1)..)
            .map(|(number, entry)| (*number, entry.question(self.narrow)))
    }

    /// Returns the number of the question that came last, pending or not; 0 before the first.
    pub const fn newest(&self) -> u64 {
        self.newest
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
    fn find(&self, asked: Asked<'_>) -> Result<u64, Refusal> {
        // A reader that restarts may give an id again: among those that bear it, the one that
        // fits is meant, and otherwise the newest.
        let mut candidate: Option<(u64, bool)> = None;
        for number in self.named(asked.request) {
            let fits = self
                .questions
                .get(&number)
                .is_some_and(|e| e.fits(asked.container, asked.dest));
            if candidate.is_none_or(|best| (best.1, best.0) < (fits, number)) {
                candidate = Some((number, fits));
            }
        }
        let entry = candidate.and_then(|(number, _)| Some((number, self.questions.get(&number)?)));
        let Some((number, entry)) = entry else {
            return Err(match self.history.find(asked.request) {
                Some(decision) => Refusal::Decided(Box::new(decision.clone())),
                None => Refusal::Unknown,
            });
        };
        if let Some(decision) = entry.in_flight() {
            return Err(Refusal::Deciding(Box::new(decision)));
        }
        claim::check_asked(&entry.question(self.narrow), asked)?;
        Ok(number)
    }

    /// Returns the numbers of the questions that bear this id.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        let hash = entry::name_hash(name, &self.hasher);
        self.by_name.all(hash).filter(move |number| {
            self.questions
                .get(number)
                .is_some_and(|entry| entry.is_named(name))
        })
    }

    fn repeat(&mut self, number: u64, blocked: BlockedPacket, now: u64) {
        let Some(entry) = self.questions.get_mut(&number) else {
            return;
        };
        let before = entry.text();
        let (added, forgotten) = entry.repeat(blocked, now);
        if let Some(sandbox) = self.sandboxes.get_mut(entry.container()) {
            entry.share_dossier(&mut sandbox.dossier);
        }
        entry.weigh();
        self.text = self
            .text
            .saturating_sub(before)
            .saturating_add(entry.text());
        let hash = |name: RequestId| entry::name_hash(name.as_str(), &self.hasher);
        if let Some(name) = added {
            self.by_name.insert(hash(name), number);
        }
        if let Some(name) = forgotten {
            self.by_name.remove(hash(name), number);
        }
    }

    fn enter_sandbox(&mut self, number: u64, entry: &mut Entry) {
        let container = entry.container().clone();
        let sandbox = self.sandboxes.entry(container.clone()).or_default();
        entry.share_dossier(&mut sandbox.dossier);
        let mut rank = (sandbox.pending.len(), container);
        self.fullest.remove(&rank);
        sandbox.pending.insert(number);
        rank.0 = sandbox.pending.len();
        self.fullest.insert(rank);
    }

    fn leave_sandbox(&mut self, number: u64, container: &ContainerId) {
        let Some(sandbox) = self.sandboxes.get_mut(container) else {
            return;
        };
        let mut rank = (sandbox.pending.len(), container.clone());
        self.fullest.remove(&rank);
        sandbox.pending.remove(&number);
        rank.0 = sandbox.pending.len();
        if rank.0 == 0 {
            self.sandboxes.remove(container);
        } else {
            self.fullest.insert(rank);
        }
    }

    /// Evicts until at most `limit` questions are pending and their texts fit, but for the last.
    fn evict(&mut self, limit: usize) -> Vec<Withdrawn> {
        let mut evicted = Vec::new();
        while self.questions.len() > limit
            || (self.text > self.text_limit && self.questions.len() > 1)
        {
            let Some(oldest) = self.oldest_of_fullest() else {
                break;
            };
            let Some(entry) = self.remove(oldest) else {
                break;
            };
            evicted.push(Withdrawn {
                entry,
                narrow: self.narrow,
            });
        }
        evicted
    }

    fn oldest_of_fullest(&self) -> Option<u64> {
        let (_, container) = self.fullest.last()?;
        self.sandboxes.get(container)?.pending.first().copied()
    }

    fn withdraw(&mut self, numbers: Vec<u64>) -> Vec<Withdrawn> {
        numbers
            .into_iter()
            .filter_map(|number| {
                let entry = self.remove(number)?;
                Some(Withdrawn {
                    entry,
                    narrow: self.narrow,
                })
            })
            .collect()
    }

    fn remove(&mut self, number: u64) -> Option<Box<Entry>> {
        let entry = self.questions.remove(&number)?;
        self.text = self.text.saturating_sub(entry.text());
        for name in entry.names() {
            let hash = entry::name_hash(name.as_str(), &self.hasher);
            self.by_name.remove(hash, number);
        }
        self.by_packet.remove(entry.packet_hash(), number);
        self.leave_sandbox(number, entry.container());
        if self.questions.is_empty() {
            // A burst must not leave its tables behind.
            self.by_name = Index::default();
            self.by_packet = Index::default();
        }
        Some(entry)
    }
}

fn push_new(ids: &mut Vec<RequestId>, id: &RequestId) {
    if !ids.contains(id) {
        ids.push(id.clone());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The results of the ledger's operations.

use terok_clearance::{Decision, NetworkZone, RequestId};

use super::entry::{LedgerEntry, LedgerQuestion};
use crate::scope_support::ScopeSupport;

/// The result of [`Ledger::record`](super::Ledger::record).
#[derive(Debug)]
pub struct RecordOutcome {
    /// The question's number.
    pub number: u64,
    /// `true` for a new question, `false` for a repeated packet of a pending question.
    pub is_new: bool,
    /// The questions that were removed to make room for this one.
    pub evicted: Vec<WithdrawnQuestion>,
}

/// The result of an answer, whether or not the firewall changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredQuestion {
    /// The decision, under the question's own id.
    pub decision: Decision,
    /// The ids that Clearance1 clients may know: the id in the answer, and the reader's newest.
    pub ids: Vec<RequestId>,
}

/// The result of a claim.
#[derive(Debug)]
pub struct SettledClaim {
    /// The question of the claim.
    pub answered: AnsweredQuestion,
    /// The rule that took effect, for [`Ledger::sweep_rule`](super::Ledger::sweep_rule).
    pub sweep: Option<RuleSweep>,
}

/// The search for further questions that a new rule answers.
#[derive(Debug)]
pub struct RuleSweep {
    pub(super) decision: Decision,
    /// The zone of the answered question: the rule covers no other one.
    pub(super) zone: NetworkZone,
    /// The number of the last question examined.
    pub(super) after: u64,
    /// How many more ids the history may store for the decision.
    pub(super) ids_left: usize,
}

/// A question that stopped being pending without an answer.
#[derive(Debug)]
pub struct WithdrawnQuestion {
    pub(super) entry: Box<LedgerEntry>,
    pub(super) support: ScopeSupport,
}

impl WithdrawnQuestion {
    /// Returns the question as of its removal.
    pub fn question(&self) -> LedgerQuestion<'_> {
        self.entry.question(self.support)
    }
}

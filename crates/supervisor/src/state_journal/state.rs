// SPDX-License-Identifier: Apache-2.0
//! The state that the records of a journal lead to. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use hub::ledger::StoredQuestion;
use terok_clearance::{ContainerId, DomainName};

use super::change::{JournalChange, JournaledBypass, JournaledRule, JournaledStartRule};

/// Maximum questions that are kept. Further ones are asked again by a later supervisor.
pub(super) const MAX_QUESTIONS: usize = 8_192;
/// Maximum names of a record of a complete state.
const NAMES_PER_RECORD: usize = 256;

/// What a supervisor knows about its sandbox besides what it reads again at its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JournalState {
    begin: Option<(ContainerId, String)>,
    pub(crate) start_rules: Option<u64>,
    /// One entry for each revocation.
    pub(crate) revoked_start_rules: Vec<JournaledStartRule>,
    pub(crate) last_rule: u64,
    pub(crate) rules: BTreeMap<u64, JournaledRule>,
    pub(crate) bypass: BypassState,
    pub(crate) names: HashMap<DomainName, Ipv4Addr>,
    name_addresses: HashMap<Ipv4Addr, DomainName>,
    pub(crate) next_request: Option<u64>,
    pub(crate) questions: BTreeMap<u64, StoredQuestion>,
}

/// The bypass of the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum BypassState {
    /// It was never opened.
    #[default]
    Unknown,
    /// It was closed.
    Closed,
    /// It is open, unless its end has come.
    Open(JournaledBypass),
}

impl From<Option<JournaledBypass>> for BypassState {
    fn from(open: Option<JournaledBypass>) -> Self {
        open.map_or(Self::Closed, Self::Open)
    }
}

/// Records that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InconsistentState {
    #[error("it does not begin with its sandbox")]
    NoBegin,
    #[error("it begins twice")]
    SecondBegin,
    #[error("two rules have the number r{0}")]
    RuleTwice(u64),
    #[error("rule r{0} ends that was not made")]
    UnknownRule(u64),
    #[error("question {0} ends that was not asked")]
    UnknownQuestion(u64),
}

impl JournalState {
    /// Returns the state at the beginning.
    pub(super) fn begin(container: ContainerId, boot: String) -> Self {
        Self {
            begin: Some((container, boot)),
            ..Self::default()
        }
    }

    /// Returns the sandbox and the boot that the state is of.
    pub(super) fn subject(&self) -> Option<(&ContainerId, &str)> {
        let (container, boot) = self.begin.as_ref()?;
        Some((container, boot))
    }

    /// Returns the state after the changes of these records.
    pub(super) fn of_records(
        records: impl Iterator<Item = Vec<JournalChange>>,
    ) -> Result<Self, InconsistentState> {
        let mut state = Self::default();
        for change in records.flatten() {
            state.apply(change)?;
        }
        match state.begin {
            Some(_) => Ok(state),
            None => Err(InconsistentState::NoBegin),
        }
    }

    /// Returns `true` if a change need not be recorded: it changes nothing, or is about a question
    /// that is not kept.
    pub(super) fn is_redundant(&self, change: &JournalChange) -> bool {
        match change {
            JournalChange::RuleEnded { id } => !self.rules.contains_key(id),
            JournalChange::QuestionEnded { number } => !self.questions.contains_key(number),
            JournalChange::Question { number, question } => match self.questions.get(number) {
                Some(known) => *known == **question,
                None => self.questions.len() >= MAX_QUESTIONS,
            },
            JournalChange::Name { name, address } => self.names.get(name) == Some(address),
            JournalChange::LastRule { id } => *id <= self.last_rule,
            JournalChange::StartRules { count } => self.start_rules == Some(*count),
            JournalChange::Bypass { open } => self.bypass == open.clone().into(),
            JournalChange::Rule { rule } => self.rules.get(&rule.id) == Some(&**rule),
            JournalChange::Begin { .. }
            | JournalChange::StartRuleRevoked { .. }
            | JournalChange::NextRequest { .. } => false,
        }
    }

    pub(super) fn apply(&mut self, change: JournalChange) -> Result<(), InconsistentState> {
        if self.begin.is_none() && !matches!(change, JournalChange::Begin { .. }) {
            return Err(InconsistentState::NoBegin);
        }
        match change {
            JournalChange::Begin { container, boot } => {
                if self.begin.replace((container, boot)).is_some() {
                    return Err(InconsistentState::SecondBegin);
                }
            }
            JournalChange::StartRules { count } => self.start_rules = Some(count),
            JournalChange::StartRuleRevoked { rule } => self.revoked_start_rules.push(rule),
            JournalChange::LastRule { id } => self.last_rule = self.last_rule.max(id),
            JournalChange::Rule { rule } => {
                let id = rule.id;
                self.last_rule = self.last_rule.max(id);
                if self.rules.insert(id, *rule).is_some() {
                    return Err(InconsistentState::RuleTwice(id));
                }
            }
            JournalChange::RuleEnded { id } => {
                let ended = self.rules.remove(&id);
                ended.ok_or(InconsistentState::UnknownRule(id))?;
            }
            JournalChange::Bypass { open } => {
                let id = open.as_ref().map_or(0, JournaledBypass::id);
                self.last_rule = self.last_rule.max(id);
                self.bypass = open.into();
            }
            JournalChange::Name { name, address } => {
                // A pair that the new one contradicts does not count any more.
                if let Some(address) = self.names.remove(&name) {
                    self.name_addresses.remove(&address);
                }
                if let Some(name) = self.name_addresses.remove(&address) {
                    self.names.remove(&name);
                }
                self.name_addresses.insert(address, name.clone());
                self.names.insert(name, address);
            }
            JournalChange::NextRequest { number } => self.next_request = Some(number),
            JournalChange::Question { number, question } => {
                self.questions.insert(number, *question);
            }
            JournalChange::QuestionEnded { number } => {
                let ended = self.questions.remove(&number);
                ended.ok_or(InconsistentState::UnknownQuestion(number))?;
            }
        }
        Ok(())
    }

    /// Returns the records that lead to this state.
    pub(super) fn to_records(&self) -> impl Iterator<Item = Vec<JournalChange>> {
        let begin = self.begin.iter().map(|(container, boot)| {
            vec![JournalChange::Begin {
                container: container.clone(),
                boot: boot.clone(),
            }]
        });
        let count = self.start_rules;
        let start_rules = count.map(|count| JournalChange::StartRules { count });
        let last_rule =
            (self.last_rule > 0).then_some(JournalChange::LastRule { id: self.last_rule });
        let bypass = match &self.bypass {
            BypassState::Unknown => None,
            BypassState::Closed => Some(None),
            BypassState::Open(open) => Some(Some(open.clone())),
        };
        let bypass = bypass.map(|open| JournalChange::Bypass { open });
        let next = self.next_request;
        let next_request = next.map(|number| JournalChange::NextRequest { number });
        let revoked = self.revoked_start_rules.iter().cloned();
        let revoked = revoked.map(|rule| JournalChange::StartRuleRevoked { rule });
        let scalars: Vec<_> = [start_rules, last_rule, bypass, next_request]
            .into_iter()
            .flatten()
            .chain(revoked)
            .collect();
        let mut names = self
            .names
            .iter()
            .map(|(name, address)| JournalChange::Name {
                name: name.clone(),
                address: *address,
            });
        let names = std::iter::from_fn(move || {
            let record: Vec<_> = names.by_ref().take(NAMES_PER_RECORD).collect();
            (!record.is_empty()).then_some(record)
        });
        let rules = self.rules.values().map(|rule| {
            let rule = Box::new(rule.clone());
            vec![JournalChange::Rule { rule }]
        });
        let questions = self.questions.iter().map(|(number, question)| {
            vec![JournalChange::Question {
                number: *number,
                question: Box::new(question.clone()),
            }]
        });
        begin
            .chain((!scalars.is_empty()).then_some(scalars))
            .chain(names)
            .chain(rules)
            .chain(questions)
    }
}

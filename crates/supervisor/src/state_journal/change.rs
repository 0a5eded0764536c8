// SPDX-License-Identifier: Apache-2.0
//! The records of a state: what has changed, as JSON.

use std::net::Ipv4Addr;
use std::time::Duration;

use hub::ledger::StoredQuestion;
use policy::{
    BootInstant, BypassRule, PolicyRule, RuleId, RuleOrigin, RuleSpec, RuleTerm, RuleUsage,
};
use serde::{Deserialize, Serialize};
use terok_clearance::{
    Action, ContainerId, DestPattern, DisplayText, DomainName, PreviousAnswer, RequestId,
    RuleLifetime, Timestamp,
};

/// A change of the state. The changes of one record count together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum JournalChange {
    /// The state begins.
    Begin {
        /// The sandbox that the state is of.
        container: ContainerId,
        /// The boot in which the ends of rules count.
        boot: String,
    },
    /// The number of rules with which the supervisor started.
    StartRules { count: u64 },
    /// A rule of the start was revoked.
    StartRuleRevoked { rule: JournaledStartRule },
    /// No new rule gets a number up to this one.
    LastRule { id: u64 },
    /// A rule was made.
    Rule { rule: Box<JournaledRule> },
    /// A rule has ended: its time was over, it was revoked, replaced or spent.
    RuleEnded { id: u64 },
    /// The bypass was opened, or closed.
    Bypass { open: Option<JournaledBypass> },
    /// A name got a stand-in address.
    Name { name: DomainName, address: Ipv4Addr },
    /// The next question gets this number.
    NextRequest { number: u64 },
    /// A question is pending, with this content.
    Question {
        number: u64,
        question: Box<StoredQuestion>,
    },
    /// A question is not pending any more.
    QuestionEnded { number: u64 },
}

/// A rule that an answer made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournaledRule {
    pub(crate) id: u64,
    #[serde(with = "super::pattern_parts")]
    pattern: DestPattern,
    action: Action,
    term: JournaledTerm,
    /// The question; absent for a rule of which only the firewall knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    by: DisplayText,
    since: Timestamp,
    /// The lifetime and the seconds of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerTerms>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct AnswerTerms {
    keep: RuleLifetime,
    seconds: Option<u32>,
}

/// The end of a rule, in the time since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JournaledTerm {
    Once(Duration),
    Until(Duration),
    Run,
}

/// A rule of the start, by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournaledStartRule {
    #[serde(with = "super::pattern_parts")]
    pattern: DestPattern,
    action: Action,
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin_name: Option<DisplayText>,
}

/// The bypass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournaledBypass {
    id: u64,
    until: Option<Duration>,
    by: DisplayText,
    since: Timestamp,
}

impl JournaledRule {
    /// Returns the form of a rule that an answer made; `None` for every other rule, whose origin
    /// is read again by a later supervisor.
    pub(crate) fn of(rule: &PolicyRule, answer: Option<&PreviousAnswer>) -> Option<Self> {
        let spec = &rule.spec;
        let request = match &spec.origin {
            RuleOrigin::Decision { request } => Some(request.clone()),
            RuleOrigin::Restored => None,
            _ => return None,
        };
        Some(Self {
            id: rule.id.get(),
            pattern: spec.pattern.clone(),
            action: spec.action,
            term: match spec.term {
                RuleTerm::Once { until } => JournaledTerm::Once(until.since_boot()),
                RuleTerm::Until(until) => JournaledTerm::Until(until.since_boot()),
                RuleTerm::Run => JournaledTerm::Run,
                RuleTerm::Kept => return None,
            },
            request,
            by: spec.by.clone(),
            since: spec.since,
            answer: answer.map(|answer| AnswerTerms {
                keep: answer.keep,
                seconds: answer.seconds,
            }),
        })
    }

    pub(crate) const fn rule_id(&self) -> RuleId {
        RuleId::new(self.id)
    }

    pub(crate) fn to_spec(&self) -> RuleSpec {
        RuleSpec {
            pattern: self.pattern.clone(),
            action: self.action,
            term: match self.term {
                JournaledTerm::Once(until) => RuleTerm::Once {
                    until: BootInstant::from_boot(until),
                },
                JournaledTerm::Until(until) => RuleTerm::Until(BootInstant::from_boot(until)),
                JournaledTerm::Run => RuleTerm::Run,
            },
            origin: match &self.request {
                Some(request) => RuleOrigin::Decision {
                    request: request.clone(),
                },
                None => RuleOrigin::Restored,
            },
            by: self.by.clone(),
            since: self.since,
        }
    }

    /// Returns the answer that made the rule.
    pub(crate) fn to_answer(&self) -> Option<PreviousAnswer> {
        let AnswerTerms { keep, seconds } = self.answer?;
        Some(PreviousAnswer {
            action: self.action,
            by: self.by.clone(),
            at: self.since,
            keep,
            seconds,
            revoked: false,
        })
    }
}

impl JournaledStartRule {
    /// Returns the form of a rule of options, profiles or trusted files; `None` for every other
    /// one.
    pub(crate) fn of(spec: &RuleSpec) -> Option<Self> {
        let origin_name = match &spec.origin {
            RuleOrigin::Profile { name } => Some(name.clone()),
            origin if origin.is_decision() || origin.is_kept() => return None,
            _ => None,
        };
        Some(Self {
            pattern: spec.pattern.clone(),
            action: spec.action,
            origin: spec.origin.as_str().to_owned(),
            origin_name,
        })
    }
}

impl JournaledBypass {
    pub(crate) fn of(bypass: &BypassRule) -> Self {
        Self {
            id: bypass.id.get(),
            until: bypass.until.map(BootInstant::since_boot),
            by: bypass.by.clone(),
            since: bypass.since,
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn to_rule(&self) -> BypassRule {
        BypassRule {
            id: RuleId::new(self.id),
            until: self.until.map(BootInstant::from_boot),
            by: self.by.clone(),
            since: self.since,
            usage: RuleUsage::default(),
        }
    }
}

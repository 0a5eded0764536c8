// SPDX-License-Identifier: Apache-2.0
//! The reasons to refuse the scope of an answer, with what the question offers instead.

use terok_clearance::{Dest, RuleLifetime};

use super::{AnswerScope, ScopeChoice};
use crate::inbox::Row;
use crate::phrases;

/// A scope that the question does not offer. Nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeRefusal {
    /// The name is not one of the wider names.
    #[error("the question does not offer {asked}; {offered}")]
    Name {
        /// The name.
        asked: Dest,
        /// What the question offers, in words.
        offered: String,
    },
    /// The lifetime is not one of those that the question offers.
    #[error("the question does not offer {asked:?}; it offers: {offered}")]
    Lifetime {
        /// The lifetime, in words.
        asked: String,
        /// What the question offers, in words.
        offered: String,
    },
    /// The hub offers no choice: an answer has the question's own scope.
    #[error("the firewall of this sandbox offers no choice; an answer lasts {own}")]
    NoChoice {
        /// The lifetime of every answer, in words.
        own: String,
    },
    /// An answer for one connection is for the destination that was asked about.
    #[error("an answer for one connection is for the name that was asked about, no wider one")]
    OnceForNames,
    /// The time is zero.
    #[error("an answer lasts at least a second")]
    NoTime,
    /// A rule with this lifetime has no other end.
    #[error("an answer with the lifetime {0} has no end after some seconds")]
    EndOfKeptRule(RuleLifetime),
}

impl ScopeRefusal {
    pub(super) fn name(asked: &Dest, offered: &[Dest]) -> Self {
        let names: Vec<_> = offered.iter().map(ToString::to_string).collect();
        let offered = match names.as_slice() {
            [] => "it offers no wider name".to_owned(),
            names => format!("it offers {}", names.join(", ")),
        };
        Self::Name {
            asked: asked.clone(),
            offered,
        }
    }

    pub(super) fn lifetime(asked: &AnswerScope, row: &Row) -> Self {
        let offered: Vec<_> = ScopeChoice::offered(row).map(ScopeChoice::as_str).collect();
        let offered = if offered.is_empty() {
            phrases::describe_answer_lifetime(row.scope().keep, row.scope().seconds)
        } else {
            offered.join(", ")
        };
        Self::Lifetime {
            asked: phrases::describe_answer_lifetime(asked.keep, asked.seconds),
            offered,
        }
    }

    pub(super) fn only_own(row: &Row) -> Self {
        let own = row.scope();
        Self::NoChoice {
            own: phrases::describe_answer_lifetime(own.keep, own.seconds),
        }
    }
}

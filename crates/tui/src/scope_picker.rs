// SPDX-License-Identifier: Apache-2.0
//! The scope that the operator chose for the selected question.
//!
//! A choice belongs to one question and to what that question offered at the time: it is dropped
//! when another question is selected or when the offer changes.

use operator::inbox::{Row, RowNumber};
use operator::{AnswerScope, ScopeChoice, ScopeRefusal};
use terok_clearance::{Dest, RuleLifetime, Scope};

#[derive(Debug)]
pub(crate) struct ScopePicker {
    default: ScopeChoice,
    picked: Option<PickedScope>,
}

/// A choice for one question.
#[derive(Debug)]
struct PickedScope {
    number: RowNumber,
    offer: OfferedScopes,
    scope: AnswerScope,
}

/// What a question offers.
#[derive(Debug, PartialEq, Eq)]
struct OfferedScopes {
    own: Scope,
    names: Vec<Dest>,
    lifetimes: Vec<RuleLifetime>,
}

impl OfferedScopes {
    fn of(row: &Row) -> Self {
        Self {
            own: row.scope().clone(),
            names: row.offered_names().to_vec(),
            lifetimes: row.offered_lifetimes(),
        }
    }
}

impl ScopePicker {
    /// Returns a picker without a choice; answers last as `default` where a question offers that.
    pub(crate) const fn new(default: ScopeChoice) -> Self {
        Self {
            default,
            picked: None,
        }
    }

    /// Returns the scope of an answer to a question: the chosen one, else the default.
    pub(crate) fn scope(&self, row: &Row) -> AnswerScope {
        match &self.picked {
            Some(picked) if picked.belongs_to(row) => picked.scope.clone(),
            _ => self.default_scope(row),
        }
    }

    /// Returns the scope of an answer without a choice.
    pub(crate) fn default_scope(&self, row: &Row) -> AnswerScope {
        if self.default.is_offered(row) {
            self.default.scope()
        } else {
            AnswerScope::default_of(row)
        }
    }

    /// Chooses how long an answer lasts. An error changes nothing.
    pub(crate) fn pick_lifetime(
        &mut self,
        row: &Row,
        choice: ScopeChoice,
    ) -> Result<(), ScopeRefusal> {
        let dest = self.scope(row).dest;
        self.pick(row, choice.scope().with_dest(dest))
    }

    /// Chooses the next wider name, after the widest the name itself. An error changes nothing.
    /// Returns `false` if the question offers no wider name.
    pub(crate) fn pick_next_name(&mut self, row: &Row) -> Result<bool, ScopeRefusal> {
        let scope = self.scope(row);
        let next = next_name(row, &scope);
        if next.is_none() && scope.dest.is_none() {
            return Ok(false);
        }
        let dest = next.cloned();
        self.pick(row, scope.with_dest(dest))?;
        Ok(true)
    }

    fn pick(&mut self, row: &Row, scope: AnswerScope) -> Result<(), ScopeRefusal> {
        row.scope_with(&scope)?;
        self.picked = Some(PickedScope {
            number: row.number(),
            offer: OfferedScopes::of(row),
            scope,
        });
        Ok(())
    }

    /// Returns to the default.
    pub(crate) fn reset(&mut self) {
        self.picked = None;
    }

    /// Drops the choice, unless the selected question is still the one that it was made for.
    pub(crate) fn retain(&mut self, selected: Option<&Row>) {
        self.picked
            .take_if(|picked| !selected.is_some_and(|row| picked.belongs_to(row)));
    }
}

impl PickedScope {
    fn belongs_to(&self, row: &Row) -> bool {
        self.number == row.number() && self.offer == OfferedScopes::of(row)
    }
}

/// Returns the name that follows the one of `scope`: a wider one, `None` for the name itself.
pub(crate) fn next_name<'a>(row: &'a Row, scope: &AnswerScope) -> Option<&'a Dest> {
    let names = row.offered_names();
    match &scope.dest {
        None => names.first(),
        Some(dest) => {
            let at = names.iter().position(|name| name == dest)?;
            names.get(at.saturating_add(1))
        }
    }
}

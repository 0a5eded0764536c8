// SPDX-License-Identifier: Apache-2.0
//! Decides by rules whether a destination is allowed, denied, or a question.
//!
//! Pure: no I/O and no clock. [`RuleTable`] holds the rules; the caller resolves names, finds the
//! zone of an address, and passes the time.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod rule;
mod rule_table;
mod wider_names;

pub use rule::{
    BootInstant, PolicyRule, RuleId, RuleIdParseError, RuleOrigin, RuleSpec, RuleTerm, RuleTier,
    RuleUsage,
};
pub use rule_table::{
    BypassRule, HOST_NAME, MAX_RULES, RuleTable, RuleTableFull, RuleVerdict, TableRule,
};
pub use wider_names::{registrable_domain, wider_patterns};

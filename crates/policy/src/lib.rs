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

mod rule_table;

pub use rule_table::{
    HOST_NAME, MAX_RULES, PolicyRule, RuleId, RuleSource, RuleTable, RuleTableFull, RuleVerdict,
};

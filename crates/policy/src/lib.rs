// SPDX-License-Identifier: Apache-2.0
//! Decides by rules whether a destination is allowed, denied, or a question.
//!
//! Pure: no I/O and no clock. [`RuleTable`] holds the rules; the caller resolves names, finds the
//! zone of an address, and passes the time. [`RuleFile`] is the text form of rules, and
//! [`bundled_profile`] returns the rule files that come with the program.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod bundled_profiles;
mod profile_name;
mod rule;
mod rule_file;
mod rule_table;
mod wider_names;

pub use bundled_profiles::{bundled_profile, bundled_profile_names};
pub use profile_name::{ProfileName, ProfileNameError};
pub use rule::{
    BootInstant, PolicyRule, RuleId, RuleIdParseError, RuleOrigin, RuleSpec, RuleTerm, RuleTier,
    RuleUsage,
};
pub use rule_file::{
    FileRule, MAX_FILE_RULES, MAX_RULE_FILE_BYTES, MAX_RULE_LINE_BYTES, RuleEditError, RuleFile,
    RuleFileEdit, RuleFileError, RuleLineError, RuleLineProblem,
};
pub use rule_table::{
    BypassRule, HOST_NAME, MAX_RULES, RuleRestoreError, RuleTable, RuleTableFull, RuleVerdict,
    TableChange, TableRule,
};
pub use wider_names::{registrable_domain, wider_patterns};

// SPDX-License-Identifier: Apache-2.0
//! The operator's rule files on disk: profiles, kept answers, trusted project files.
//!
//! ```text
//! CONFIG/profiles/NAME.rules             profiles of the operator
//! CONFIG/rules/always.rules              answers kept for every sandbox
//! CONFIG/rules/projects/PATH-HASH.rules  answers kept for one project
//! STATE/trusted/PATH-HASH.rules          the accepted text of a file in a project's directory
//! ```
//!
//! Reading never widens: a file that is not certainly the operator's, or that has a wrong line, is
//! an error, and only a missing file means that there are no rules. Writing replaces a file as a
//! whole, so that a reader finds the old or the new rules.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod error;
mod private_dir;
mod profiles;
mod project_path;
mod rule_file_watch;
mod rule_store;
mod trusted_file;

pub use error::{FileProblem, RuleStoreError};
pub use profiles::{LoadedProfile, ProfileEntry, ProfileOrigin};
pub use project_path::{ProjectPath, ProjectPathError};
pub use rule_file_watch::RuleFileWatch;
pub use rule_store::{KeptProject, RuleStore};
pub use trusted_file::{
    DEFAULT_TRUSTED_FILE, RuleDifference, TrustedFile, TrustedFileState, read_trusted,
};

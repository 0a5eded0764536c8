// SPDX-License-Identifier: Apache-2.0
//! Turns policy into kernel rules: the default-deny nftables ruleset over netlink.
//!
//! One typed ruleset is built from a [`Policy`]; the text of [`preview`] and the messages to the
//! kernel are two renderings of it. [`Shield`] puts it in force, checks that the kernel holds
//! what was meant, and turns answers into set elements. Nothing else of ours changes nftables.

mod handle;
#[doc(hidden)]
pub mod measure;
mod names;
mod netlink;
mod order;
mod orders;
mod policy;
mod ranges;
mod ruleset;

pub use handle::{Element, Learnt, OrderError, Shield, ShieldError};
pub use netlink::{Difference, NetlinkError, open};
pub use policy::{Policy, PolicyError};

/// Returns the ruleset of `policy` in nft's syntax, as `nft -f` reads it: the same that
/// [`Shield::engage`] puts in force.
pub fn preview(policy: &Policy) -> String {
    ruleset::Ruleset::new(policy).to_string()
}

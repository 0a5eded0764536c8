// SPDX-License-Identifier: Apache-2.0
//! Turns policy into kernel rules: the default-deny nftables ruleset over netlink.
//!
//! One typed ruleset is built from a [`Policy`]; the text of [`preview`] and the messages to the
//! kernel are two renderings of it. [`Shield`] puts it in force, checks that the kernel holds
//! what was meant, and turns answers into set elements. Nothing else of ours changes nftables.

mod address_class;
#[doc(hidden)]
pub mod bench_support;
mod name_addresses;
mod netlink;
mod nft_shield;
mod order_element;
mod order_table;
mod policy;
mod ruleset;

pub use netlink::{NetlinkError, RulesetDifference, open_nftables_socket};
pub use nft_shield::{LearntAddresses, ListedElement, NftShield, ShieldError, ShieldOrderError};
pub use policy::{Policy, PolicyError};

/// Returns the ruleset of `policy` in nft's syntax, as `nft -f` reads it: the same that
/// [`Shield::engage`] puts in force.
pub fn preview(policy: &Policy) -> String {
    ruleset::Ruleset::new(policy).to_string()
}

// SPDX-License-Identifier: Apache-2.0
//! Turns policy into kernel rules: a default-deny nftables ruleset over netlink.
//!
//! One typed ruleset is built from a [`Policy`]; the text of [`preview`] and the messages to the
//! kernel are two renderings of it. [`NftShield`] applies it, verifies the kernel's state, and
//! turns answers into set elements. No other crate of the workspace changes nftables.

#[doc(hidden)]
pub mod bench_support;
mod gateway;
mod name_addresses;
mod netlink;
mod nft_shield;
mod order_element;
mod order_table;
mod policy;
mod ruleset;

pub use gateway::{engage_gateway, preview_gateway, verify_gateway};
pub use netlink::{NetlinkError, RulesetDifference, open_nftables_socket};
pub use nft_shield::{
    DestOrder, LearntAddresses, ListedElement, NftShield, OpenedConnection, OpenedConnectionKey,
    ShieldError, ShieldOrderError,
};
pub use policy::{LOOKUP_MARK, NAME_SERVER_PORT, Policy, PolicyError};

/// Returns the ruleset of `policy` in the syntax of `nft -f`, equal to the one applied by
/// [`NftShield::engage`].
pub fn preview(policy: &Policy) -> String {
    ruleset::Ruleset::new(policy).to_string()
}

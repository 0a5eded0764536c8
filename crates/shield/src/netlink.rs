// SPDX-License-Identifier: Apache-2.0
//! The kernel's side: nftables over netlink, without the `nft` program.
//!
//! Attributes are written and read by [`attribute`] instead of through typed messages of a crate:
//! half of what the ruleset says (log, reject, limit, dynset, ct) has no type there, and the
//! check after applying compares attribute trees, which needs both sides in one form.

pub(crate) mod attribute;
pub(crate) mod attribute_kind;
pub(crate) mod encode;
pub(crate) mod socket;
pub(crate) mod verify;

pub use socket::{NetlinkError, open_nftables_socket};
pub use verify::RulesetDifference;

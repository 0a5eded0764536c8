// SPDX-License-Identifier: Apache-2.0
//! nftables over netlink, without the `nft` program.
//!
//! Attributes are written and parsed by [`netns::netlink`], not by the typed messages of a library:
//! half of the ruleset's statements (log, reject, limit, dynset, ct) have no types there, and the
//! verification compares attribute trees of both sides.

pub(crate) mod attribute_kind;
pub(crate) mod encode;
pub(crate) mod socket;
pub(crate) mod verify;

pub use socket::{NetlinkError, open_nftables_socket};
pub use verify::RulesetDifference;

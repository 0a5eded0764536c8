// SPDX-License-Identifier: Apache-2.0
//! The bytes that a [`crate::Shield`] sends, for a benchmark that sends them and does nothing else.
//!
//! Nobody else needs them, and they may change with every version.

use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::Action;

use crate::Policy;
use crate::netlink::encode;
use crate::netlink::socket::encode_transaction;
use crate::order_element::{OrderElement, OrderReach};
use crate::ruleset::Ruleset;

/// Returns the transaction that puts `policy` in force; the kernel answers it with one message.
pub fn ruleset_transaction(policy: &Policy) -> Vec<u8> {
    encode_transaction(&encode::replace_ruleset(&Ruleset::new(policy)), None, 1)
}

/// Returns the transaction that adds `address` to what is allowed; the kernel answers it with one
/// message.
pub fn element_transaction(address: IpAddr, now: Instant) -> Vec<u8> {
    let entry = OrderElement {
        action: Action::Allow,
        address,
        reach: OrderReach::Whole,
        expires_at: None,
        name: None,
    };
    encode_transaction(&encode::add_elements(&[entry], now), None, 1)
}

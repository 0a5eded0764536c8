// SPDX-License-Identifier: Apache-2.0
//! The bytes sent by a [`crate::NftShield`], for benchmarks that only send them.
//!
//! Not part of the public interface; may change with every version.

use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::Action;

use crate::Policy;
use crate::netlink::encode;
use crate::netlink::socket::encode_transaction;
use crate::order_element::{OrderElement, OrderReach};
use crate::ruleset::Ruleset;

/// Returns the transaction that applies `policy`; the kernel acknowledges it with one message.
pub fn ruleset_transaction(policy: &Policy) -> Vec<u8> {
    encode_transaction(&encode::replace_ruleset(&Ruleset::new(policy)), None, 1)
}

/// Returns the transaction that allows `address`; the kernel acknowledges it with one message.
pub fn element_transaction(address: IpAddr, now: Instant) -> Vec<u8> {
    let element = OrderElement {
        action: Action::Allow,
        address,
        reach: OrderReach::Whole,
        expires_at: None,
        name: None,
        leads_to: None,
    };
    encode_transaction(&encode::add_elements(&[element], now), None, 1)
}

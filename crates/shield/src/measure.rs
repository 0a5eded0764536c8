// SPDX-License-Identifier: Apache-2.0
//! The bytes that a [`crate::Shield`] sends, for a benchmark that sends them and does nothing else.
//!
//! Nobody else needs them, and they may change with every version.

use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::Action;

use crate::Policy;
use crate::netlink::encode;
use crate::netlink::socket::transaction;
use crate::order::{Entry, Reach};
use crate::ruleset::Ruleset;

/// Returns the transaction that puts `policy` in force; the kernel answers it with one message.
pub fn ruleset(policy: &Policy) -> Vec<u8> {
    transaction(&encode::replace(&Ruleset::new(policy)), None, 1)
}

/// Returns the transaction that adds `address` to what is allowed; the kernel answers it with one
/// message.
pub fn element(address: IpAddr, now: Instant) -> Vec<u8> {
    let entry = Entry {
        action: Action::Allow,
        address,
        reach: Reach::Whole,
        until: None,
        name: None,
    };
    transaction(&encode::add(&[entry], now), None, 1)
}

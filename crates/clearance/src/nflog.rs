// SPDX-License-Identifier: Apache-2.0
//! NFLOG groups and prefixes that the firewall and the reader share.

/// The NFLOG group of refused packets, the same as in the Python stack.
pub const BLOCKED_GROUP: u16 = 100;
/// The NFLOG group of DNS answers on their way into the sandbox.
pub const DNS_ANSWERS_GROUP: u16 = 101;

/// Prefix of a packet that no rule allows or denies: a question.
pub const BLOCKED_PREFIX: &str = "TEROK_SHIELD_BLOCKED: ";
/// Prefix of a packet that a deny rule or the floor refused: no question.
pub const DENIED_PREFIX: &str = "TEROK_SHIELD_DENIED: ";
/// Prefix of a packet to a private range: refused without a question.
pub const PRIVATE_RANGE_PREFIX: &str = "TEROK_SHIELD_PRIVATE: ";
/// Prefix of a DNS answer.
pub const DNS_ANSWER_PREFIX: &str = "TEROK_SHIELD_ANSWER: ";

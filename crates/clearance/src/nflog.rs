// SPDX-License-Identifier: Apache-2.0
//! Where the firewall logs and the reader listens: both sides must agree on these.

/// The NFLOG group of refused packets, the Python stack's.
pub const BLOCKED_GROUP: u16 = 100;
/// The NFLOG group of DNS answers on their way into the sandbox.
pub const DNS_ANSWERS_GROUP: u16 = 101;

/// Prefix of a packet that is a question: nothing allowed or denied it.
pub const BLOCKED_PREFIX: &str = "TEROK_SHIELD_BLOCKED: ";
/// Prefix of a packet that a deny verdict or the hard-deny floor refused: no question.
pub const DENIED_PREFIX: &str = "TEROK_SHIELD_DENIED: ";
/// Prefix of a packet to a private range: refused, no question.
pub const PRIVATE_RANGE_PREFIX: &str = "TEROK_SHIELD_PRIVATE: ";
/// Prefix of a DNS answer.
pub const DNS_ANSWER_PREFIX: &str = "TEROK_SHIELD_ANSWER: ";

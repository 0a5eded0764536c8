// SPDX-License-Identifier: Apache-2.0
//! NFLOG groups and prefixes that the firewall and the reader share.

/// The NFLOG group of refused packets, the same as in the Python stack.
pub const BLOCKED_GROUP: u16 = 100;
/// The NFLOG group of DNS answers on their way into the sandbox.
pub const DNS_ANSWERS_GROUP: u16 = 101;
/// The NFLOG group of the first packets of TCP connections, in a gateway's namespace.
pub const HELD_CONNECTIONS_GROUP: u16 = 102;
/// The NFLOG group of packets that are neither TCP nor UDP, in a gateway's namespace.
pub const OTHER_PACKETS_GROUP: u16 = 103;

/// Prefix of every packet that a gateway logs.
pub const GATEWAY_PREFIX: &str = "TEROK_GATEWAY: ";
/// Prefix of a packet that no rule allows or denies: a question.
pub const BLOCKED_PREFIX: &str = "TEROK_SHIELD_BLOCKED: ";
/// Prefix of a packet that a deny rule or the floor refused: no question.
pub const DENIED_PREFIX: &str = "TEROK_SHIELD_DENIED: ";
/// Prefix of a packet to a private range: refused without a question.
pub const PRIVATE_RANGE_PREFIX: &str = "TEROK_SHIELD_PRIVATE: ";
/// Prefix of a DNS answer.
pub const DNS_ANSWER_PREFIX: &str = "TEROK_SHIELD_ANSWER: ";

// SPDX-License-Identifier: Apache-2.0
//! Turns an allowed connection of a sandbox into one dialed from outside.
//!
//! [`dial`] and [`proxy`] open the outside connection, [`relay`] moves its bytes, and
//! [`packet_build`] makes the packets that a sandbox sees: replayed SYNs, resets, ICMP errors and
//! datagrams. [`ping`] asks an address on behalf of a sandbox. These modules know neither
//! namespaces nor rules.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod dial;
pub mod packet_build;
pub mod ping;
pub mod proxy;
pub mod relay;

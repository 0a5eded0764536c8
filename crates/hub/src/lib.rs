// SPDX-License-Identifier: Apache-2.0
//! Brings events to people and their answers back: the ledger, the fan-out and both Clearance interfaces.
//!
//! A [`Hub`] is told events ([`Hub::report`], or lines on the socket of [`ingest`]) and serves
//! both interfaces from one [`ledger`]. An answer that fits its question becomes a
//! [`Claim`], and that is the only thing an [`Enforcer`] takes.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod clock;
mod event_frames;
mod fanout;
mod hub;
pub mod ingest;
pub mod ledger;
mod serve;

pub use hub::{DecisionEnforcer, Hub, HubDecideError, HubOptions};
pub use ledger::Claim;
pub use serve::serve;

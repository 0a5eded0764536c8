// SPDX-License-Identifier: Apache-2.0
//! The words, interfaces and sockets of terok's egress clearance.
//!
//! A packet the firewall dropped becomes a question to a person; the answer becomes a set
//! element. Everything that is said on the way is a type of this crate.
//!
//! The values here are *parsed*: a [`ContainerId`], a [`RequestId`] or a [`Dest`] that exists
//! has passed its check, and [`DisplayText`] is safe to show on any terminal, screen or bus.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

#[cfg(feature = "client")]
pub mod client;
mod dest;
mod event;
mod id;
pub mod nflog;
pub mod socket;
mod text;
pub mod varlink;
mod verdict;
pub mod wire;

pub use dest::{Dest, DestError, DomainName, Target};
pub use event::{Blocked, Dossier, Event, Process, Protocol, ProtocolError, ShieldState};
pub use id::{ContainerId, IdError, RequestId};
pub use text::DisplayText;
pub use verdict::{Action, ActionError, Decision, Keep, Outcome, Resolution, Scope};

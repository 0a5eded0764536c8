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
mod decision;
mod dest;
mod display_text;
mod event;
mod id;
pub mod nflog;
pub mod socket;
pub mod varlink;
pub mod wire;

pub use decision::{
    Action, ActionParseError, Decision, DecisionAction, EnforcementOutcome, RuleLifetime, Scope,
};
pub use dest::{Dest, DestParseError, DomainName, Target};
pub use display_text::DisplayText;
pub use event::{
    BlockedPacket, Dossier, Process, Protocol, ProtocolParseError, SandboxEvent, ShieldState,
};
pub use id::{ContainerId, IdParseError, RequestId};

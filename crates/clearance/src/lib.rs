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
mod display_text;
pub mod varlink;
mod decision;
pub mod wire;

pub use dest::{Dest, DestParseError, DomainName, Target};
pub use event::{BlockedPacket, Dossier, SandboxEvent, Process, ProtProtocolParseErrorlError, ShieldState};
pub use id::{ContainerId, IdParseError, RequestId};
pub use display_text::DisplayText;
pub use decision::{Action, ActionParseError, Decision, RuleLifetime, EnforcementOutcome, DecisionAction, Scope};

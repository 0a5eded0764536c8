// SPDX-License-Identifier: Apache-2.0
//! Types, interfaces, sockets and the client of terok's egress clearance.
//!
//! A packet without a rule becomes a question to a person; the answer becomes a rule. A *hub*
//! sends the questions of a sandbox to *operators* and accepts the answers. With this crate a
//! program becomes an operator: [`Client`] subscribes to a hub and answers.
//!
//! ```no_run
//! use terok_clearance::{Client, DecisionAction, Event, StreamUpdate};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = "/run/user/1000/terok-clearance.sock";
//! let (client, mut events) = Client::start_answering(socket).await?;
//! loop {
//!     if let StreamUpdate::Event(Event::Pending(request)) = events.next().await {
//!         println!("{} asks for {}", request.container, request.dest);
//!         client.decide(&request, DecisionAction::Deny, None).await?;
//!     }
//! }
//! # }
//! ```
//!
//! `examples/answer.rs` is a complete program.
//!
//! | part | contents |
//! |---|---|
//! | [`Client`], [`EventStream`] | events and answers, also for hubs of the Python stack |
//! | [`socket`] | socket paths, and sockets that only the same user can reach |
//! | [`wire`] | the interfaces `org.terok.Clearance1`, `Clearance2` and `ClearanceVerdict1` |
//! | `service` | with the feature of that name: logging to standard error, shutdown signals |
//! | [`address_class`] | the address ranges with restrictions |
//! | [`varlink`] | a varlink server and client for unix sockets |
//!
//! Values are parsed: a [`ContainerId`], a [`RequestId`] or a [`Dest`] has passed a check, and a
//! [`DisplayText`] is safe for terminals, logs and D-Bus.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod address_class;
mod backoff;
#[cfg(feature = "client")]
pub mod client;
mod decision;
mod dest;
mod dest_pattern;
mod dest_zone;
mod display_text;
mod error_chain;
mod event;
mod id;
mod ip_prefix;
mod log_limiter;
mod network_zone;
pub mod nflog;
mod sandbox_label;
#[cfg(feature = "service")]
pub mod service;
pub mod socket;
#[cfg(test)]
mod test_addresses;
mod timestamp;
pub mod varlink;
mod waiting_connections;
pub mod wire;

pub use backoff::Backoff;
#[cfg(feature = "client")]
pub use client::{
    AnswerError, Client, EventStream, HubError, ProtocolVersion, StreamUpdate, UnknownEvent,
};
pub use decision::{
    Action, ActionParseError, Decision, DecisionAction, EnforcementOutcome, PreviousAnswer,
    RuleLifetime, Scope,
};
pub use dest::{Dest, DestParseError, DomainName, Target};
pub use dest_pattern::{
    DestPattern, DestPatternError, HostPattern, PacketDest, PacketHost, PortRange,
};
pub use dest_zone::{DestZone, classify_destination, embedded_ipv4_addresses};
pub use display_text::DisplayText;
pub use error_chain::error_chain;
pub use event::{
    BlockedPacket, Dossier, ParentProcess, Process, Protocol, ProtocolParseError, SandboxEvent,
    ShieldState,
};
pub use id::{ContainerId, IdParseError, RequestId};
pub use ip_prefix::{IpPrefix, IpPrefixError};
pub use log_limiter::LogLimiter;
pub use network_zone::{NetworkZone, NetworkZoneParseError};
pub use sandbox_label::SandboxLabel;
pub use timestamp::Timestamp;
pub use waiting_connections::{GaveUp, WaitingConnections};
pub use wire::clearance2::{Event, Request};

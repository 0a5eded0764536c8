// SPDX-License-Identifier: Apache-2.0
//! The hub: delivers events to operators, and carries out their answers.
//!
//! A [`Hub`] receives events ([`Hub::report`], or lines on the socket of [`ingest`]) and serves
//! both Clearance interfaces from one [`ledger`]; [`serve_sockets`] runs it on two sockets. An
//! answer that matches its request becomes a [`Claim`], and a [`DecisionEnforcer`] accepts claims
//! only.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod event_frames;
mod fanout;
mod hub;
pub mod ingest;
pub mod ledger;
mod scope_support;
mod serve;

pub use hub::{
    DecisionEnforcer, Hub, HubDecideError, HubDescription, HubOptions, QuestionJournal,
    RestoredQuestions,
};
pub use ledger::Claim;
pub use scope_support::{ScopeOffer, ScopeSupport};
pub use serve::{HubListeners, HubServeError, serve, serve_sockets};

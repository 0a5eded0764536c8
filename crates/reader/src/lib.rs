// SPDX-License-Identifier: Apache-2.0
//! Turns the packets that the firewall dropped into events: bytes to facts to events.
//!
//! [`nflog`] brings the kernel's messages, [`packet`] says what a message says of a packet,
//! [`dns`] what an answer says of a name, and [`Reader`] makes questions of both. `packet` and
//! `dns` meet bytes that a sandbox chose: they do no I/O, never panic, and allocate nothing by a
//! length that such bytes claim.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod annotations;
mod audit;
pub mod dns;
pub mod dnsmasq;
mod facts;
mod holder;
mod line;
mod names;
pub mod nflog;
mod outbox;
pub mod packet;
mod run;
mod window;

pub use annotations::{Annotations, AnnotationsError};
pub use audit::to_audit_line;
pub use facts::{Fact, Facts, first_request};
pub use holder::{Holder, HolderProcess, holder};
pub use line::to_line;
pub use names::Names;
pub use outbox::Outbox;
pub use run::{Loss, Reader, RunError, Sink, Sockets};
pub use window::Window;

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
mod audit_json;
pub mod dns;
pub mod dnsmasq;
mod classifier;
mod nflog_owner;
mod event_json;
mod dns_cache;
pub mod nflog;
mod outbox;
pub mod packet;
mod event_loop;
mod dedup;

pub use annotations::{ContainerAnnotations, AnnotationsError};
pub use audit_json::to_audit_line;
pub use classifier::{ClassifiedPacket, PacketClassifier, first_request_number};
pub use nflog_owner::{NflogOwner, NflogOwnerProcess, find_nflog_owner};
pub use event_json::to_event_line;
pub use dns_cache::DnsCache;
pub use outbox::ReaderOutbox;
pub use event_loop::{NflogLoss, NflogReader, ReaderRunError, ReaderSink, NflogSockets};
pub use dedup::DedupWindow;

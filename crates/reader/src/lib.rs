// SPDX-License-Identifier: Apache-2.0
//! Turns packets dropped by the firewall into events.
//!
//! [`nflog`] receives the kernel's messages, [`packet`] and [`dns`] parse them, and [`NflogReader`]
//! turns them into questions. `packet` and `dns` handle bytes chosen by a sandbox: they do no I/O,
//! never panic, and never allocate by a length field.

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
mod classifier;
pub mod daemon;
mod dedup;
pub mod dns;
mod dns_cache;
pub mod dnsmasq;
mod event_json;
mod event_loop;
pub mod nflog;
mod nflog_owner;
mod outbox;
pub mod packet;
mod packet_log;
pub mod socket_owner;

pub use annotations::{AnnotationsError, ContainerAnnotations};
pub use audit_json::to_audit_line;
pub use classifier::{ClassifiedPacket, PacketClassifier, first_request_number};
pub use dedup::DedupWindow;
pub use dns_cache::DnsCache;
pub use event_json::to_event_line;
pub use event_loop::{NflogLoss, NflogReader, NflogSockets, ReaderRunError, ReaderSink};
pub use nflog_owner::{NflogOwner, NflogOwnerProcess, find_nflog_owner};
pub use outbox::ReaderOutbox;
pub use packet_log::PacketLog;

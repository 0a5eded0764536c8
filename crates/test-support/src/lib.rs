// SPDX-License-Identifier: Apache-2.0
//! Helpers shared by the tests of several crates.
//!
//! The helpers are a separate crate, because integration tests of different packages cannot share
//! modules. Only tests and the benchmark depend on this crate. Every function panics if a step
//! fails, because a test without a complete set-up has failed.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in helpers"
)]

pub mod captured_log;
pub mod child;
pub mod directory;
pub mod fake_hub;
pub mod hub_thread;
pub mod namespaces;
pub mod notification_service;
pub mod packets;
pub mod pseudo_terminal;
pub mod questions;
pub mod served_socket;
pub mod terminal_model;
pub mod test_bus;

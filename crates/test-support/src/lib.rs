// SPDX-License-Identifier: Apache-2.0
//! Helpers that the tests of several crates share.
//!
//! A crate of its own, because integration tests of different packages share nothing else. Only
//! tests and the benchmark depend on it. Every function panics when a step fails: a test that
//! cannot be set up has failed.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

pub mod captured_log;
pub mod child;
pub mod directory;
pub mod fake_hub;
pub mod namespaces;
pub mod notification_service;
pub mod packets;
pub mod pseudo_terminal;
pub mod served_socket;
pub mod test_bus;

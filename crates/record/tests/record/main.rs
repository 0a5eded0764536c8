// SPDX-License-Identifier: Apache-2.0
//! Tests of records in real files: written by several processes, killed ones among them, and on
//! full disks.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod chain;
mod entries;
mod files;
mod filter;
mod follow;
mod full_disk;
mod lines;
mod processes;
mod schema;
mod summary;
mod writer;

// SPDX-License-Identifier: Apache-2.0
//! Our parts and the Python stack's, in every pairing, with its real packages.
//!
//! `./check interop` installs the packages, builds the program and gives each test a user and a
//! network namespace of its own. README.md beside this file says which test is which pairing.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod eras;
mod foreign;
mod harness;
mod hub_program;
mod our_hub;
mod reader;
mod recordings;
mod repairs;
mod shield_cli;
mod shield_exec;
mod shield_suite;
mod shield_verbs;
mod simple_clearance;
mod smoke;
mod task_meta;
mod their_hub;
mod varlink_tools;
mod verdicts;

// SPDX-License-Identifier: Apache-2.0
//! Faults that users met: names, ids, tables, colours, `--json`, killed runs, empty environments.
//! Each test tries a whole kind, with real sandboxes.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod commands;
mod harness;
mod killed;
mod names;
mod podman;
mod prompt;
mod table;

// SPDX-License-Identifier: Apache-2.0
//! The client against hubs that restart, send invalid data, and hang; with paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod fake_hub;
mod older;
#[path = "../support/service.rs"]
#[expect(dead_code, reason = "these tests need the log only")]
mod service;
mod stream;

// SPDX-License-Identifier: Apache-2.0
//! The client against hubs that come, go, lie and hang; time is paused where it matters.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod older;
mod rig;
#[path = "../support/service.rs"]
#[expect(dead_code, reason = "these tests need only the log")]
mod service;
mod stream;

// SPDX-License-Identifier: Apache-2.0
//! The client against hubs that restart, send invalid data, and hang; with paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod harness;
mod older;
mod stream;

// SPDX-License-Identifier: Apache-2.0
//! Popups: texts, appearance and removal, and clicks.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
mod click_properties;
mod end_to_end;
mod harness;
mod many_questions;
mod sandbox_alerts;
mod texts;

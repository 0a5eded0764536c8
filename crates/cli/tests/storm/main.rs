// SPDX-License-Identifier: Apache-2.0
//! Five hundred questions in one second, from fifty sandboxes with a live hub each: every user
//! interface shows each question exactly once, and removes each answered question exactly once. The
//! test of the full screen is in `tui`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod crowd;
mod desk;
mod popups;
mod program;
mod prompt;
mod scripts;

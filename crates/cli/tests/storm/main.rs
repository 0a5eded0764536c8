// SPDX-License-Identifier: Apache-2.0
//! Five hundred questions in a second from fifty hubs: every user interface shows each question
//! once, and removes each answered question once. The test of the full screen is in `tui`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod crowd;
mod popup_screen;
mod popups;
mod program;
mod prompt;
mod scripts;

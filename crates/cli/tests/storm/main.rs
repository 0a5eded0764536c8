// SPDX-License-Identifier: Apache-2.0
//! Five hundred questions in a second, from fifty sandboxes with a live hub each: every UI shows
//! each of them exactly once, and each that is answered leaves exactly once. The full screen's
//! test is with its others, in `tui`.

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

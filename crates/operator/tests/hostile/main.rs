// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox chose to mislead with shows harmlessly: in the lines of the prompt and on the
//! full screen.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod cases;
mod prompt;
mod screen;

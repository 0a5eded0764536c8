// SPDX-License-Identifier: Apache-2.0
//! The shared table of hostile texts, for the unit tests of the queue.

#![expect(dead_code, reason = "the queue has no popups")]

#[path = "../../../tests/hostile/harmless.rs"]
pub(crate) mod harmless;
#[path = "../../../tests/hostile/texts.rs"]
pub(crate) mod texts;

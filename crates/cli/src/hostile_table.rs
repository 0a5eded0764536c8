// SPDX-License-Identifier: Apache-2.0
//! The shared table of hostile texts, for the unit tests of several commands.

#![expect(
    dead_code,
    reason = "the unit tests of this crate use only a part of the shared table"
)]

#[path = "../../../tests/hostile/harmless.rs"]
pub(crate) mod harmless;
#[path = "../../../tests/hostile/hub.rs"]
pub(crate) mod hub;
#[path = "../../../tests/hostile/texts.rs"]
pub(crate) mod texts;

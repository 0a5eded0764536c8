// SPDX-License-Identifier: Apache-2.0
//! Popups of four real notification services, three of them with buttons, on a private screen: the content of the
//! picture, and the effect of a real click. `./check desktop` runs these tests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says where, and has a clock and an environment"
)]

mod choice;
mod clicks;
#[path = "../run/console.rs"]
#[expect(dead_code, reason = "the tests of `run` need more of it")]
mod console;
mod limits;
#[path = "../run/machine.rs"]
mod machine;
mod packets;
mod picture;
mod scene;
mod screen;
#[path = "../run/user.rs"]
#[expect(dead_code, reason = "the tests of `run` need more of it")]
mod user;

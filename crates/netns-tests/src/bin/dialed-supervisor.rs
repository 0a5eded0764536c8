// SPDX-License-Identifier: Apache-2.0
//! The process of [`netns_tests::dialed_supervisor`], which has one thread at its start.
#![expect(
    clippy::disallowed_methods,
    reason = "a test program is told by its environment"
)]

use std::io;

use netns_tests::dialed_supervisor::run_dialed_supervisor;

fn main() -> io::Result<()> {
    run_dialed_supervisor(|name| std::env::var(name).ok())
}

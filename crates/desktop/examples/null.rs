// SPDX-License-Identifier: Apache-2.0
//! Where nobody can be shown anything, the rest works: every notification is 0, nothing is chosen.
//!
//! `cargo run -p terok-clearance-desktop --example null`
#![expect(clippy::print_stdout, reason = "an example")]

use std::convert::Infallible;

use terok_clearance_desktop::notifier::{Notification, Notifier as _, NullNotifier};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Infallible> {
    let id = NullNotifier
        .notify(Notification::new("Clearance request"))
        .await?;
    println!("shown as {id}, seen: {}", NullNotifier.is_visible());
    Ok(())
}

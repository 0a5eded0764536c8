// SPDX-License-Identifier: Apache-2.0
//! Without a desktop every notification has the id 0, and no action is chosen.
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
    let visible = NullNotifier.capabilities().visible;
    println!("shown as {id}, visible: {visible}");
    Ok(())
}

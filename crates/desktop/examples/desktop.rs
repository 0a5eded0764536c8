// SPDX-License-Identifier: Apache-2.0
//! Shows a popup on the desktop and prints the clicked button; without a desktop, shows nothing.
//!
//! `cargo run -p terok-clearance-desktop --example desktop -- "$DBUS_SESSION_BUS_ADDRESS"`
#![expect(clippy::print_stdout, reason = "an example")]

use std::error::Error;

use terok_clearance_desktop::notifier::{Closed, Notification, Notifier as _, create_notifier};
use terok_clearance_desktop::popups::GuardedPopup;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = std::env::args().nth(1);
    let notifier = create_notifier("example", bus.as_deref());
    let notification = Notification {
        body: "Task alpha wants access to api.example.com:443".to_owned(),
        actions: vec!["allow:Allow".parse()?, "deny:Deny".parse()?],
        ..Notification::new("Clearance request")
    };
    let mut popup = GuardedPopup::show(&notifier, notification).await?;
    let visible = notifier.capabilities().visible;
    println!("shown as {}, visible: {visible}", popup.id());
    match popup.closed().await? {
        Closed::Chosen(choice) => println!("chosen: {}", choice.key),
        // Every other end is no answer.
        closed => println!("nothing was chosen: {closed:?}"),
    }
    notifier.disconnect().await;
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! A popup on the desktop, and the button that was clicked; without a desktop it says so.
//!
//! `cargo run -p terok-clearance-desktop --example desktop -- "$DBUS_SESSION_BUS_ADDRESS"`
#![expect(clippy::print_stdout, reason = "an example")]

use std::error::Error;

use terok_clearance_desktop::notifier::{Notification, Notifier as _, create_notifier};
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = std::env::args().nth(1);
    let notifier = create_notifier("example", bus.as_deref()).await;
    let notification = Notification {
        body: "Task alpha wants access to api.example.com:443".to_owned(),
        actions: vec!["allow:Allow".parse()?, "deny:Deny".parse()?],
        ..Notification::new("Clearance request")
    };
    let id = notifier.notify(notification).await?;
    println!("shown as {id}, seen: {}", notifier.is_visible());
    let (tell, chosen) = oneshot::channel();
    let on_action = Box::new(|choice| drop(tell.send(choice)));
    notifier.on_action(id, on_action).await;
    // Dropped uncalled: it was closed, or there is nobody to ask. That is no answer.
    match chosen.await {
        Ok(choice) => println!("chosen: {}", choice.key),
        Err(_) => println!("nothing was chosen"),
    }
    notifier.disconnect().await;
    Ok(())
}

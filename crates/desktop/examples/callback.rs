// SPDX-License-Identifier: Apache-2.0
//! Prints questions instead of showing popups, and reads answers such as `2 allow` from standard
//! input.
//!
//! `cargo run -p terok-clearance-desktop --example callback -- "$XDG_RUNTIME_DIR"`
#![expect(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use operator::Session;
use terok_clearance::socket::RuntimeDir;
use terok_clearance_desktop::identity::{IdentityResolver, NullInspector};
use terok_clearance_desktop::notifier::CallbackNotifier;
use terok_clearance_desktop::popups::{PopupOptions, run_popups};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = std::env::args_os()
        .nth(1)
        .ok_or("the runtime directory is missing, such as \"$XDG_RUNTIME_DIR\"")?;
    let session = Session::discover(RuntimeDir::new(PathBuf::from(runtime)))?;
    let notifier = CallbackNotifier::new(|id, notification| {
        println!("{id}: {}\n{}", notification.summary, notification.body);
        for action in &notification.actions {
            println!("   {id} {}: {}", action.key(), action.label());
        }
    })
    .on_close(|id| println!("{id}: closed"));
    let resolver = Arc::new(IdentityResolver::new(NullInspector));
    let answers = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some((id, key)) = line.trim().split_once(' ') else {
                continue;
            };
            let Some(id) = id.parse().ok().and_then(std::num::NonZeroU32::new) else {
                continue;
            };
            if let Err(error) = notifier.invoke_action(id.into(), key) {
                println!("{id}: {error}");
            }
        }
    };
    run_popups(
        session,
        &notifier,
        resolver,
        PopupOptions::default(),
        answers,
    )
    .await;
    Ok(())
}

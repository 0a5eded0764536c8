// SPDX-License-Identifier: Apache-2.0
//! Prints the questions of a hub, and answers them from standard input.
//!
//! ```sh
//! cargo run -p terok-clearance --example answer -- "$XDG_RUNTIME_DIR/terok-clearance.sock"
//! ```
//!
//! A line is `allow REQUEST`, `deny REQUEST` or `dismiss REQUEST`; the end of the input ends the
//! program.
#![expect(clippy::print_stdout, reason = "an example")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use terok_clearance::{
    Client, DecisionAction, Event, ProtocolVersion, Request, SandboxLabel, StreamUpdate,
    error_chain,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args().nth(1).ok_or("usage: answer SOCKET")?;
    let (client, mut events) = Client::start_answering(socket).await?;
    let mut pending: HashMap<String, Arc<Request>> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            update = events.next() => show(update, &mut pending),
            line = lines.next_line() => match line? {
                Some(line) => answer(&client, &pending, &line).await,
                None => return Ok(()),
            },
        }
    }
}

/// Prints an update, and keeps the list of pending requests.
fn show(update: StreamUpdate, pending: &mut HashMap<String, Arc<Request>>) {
    match update {
        StreamUpdate::Event(Event::Pending(request) | Event::Repeated(request)) => {
            let sandbox = SandboxLabel::new(&request.container, &request.dossier).to_ascii();
            let Request {
                id,
                dest,
                port,
                protocol,
                ..
            } = &*request;
            println!("{id}: {sandbox} asks for {dest}, port {port}/{protocol}");
            pending.insert(id.to_string(), request);
        }
        StreamUpdate::Event(Event::Decided(decision)) => {
            println!(
                "{}: {:?} by {}",
                decision.request, decision.action, decision.by
            );
            if decision.ok {
                pending.remove(decision.request.as_str());
            }
        }
        StreamUpdate::Event(Event::Withdrawn { request, reason }) => {
            println!("{}: withdrawn ({reason})", request.id);
            pending.remove(request.id.as_str());
        }
        // A Clearance2 hub now sends every pending request.
        StreamUpdate::Connected(ProtocolVersion::Clearance2) => pending.clear(),
        StreamUpdate::Disconnected { reason, retry } => {
            println!("disconnected: {reason}; retrying in {retry:?}");
        }
        StreamUpdate::UnknownEvent(event) => println!("{}", event.to_ascii_json()),
        _ => {}
    }
}

async fn answer(client: &Client, pending: &HashMap<String, Arc<Request>>, line: &str) {
    let (action, id) = line.split_once(' ').unwrap_or((line, ""));
    let action = match action {
        "allow" => DecisionAction::Allow,
        "deny" => DecisionAction::Deny,
        "dismiss" => DecisionAction::Dismiss,
        _ => return println!("use: allow REQUEST, deny REQUEST or dismiss REQUEST"),
    };
    let Some(request) = pending.get(id.trim()) else {
        return println!("request {id:?} is not pending");
    };
    // Without a scope the answer has the request's own scope.
    if let Err(error) = client.decide(request, action, None).await {
        println!("{}", error_chain(&error));
    }
}

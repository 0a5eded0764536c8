// SPDX-License-Identifier: Apache-2.0
//! What a popup's title makes of an address.

use std::sync::Arc;

use desktop::identity::{IdentityResolver, NullInspector};
use desktop::notifier::CallbackNotifier;
use desktop::popups::{PopupOptions, run_popups};
use operator::Session;
use serde_json::json;
use tokio::sync::mpsc;

use super::{CONTAINER, STACK, Whose};
use crate::harness::{Place, Running};

#[tokio::test]
async fn an_ipv6_address_has_brackets_and_what_has_no_port_shows_none() {
    let place = Place::new();
    let _hub = Whose::Ours.hub(&place).await;
    let socket = place.runtime().shared_hub_sockets().hub;
    let socket = socket.to_str().unwrap();
    let mut theirs = Running::start(&mut place.script(STACK, "subscriber.py", &[socket]));
    let (tell, mut told) = mpsc::channel(8);
    let notifier = CallbackNotifier::new(move |_, shown| {
        tell.try_send(shown.summary.clone()).unwrap();
    });
    let session = Session::discover(place.runtime()).unwrap();
    let resolver = Arc::new(IdentityResolver::new(NullInspector));
    let test = async {
        for (n, dest, port, proto, title, ours) in [
            (
                1,
                "2001:db8::7",
                443,
                6,
                "2001:db8::7:443",
                "[2001:db8::7]:443",
            ),
            (2, "192.0.2.7", 0, 1, "192.0.2.7:0", "192.0.2.7"),
            (3, "192.0.2.7", 443, 6, "192.0.2.7:443", "192.0.2.7:443"),
        ] {
            let question = json!({
                "type": "pending", "container": CONTAINER, "id": format!("{CONTAINER}:{n}"),
                "dest": dest, "port": port, "proto": proto, "domain": "", "dossier": {}, "ts": "",
            });
            place.report(&[question]).await;
            let shown = loop {
                let shown = theirs.json().await;
                if shown["summary"].is_string() {
                    break shown;
                }
            };
            assert_eq!(shown["summary"], format!("Blocked: {title}"));
            assert_eq!(told.recv().await.unwrap(), format!("Blocked: {ours}"));
        }
    };
    run_popups(session, &notifier, resolver, PopupOptions::default(), test).await;
}

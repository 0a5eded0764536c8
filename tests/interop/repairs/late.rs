// SPDX-License-Identifier: Apache-2.0
//! Who comes late sees what is pending, once; of their hub, nothing.

use serde_json::json;

use super::{CONTAINER, STACK, Whose, event, heard, listed, terminal};
use crate::harness::{Place, Running, pending};

#[tokio::test]
async fn their_clients_see_it_at_our_hub_alone() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let _hub = whose.hub(&place).await;
        let socket = place.runtime().shared_hub_sockets().hub;
        let request = format!("{CONTAINER}:1");
        place.report(&[pending(&request, "api.example.com")]).await;
        let mut command = place.script(STACK, "client.py", &[socket.to_str().unwrap()]);
        let mut client = Running::start(&mut command);
        let mut shown = terminal(&place);
        heard(&place, &mut client, "shield_up").await;
        heard(&place, &mut shown, "Shield up").await;
        // All that came before is what both were told when they came.
        let before = client.seen();
        let times = before.matches("connection_blocked").count();
        let rows = listed(&mut shown).await;
        match whose {
            Whose::Theirs => assert_eq!((times, rows), (0, 0)),
            Whose::Ours => {
                assert_eq!((times, rows), (1, 1), "{before}");
                assert!(before.contains(&request), "{before}");
            }
        }
    }
}

#[tokio::test]
async fn our_prompt_sees_it_at_our_hub_and_says_so_at_once() {
    let place = Place::new();
    let _hub = Whose::Ours.hub(&place).await;
    let request = format!("{CONTAINER}:1");
    place.report(&[pending(&request, "api.example.com")]).await;
    let mut prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
    let asked = event(&mut prompt, "pending").await;
    assert_eq!(asked["id"], request);
    let ready = event(&mut prompt, "ready").await;
    assert_eq!(ready["rows"], json!(1));
}
